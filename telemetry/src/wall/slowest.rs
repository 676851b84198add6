//! The slowest rollouts, kept whole.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::book::{Closed, Ended, REQUEST};
use crate::clock;
use crate::stage::{Operation, Phase, Stage};

/// Rollouts whose end has not come yet, kept at most; the one that began first goes. One that never ends goes that way.
const OPEN_MAX: usize = 1_024;
/// Calls of one rollout that are kept; later ones are not in its trace.
const CALLS_MAX: usize = 64;
/// Rollouts kept.
pub(super) const KEPT_MAX: usize = 4;

/// A rollout's calls, as the service saw them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// In the order in which they ended.
    pub calls: Vec<Call>,
}

/// One request. Times are nanoseconds since the profile began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What it was for.
    pub operation: Operation,
    /// When it came.
    pub from_ns: u64,
    /// When it was answered, or dropped.
    pub to_ns: u64,
    /// Whether it came to its end.
    pub done: bool,
    /// Its stages, by their start.
    pub stages: Vec<Part>,
    /// When its code ran.
    pub polls_ns: Vec<(u64, u64)>,
}

/// A stage of a request. Times are nanoseconds since the profile began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The stage.
    pub stage: Stage,
    /// The phase it belongs to.
    pub phase: Option<Phase>,
    /// Its start.
    pub from_ns: u64,
    /// Its end.
    pub to_ns: u64,
    /// Whether it came to its end, without an error.
    pub done: bool,
}

impl Rollout {
    /// First call's start, last call's end; what the client and the task app do between them is in it.
    #[must_use]
    pub fn range_ns(&self) -> (u64, u64) {
        let from = self.calls.iter().map(|call| call.from_ns).min().unwrap_or(0);
        (from, self.calls.iter().map(|call| call.to_ns).max().unwrap_or(from))
    }

    fn length_ns(&self) -> u64 {
        let (from, to) = self.range_ns();
        to - from
    }
}

#[derive(Debug, Default)]
pub(super) struct Slowest {
    open: BTreeMap<u64, Rollout>,
    /// Open rollouts, oldest first.
    order: VecDeque<u64>,
    /// The slowest first.
    kept: Vec<Rollout>,
}

impl Slowest {
    pub(super) fn kept(&self) -> Vec<Rollout> {
        self.kept.clone()
    }

    /// Adds a request to its rollout; the one that closes the rollout decides whether it is kept.
    pub(super) fn add(&mut self, closed: &Closed, epoch: Instant) {
        let Some(id) = closed.rollout else { return };
        if !self.open.contains_key(&id) {
            if self.order.len() >= OPEN_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.open.remove(&oldest);
            }
            self.order.push_back(id);
        }
        let rollout = self.open.entry(id).or_insert_with(|| Rollout { calls: Vec::new() });
        if rollout.calls.len() < CALLS_MAX {
            rollout.calls.push(call(closed, epoch));
        }
        if ends(closed.operation) {
            self.order.retain(|open| *open != id);
            if let Some(rollout) = self.open.remove(&id) {
                self.keep(rollout);
            }
        }
    }

    fn keep(&mut self, rollout: Rollout) {
        let at = self.kept.partition_point(|kept| kept.length_ns() >= rollout.length_ns());
        self.kept.insert(at, rollout);
        self.kept.truncate(KEPT_MAX);
    }
}

fn ends(operation: Operation) -> bool {
    matches!(operation, Operation::StatusDone | Operation::StatusRewardDone | Operation::StatusFailed)
}

fn call(closed: &Closed, epoch: Instant) -> Call {
    let start = clock::as_ns(closed.start.saturating_duration_since(epoch));
    let request = &closed.spans[REQUEST];
    let done = |ended: Ended| ended == Ended::Done;
    let parts = closed.spans.iter().skip(1).map(|span| Part {
        stage: span.stage,
        phase: span.phase,
        from_ns: start + span.from,
        to_ns: start + span.to,
        done: done(span.ended),
    });
    Call {
        operation: closed.operation,
        from_ns: start,
        to_ns: start + request.to,
        done: done(request.ended),
        stages: parts.collect(),
        polls_ns: closed.polls.iter().map(|poll| (start + poll.from, start + poll.to)).collect(),
    }
}
