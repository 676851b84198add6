//! The append side: one short lock under which an append gets its LSN and its place, and its bytes are copied into the
//! buffer that the writer takes next. Nothing here waits for a disk.
//!
//! **Bounds**: `bytes_max` bytes may be taken and not yet be at the log's level; beyond them an append is refused as busy. A
//! place is only given where there is one: in the segment that is open, or in the next one, which the helper has made
//! ahead; where there is none an append is refused: as full if there was no room to make one, as unavailable if something else
//! was in the way, else as busy.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::disk::{File, is_full};
use super::super::{AppendError, Batch, Lsn};
use super::{file, record};

/// A buffer that grew beyond this in a burst is not kept.
const BUFFER_KEPT_BYTES: usize = 8 << 20;
/// With less left in the open segment, and no room for another, the log calls itself full.
const NEARLY_FULL_BYTES: u64 = 64 << 10;

/// The next segment: zeros, durable, and without a name that counts.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) file: Arc<dyn File>,
    pub(super) id: u64,
    pub(super) salt: u32,
    pub(super) capacity: u64,
}

impl Spare {
    pub(super) fn name(id: u64) -> String {
        format!("{id:016x}{}", file::SPARE)
    }
}

/// From `at` on, the bytes belong to the next segment.
#[derive(Debug)]
pub(super) struct Roll {
    pub(super) at: usize,
    pub(super) first_lsn: Lsn,
    pub(super) spare: Spare,
}

/// Unfinished records, one behind the other, and where segments change.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) bytes: Vec<u8>,
    pub(super) rolls: Vec<Roll>,
}

impl Taken {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.rolls.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(BUFFER_KEPT_BYTES);
        self.rolls.clear();
    }
}

/// Bytes for records in a segment of that capacity.
pub(super) fn room(capacity: u64) -> u64 {
    capacity.saturating_sub((file::HEADER_BYTES + record::SEAL_BYTES) as u64)
}

#[derive(Debug)]
struct Pending {
    taken: Taken,
    /// The newest LSN given.
    newest: Lsn,
    /// Bytes for records in the segment that the next append goes to.
    left: u64,
    /// Whether that segment holds any record.
    holds: bool,
    spare: Option<Spare>,
    /// Why no spare could be made when it was last tried.
    no_spare: Option<io::ErrorKind>,
    seal: bool,
    /// Bytes taken and not yet at the log's level.
    queued: u64,
    hurry: bool,
    closed: bool,
    writer_waits: bool,
}

/// What the queue tells of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) newest: Lsn,
    pub(super) queued: u64,
    pub(super) full: bool,
    pub(super) blocked: Option<io::ErrorKind>,
    pub(super) closed: bool,
}

/// What the writer is asked for besides bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) hurry: bool,
    pub(super) closed: bool,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    pending: Mutex<Pending>,
    work: Condvar,
    bytes_max: u64,
    record_bytes_max: u64,
    nearly_full: u64,
}

impl Queue {
    /// A queue before a segment that has `left` bytes left and, if so, `holds` records; the newest LSN in the log is `newest`.
    pub(super) fn new(bytes_max: u64, segment_bytes: u64, newest: Lsn, left: u64, holds: bool) -> Self {
        let pending = Pending {
            taken: Taken::default(),
            newest,
            left,
            holds,
            spare: None,
            no_spare: None,
            seal: false,
            queued: 0,
            hurry: false,
            closed: false,
            writer_waits: false,
        };
        Self {
            pending: Mutex::new(pending),
            work: Condvar::new(),
            bytes_max,
            record_bytes_max: room(segment_bytes).min(bytes_max),
            nearly_full: NEARLY_FULL_BYTES.min(segment_bytes / 4),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a batch. The flag says that a spare was used up, so that another must be made.
    pub(super) fn append(&self, batch: &Batch<'_>) -> Result<(Lsn, bool), AppendError> {
        let bytes = (record::HEADER_BYTES + batch.payload.len()) as u64;
        let numbered = batch.count > 0 && batch.first_seq.checked_add(u64::from(batch.count)).is_some();
        // Nobody numbers events so that they run over; should it happen, nothing here could hold them.
        if bytes > self.record_bytes_max || !numbered {
            return Err(AppendError::TooLarge);
        }
        let mut pending = self.pending();
        if pending.closed {
            return Err(AppendError::Closed);
        }
        if pending.queued + bytes > self.bytes_max {
            return Err(AppendError::Busy);
        }
        let mut rolled = false;
        if bytes > pending.left {
            rolled = pending.roll();
            if !rolled {
                return Err(pending.why_no_spare());
            }
        }
        pending.newest.0 += 1;
        let lsn = pending.newest;
        record::push(&mut pending.taken.bytes, lsn, batch);
        pending.left -= bytes;
        pending.queued += bytes;
        pending.holds = true;
        self.wake(pending);
        Ok((lsn, rolled))
    }

    /// Wakes the writer, if it sleeps, without the lock.
    fn wake(&self, mut pending: MutexGuard<'_, Pending>) {
        let wake = std::mem::take(&mut pending.writer_waits);
        drop(pending);
        if wake {
            self.work.notify_one();
        }
    }

    /// Ends the segment that the next append would go to, if it holds anything: now, or when there is a spare. Says
    /// whether a spare was used up.
    pub(super) fn seal(&self) -> bool {
        let mut pending = self.pending();
        if !pending.holds || pending.closed {
            return false;
        }
        let rolled = pending.roll();
        pending.seal = !rolled;
        self.wake(pending);
        rolled
    }

    /// Asks for a sync.
    pub(super) fn hurry(&self) {
        let mut pending = self.pending();
        pending.hurry = true;
        self.wake(pending);
    }

    /// No append is taken any more.
    pub(super) fn close(&self) {
        let mut pending = self.pending();
        pending.closed = true;
        self.wake(pending);
    }

    /// Whether the next segment should be made.
    pub(super) fn wants_spare(&self) -> bool {
        let pending = self.pending();
        pending.spare.is_none() && !pending.closed
    }

    /// Gives the next segment. Says whether it was used up at once, by a seal that had waited for it.
    pub(super) fn give(&self, spare: Spare) -> bool {
        let mut pending = self.pending();
        pending.spare = Some(spare);
        pending.no_spare = None;
        let rolled = pending.seal && pending.holds && pending.roll();
        if rolled {
            self.wake(pending);
        }
        rolled
    }

    /// Says why no other segment can be made. Returns whether that is news.
    pub(super) fn no_spare(&self, why: io::ErrorKind) -> bool {
        self.pending().no_spare.replace(why) != Some(why)
    }

    /// Exchanges the records that wait for an empty buffer.
    pub(super) fn drain(&self, into: &mut Taken) -> Asked {
        into.clear();
        let mut pending = self.pending();
        std::mem::swap(&mut pending.taken, into);
        Asked { hurry: std::mem::take(&mut pending.hurry), closed: pending.closed }
    }

    /// So many bytes have reached the log's level: they count against the queue's bound no more. (Who waits for a place in the log
    /// is told by the watermarks, not here.)
    pub(super) fn reached(&self, bytes: u64) {
        let mut pending = self.pending();
        pending.queued = pending.queued.saturating_sub(bytes);
    }

    /// Waits until something is to be done, or for `timeout`.
    pub(super) fn wait(&self, timeout: Duration) {
        let mut pending = self.pending();
        if !pending.taken.is_empty() || pending.hurry || pending.closed {
            return;
        }
        pending.writer_waits = true;
        let waited = self.work.wait_timeout_while(pending, timeout, |pending| pending.writer_waits);
        let (mut pending, _) = waited.unwrap_or_else(PoisonError::into_inner);
        pending.writer_waits = false;
    }

    pub(super) fn standing(&self) -> Standing {
        let pending = self.pending();
        let at_end = pending.spare.is_none() && pending.left < self.nearly_full;
        let why = pending.no_spare.filter(|_| at_end);
        Standing {
            newest: pending.newest,
            queued: pending.queued,
            full: why.is_some_and(is_full),
            blocked: why.filter(|why| !is_full(*why)),
            closed: pending.closed,
        }
    }
}

impl Pending {
    fn why_no_spare(&self) -> AppendError {
        match self.no_spare {
            None => AppendError::Busy,
            Some(why) if is_full(why) => AppendError::Full,
            Some(why) => AppendError::Unavailable(why),
        }
    }

    /// Ends the segment here, if there is a next one.
    fn roll(&mut self) -> bool {
        let Some(spare) = self.spare.take() else { return false };
        self.left = room(spare.capacity);
        self.holds = false;
        self.seal = false;
        let first_lsn = Lsn(self.newest.0 + 1);
        self.taken.rolls.push(Roll { at: self.taken.bytes.len(), first_lsn, spare });
        true
    }
}
