//! The event log: where events go before their effects are shown. It knows opaque bytes, not systems' meaning.
//!
//! The promise of every log, in its own words on [`EventLog`]. [`mem`] keeps a little and promises nothing beyond the
//! process; [`segment`] is a log of files with group commit, on a [`disk`] that may be a simulated one. Who appends and who waits, and
//! in which order: steps 4 and 6 of "A call" in [`crate::system`]. Calls of [`crate::crash::point`] are where tests kill the process, and nothing
//! in a release build.

pub mod disk;
pub mod mem;
pub mod segment;

use std::io;
use std::ops::ControlFlow;

use tokio::sync::watch;
use uuid::Uuid;

pub use crate::durability::Level;
pub use mem::MemoryLog;
pub use segment::{SegmentLog, SegmentOptions};

/// A place in the log: 1, 2, 3, … over all systems of the log, one for each append. A log of files goes on
/// after a restart where its content ends: what was cut as torn has its numbers given again. 0 is before everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// The events of one command, in order; appended, and found again, whole or not at all.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// Whose they are.
    pub system: Uuid,
    /// The fencing epoch under which they were decided. Never falls within a system.
    pub epoch: u64,
    /// Place of the first one in that system's history; the others follow without gaps.
    pub first_seq: u64,
    /// How many there are; at least 1.
    pub count: u32,
    /// The events, encoded; opaque here.
    pub payload: &'a [u8],
}

impl Batch<'_> {
    /// Place of the last event in the system's history.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count.max(1)) - 1
    }
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("epoch", &self.epoch)
            .field("first_seq", &self.first_seq)
            .field("count", &self.count)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// A batch as it is found again, with its place.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its place.
    pub lsn: Lsn,
    /// What was appended there.
    pub batch: Batch<'a>,
}

/// An [`Entry`] that is kept; for logs in memory.
#[derive(Debug, Clone)]
pub struct OwnedEntry {
    /// Its place.
    pub lsn: Lsn,
    system: Uuid,
    epoch: u64,
    first_seq: u64,
    count: u32,
    payload: Box<[u8]>,
}

impl OwnedEntry {
    /// Keeps a batch.
    #[must_use]
    pub fn new(lsn: Lsn, batch: &Batch<'_>) -> Self {
        let Batch { system, epoch, first_seq, count, payload } = *batch;
        Self { lsn, system, epoch, first_seq, count, payload: payload.into() }
    }

    /// What is kept.
    #[must_use]
    pub fn entry(&self) -> Entry<'_> {
        let Self { lsn, system, epoch, first_seq, count, ref payload } = *self;
        Entry { lsn, batch: Batch { system, epoch, first_seq, count, payload } }
    }

    /// [`EventLog::read`] of entries in their order.
    pub fn visit<'a>(
        entries: impl IntoIterator<Item = &'a Self>,
        system: Uuid,
        after_seq: u64,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) {
        for owned in entries.into_iter().filter(|owned| owned.system == system) {
            let entry = owned.entry();
            if entry.batch.last_seq() > after_seq && visit(entry).is_break() {
                return;
            }
        }
    }
}

/// Why an append was not taken. Nothing of it will be found in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much waits to be written; a moment later there is room again.
    #[error("too much waits for the log")]
    Busy,
    /// There is no room where the log is kept; when room is made, the log goes on by itself.
    #[error("the log's disk is full")]
    Full,
    /// There is no place for it: the next segment can't be made, and not for want of room. It is tried again by itself.
    #[error("the log's next segment can't be made: {0}")]
    Unavailable(io::ErrorKind),
    /// The batch is larger than any the log takes.
    #[error("the events of one command are larger than the log takes")]
    TooLarge,
    /// The log has stopped; nothing will be appended any more.
    #[error("the log is closed")]
    Closed,
}

/// Why the log could not be read. Names the file and the place in it, never what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Something other than what was written stands there.
    #[error("{file} is damaged at byte {offset}: {problem}")]
    Damaged {
        /// The file's name within the log's directory.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// The disk refuses.
    #[error("{file} can't be read: {reason}")]
    Io {
        /// The file's name within the log's directory.
        file: String,
        /// What the system says.
        reason: String,
    },
}

impl ReadError {
    pub(crate) fn io(file: &str, error: &io::Error) -> Self {
        Self::Io { file: file.to_owned(), reason: error.to_string() }
    }
}

/// How a log is doing; cheap to ask at every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// The newest append.
    pub appended: Lsn,
    /// Bytes taken and not yet at the log's level.
    pub queued_bytes: u64,
    /// The most that may be so; 0: nothing ever queues.
    pub queued_bytes_max: u64,
    /// There is no room on the disk.
    pub full: bool,
    /// What else keeps the next segment from being made, once there is next to no place left without it.
    pub blocked: Option<io::ErrorKind>,
    /// The log has stopped.
    pub closed: bool,
    /// Bytes of the log that are kept locally.
    pub kept_bytes: u64,
    /// Segments of the log that are kept locally; 0 where there are none.
    pub segments: u64,
}

/// Takes events and says when they are durable.
///
/// - **Order**: appends of one system come from one caller at a time and keep their order; LSNs rise by one.
/// - **Blocking**: `append` never waits for a disk or a peer. It takes the events into memory and returns; when there is
///   no room it fails at once.
/// - **Durability**: an append is durable at a level when [`EventLog::reached`] of that level shows its LSN or a higher
///   one. The watermark never falls and never shows an LSN before all lower ones are durable.
/// - **Failure**: after an error nothing of the batch will be found in the log. A log that can't make good what it has
///   taken drops the watermark's senders: whoever waits then knows that the outcome is unknown and must not answer.
///   Nothing can be appended to it any more.
/// - **Repetition**: appending the same events again appends them twice; callers deduplicate before.
/// - **Cancellation**: does not apply, `append` has no await in it.
pub trait EventLog: Send + Sync + std::fmt::Debug {
    /// Appends a batch and gives its LSN.
    ///
    /// # Errors
    /// Nothing was appended.
    fn append(&self, batch: &Batch<'_>) -> Result<Lsn, AppendError>;

    /// The level that its acknowledgements have unless more is asked for.
    fn level(&self) -> Level;

    /// The durable watermark of a level, now and as it rises; `None` when this log can't give that level.
    fn reached(&self, level: Level) -> Option<watch::Receiver<Lsn>>;

    /// Asks that `level` be reached soon for what has been appended so far, where that doesn't happen by itself.
    fn hurry(&self, level: Level) {
        let _ = level;
    }

    /// How it is doing.
    fn health(&self) -> Health;

    /// Visits the batches of a system that hold events after `after_seq`, in order, until the visitor breaks. Of what is still kept it sees at
    /// least what had reached the log's own level when it was called, and nothing that was never appended. **Blocks** on files: call
    /// it where that is allowed.
    ///
    /// # Errors
    /// The log is damaged or can't be read; what was visited before was right.
    fn read(
        &self,
        system: Uuid,
        after_seq: u64,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError>;

    /// Which log it is, as a system's row names it that is claimed from here: the id of its segments; nil for one that has none.
    fn id(&self) -> Uuid {
        self.segments().map_or_else(Uuid::nil, Segments::log_id)
    }

    /// Whether it is that log, or was built from it: what that one had is here.
    fn is_or_was(&self, id: Uuid) -> bool {
        id == self.id()
    }

    /// Its sealed segments, for logs that have such.
    fn segments(&self) -> Option<&dyn Segments> {
        None
    }
}

/// A segment that takes no more appends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its number; rises with time.
    pub id: u64,
    /// Its first append.
    pub first_lsn: Lsn,
    /// Its last append.
    pub last_lsn: Lsn,
    /// Bytes of its content.
    pub bytes: u64,
}

/// What a sealed segment holds of one system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Which system.
    pub system: Uuid,
    /// Its first event there.
    pub first_seq: u64,
    /// Its last event there.
    pub last_seq: u64,
}

/// The sealed part of a log of files: to be archived, then trimmed. All calls **block** on files.
pub trait Segments: Send + Sync {
    /// This log's own name, made when it was made: keeps the archives of two logs apart.
    fn log_id(&self) -> Uuid;

    /// Sealed segments, oldest first.
    fn sealed(&self) -> Vec<Sealed>;

    /// Asks that the newest segment be sealed if it holds anything; it appears in [`Segments::sealed`] soon.
    fn seal(&self);

    /// What a sealed segment holds, by system.
    ///
    /// # Errors
    /// The index is damaged and so is the segment.
    fn spans(&self, id: u64) -> Result<Vec<Span>, ReadError>;

    /// A sealed segment's bytes, checked from end to end; opaque to everybody but this log's reader.
    ///
    /// # Errors
    /// It is damaged or can't be read.
    fn bytes(&self, id: u64) -> Result<Vec<u8>, ReadError>;

    /// Removes the sealed segments up to and including `id`, durably. Repeating it is harmless.
    ///
    /// # Errors
    /// The disk refuses; what was removed stays removed.
    fn trim(&self, id: u64) -> Result<(), ReadError>;
}

#[cfg(test)]
mod tests;
