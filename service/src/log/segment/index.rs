//! Where in a segment a system's records are. In memory for the open segment; for a sealed one in a file beside it, which
//! is derived data: whoever finds it missing or damaged makes it anew from the segment.
//!
//! The file is made to be searched where it lies, so that the tail of one system costs a few small reads, and memory does
//! not grow with the systems of all segments. Little-endian. A header of 64 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 0–7 | `MIPROIDX` |
//! | 8–11 | version of the format: 1 |
//! | 12–15 | CRC-32C of the other 60 bytes |
//! | 16–31 | the log's id |
//! | 32–39 | the segment's number |
//! | 40–47 | bytes of the segment's content, its seal included |
//! | 48–51 | how many systems |
//! | 52–55 | how many records |
//! | 56–59 | the segment's salt |
//! | 60–63 | zero |
//!
//! Then, for each system, sorted by id, 48 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 0–15 | system |
//! | 16–23 | number of its first event in the segment |
//! | 24–31 | number of its last event there |
//! | 32–35 | place of its first record in the list of records |
//! | 36–39 | how many records |
//! | 40–43 | CRC-32C of its part of the list of records |
//! | 44–47 | CRC-32C of the 44 bytes before |
//!
//! Then the list of records, by system and in the order of the log, 16 bytes each: number of the first event (8), place in
//! the segment (4), how many events (4).

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use uuid::Uuid;

use super::super::Span;
use super::super::disk::File;
use super::file::{HEADER_BYTES, VERSION, open_block, seal_block};
use super::record::Header;

const MAGIC: &[u8; 8] = b"MIPROIDX";
const ENTRY_BYTES: usize = 48;
const PLACE_BYTES: usize = 16;
/// Entries read at a time where all are wanted.
const ENTRIES: usize = 1024;

/// One record's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) first_seq: u64,
    pub(crate) offset: u32,
    pub(crate) count: u32,
}

impl Place {
    pub(crate) fn last_seq(&self) -> u64 {
        self.first_seq.saturating_add(u64::from(self.count)).saturating_sub(1)
    }
}

/// A segment's index in memory.
#[derive(Debug, Default)]
pub(crate) struct SegmentIndex {
    systems: HashMap<Uuid, Vec<Place>>,
    records: u64,
}

impl SegmentIndex {
    /// Adds the next record.
    pub(crate) fn add(&mut self, header: &Header, offset: u32) {
        let place = Place { first_seq: header.first_seq, offset, count: header.count };
        self.systems.entry(header.system).or_default().push(place);
        self.records += 1;
    }

    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    pub(crate) fn places(&self, system: Uuid) -> &[Place] {
        self.systems.get(&system).map_or(&[], Vec::as_slice)
    }

    /// What the segment holds, sorted by system.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<_> = self.systems.iter().map(|(system, places)| span(*system, places)).collect();
        spans.sort_unstable_by_key(|span| span.system);
        spans
    }
}

fn span(system: Uuid, places: &[Place]) -> Span {
    let first_seq = places.iter().map(|place| place.first_seq).min().unwrap_or(0);
    let last_seq = places.iter().map(Place::last_seq).max().unwrap_or(0);
    Span { system, first_seq, last_seq }
}

/// Which segment an index is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Of {
    pub(crate) log: Uuid,
    pub(crate) id: u64,
    pub(crate) content_bytes: u64,
    pub(crate) salt: u32,
}

impl Of {
    /// Which segment an index file says it is of; `None` where its header is not what was written.
    pub(crate) fn read(content: &[u8]) -> Option<Self> {
        let block = open_block(content, MAGIC).ok()?;
        Some(Self {
            log: block.uuid(16),
            id: block.u64(32),
            content_bytes: block.u64(40),
            salt: block.u32(56),
        })
    }
}

/// The file's content.
pub(crate) fn encode(of: &Of, index: &SegmentIndex) -> Vec<u8> {
    let spans = index.spans();
    let (systems, records) = (small(spans.len() as u64), small(index.records));
    let mut table = Vec::with_capacity(spans.len() * ENTRY_BYTES);
    let mut list = Vec::with_capacity(PLACE_BYTES * records as usize);
    for span in &spans {
        let places = index.places(span.system);
        let from = list.len();
        for place in places {
            list.extend_from_slice(&place.first_seq.to_le_bytes());
            list.extend_from_slice(&place.offset.to_le_bytes());
            list.extend_from_slice(&place.count.to_le_bytes());
        }
        let entry = table.len();
        table.extend_from_slice(span.system.as_bytes());
        table.extend_from_slice(&span.first_seq.to_le_bytes());
        table.extend_from_slice(&span.last_seq.to_le_bytes());
        table.extend_from_slice(&small((from / PLACE_BYTES) as u64).to_le_bytes());
        table.extend_from_slice(&small(places.len() as u64).to_le_bytes());
        table.extend_from_slice(&crc32c::crc32c(&list[from..]).to_le_bytes());
        let crc = crc32c::crc32c(&table[entry..]);
        table.extend_from_slice(&crc.to_le_bytes());
    }
    let mut content = header(of, systems, records).to_vec();
    content.append(&mut table);
    content.append(&mut list);
    content
}

/// Counts of what is in one segment; a segment has less than 4 GiB, and a record more than one byte.
fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn header(of: &Of, systems: u32, records: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[0..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(of.log.as_bytes());
    bytes[32..40].copy_from_slice(&of.id.to_le_bytes());
    bytes[40..48].copy_from_slice(&of.content_bytes.to_le_bytes());
    bytes[48..52].copy_from_slice(&systems.to_le_bytes());
    bytes[52..56].copy_from_slice(&records.to_le_bytes());
    bytes[56..60].copy_from_slice(&of.salt.to_le_bytes());
    seal_block(&mut bytes);
    bytes
}

/// Why an index file is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadIndex {
    /// Not what was written, or not of this segment.
    #[error("the index is not what was written")]
    Damaged,
    /// It could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An index file, open.
#[derive(Debug)]
pub(crate) struct Sidecar {
    file: Arc<dyn File>,
    systems: u32,
    records: u32,
}

#[derive(Debug)]
struct Listed {
    span: Span,
    start: u32,
    records: u32,
    list_crc: u32,
}

impl Sidecar {
    /// Opens an index of that very segment; checks its header and its length, the rest when it is read.
    pub(crate) fn open(file: Arc<dyn File>, of: &Of) -> Result<Self, BadIndex> {
        let mut head = [0; HEADER_BYTES];
        let size = file.size()?;
        if file.read_at(0, &mut head)? < HEADER_BYTES {
            return Err(BadIndex::Damaged);
        }
        let block = open_block(&head, MAGIC).map_err(|_| BadIndex::Damaged)?;
        let (systems, records) = (block.u32(48), block.u32(52));
        let says =
            Of { log: block.uuid(16), id: block.u64(32), content_bytes: block.u64(40), salt: block.u32(56) };
        let whole = HEADER_BYTES as u64
            + u64::from(systems) * ENTRY_BYTES as u64
            + u64::from(records) * PLACE_BYTES as u64;
        if says != *of || whole != size {
            return Err(BadIndex::Damaged);
        }
        Ok(Self { file, systems, records })
    }

    fn read(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, BadIndex> {
        let mut buffer = vec![0; bytes];
        let read = self.file.read_at(offset, &mut buffer)?;
        if read == bytes { Ok(buffer) } else { Err(BadIndex::Damaged) }
    }

    fn entries(&self, from: u32, count: usize) -> Result<Vec<Listed>, BadIndex> {
        let offset = HEADER_BYTES as u64 + u64::from(from) * ENTRY_BYTES as u64;
        let bytes = self.read(offset, count * ENTRY_BYTES)?;
        bytes.chunks_exact(ENTRY_BYTES).map(|entry| entry_of(entry).ok_or(BadIndex::Damaged)).collect()
    }

    fn entry(&self, at: u32) -> Result<Listed, BadIndex> {
        self.entries(at, 1)?.pop().ok_or(BadIndex::Damaged)
    }

    /// A system's records, by a binary search in the file.
    pub(crate) fn places(&self, system: Uuid) -> Result<Vec<Place>, BadIndex> {
        let (mut low, mut high) = (0, self.systems);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(middle)?;
            match entry.span.system.cmp(&system) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return self.list(&entry),
            }
        }
        Ok(Vec::new())
    }

    fn list(&self, entry: &Listed) -> Result<Vec<Place>, BadIndex> {
        if entry.start.checked_add(entry.records).is_none_or(|end| end > self.records) {
            return Err(BadIndex::Damaged);
        }
        let offset = HEADER_BYTES as u64
            + u64::from(self.systems) * ENTRY_BYTES as u64
            + u64::from(entry.start) * PLACE_BYTES as u64;
        let bytes = self.read(offset, entry.records as usize * PLACE_BYTES)?;
        if crc32c::crc32c(&bytes) != entry.list_crc {
            return Err(BadIndex::Damaged);
        }
        let places = bytes.chunks_exact(PLACE_BYTES).map(|place| Place {
            first_seq: u64::from_le_bytes(std::array::from_fn(|i| place[i])),
            offset: u32::from_le_bytes(std::array::from_fn(|i| place[8 + i])),
            count: u32::from_le_bytes(std::array::from_fn(|i| place[12 + i])),
        });
        Ok(places.collect())
    }

    /// What the segment holds, sorted by system.
    pub(crate) fn spans(&self) -> Result<Vec<Span>, BadIndex> {
        let mut spans: Vec<Span> = Vec::new();
        while spans.len() < self.systems as usize {
            let count = ENTRIES.min(self.systems as usize - spans.len());
            let entries = self.entries(small(spans.len() as u64), count)?;
            spans.extend(entries.iter().map(|entry| entry.span));
        }
        let sorted = spans.windows(2).all(|pair| pair[0].system < pair[1].system);
        if sorted { Ok(spans) } else { Err(BadIndex::Damaged) }
    }
}

fn entry_of(bytes: &[u8]) -> Option<Listed> {
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let span = Span {
        system: Uuid::from_bytes(std::array::from_fn(|i| bytes[i])),
        first_seq: long(16),
        last_seq: long(24),
    };
    let right = crc32c::crc32c(&bytes[..44]) == word(44);
    right.then(|| Listed { span, start: word(32), records: word(36), list_crc: word(40) })
}
