//! One record of a segment: a header of fixed size and the events of one command. Little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0–3 | CRC-32C of bytes 4 to the end of the payload, begun with the segment's salt instead of 0 |
//! | 4–7 | bytes of payload |
//! | 8–15 | LSN |
//! | 16–23 | the newest LSN that was synced when this record was written |
//! | 24–31 | fencing epoch |
//! | 32–47 | system |
//! | 48–55 | number of the first event in the system's history |
//! | 56–59 | how many events |
//! | 60–63 | kind: 1 events, 2 seal |
//! | 64– | payload |
//!
//! The salt is random for each segment: what stood in these blocks before, a record of another segment for example, never
//! parses. A **seal** ends a segment that is complete: its LSN is the first of the next segment, its count how many records
//! stand before it (modulo 2³²), and it has neither system nor payload.
//!
//! Bytes 16–23 tell a torn tail from damage. Whatever was not synced when the machine died may be torn in any way, a
//! later record of it whole and an earlier one not. A whole record that says "synced up to n" proves that all up to n had
//! been whole: if one of them is not, something else has gone wrong. The control file's watermark is the second witness
//! (`recover`). Only the last segment may end torn: a segment is sealed and synced before the next one begins.

use uuid::Uuid;

use super::super::{Batch, Lsn};

/// Bytes of a record's header.
pub(crate) const HEADER_BYTES: usize = 64;
/// Bytes that a seal takes.
pub(crate) const SEAL_BYTES: usize = HEADER_BYTES;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The events of one command.
    Events,
    /// The end of a complete segment.
    Seal,
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) payload_bytes: u32,
    pub(crate) lsn: Lsn,
    pub(crate) synced: Lsn,
    pub(crate) epoch: u64,
    pub(crate) system: Uuid,
    pub(crate) first_seq: u64,
    pub(crate) count: u32,
    pub(crate) kind: Kind,
}

impl Header {
    /// Bytes of the whole record.
    pub(crate) fn record_bytes(&self) -> usize {
        HEADER_BYTES + self.payload_bytes as usize
    }

    /// The number of the last event.
    pub(crate) fn last_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count) - 1
    }

    /// The batch that this header and `payload` are.
    pub(crate) fn batch<'a>(&self, payload: &'a [u8]) -> Batch<'a> {
        let Self { system, epoch, first_seq, count, .. } = *self;
        Batch { system, epoch, first_seq, count, payload }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// Appends a batch as a record that [`finish`] has yet to complete: neither checksum nor synced LSN are known here.
pub(crate) fn push(buffer: &mut Vec<u8>, lsn: Lsn, batch: &Batch<'_>) {
    let payload_bytes = u32::try_from(batch.payload.len()).unwrap_or(u32::MAX);
    let header = Header {
        payload_bytes,
        lsn,
        synced: Lsn(0),
        epoch: batch.epoch,
        system: batch.system,
        first_seq: batch.first_seq,
        count: batch.count,
        kind: Kind::Events,
    };
    push_header(buffer, &header);
    buffer.extend_from_slice(batch.payload);
}

/// Appends an unfinished seal: the next segment begins at `next`, and `records` stand before it.
pub(crate) fn push_seal(buffer: &mut Vec<u8>, next: Lsn, records: u64) {
    let count = u32::try_from(records & 0xffff_ffff).unwrap_or(0);
    let header = Header {
        payload_bytes: 0,
        lsn: next,
        synced: Lsn(0),
        epoch: 0,
        system: Uuid::nil(),
        first_seq: 0,
        count,
        kind: Kind::Seal,
    };
    push_header(buffer, &header);
}

fn push_header(buffer: &mut Vec<u8>, header: &Header) {
    let mut bytes = [0; HEADER_BYTES];
    bytes[4..8].copy_from_slice(&header.payload_bytes.to_le_bytes());
    bytes[8..16].copy_from_slice(&header.lsn.0.to_le_bytes());
    bytes[24..32].copy_from_slice(&header.epoch.to_le_bytes());
    bytes[32..48].copy_from_slice(header.system.as_bytes());
    bytes[48..56].copy_from_slice(&header.first_seq.to_le_bytes());
    bytes[56..60].copy_from_slice(&header.count.to_le_bytes());
    let kind: u32 = match header.kind {
        Kind::Events => 1,
        Kind::Seal => 2,
    };
    bytes[60..64].copy_from_slice(&kind.to_le_bytes());
    buffer.extend_from_slice(&bytes);
}

/// Completes a record that [`push`] or [`push_seal`] made, and which `record` begins with: what is synced, and the checksum.
/// Returns its header; `None` if no such record stands there.
pub(crate) fn finish(record: &mut [u8], synced: Lsn, salt: u32) -> Option<Header> {
    record.get_mut(16..24)?.copy_from_slice(&synced.0.to_le_bytes());
    let header = header(record)?;
    let end = header.record_bytes();
    let crc = crc32c::crc32c_append(salt, record.get(4..end)?);
    record[0..4].copy_from_slice(&crc.to_le_bytes());
    Some(header)
}

/// The header at the beginning of `bytes`, if the words in it make sense. Nothing is checked against the checksum.
pub(crate) fn header(bytes: &[u8]) -> Option<Header> {
    let bytes = bytes.get(..HEADER_BYTES)?;
    let kind = match u32_at(bytes, 60) {
        1 => Kind::Events,
        2 => Kind::Seal,
        _ => return None,
    };
    let header = Header {
        payload_bytes: u32_at(bytes, 4),
        lsn: Lsn(u64_at(bytes, 8)),
        synced: Lsn(u64_at(bytes, 16)),
        epoch: u64_at(bytes, 24),
        system: Uuid::from_bytes(std::array::from_fn(|i| bytes[32 + i])),
        first_seq: u64_at(bytes, 48),
        count: u32_at(bytes, 56),
        kind,
    };
    let sound = match kind {
        Kind::Events => header.count > 0 && header.first_seq.checked_add(u64::from(header.count)).is_some(),
        Kind::Seal => header.payload_bytes == 0,
    };
    (sound && header.synced < header.lsn).then_some(header)
}

/// The record at the beginning of `bytes`: its header and payload, if it is there whole and its checksum is right.
pub(crate) fn parse(bytes: &[u8], salt: u32) -> Option<(Header, &[u8])> {
    let header = header(bytes)?;
    let record = bytes.get(..header.record_bytes())?;
    let right = crc32c::crc32c_append(salt, &record[4..]) == u32_at(record, 0);
    right.then(|| (header, &record[HEADER_BYTES..]))
}

/// What ended a walk over records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A seal; nothing but zeros may follow it.
    Sealed(Header),
    /// The bytes end where a record ended.
    End,
    /// What stands there is no whole record.
    Invalid,
}

/// Walks over whole records from a place on.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    bytes: &'a [u8],
    salt: u32,
    /// Where the next record would begin.
    pub(crate) at: usize,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(bytes: &'a [u8], salt: u32, at: usize) -> Self {
        Self { bytes, salt, at }
    }

    /// The next record with its place, or what ended the walk. A seal counts as passed: `at` stands behind it.
    pub(crate) fn next(&mut self) -> Result<(usize, Header, &'a [u8]), Stop> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        if rest.is_empty() {
            return Err(Stop::End);
        }
        let (header, payload) = parse(rest, self.salt).ok_or(Stop::Invalid)?;
        let at = self.at;
        self.at += header.record_bytes();
        match header.kind {
            Kind::Events => Ok((at, header, payload)),
            Kind::Seal => Err(Stop::Sealed(header)),
        }
    }
}
