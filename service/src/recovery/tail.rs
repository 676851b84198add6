//! Events folded on top of a snapshot, with the checks that make the fold the history.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use mipro_telemetry::clock;

use super::Failed;
use crate::codec;
use crate::engine::document::{History, corrupt};
use crate::log::Entry;
use crate::snapshot::archive::reader::Fold;
use crate::snapshot::hashed;
use crate::system::{NoProbe, State, apply};

/// How often a long replay is heard of.
const SAY_EVERY: Duration = Duration::from_secs(1);
const SAY_EVENTS: u64 = 1_000_000;

/// Why a tail can't be folded.
#[derive(Debug)]
enum Problem {
    /// Events are missing. They may have been trimmed since the row was read.
    Gap(String),
    Other(String),
}

/// A state and what was folded into it.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) state: State,
    pub(super) history: Option<History>,
    /// The highest epoch so far.
    pub(super) epoch: u64,
    /// Another host has claimed the system last: what the log here has beyond is not what followed.
    pub(super) foreign: bool,
    pub(super) events: u64,
    pub(super) bytes: u64,
    problem: Option<Problem>,
    said: Instant,
    said_events: u64,
}

impl Tail {
    pub(super) fn new(state: State, history: Option<History>, epoch: u64) -> Self {
        let said = clock::now();
        Self {
            state,
            history,
            epoch,
            foreign: false,
            events: 0,
            bytes: 0,
            problem: None,
            said,
            said_events: 0,
        }
    }

    /// The tail, unless something was wrong with it.
    pub(super) fn checked(self) -> Result<Self, Failed> {
        let object = || self.state.system_id.to_string();
        match self.problem {
            Some(Problem::Gap(problem)) => Err(Failed::Gap { object: object(), problem }),
            Some(Problem::Other(problem)) => Err(Failed::Other(corrupt(&object(), problem))),
            None => Ok(self),
        }
    }

    /// Takes a batch of the log here, or refuses it: what follows a snapshot there must follow without a gap, and its epoch
    /// must not fall.
    pub(super) fn offer(&mut self, entry: Entry<'_>) -> ControlFlow<()> {
        let batch = entry.batch;
        let (epoch, first) = (batch.epoch, batch.first_seq);
        if batch.last_seq() <= self.state.version {
            return ControlFlow::Continue(());
        }
        if self.foreign || epoch < self.epoch {
            let highest = self.epoch;
            return self.refuse(if self.foreign || self.events == 0 {
                format!(
                    "the log here goes on with event {first} of epoch {epoch} where what is stored ends at epoch {highest}: \
                     another host has taken this system over. What was acknowledged here beyond that is not served: it is in \
                     this log, or archived from it. Other systems are not concerned: keep the log. See docs/durability.md, \
                     \"Ways out\""
                )
            } else {
                format!("event {first} is of epoch {epoch}, after epoch {highest}: two writers were at this log")
            });
        }
        if first > self.state.version + 1 {
            let from = self.state.version + 1;
            let problem = format!("events {from} to {} are missing in the log", first - 1);
            self.problem = Some(Problem::Gap(problem));
            return ControlFlow::Break(());
        }
        self.take(entry, u64::MAX)
    }

    fn refuse(&mut self, problem: String) -> ControlFlow<()> {
        self.problem = Some(Problem::Other(problem));
        ControlFlow::Break(())
    }

    /// Says that a long replay is under way.
    fn say(&mut self) {
        if self.events - self.said_events < SAY_EVENTS && self.said.elapsed() < SAY_EVERY {
            return;
        }
        (self.said, self.said_events) = (clock::now(), self.events);
        let system = hashed(&self.state.system_id.to_string());
        let (events, bytes, at_seq) = (self.events, self.bytes, self.state.version);
        tracing::info!(system, events, bytes, at_seq, "folding a long tail");
    }
}

impl Fold for Tail {
    fn reached(&self) -> u64 {
        self.state.version
    }

    fn take(&mut self, entry: Entry<'_>, last_seq: u64) -> ControlFlow<()> {
        let batch = entry.batch;
        let recorded = match codec::event::decode(batch.payload, batch.first_seq, batch.count) {
            Ok(recorded) => recorded,
            Err(error) => {
                let first = batch.first_seq;
                return self.refuse(format!("the events from {first} on can't be read: {error}"));
            }
        };
        // A batch may straddle what the snapshot covers, or where a higher epoch begins.
        let covered = self.state.version;
        let mut fresh: Vec<_> =
            recorded.into_iter().filter(|event| event.seq > covered && event.seq <= last_seq).collect();
        for event in &fresh {
            apply(&mut self.state, event, &mut NoProbe);
        }
        self.epoch = self.epoch.max(batch.epoch);
        self.events += fresh.len() as u64;
        self.bytes += batch.payload.len() as u64;
        if let Some(history) = &mut self.history {
            history.extend(std::mem::take(&mut fresh));
        }
        self.say();
        ControlFlow::Continue(())
    }
}
