//! What an engine counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::snapshot::SaveError;

/// An engine's counters and gauges, read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Systems held in memory.
    pub resident: u64,
    /// Events applied in memory and not yet saved: what a crash would lose at the level `memory`, and what a start would
    /// replay at the others.
    pub unsaved_events: u64,
    /// Saves done behind the answers.
    pub saves: u64,
    /// Saves behind the answers that failed and will be tried again.
    pub save_failures: u64,
    /// States dropped because another process had moved the row.
    pub conflicts: u64,
    /// Systems sent out of memory for want of room or use.
    pub evictions: u64,
    /// States dropped because this program failed; at the level `memory` their unsaved events are lost.
    pub poisoned: u64,
    /// Commands refused because the log was behind or their system had more than its share.
    pub pressed: u64,
    /// Answers given up because the log took too long.
    pub gate_timeouts: u64,
    /// Systems in memory with events that no save has covered.
    pub dirty: u64,
    /// Age of the oldest event that no save has covered, in milliseconds.
    pub dirty_age_ms: u64,
    /// The most events of one system that no save has covered.
    pub lag_events: u64,
    /// The event log.
    pub log: LogFigures,
}

/// What an engine's event log and its archive tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogFigures {
    /// The newest append.
    pub appended_lsn: u64,
    /// The newest append that is durable at the level in force.
    pub durable_lsn: u64,
    /// Bytes taken and not yet durable.
    pub queued_bytes: u64,
    /// Bytes kept on the disk.
    pub kept_bytes: u64,
    /// Segments kept on the disk.
    pub segments: u64,
    /// Segments copied to the object store.
    pub archived: u64,
    /// Segments removed from the disk.
    pub trimmed: u64,
    /// Turns of the archiver that failed and were tried again.
    pub archive_failures: u64,
    /// Archived segments that can't be removed, since some system's stored state does not cover them.
    pub pinned: u64,
    /// For how long the oldest of them could have been removed, milliseconds.
    pub pinned_oldest_ms: u64,
    /// Systems found to keep the oldest of them.
    pub laggards: u64,
    /// How often a stored state that a row names was found not to be there as it says.
    pub missing: u64,
    /// It has stopped.
    pub closed: bool,
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
    pub(crate) pressed: AtomicU64,
    pub(crate) gate_timeouts: AtomicU64,
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
            pressed: read(&self.pressed),
            gate_timeouts: read(&self.gate_timeouts),
            ..Figures::default()
        }
    }
}
