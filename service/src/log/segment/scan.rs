//! Reading a segment from end to end, every checksum verified.

use std::ops::ControlFlow;

use uuid::Uuid;

use super::super::{Entry, Lsn, ReadError};
use super::file::{self, SegmentHeader};
use super::record::{self, Header, Stop, Walk};

/// Is shown a record: its place, header and payload.
pub(crate) type Visit<'a> = dyn FnMut(usize, &Header, &[u8]) -> ControlFlow<()> + 'a;

/// What stands in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scanned {
    pub(crate) header: SegmentHeader,
    pub(crate) records: u64,
    /// The last record's LSN; of a segment without any, the one before its first.
    pub(crate) last_lsn: Lsn,
    /// Where the last record, or the seal, ends.
    pub(crate) end: usize,
    pub(crate) sealed: bool,
}

/// Damage in a segment.
pub(crate) fn damaged(file: &str, offset: usize, problem: impl Into<String>) -> ReadError {
    ReadError::Damaged { file: file.to_owned(), offset: offset as u64, problem: problem.into() }
}

/// Visits the records of a segment in order: place, header, payload. Ends at the first place where there is no whole record;
/// what stands there is for the caller to judge. `None` when the visitor broke off.
///
/// # Errors
/// What can't have come from a crash: a wrong header, a whole record out of order, something behind the seal.
pub(crate) fn scan(name: &str, content: &[u8], visit: &mut Visit<'_>) -> Result<Option<Scanned>, ReadError> {
    let header = SegmentHeader::decode(content).map_err(|bad| damaged(name, 0, bad.to_string()))?;
    let mut walk = Walk::new(content, header.salt, file::HEADER_BYTES);
    let (mut records, mut next) = (0, header.first_lsn.0);
    let sealed = loop {
        let from = walk.at;
        match walk.next() {
            Ok((at, record, payload)) => {
                if record.lsn.0 != next {
                    let problem = format!("record {} stands where {next} should", record.lsn.0);
                    return Err(damaged(name, at, problem));
                }
                (records, next) = (records + 1, next + 1);
                if visit(at, &record, payload).is_break() {
                    return Ok(None);
                }
            }
            Err(Stop::Sealed(seal)) => {
                if seal.lsn.0 != next || u64::from(seal.count) != records & 0xffff_ffff {
                    return Err(damaged(name, from, "the segment's end does not fit what stands before it"));
                }
                break true;
            }
            Err(Stop::End | Stop::Invalid) => break false,
        }
    };
    let end = walk.at;
    if sealed && let Some(stray) = content[end..].iter().position(|byte| *byte != 0) {
        return Err(damaged(name, end + stray, "something stands behind the segment's end"));
    }
    Ok(Some(Scanned { header, records, last_lsn: Lsn(next.saturating_sub(1)), end, sealed }))
}

/// Checks a sealed segment's content; see [`visit_bytes`].
pub(crate) fn scan_sealed(
    name: &str,
    content: &[u8],
    visit: &mut Visit<'_>,
) -> Result<Option<Scanned>, ReadError> {
    let Some(scanned) = scan(name, content, visit)? else { return Ok(None) };
    if !scanned.sealed {
        return Err(damaged(name, scanned.end, "no whole record stands here"));
    }
    Ok(Some(scanned))
}

/// Visits the batches of a sealed segment, given as [`super::super::Segments::bytes`] gave it, in order, until the visitor
/// breaks: of one system or of all, those that hold events after `after_seq`. Checks everything up to there.
///
/// # Errors
/// [`ReadError::Damaged`]: the bytes are not those of a whole sealed segment. What was visited before was right.
pub fn visit_bytes(
    bytes: &[u8],
    system: Option<Uuid>,
    after_seq: u64,
    visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let name = SegmentHeader::decode(bytes).map_or_else(|_| "segment".to_owned(), |head| file::name(head.id));
    scan_sealed(&name, bytes, &mut |_, header, payload| {
        let wanted = system.is_none_or(|system| system == header.system) && header.last_seq() > after_seq;
        if wanted {
            visit(Entry { lsn: header.lsn, batch: header.batch(payload) })
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok(())
}

/// What the last segment holds behind its last whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Zeros.
    Clean,
    /// So many bytes, the last of them not zero, and nothing in the segment proves that a sync had covered them.
    Torn(usize),
    /// Something that had been durable is not there: a whole record further on says so.
    Damaged,
}

/// Where the last byte is that is not zero. Compares blocks: an open segment ends with tens of megabytes of zeros, at each start.
fn last_non_zero(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let block = bytes.chunks(ZEROS.len()).rposition(|block| block != &ZEROS[..block.len()])?;
    let from = block * ZEROS.len();
    let end = bytes.len().min(from + ZEROS.len());
    bytes[from..end].iter().rposition(|byte| *byte != 0).map(|at| from + at)
}

/// Judges what stands at `scanned.end` and behind it.
pub(crate) fn ending(content: &[u8], scanned: &Scanned) -> Ending {
    let rest = &content[scanned.end..];
    let Some(last) = last_non_zero(rest) else { return Ending::Clean };
    let missing = scanned.last_lsn.0 + 1;
    // The record that is missing and this one may have waited for the same sync; then neither was ever acknowledged.
    let proves = |at: usize| {
        let plausible = record::header(&rest[at..]).is_some_and(|header| header.synced.0 >= missing);
        plausible && record::parse(&rest[at..], scanned.header.salt).is_some()
    };
    if (0..=last).any(proves) { Ending::Damaged } else { Ending::Torn(last + 1) }
}
