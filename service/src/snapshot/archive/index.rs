//! The index object beside an archived segment: what the segment holds of whom, so that the history of one system needs
//! only the segments that hold it.
//!
//! All numbers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `MIPROARX`; in version 1 `MIPROIDX`, as the log's own indexes have it, which are another format |
//! | 4 | version of this format: 2 |
//! | 4 | suffix of the segment's object; 0: none |
//! | 16 | the log's id |
//! | 8, 8, 8 | the segment's number, its first and its last LSN |
//! | 8, 8 | bytes of the segment, bytes of its object |
//! | 32 | BLAKE3 of the segment |
//! | 8 | how many runs follow |
//! | 40 each | runs: system (16), epoch, first seq, last seq (8 each); sorted |
//! | 32 | BLAKE3 of everything before |

use std::collections::BTreeMap;
use std::io::Read as _;
use std::ops::ControlFlow;

use bytes::Bytes;
use uuid::Uuid;

use super::VisitBytes;
use crate::log::{ReadError, Sealed};

const MAGIC: &[u8; 8] = b"MIPROARX";
const VERSION: u32 = 2;
/// What version 1 began with; the rest is the same.
const MAGIC_1: &[u8; 8] = b"MIPROIDX";
const HEAD: usize = 8 + 4 + 4 + 16 + 5 * 8 + 32 + 8;
const RUN: usize = 16 + 3 * 8;
const SUM: usize = 32;

/// The longest segment there can be: places in one have 32 bits, of which the log uses 31.
const SEGMENT_BYTES_MAX: u64 = 1 << 31;

/// What a segment holds of a system under one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Which system.
    pub system: Uuid,
    /// The fencing epoch of its events.
    pub epoch: u64,
    /// The first of them.
    pub first_seq: u64,
    /// The last of them.
    pub last_seq: u64,
}

/// What a segment holds: (system, epoch) → (first seq, last seq).
pub type Runs = BTreeMap<(Uuid, u64), (u64, u64)>;

/// What an index says of its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// The log that the segment is of.
    pub log_id: Uuid,
    /// The segment's number.
    pub segment: u64,
    /// Sets the segment's object apart from another process's of the same number; 0: none.
    pub suffix: u32,
    /// Its first append.
    pub first_lsn: u64,
    /// Its last append.
    pub last_lsn: u64,
    /// Bytes of the segment.
    pub raw_bytes: u64,
    /// Bytes of its object.
    pub stored_bytes: u64,
    /// BLAKE3 of the segment.
    pub checksum: [u8; 32],
}

/// An index, checked; its runs are searched where they lie.
#[derive(Debug, Clone)]
pub struct ArchiveIndex {
    /// What it says of its segment.
    pub about: About,
    runs: Bytes,
}

impl ArchiveIndex {
    /// Reads an index object.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn decode(bytes: &Bytes) -> Result<Self, String> {
        let old = bytes.starts_with(MAGIC_1);
        if bytes.len() < HEAD + SUM || !old && !bytes.starts_with(MAGIC) {
            return Err("it is no index of a segment".to_owned());
        }
        let (body, sum) = bytes.split_at(bytes.len() - SUM);
        let mut at = Cursor { bytes: body, at: MAGIC.len() };
        let version = at.u32();
        if version > VERSION {
            return Err(format!(
                "it has version {version}, this build reads version {VERSION}: start a newer build"
            ));
        }
        if blake3::hash(body).as_bytes() != sum {
            return Err("its checksum is wrong".to_owned());
        }
        let suffix = at.u32();
        let log_id = Uuid::from_bytes(at.take());
        let [segment, first_lsn, last_lsn, raw_bytes, stored_bytes] = std::array::from_fn(|_| at.u64());
        let checksum = at.take();
        let count = at.u64();
        let runs = bytes.slice(HEAD..bytes.len() - SUM);
        if old != (version == 1)
            || version == 0
            || usize::try_from(count).ok().and_then(|n| n.checked_mul(RUN)) != Some(runs.len())
        {
            return Err("its length is not what it says".to_owned());
        }
        let about = About { log_id, segment, suffix, first_lsn, last_lsn, raw_bytes, stored_bytes, checksum };
        Ok(Self { about, runs })
    }

    /// The runs of a system, by epoch.
    pub fn runs(&self, system: Uuid) -> impl Iterator<Item = Run> {
        let count = self.runs.len() / RUN;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.run(middle).system < system { low = middle + 1 } else { high = middle }
        }
        (low..count).map(|i| self.run(i)).take_while(move |run| run.system == system)
    }

    /// Bytes it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.runs.len()
    }

    fn run(&self, i: usize) -> Run {
        let mut at = Cursor { bytes: &self.runs, at: i * RUN };
        let system = Uuid::from_bytes(at.take());
        Run { system, epoch: at.u64(), first_seq: at.u64(), last_seq: at.u64() }
    }
}

/// Makes an index object. The same runs make the same bytes.
#[must_use]
pub fn encode(about: &About, runs: &Runs) -> Bytes {
    let mut bytes = Vec::with_capacity(HEAD + runs.len() * RUN + SUM);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(about.suffix.to_le_bytes());
    bytes.extend(about.log_id.as_bytes());
    for number in [about.segment, about.first_lsn, about.last_lsn, about.raw_bytes, about.stored_bytes] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(about.checksum);
    bytes.extend((runs.len() as u64).to_le_bytes());
    for ((system, epoch), (first_seq, last_seq)) in runs {
        bytes.extend(system.as_bytes());
        for number in [epoch, first_seq, last_seq] {
            bytes.extend(number.to_le_bytes());
        }
    }
    let sum = blake3::hash(&bytes);
    bytes.extend(sum.as_bytes());
    bytes.into()
}

/// What a segment's bytes hold, by system and epoch: their first and their last seq.
///
/// # Errors
/// The segment is damaged.
pub fn survey(bytes: &[u8], visit: VisitBytes) -> Result<Runs, ReadError> {
    let mut runs = Runs::new();
    visit(bytes, None, 0, &mut |entry| {
        let batch = entry.batch;
        let run = runs.entry((batch.system, batch.epoch)).or_insert((batch.first_seq, 0));
        *run = (run.0.min(batch.first_seq), run.1.max(batch.last_seq()));
        ControlFlow::Continue(())
    })?;
    Ok(runs)
}

/// Makes an index anew from the object of its segment.
///
/// # Errors
/// What is wrong with the segment, in words.
pub(super) fn anew(
    log_id: Uuid,
    segment: u64,
    suffix: u32,
    stored: &[u8],
    visit: VisitBytes,
) -> Result<ArchiveIndex, String> {
    let mut raw = Vec::new();
    let inflated = zstd::stream::read::Decoder::new(stored)
        .and_then(|frame| frame.take(SEGMENT_BYTES_MAX + 1).read_to_end(&mut raw));
    if inflated.is_err() || raw.len() as u64 > SEGMENT_BYTES_MAX {
        return Err("it can't be inflated".to_owned());
    }
    let (mut first_lsn, mut last_lsn) = (u64::MAX, 0);
    let lsns = visit(&raw, None, 0, &mut |entry| {
        (first_lsn, last_lsn) = (first_lsn.min(entry.lsn.0), last_lsn.max(entry.lsn.0));
        ControlFlow::Continue(())
    });
    let runs = lsns.and_then(|()| survey(&raw, visit)).map_err(|error| error.to_string())?;
    if runs.is_empty() {
        return Err("it holds nothing".to_owned());
    }
    let (raw_bytes, stored_bytes) = (raw.len() as u64, stored.len() as u64);
    let checksum = *blake3::hash(&raw).as_bytes();
    let about = About { log_id, segment, suffix, first_lsn, last_lsn, raw_bytes, stored_bytes, checksum };
    ArchiveIndex::decode(&encode(&about, &runs))
}

/// What an index says of a segment's bytes and their object.
#[must_use]
pub fn about(log_id: Uuid, sealed: &Sealed, raw: &[u8], stored_bytes: u64, suffix: u32) -> About {
    About {
        log_id,
        segment: sealed.id,
        suffix,
        first_lsn: sealed.first_lsn.0,
        last_lsn: sealed.last_lsn.0,
        raw_bytes: raw.len() as u64,
        stored_bytes,
        checksum: *blake3::hash(raw).as_bytes(),
    }
}

/// Reads numbers off bytes whose length was checked.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        taken.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}
