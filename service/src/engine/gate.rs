//! The output gate: an answer leaves only when everything it could have seen is durable at the engine's level.

use std::time::Duration;

use mipro_telemetry::{Ledger, Stage};
use tokio::sync::watch;
use tokio::time::timeout;

use super::EngineError;
use crate::log::Lsn;

const WHAT: &str = "the event log";

/// What to await before an answer may leave. Dropping it lets nothing out and undoes nothing.
#[derive(Debug)]
#[must_use = "an answer must not leave before its gate has opened"]
pub struct Gate {
    closed: Option<Closed>,
}

#[derive(Debug)]
struct Closed {
    until: Lsn,
    durable: watch::Receiver<Lsn>,
    limit: Duration,
}

impl Gate {
    /// A gate that is open: there is nothing to wait for.
    pub const fn open() -> Self {
        Self { closed: None }
    }

    /// Opens when the log's durable watermark reaches `until`; gives up after `limit`.
    pub const fn at(until: Lsn, durable: watch::Receiver<Lsn>, limit: Duration) -> Self {
        Self { closed: Some(Closed { until, durable, limit }) }
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
            Ok(Err(_)) => Err(EngineError::unavailable(WHAT)),
            Err(_) => Err(EngineError::Timeout { what: WHAT }),
        }
    }
}

#[cfg(test)]
mod tests;
