//! A system in a shard's memory.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mipro_telemetry::{Ledger, Stage};
use tokio::time::Instant;

use super::super::document::{Document, Undone};
use super::super::keeper::Attempt;
use super::super::{ActorOptions, EngineError};
use super::World;
use crate::log::{Batch, Lsn};
use crate::system::{Command, Recorded, Reply};

/// A system in memory.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) document: Document,
    /// The newest of its events in the log.
    pub(super) lsn: Lsn,
    /// Events that no save has covered, and since when.
    pub(super) unsaved: u64,
    pub(super) dirty_since: Instant,
    pub(super) used: Instant,
    /// A save is under way.
    pub(super) saving: bool,
    /// What the last save left half done.
    pub(super) attempt: Attempt,
    pub(super) failures: u32,
    pub(super) not_before: Instant,
}

impl Active {
    pub(super) fn new(document: Document) -> Self {
        let now = Instant::now();
        Self {
            document,
            lsn: Lsn(0),
            unsaved: 0,
            dirty_since: now,
            used: now,
            saving: false,
            attempt: Attempt::default(),
            failures: 0,
            not_before: now,
        }
    }

    /// Decides, applies, appends. An error other than a refusal means that memory and log disagree: drop this state.
    pub(super) fn execute(
        &mut self,
        world: &World,
        command: &Command,
        ledger: &Ledger,
    ) -> Result<Reply, EngineError> {
        let system = self.document.state.system_id;
        let mut appended = Ok(self.lsn);
        let keep = |events: &[Recorded]| {
            // Events are plain data, and one command makes few.
            let payload = serde_json::to_vec(events).expect("an event has a JSON form");
            let first_seq = events.first().map_or(0, |first| first.seq);
            let count = u32::try_from(events.len()).expect("one command makes few events");
            let batch = Batch { system, epoch: 1, first_seq, count, payload: &payload };
            appended = ledger.time(Stage::LogAppend, || world.log.append(&batch));
            appended.map(drop).map_err(drop)
        };
        let done = self.document.execute(command, &world.contexts.context(), ledger, keep);
        self.lsn = appended.map_err(|_| EngineError::unavailable("the event log"))?;
        match done {
            Ok(done) => {
                if done.events > 0 && self.unsaved == 0 {
                    self.dirty_since = Instant::now();
                }
                self.unsaved += done.events;
                world.keeper.counters.unsaved_events.fetch_add(done.events, Ordering::Relaxed);
                Ok(done.reply)
            }
            Err(Undone::Refused(refusal)) => Err(refusal.into()),
            Err(Undone::Poisoned) => Err(EngineError::Internal { what: "a command panicked" }),
        }
    }

    /// How long it may stay dirty; a job may ask for less than the service's own.
    pub(super) fn save_delay(&self, service: Duration) -> Option<Duration> {
        let job = self.document.state.spec.snapshot_s_max.map(|s| Duration::from_secs(s.into()));
        let service = (!service.is_zero()).then_some(service)?;
        Some(job.map_or(service, |job| job.min(service)))
    }

    /// Whether it has as many unsaved events as call for a save; a job may ask for fewer than the service's own.
    pub(super) fn is_big(&self, options: &ActorOptions) -> bool {
        let job = self.document.state.spec.snapshot_events_max.map_or(u64::MAX, u64::from);
        self.unsaved >= job.min(options.save_events_max).max(1)
    }
}
