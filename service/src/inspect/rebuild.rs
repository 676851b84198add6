//! A log built anew from another one's whole records.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use uuid::Uuid;

use super::segments::{Found, LogDir};
use crate::codec;
use crate::log::disk::RealDisk;
use crate::log::segment::{SegmentLog, SegmentOptions, former};
use crate::log::{AppendError, Batch, EventLog, Level, Lsn};

/// Smallest and largest segments of a new log. A service goes on in segments of its own size.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// The newest event that each of these systems keeps; all others keep all they have.
pub(super) type Cut = BTreeMap<Uuid, u64>;

/// What a new log has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rebuilt {
    pub(super) records: u64,
    pub(super) left_out: u64,
}

/// Appends a log's whole records to a new log in `to`, and returns when all are durable. **Blocks.**
pub(super) fn rebuild(from: &LogDir, to: &Path, cut: &Cut) -> io::Result<Rebuilt> {
    // What is kept already fits, record by record and all of it: no limit is to refuse it.
    let segment_bytes = from.largest()?.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
    let options = SegmentOptions { segment_bytes, kept_bytes_max: u64::MAX, ..SegmentOptions::at(to) };
    let (log, _) = SegmentLog::open(options, Arc::new(RealDisk)).map_err(io::Error::other)?;
    let mut rebuilt = Rebuilt::default();
    let mut failed = None;
    let scan = from.scan(&mut |found| {
        if failed.is_some() {
            return;
        }
        match kept(found, cut) {
            Some(Kept::Whole) => failed = append(&log, &found.batch).err(),
            Some(Kept::Part { count, payload }) => {
                failed = append(&log, &Batch { count, payload: &payload, ..found.batch }).err();
            }
            None => rebuilt.left_out += 1,
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    remember(from, scan.log, to)?;
    let last = log.health().appended;
    wait(&log, last)?;
    rebuilt.records = last.0;
    log.close();
    Ok(rebuilt)
}

/// The new log's rows are still the old one's: it says so, durably, before it takes that one's place. Where the old one's list can't
/// be read, those ids are lost, and systems that they claimed are refused until they are stored anew.
fn remember(from: &LogDir, id: Option<Uuid>, to: &Path) -> io::Result<()> {
    let mut ids = from.former_ids().unwrap_or_default();
    ids.extend(id);
    let mut file = std::fs::File::create(to.join(former::NAME))?;
    file.write_all(former::encode(&ids).as_bytes())?;
    file.sync_all()?;
    std::fs::File::open(to)?.sync_all()
}

enum Kept {
    Whole,
    Part { count: u32, payload: Vec<u8> },
}

/// What is kept of a record. A cut between the events of one command leaves the first of them.
fn kept(found: Found<'_>, cut: &Cut) -> Option<Kept> {
    let batch = found.batch;
    let Some(last) = cut.get(&batch.system).copied().filter(|last| *last < batch.last_seq()) else {
        return Some(Kept::Whole);
    };
    if batch.first_seq > last {
        return None;
    }
    let mut events = codec::event::decode(batch.payload, batch.first_seq, batch.count).ok()?;
    events.retain(|event| event.seq <= last);
    let mut payload = Vec::new();
    codec::event::encode(&events, &mut payload);
    Some(Kept::Part { count: u32::try_from(events.len()).ok()?, payload })
}

fn append(log: &SegmentLog, batch: &Batch<'_>) -> io::Result<()> {
    loop {
        match log.append(batch) {
            Ok(_) => return Ok(()),
            // Too much waits, or the next segment is being made: what has been taken is on its way.
            Err(AppendError::Busy) => {
                wait(log, log.health().appended)?;
                std::thread::yield_now();
            }
            Err(AppendError::Full) => return Err(io::ErrorKind::StorageFull.into()),
            Err(AppendError::Unavailable(why)) => return Err(why.into()),
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

fn wait(log: &SegmentLog, lsn: Lsn) -> io::Result<()> {
    let closed = || io::Error::other("the new log's disk failed");
    let mut reached = log.reached(Level::Disk).ok_or_else(closed)?;
    let done = reached.wait_for(|durable| *durable >= lsn);
    tokio::runtime::Handle::current().block_on(done).map(drop).map_err(|_| closed())
}

/// Two directories change places, and the old one gets the name `aside`. A crash leaves one of both in place, never none.
/// **Blocks.**
pub(super) fn swap(old: &Path, new: &Path, aside: &Path) -> io::Result<()> {
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        Ok(()) => std::fs::rename(new, aside)?,
        // A file system that can't: for a moment there is no log, and a start in that moment would make an empty one.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            std::fs::rename(old, aside)?;
            std::fs::rename(new, old)?;
        }
        Err(error) => return Err(error.into()),
    }
    let parent =
        old.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::File::open(parent)?.sync_all()
}
