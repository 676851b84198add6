//! One request in flight: when its stages ran, and when its code did.

use std::time::Instant;

use crate::clock;
use crate::ledger::{INTERVALS_MAX, spans};
use crate::stage::{Operation, Phase, Stage};

/// The request itself, among its spans.
pub(super) const REQUEST: usize = 0;
/// Polls kept of one request. A rollout's call makes a few dozen; a streamed answer one for each piece.
pub(super) const POLLS_MAX: usize = 4_096;

/// How a span came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    Failed,
    Cancelled,
}

impl Ended {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            spans::DONE => Some(Self::Done),
            spans::FAILED => Some(Self::Failed),
            spans::CANCELLED => Some(Self::Cancelled),
            _ => None,
        }
    }
}

/// The request, or a stage of it. Times are nanoseconds since the request's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// [`Stage::Other`] for the request itself.
    pub(super) stage: Stage,
    pub(super) phase: Option<Phase>,
    pub(super) parent: usize,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) ended: Ended,
}

/// A stretch in which a thread ran the request's code, `span` being the innermost that it was in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Poll {
    pub(super) span: usize,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// A request whose end has come: spans lie within it, and none is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) operation: Operation,
    pub(super) rollout: Option<u64>,
    pub(super) start: Instant,
    /// The request first; a parent before its children.
    pub(super) spans: Vec<Span>,
    pub(super) polls: Vec<Poll>,
    pub(super) cut: u64,
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) operation: Operation,
    pub(super) rollout: Option<u64>,
    start: Instant,
    spans: Vec<Span>,
    open: Vec<usize>,
    polls: Vec<Poll>,
    cut: u64,
    closed: bool,
}

impl Book {
    pub(super) fn new(operation: Operation, start: Instant) -> Self {
        let request =
            Span { stage: Stage::Other, phase: None, parent: REQUEST, from: 0, to: 0, ended: Ended::Done };
        Self {
            operation,
            rollout: None,
            start,
            spans: vec![request],
            open: vec![REQUEST],
            polls: Vec::new(),
            cut: 0,
            closed: false,
        }
    }

    fn offset(&self, at: Instant) -> u64 {
        clock::as_ns(at.saturating_duration_since(self.start))
    }

    /// Begins a stage; none once the request is over, or when the book is full.
    pub(super) fn open(
        &mut self,
        stage: Stage,
        phase: Option<Phase>,
        parent: usize,
        now: Instant,
    ) -> Option<usize> {
        if self.closed {
            return None;
        }
        if self.spans.len() > INTERVALS_MAX {
            self.cut += 1;
            return None;
        }
        let from = self.offset(now);
        self.spans.push(Span { stage, phase, parent, from, to: from, ended: Ended::Cancelled });
        let span = self.spans.len() - 1;
        self.open.push(span);
        Some(span)
    }

    /// Ends a stage; the first end counts.
    pub(super) fn end(&mut self, span: usize, ended: Ended, now: Instant) {
        let Some(at) = self.open.iter().position(|open| *open == span).filter(|_| !self.closed) else {
            return;
        };
        self.open.remove(at);
        let to = self.offset(now);
        let span = &mut self.spans[span];
        (span.to, span.ended) = (to.max(span.from), ended);
    }

    /// The request's code ran, `span` being the innermost.
    pub(super) fn polled(&mut self, span: usize, since: Instant, until: Instant) {
        let (from, to) = (self.offset(since), self.offset(until));
        if self.closed || from >= to {
            return;
        }
        if self.polls.len() >= POLLS_MAX {
            self.cut += 1;
            return;
        }
        self.polls.push(Poll { span, from, to });
    }

    /// Ends the request, once. Stages that still run are cut off: they have not succeeded.
    pub(super) fn close(&mut self, ended: Ended, now: Instant) -> Option<Closed> {
        if self.closed {
            return None;
        }
        self.closed = true;
        let total = self.offset(now);
        let mut spans = std::mem::take(&mut self.spans);
        for open in std::mem::take(&mut self.open) {
            (spans[open].to, spans[open].ended) = (total, Ended::Cancelled);
        }
        spans[REQUEST].ended = ended;
        Some(Closed {
            operation: self.operation,
            rollout: self.rollout,
            start: self.start,
            spans,
            polls: std::mem::take(&mut self.polls),
            cut: self.cut,
        })
    }
}
