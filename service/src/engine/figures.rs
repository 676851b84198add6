//! What an engine counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::snapshot::SaveError;

/// An engine's counters and gauges, read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Systems held in memory.
    pub resident: u64,
    /// Events applied in memory and not yet saved: what a crash would lose.
    pub unsaved_events: u64,
    /// Saves done behind the answers.
    pub saves: u64,
    /// Saves behind the answers that failed and will be tried again.
    pub save_failures: u64,
    /// States dropped because another process had moved the row.
    pub conflicts: u64,
    /// Systems sent out of memory for want of room or use.
    pub evictions: u64,
    /// States dropped because this program or the log failed; their unsaved events are lost.
    pub poisoned: u64,
}

/// The counters behind [`Figures`].
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) resident: AtomicU64,
    pub(crate) unsaved_events: AtomicU64,
    pub(crate) saves: AtomicU64,
    pub(crate) save_failures: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) evictions: AtomicU64,
    pub(crate) poisoned: AtomicU64,
}

impl Counters {
    pub(crate) fn saved(&self, result: &Result<(), SaveError>) {
        let counter = match result {
            Ok(()) => &self.saves,
            Err(SaveError::Failed(_)) => &self.save_failures,
            Err(SaveError::Conflict) => &self.conflicts,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            resident: read(&self.resident),
            unsaved_events: read(&self.unsaved_events),
            saves: read(&self.saves),
            save_failures: read(&self.save_failures),
            conflicts: read(&self.conflicts),
            evictions: read(&self.evictions),
            poisoned: read(&self.poisoned),
        }
    }
}
