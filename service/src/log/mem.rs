//! The log of the level `memory`: calls everything durable at once, since "in memory" is all that level promises. It
//! keeps the newest events for those who want to look at them, up to a number of bytes, and no longer than the process.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use super::{AppendError, Batch, Entry, EventLog, Health, Level, Lsn, OwnedEntry, ReadError};

/// Bytes of events kept, unless told otherwise.
pub const KEPT_BYTES_MAX: usize = 64 << 20;

/// A log that keeps a little.
#[derive(Debug)]
pub struct MemoryLog {
    kept: Mutex<KeptBatches>,
    watermark: watch::Sender<Lsn>,
    kept_bytes_max: usize,
}

#[derive(Debug, Default)]
struct KeptBatches {
    newest: Lsn,
    batches: VecDeque<OwnedEntry>,
    bytes: usize,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::keeping(KEPT_BYTES_MAX)
    }
}

impl MemoryLog {
    /// A log that keeps at most so many bytes of events; the oldest go first.
    #[must_use]
    pub fn keeping(kept_bytes_max: usize) -> Self {
        Self { kept: Mutex::default(), watermark: watch::Sender::new(Lsn(0)), kept_bytes_max }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, KeptBatches> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventLog for MemoryLog {
    fn append(&self, batch: &Batch<'_>) -> Result<Lsn, AppendError> {
        let mut kept = self.kept();
        kept.newest.0 += 1;
        let lsn = kept.newest;
        kept.bytes += batch.payload.len();
        kept.batches.push_back(OwnedEntry::new(lsn, batch));
        while kept.bytes > self.kept_bytes_max {
            let Some(oldest) = kept.batches.pop_front() else { break };
            kept.bytes -= oldest.entry().batch.payload.len();
        }
        // Under the lock, so that place and watermark can't be seen apart.
        self.watermark.send_replace(lsn);
        Ok(lsn)
    }

    fn level(&self) -> Level {
        Level::Memory
    }

    fn reached(&self, level: Level) -> Option<watch::Receiver<Lsn>> {
        (level == Level::Memory).then(|| self.watermark.subscribe())
    }

    fn health(&self) -> Health {
        let kept = self.kept();
        Health { appended: kept.newest, kept_bytes: kept.bytes as u64, ..Health::default() }
    }

    fn read(
        &self,
        system: Uuid,
        after_seq: u64,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        OwnedEntry::visit(&self.kept().batches, system, after_seq, visit);
        Ok(())
    }
}
