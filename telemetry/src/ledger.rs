//! One request's times: who was working, when, and what nobody claimed.
//!
//! A [`Ledger`] is a cheap handle that travels with a request through handlers, engine and stores. Stages are clocked by an
//! explicit guard ([`Ledger::enter`]), a closure ([`Ledger::time`]) or a future wrapper ([`Ledger::track`]), never by span
//! closing times, which lie about awaits. [`Ledger::finish`] sweeps the recorded intervals once, charging every instant to
//! exactly one stage, so that `sum of stages + other = total` holds by construction, also where stages overlap.
//! The request and every stage open a tracing span of the same extent ([`spans`]) for profilers; nobody else pays for them.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tracing::Span;
use tracing::instrument::{Instrument as _, Instrumented};

use crate::clock;
use crate::stage::{Group, Operation, Phase, Stage};

pub mod spans;
mod sweep;
#[cfg(test)]
mod tests;

use sweep::{Interval, Tally, sweep};

/// Most intervals one ledger keeps; later ones are dropped and show up in `other`. A rollout's call makes about ten.
pub const INTERVALS_MAX: usize = 512;

#[derive(Debug)]
struct Book {
    operation: Operation,
    intervals: Vec<Interval>,
    tallies: Vec<Tally>,
    /// The caller has left.
    abandoned: bool,
}

#[derive(Debug)]
struct Inner {
    start: Instant,
    book: Mutex<Book>,
    span: Span,
}

/// A handle on one request's times. Clones share the same book; a clone may stand for a phase ([`Ledger::in_phase`]).
#[derive(Debug, Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
    phase: Option<Phase>,
}

impl Ledger {
    /// Starts the clock of a request.
    #[must_use]
    pub fn start(operation: Operation) -> Self {
        let (intervals, tallies) = (Vec::with_capacity(16), Vec::with_capacity(8));
        let book = Book { operation, intervals, tallies, abandoned: false };
        let inner = Inner { start: clock::now(), book: Mutex::new(book), span: spans::request(operation) };
        Self { inner: Arc::new(inner), phase: None }
    }

    /// The same ledger, its further stages belonging to `phase`.
    #[must_use]
    pub fn in_phase(&self, phase: Phase) -> Self {
        Self { inner: Arc::clone(&self.inner), phase: Some(phase) }
    }

    /// When the request began.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.inner.start
    }

    /// Says what the request turned out to be for (a status call knows only after reading its body).
    pub fn set_operation(&self, operation: Operation) {
        self.book().operation = operation;
    }

    /// What the request is for, as far as known.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.book().operation
    }

    /// Says which rollout the request belongs to. Only a profile hears of it, and only a hash.
    pub fn set_rollout(&self, rollout_id: &str) {
        spans::rollout(&self.inner.span, rollout_id);
    }

    /// Says that the caller has left before the answer: no success, whatever took how long. Call it before [`Ledger::finish`].
    pub fn abandon(&self) {
        self.book().abandoned = true;
    }

    /// Lets a profile see when `future`, the request's own work, is polled and when it waits. Changes nothing else.
    pub fn watch<F: Future>(&self, future: F) -> Instrumented<F> {
        future.instrument(self.inner.span.clone())
    }

    /// Lets a profile see that `work` is the request's, on whatever thread it runs (a blocking pool, a body's poll).
    pub fn working<R>(&self, work: impl FnOnce() -> R) -> R {
        self.inner.span.in_scope(work)
    }

    /// Begins a stage. Call [`StageGuard::done`] when it has succeeded; a guard that is merely dropped records a
    /// cancelled (or failed) stage, so that a timed-out query never passes for a fast one.
    #[must_use = "the stage lasts as long as its guard"]
    pub fn enter(&self, stage: Stage) -> StageGuard {
        let start = clock::now();
        let slot = self.open(stage, start);
        let span = spans::stage(&self.inner.span, stage, self.phase);
        StageGuard { ledger: self.clone(), slot, start, span, finished: false, failed: false }
    }

    /// Runs `work` as a stage.
    pub fn time<R>(&self, stage: Stage, work: impl FnOnce() -> R) -> R {
        let guard = self.enter(stage);
        let result = guard.span.in_scope(work);
        guard.done();
        result
    }

    /// Wraps a future as a stage, clocked from its first poll. Dropping it before it is ready records it as cancelled.
    pub fn track<F: Future>(&self, stage: Stage, future: F) -> Tracked<F> {
        Tracked { ledger: self.clone(), stage, guard: None, future: Box::pin(future) }
    }

    /// As [`Ledger::track`], for work that can fail: an `Err` is recorded like a cancelled stage, not like a success.
    ///
    /// # Errors
    /// Those of the future.
    pub async fn try_track<T, E>(
        &self,
        stage: Stage,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut guard = self.enter(stage);
        let span = guard.span.clone();
        let result = InSpan { span, future: Box::pin(future) }.await;
        guard.failed = result.is_err();
        if result.is_ok() {
            guard.done();
        }
        result
    }

    /// Records a finished interval measured elsewhere (another thread, a connector). It opens no span: profiles miss it.
    pub fn interval(&self, stage: Stage, start: Instant, end: Instant) {
        let slot = self.open(stage, start);
        self.close(slot, end, false);
    }

    /// Adds to a stage's counters: statements or requests, payload bytes, round trips on the wire.
    pub fn count(&self, stage: Stage, count: u64, bytes: u64, round_trips: u64) {
        let phase = self.phase;
        let mut book = self.book();
        if let Some(tally) = book.tallies.iter_mut().find(|t| t.stage == stage && t.phase == phase) {
            tally.count += count;
            tally.bytes += bytes;
            tally.round_trips += round_trips;
        } else {
            book.tallies.push(Tally { stage, phase, count, bytes, round_trips });
        }
    }

    /// Closes the books: what each stage took, exclusively, since [`Ledger::start`] and until now. Stages still running
    /// are cut off at this moment and counted as cancelled, for they have not succeeded. May be called more than once.
    #[must_use]
    pub fn finish(&self) -> Breakdown {
        let total_ns = self.offset_ns(clock::now());
        let book = self.book();
        let end = if book.abandoned { spans::CANCELLED } else { spans::DONE };
        spans::ended(&self.inner.span, book.operation, end);
        sweep(book.operation, total_ns, &book.intervals, &book.tallies)
    }

    /// Takes a place in the book; none when it is full.
    fn open(&self, stage: Stage, start: Instant) -> Option<usize> {
        let start_ns = self.offset_ns(start);
        let mut book = self.book();
        if stage == Stage::Other || book.intervals.len() >= INTERVALS_MAX {
            return None;
        }
        book.intervals.push(Interval { stage, phase: self.phase, start_ns, end_ns: None, cancelled: false });
        Some(book.intervals.len() - 1)
    }

    fn close(&self, slot: Option<usize>, end: Instant, cancelled: bool) {
        let Some(slot) = slot else { return };
        let end_ns = self.offset_ns(end);
        let mut book = self.book();
        let interval = &mut book.intervals[slot];
        interval.end_ns = Some(end_ns);
        interval.cancelled = cancelled;
    }

    /// What lies before the request's start counts as its start.
    fn offset_ns(&self, at: Instant) -> u64 {
        clock::as_ns(at.saturating_duration_since(self.inner.start))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // A panic while holding the lock leaves plain numbers behind: they stay usable.
        self.inner.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running stage; see [`Ledger::enter`].
#[derive(Debug)]
pub struct StageGuard {
    ledger: Ledger,
    slot: Option<usize>,
    start: Instant,
    span: Span,
    finished: bool,
    /// It came to its end, and that was an error; otherwise an end without success is a cancellation.
    failed: bool,
}

impl StageGuard {
    /// Ends the stage as a success and gives its wall time.
    pub fn done(mut self) -> Duration {
        self.finished = true;
        self.span.record(spans::END, spans::DONE);
        let end = clock::now();
        self.ledger.close(self.slot, end, false);
        end.saturating_duration_since(self.start)
    }
}

impl Drop for StageGuard {
    fn drop(&mut self) {
        if !self.finished {
            self.span.record(spans::END, if self.failed { spans::FAILED } else { spans::CANCELLED });
            self.ledger.close(self.slot, clock::now(), true);
        }
    }
}

/// A future that is a stage; see [`Ledger::track`].
#[derive(Debug)]
pub struct Tracked<F> {
    ledger: Ledger,
    stage: Stage,
    guard: Option<StageGuard>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Tracked<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let guard = this.guard.get_or_insert_with(|| this.ledger.enter(this.stage));
        let output = std::task::ready!(guard.span.in_scope(|| this.future.as_mut().poll(cx)));
        if let Some(guard) = this.guard.take() {
            guard.done();
        }
        Poll::Ready(output)
    }
}

/// A future polled inside a span.
struct InSpan<F> {
    span: Span,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for InSpan<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.span.in_scope(|| this.future.as_mut().poll(cx))
    }
}

/// What one stage (in one phase) of a request took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageEntry {
    /// The stage.
    pub stage: Stage,
    /// The phase it ran in, if any.
    pub phase: Option<Phase>,
    /// Time charged to this stage alone.
    pub exclusive_ns: u64,
    /// Time it ran hidden beside another stage that was charged and not nested in it: a union, shown, never summed.
    pub overlap_ns: u64,
    /// Statements or requests as counted by [`Ledger::count`]; where nobody counted, how often the stage was entered.
    pub count: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Round trips on the wire, as far as the caller knows them.
    pub round_trips: u64,
    /// How many of its intervals were cancelled or failed.
    pub cancelled: u64,
}

/// One request's closed books: `Σ exclusive_ns + other_ns = total_ns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breakdown {
    /// What the request was for.
    pub operation: Operation,
    /// From start to finish.
    pub total_ns: u64,
    /// What no stage claims.
    pub other_ns: u64,
    /// One entry per (stage, phase) that ran, in vocabulary order.
    pub entries: Vec<StageEntry>,
}

impl Breakdown {
    /// Exclusive time of a roll-up.
    #[must_use]
    pub fn group_ns(&self, group: Group) -> u64 {
        if group == Group::Other {
            return self.other_ns;
        }
        self.entries.iter().filter(|e| e.stage.group() == group).map(|e| e.exclusive_ns).sum()
    }

    /// Exclusive time of a roll-up within one phase: the seed tables' "load_state (db)".
    #[must_use]
    pub fn phase_group_ns(&self, phase: Phase, group: Group) -> u64 {
        let mine = |e: &&StageEntry| e.phase == Some(phase) && e.stage.group() == group;
        self.entries.iter().filter(mine).map(|e| e.exclusive_ns).sum()
    }
}
