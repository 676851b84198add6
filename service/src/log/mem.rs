//! The log of the level `memory`: counts, keeps nothing, and calls everything durable at once, since "in memory" is all
//! that level promises.

use tokio::sync::watch;

use super::{AppendError, Batch, EventLog, Lsn};

/// A log that keeps nothing but its place.
#[derive(Debug)]
pub struct MemoryLog {
    watermark: watch::Sender<Lsn>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self { watermark: watch::Sender::new(Lsn(0)) }
    }
}

impl EventLog for MemoryLog {
    fn append(&self, batch: &Batch<'_>) -> Result<Lsn, AppendError> {
        // One lock takes the place and advances the watermark: the two can't be seen apart.
        let mut taken = Lsn(0);
        self.watermark.send_modify(|newest| {
            newest.0 += batch.count as u64;
            taken = *newest;
        });
        Ok(taken)
    }

    fn durable(&self) -> watch::Receiver<Lsn> {
        self.watermark.subscribe()
    }
}
