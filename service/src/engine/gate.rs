//! The output gate: an answer leaves only when everything it could have seen is durable at the level in force, or at a
//! stronger one that its caller asked for.
//!
//! The gate carries the newest event's place in the log as of the moment the answer was made. A duplicate and a read carry
//! it, too: what they show may still be on its way to the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mipro_telemetry::{Ledger, Stage};
use tokio::sync::watch;
use tokio::time::timeout;

use super::EngineError;
use super::error::LogTrouble;
use super::figures::Counters;
use crate::log::{EventLog, Level, Lsn};

/// What to await before an answer may leave. Dropping it lets nothing out and undoes nothing.
#[derive(Debug, Clone)]
#[must_use = "an answer must not leave before its gate has opened"]
pub struct Gate {
    closed: Option<Closed>,
    seen: Option<Seen>,
}

#[derive(Debug, Clone)]
struct Closed {
    until: Lsn,
    durable: watch::Receiver<Lsn>,
    limit: Duration,
    owner: Option<(Arc<dyn EventLog>, Arc<Counters>)>,
}

/// How far into a system's history an answer could see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The newest event it could have seen.
    pub seq: u64,
    /// The fencing epoch under which the system is written.
    pub epoch: u64,
}

impl Gate {
    /// A gate that is open: there is nothing to wait for.
    pub const fn open() -> Self {
        Self { closed: None, seen: None }
    }

    /// Opens when the log's durable watermark reaches `until`; gives up after `limit`.
    pub const fn at(until: Lsn, durable: watch::Receiver<Lsn>, limit: Duration) -> Self {
        Self { closed: Some(Closed { until, durable, limit, owner: None }), seen: None }
    }

    /// The same, for an engine's log: a stronger level of it may be asked for, and waits that are given up are counted.
    pub(super) fn owned(mut self, log: Arc<dyn EventLog>, counters: Arc<Counters>) -> Self {
        if let Some(closed) = &mut self.closed {
            closed.owner = Some((log, counters));
        }
        self
    }

    /// With a note of how far its answer could see.
    pub const fn seeing(mut self, seen: Seen) -> Self {
        self.seen = Some(seen);
        self
    }

    /// How far its answer could see, where the engine counts epochs.
    #[must_use]
    pub const fn seen(&self) -> Option<Seen> {
        self.seen
    }

    /// Opens only when `level` is reached, too. For those who know that the engine gives that level
    /// ([`super::Engine::gives`]): an answer that can't be held back that far is not sent.
    ///
    /// # Errors
    /// This gate's log can't give the level.
    pub fn raised(mut self, level: Level) -> Result<Self, EngineError> {
        let Some(Closed { until, durable, owner: Some((log, _)), .. }) = &mut self.closed else {
            return Ok(self);
        };
        if level > log.level() {
            *durable = log.reached(level).ok_or(EngineError::Log(LogTrouble::Stopped))?;
            if *durable.borrow() < *until {
                log.hurry(level);
            }
        }
        Ok(self)
    }

    /// Whether waiting would end at once.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.closed.as_ref().is_none_or(|closed| *closed.durable.borrow() >= closed.until)
    }

    /// Waits, as the stage `gate.wait`. May run beside other work of the same request (the LLM call).
    ///
    /// # Errors
    /// The log stopped, or took longer than the limit: whether the events are kept is not known, and the answer must not
    /// be sent.
    pub async fn wait(self, ledger: &Ledger) -> Result<(), EngineError> {
        let Some(mut closed) = self.closed else { return Ok(()) };
        let stage = ledger.enter(Stage::GateWait);
        match timeout(closed.limit, closed.durable.wait_for(|durable| *durable >= closed.until)).await {
            Ok(Ok(_)) => {
                stage.done();
                Ok(())
            }
            Ok(Err(_)) => Err(EngineError::Log(LogTrouble::Stopped)),
            Err(_) => {
                if let Some((_, counters)) = &closed.owner {
                    counters.gate_timeouts.fetch_add(1, Ordering::Relaxed);
                }
                Err(EngineError::Log(LogTrouble::Slow))
            }
        }
    }
}

#[cfg(test)]
mod tests;
