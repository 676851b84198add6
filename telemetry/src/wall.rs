//! Where requests spend their wall-clock time: a tracing layer over the spans of [`crate::ledger::spans`].
//!
//! CPU profilers see nothing of a future that waits, and tracing-flame only its polls. This layer keeps, for each request in
//! flight, when its stages ran (`book`) and when it was polled, and when the request ends charges every instant of it to one stack
//! (`charge`), by the ledger's rule, so that widths add up to the wall-clock time and nothing concurrent counts twice. A stack is
//! `operation;phase;stage` with a leaf: [`POLL`] where the request's code was running, [`AWAIT`] where it was not. A stage that was
//! dropped before its end, or failed, says so ([`CANCELLED`], [`FAILED`]): it must not pass for a fast success. Of rollouts the
//! slowest are kept whole (`slowest`), for a trace on a time axis.
//!
//! What is not told by a poll is not told at all: work that another task or thread does for a request without entering its span
//! (a shard's, the database server's) is waiting as far as the request is concerned.
//!
//! Memory is bounded: spans and polls of a request, stacks, open rollouts and kept ones each have a most, and what is beyond it is
//! counted ([`Found::cut`]).

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::clock;
use crate::folded::Folded;
use crate::ledger::spans;
use crate::stage::{Operation, Phase, Stage};

mod book;
mod charge;
pub mod chrome;
mod slowest;
#[cfg(test)]
mod tests;

use book::{Book, Ended, REQUEST};
use slowest::Slowest;
pub use slowest::{Call, Part, Rollout};

/// Leaf of time in which none of the request's code ran.
pub const AWAIT: &str = "[await]";
/// Leaf of time in which the request's code ran: polled, or on a thread that said so.
pub const POLL: &str = "[poll]";
/// Frame of a stage or request that was dropped before its end.
pub const CANCELLED: &str = "[cancelled]";
/// Frame of a stage that ended with an error.
pub const FAILED: &str = "[failed]";

/// How the layer tells the time: tests bring their own.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// What has been found since the last [`Wall::begin`].
#[derive(Debug, Clone)]
pub struct Found {
    /// Nanoseconds by stack; see the module.
    pub stacks: Folded,
    /// Requests that ended.
    pub requests: u64,
    /// Spans and polls that were more than a request's book holds: their time is charged to what was around them.
    pub cut: u64,
    /// The slowest rollouts that ended, the slowest first.
    pub slowest: Vec<Rollout>,
}

/// The layer's findings. Clones share them.
#[derive(Clone)]
pub struct Wall {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    gathered: Mutex<Gathered>,
}

struct Gathered {
    /// Requests that began before are not counted.
    since: Instant,
    found: Found,
    slowest: Slowest,
}

impl Gathered {
    fn new(since: Instant) -> Self {
        let found = Found { stacks: Folded::default(), requests: 0, cut: 0, slowest: Vec::new() };
        Self { since, found, slowest: Slowest::default() }
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wall").finish_non_exhaustive()
    }
}

impl Default for Wall {
    fn default() -> Self {
        Self::with_clock(Arc::new(clock::now))
    }
}

impl Wall {
    /// Tells the time by `clock`.
    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        let gathered = Mutex::new(Gathered::new(clock()));
        Self { shared: Arc::new(Shared { clock, gathered }) }
    }

    /// The layer that feeds it.
    #[must_use]
    pub fn layer(&self) -> WallLayer {
        WallLayer { shared: Arc::clone(&self.shared) }
    }

    /// Forgets what was found: from here on only requests that begin after this are counted.
    pub fn begin(&self) {
        let now = (self.shared.clock)();
        *self.gathered() = Gathered::new(now);
    }

    /// What was found so far. Requests in flight are not in it.
    #[must_use]
    pub fn found(&self) -> Found {
        let gathered = self.gathered();
        Found { slowest: gathered.slowest.kept(), ..gathered.found.clone() }
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        lock(&self.shared.gathered)
    }
}

/// A panic while holding one of these leaves plain numbers behind: they stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gathers what requests do, from their spans; see [`Wall`]. It must see all of [`spans::TARGET`], and needs nothing else.
pub struct WallLayer {
    shared: Arc<Shared>,
}

impl fmt::Debug for WallLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WallLayer").finish_non_exhaustive()
    }
}

/// What a span carries: its request's book and its place there.
#[derive(Clone)]
struct Node {
    book: Arc<Mutex<Book>>,
    span: usize,
}

/// A span that this thread is in. The innermost one is running; those around it wait for it to give the thread back.
struct Inside {
    node: Node,
    since: Instant,
}

thread_local! {
    static INSIDE: RefCell<Vec<Inside>> = const { RefCell::new(Vec::new()) };
}

/// The fields of our spans.
#[derive(Default)]
struct Fields {
    operation: Option<Operation>,
    rollout: Option<u64>,
    phase: Option<Phase>,
    end: Option<Ended>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            spans::OPERATION => self.operation = Operation::from_name(value),
            spans::PHASE => self.phase = Phase::from_name(value),
            spans::END => self.end = Ended::from_name(value),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == spans::ROLLOUT {
            self.rollout = Some(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == spans::TARGET
}

impl WallLayer {
    fn now(&self) -> Instant {
        (self.shared.clock)()
    }

    fn node<S: Subscriber + for<'a> LookupSpan<'a>>(id: &Id, ctx: &Context<'_, S>) -> Option<Node> {
        ctx.span(id)?.extensions().get::<Node>().cloned()
    }

    /// A stage hangs below the span that was entered when it began, if that is of the same request; else below the request.
    fn open<S: Subscriber + for<'a> LookupSpan<'a>>(
        &self,
        attributes: &Attributes<'_>,
        ctx: &Context<'_, S>,
    ) -> Option<Node> {
        let now = self.now();
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let name = attributes.metadata().name();
        if name == spans::REQUEST {
            let operation = fields.operation.unwrap_or(Operation::Unknown);
            return Some(Node { book: Arc::new(Mutex::new(Book::new(operation, now))), span: REQUEST });
        }
        let stage = Stage::from_name(name)?;
        let request = Self::node(attributes.parent()?, ctx)?;
        let around = ctx.lookup_current().and_then(|current| Self::node(&current.id(), ctx));
        let around = around.filter(|node| Arc::ptr_eq(&node.book, &request.book));
        let parent = around.map_or(REQUEST, |node| node.span);
        let span = lock(&request.book).open(stage, fields.phase, parent, now)?;
        Some(Node { span, ..request })
    }

    /// Closes a request's book, once.
    fn close(&self, book: &Mutex<Book>, ended: Ended) {
        let now = self.now();
        // Closed from within a poll of its own, the poll so far counts.
        INSIDE.with_borrow(|inside| {
            if let Some(running) = inside.last().filter(|i| std::ptr::eq(Arc::as_ptr(&i.node.book), book)) {
                lock(book).polled(running.node.span, running.since, now);
            }
        });
        let Some(closed) = lock(book).close(ended, now) else { return };
        let mut gathered = lock(&self.shared.gathered);
        let Gathered { since, found, slowest } = &mut *gathered;
        if closed.start < *since {
            return;
        }
        found.requests += 1;
        found.cut += closed.cut;
        charge::into_stacks(&closed, &mut found.stacks);
        slowest.add(&closed, *since);
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for WallLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        if !is_ours(attributes.metadata()) {
            return;
        }
        if let Some(node) = self.open(attributes, &ctx)
            && let Some(span) = ctx.span(id)
        {
            span.extensions_mut().insert(node);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        let Some(node) = Self::node(id, &ctx) else { return };
        let mut fields = Fields::default();
        values.record(&mut fields);
        if node.span != REQUEST {
            if let Some(ended) = fields.end {
                lock(&node.book).end(node.span, ended, self.now());
            }
            return;
        }
        {
            let mut book = lock(&node.book);
            book.operation = fields.operation.unwrap_or(book.operation);
            book.rollout = fields.rollout.or(book.rollout);
        }
        if let Some(ended) = fields.end {
            self.close(&node.book, ended);
        }
    }

    fn on_enter(&self, id: &Id, ctx: Context<'_, S>) {
        let Some(node) = Self::node(id, &ctx) else { return };
        let now = self.now();
        INSIDE.with_borrow_mut(|inside| {
            if let Some(outer) = inside.last_mut() {
                lock(&outer.node.book).polled(outer.node.span, outer.since, now);
            }
            inside.push(Inside { node, since: now });
        });
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        let Some(node) = Self::node(id, &ctx) else { return };
        let now = self.now();
        INSIDE.with_borrow_mut(|inside| {
            let mine = |i: &Inside| i.node.span == node.span && Arc::ptr_eq(&i.node.book, &node.book);
            let Some(at) = inside.iter().rposition(mine) else { return };
            let left = inside.remove(at);
            // Left out of order, the inner one goes on.
            if at == inside.len() {
                lock(&left.node.book).polled(left.node.span, left.since, now);
                if let Some(outer) = inside.last_mut() {
                    outer.since = now;
                }
            }
        });
    }

    /// Only for what was dropped without an end: a span closes when its last clone does, which may be long after.
    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        let Some(node) = Self::node(&id, &ctx) else { return };
        if node.span == REQUEST {
            // Work behind the answers keeps books that nobody reads: its end is no cancellation.
            let behind = lock(&node.book).operation == Operation::Background;
            self.close(&node.book, if behind { Ended::Done } else { Ended::Cancelled });
        }
    }
}

/// Frames that say how a stack's time was spent, rather than on what.
#[must_use]
pub fn is_leaf(frame: &str) -> bool {
    frame == AWAIT || frame == POLL
}
