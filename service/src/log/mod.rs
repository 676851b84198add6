//! The event log: where events go before their effects are shown. It knows opaque bytes, not systems.
//!
//! The promise of every log, in its own words on [`EventLog`]; today there is [`mem`], which keeps nothing.

pub mod mem;

use tokio::sync::watch;
use uuid::Uuid;

pub use mem::MemoryLog;

/// A place in the log: 1, 2, 3, … over all systems of the process. 0 is before everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// The events of one command, in order; appended whole or not at all.
pub struct Batch<'a> {
    /// Whose they are.
    pub system: Uuid,
    /// Place of the first one in that system's history; the others follow without gaps.
    pub first_seq: u64,
    /// How many there are.
    pub count: usize,
    /// Writes the bytes of event `index` (below `count`) to the end of the buffer. Called only by logs that keep bytes.
    pub encode: &'a dyn Fn(usize, &mut Vec<u8>),
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("first_seq", &self.first_seq)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// Why an append was not taken, or may not have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There is no room; nothing was appended. Trying again later may help.
    #[error("the log is full")]
    Full,
    /// The log has stopped; nothing will be appended any more.
    #[error("the log is closed")]
    Closed,
}

/// Takes events and says when they are durable.
///
/// - **Order**: appends of one system come from one caller at a time and keep their order; their LSNs rise.
/// - **Blocking**: `append` never waits for a disk or a peer. It takes the events into memory and returns; when there is
///   no room it fails at once.
/// - **Durability**: an append is durable, at this log's level, when [`EventLog::durable`] shows its LSN or a higher one.
///   The watermark never falls and never shows an LSN before all lower ones are durable.
/// - **Failure**: after an error nothing of the batch will be found in the log. A log that can't make good what it has
///   taken drops the watermark's sender: whoever waits then knows that the outcome is unknown, drops the state it
///   applied the events to, and reads it anew.
/// - **Repetition**: appending the same events again appends them twice; callers deduplicate before.
/// - **Cancellation**: does not apply, `append` has no await in it.
pub trait EventLog: Send + Sync + std::fmt::Debug {
    /// Appends a batch and gives the LSN of its last event.
    ///
    /// # Errors
    /// Nothing was appended.
    fn append(&self, batch: &Batch<'_>) -> Result<Lsn, AppendError>;

    /// The durable watermark, now and as it rises.
    fn durable(&self) -> watch::Receiver<Lsn>;
}

#[cfg(test)]
mod tests;
