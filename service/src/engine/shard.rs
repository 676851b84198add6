//! One shard: a task that owns the state of its systems and handles one message at a time.
//!
//! Handlers are synchronous. Loads and saves run in tasks of their own and come back as messages, so that one system's slow
//! store never holds up its neighbours. Every queue is bounded: the mailbox, the requests that wait for a load, and those
//! that wait for a place.
//!
//! A shard that panics within a command drops that system's state, answers 500, and reads the state anew at the next
//! request; at the level `memory` what had not been saved is lost with it. A save that was under way then is waited for
//! first: there is never more than one copy of a system, in memory or on its way to the stores.
//!
//! Whether an id names a system is not known before it is loaded, and anybody may ask for any id: a load takes a place
//! beside the systems in memory and pushes none of them out until it has found one.

mod active;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use lru::LruCache;
use mipro_telemetry::{Ledger, Stage, StageGuard};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::document::Document;
use super::keeper::{Attempt, Keeper, SaveError, admit, events_since};
use super::{Access, ActorOptions, EngineError, Gate, Question};
use crate::clock::Contexts;
use crate::log::{EventLog, Lsn};
use crate::system::{Command, Refusal, Reply, SystemId};
use active::Active;

/// Requests that wait for one system to be loaded, or for a place in the shard.
const WAITING_MAX: usize = 1_024;
/// How often a shard looks for systems to save or to let go.
const TICK: Duration = Duration::from_secs(1);
/// How many of the least recently used systems one look for room considers.
const LOOK_MAX: usize = 16;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What all shards share.
#[derive(Debug)]
pub(super) struct World {
    pub(super) keeper: Keeper,
    pub(super) contexts: Contexts,
    pub(super) log: Arc<dyn EventLog>,
    pub(super) durable: watch::Receiver<Lsn>,
    pub(super) options: ActorOptions,
    pub(super) loads: Semaphore,
    pub(super) saves: Semaphore,
}

impl World {
    /// Whether so much is unsaved that nothing may be added to it.
    fn is_behind(&self) -> bool {
        self.keeper.counters.unsaved_events.load(Ordering::Relaxed) >= self.options.unsaved_events_max
    }

    /// Whether so much is unsaved that saves should not wait until they are due.
    fn is_pressed(&self) -> bool {
        self.keeper.counters.unsaved_events.load(Ordering::Relaxed) >= self.options.unsaved_events_max / 2
    }
}

/// What a shard is told.
#[derive(Debug)]
pub(super) enum Message {
    Request(Box<Request>),
    /// A new system, stored already.
    Adopt(Box<Document>),
    /// Save everything; answers how many systems could not be saved by the deadline. Commands are refused from now on.
    Drain {
        deadline: Instant,
        answer: oneshot::Sender<usize>,
    },
}

/// A request on its way through a shard.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) system: SystemId,
    pub(super) access: Access,
    pub(super) ask: Ask,
    pub(super) ledger: Ledger,
    /// Runs while it waits for the shard, for a place, or for a load that another request began.
    pub(super) queue: StageGuard,
    pub(super) answer: oneshot::Sender<Result<Answered, EngineError>>,
}

/// What is asked.
#[derive(Debug)]
pub(super) enum Ask {
    Execute(Command),
    Inspect(Question),
}

/// What is answered, and when it may leave.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) outgoing: Outgoing,
    pub(super) gate: Gate,
}

/// The answer to an [`Ask`].
#[derive(Debug)]
pub(super) enum Outgoing {
    Reply(Reply),
    Body(Value),
    /// A refusal, too, tells what the state holds: "already has reward 1".
    Refused(Refusal),
}

/// A system's place in the shard.
#[derive(Debug)]
enum Slot {
    /// Being loaded for the first request, which these follow.
    Loading(VecDeque<Request>),
    Active(Box<Active>),
    /// Its state was dropped while a save of it was under way. These wait for the save's end: what is loaded before it is
    /// older than what will be stored.
    Leaving(VecDeque<Request>),
}

/// What comes back from a task.
#[derive(Debug)]
enum Outcome {
    Loaded { first: Box<Request>, result: Result<Box<Document>, EngineError> },
    Saved { system: SystemId, version: u64, attempt: Attempt, result: Result<(), SaveError> },
}

/// A shard's own state.
#[derive(Debug)]
pub(super) struct Shard {
    world: Arc<World>,
    slots: LruCache<SystemId, Slot>,
    systems_max: usize,
    /// How many of the slots are [`Slot::Loading`].
    loading: usize,
    /// Requests for systems that have no place yet.
    parked: VecDeque<Request>,
    tasks: JoinSet<Outcome>,
    draining: bool,
}

impl Shard {
    pub(super) fn new(world: Arc<World>) -> Self {
        let systems_max = world.options.systems_max.div_ceil(world.options.shards.max(1)).max(1);
        Self {
            world,
            slots: LruCache::unbounded(),
            systems_max,
            loading: 0,
            parked: VecDeque::new(),
            tasks: JoinSet::new(),
            draining: false,
        }
    }

    /// Handles messages until the engine is dropped. Loads and saves then under way are dropped with it.
    pub(super) async fn run(mut self, mut mailbox: mpsc::Receiver<Message>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // In order, so that a run can be repeated. What ended comes first: there are only so many loads and saves, while
                // the mailbox may never be empty.
                biased;
                Some(outcome) = self.tasks.join_next() => self.settle(outcome),
                _ = tick.tick() => self.look_around(),
                message = mailbox.recv() => match message {
                    Some(Message::Request(request)) => self.handle(*request),
                    Some(Message::Adopt(document)) => self.adopt(*document),
                    Some(Message::Drain { deadline, answer }) => self.drain(deadline, answer).await,
                    None => return,
                },
            }
        }
    }

    fn handle(&mut self, request: Request) {
        if self.draining && matches!(request.ask, Ask::Execute(_)) {
            refuse(request, EngineError::Draining);
            return;
        }
        match self.slots.get_mut(&request.system) {
            Some(Slot::Active(_)) => self.respond(request),
            Some(Slot::Loading(waiting) | Slot::Leaving(waiting)) if waiting.len() < WAITING_MAX => {
                waiting.push_back(request);
            }
            Some(Slot::Loading(_) | Slot::Leaving(_)) => {
                refuse(
                    request,
                    EngineError::overloaded("too many requests wait for this system to be loaded"),
                );
            }
            None => self.load(request),
        }
    }

    /// Loads the request's system, or parks the request when there is no place for it.
    fn load(&mut self, request: Request) {
        if self.is_full() {
            self.make_room(0);
        }
        if self.is_full() {
            if self.parked.len() < WAITING_MAX {
                self.parked.push_back(request);
            } else {
                refuse(request, EngineError::overloaded("every place for systems in memory is taken"));
            }
            return;
        }
        let Request { system, access, ask, ledger, queue, answer } = request;
        queue.done();
        self.slots.put(system, Slot::Loading(VecDeque::new()));
        self.loading += 1;
        self.world.keeper.counters.resident.fetch_add(1, Ordering::Relaxed);
        let world = Arc::clone(&self.world);
        self.tasks.spawn(async move {
            // Whose system it is, is asked of each request when it is answered: another org's may be waiting behind this one.
            let queue = ledger.enter(Stage::Queue);
            let permit = world.loads.acquire().await;
            queue.done();
            let load =
                AssertUnwindSafe(world.keeper.load(system, Access::Capability, &ledger)).catch_unwind();
            let result = load.await.unwrap_or(Err(EngineError::Internal { what: "a load panicked" }));
            drop(permit);
            let queue = ledger.enter(Stage::Queue);
            let result = result.map(Box::new);
            let first = Box::new(Request { system, access, ask, ledger, queue, answer });
            Outcome::Loaded { first, result }
        });
    }

    /// Answers a request of an active system.
    fn respond(&mut self, request: Request) {
        let Request { system, access, ask, ledger, queue, answer } = request;
        queue.done();
        let Some(Slot::Active(active)) = self.slots.get_mut(&system) else { return };
        active.used = Instant::now();
        let refused = matches!(ask, Ask::Execute(_)) && self.world.is_behind();
        let result = admit(access, active.document.state.org_id).and_then(|()| match ask {
            Ask::Execute(_) if refused => Err(EngineError::overloaded("too many events wait to be saved")),
            Ask::Inspect(question) => Ok(Outgoing::Body(active.document.answer(&question))),
            Ask::Execute(command) => match active.execute(&self.world, &command, &ledger) {
                Err(EngineError::Refused(refusal)) => Ok(Outgoing::Refused(refusal)),
                result => result.map(Outgoing::Reply),
            },
        });
        let (lsn, unsaved, big) = (active.lsn, active.unsaved, active.is_big(&self.world.options));
        if let Err(error @ (EngineError::Internal { .. } | EngineError::Unavailable { .. })) = &result {
            tracing::error!(%error, lost_events_max = unsaved, "a system's state was dropped and will be loaded anew");
            self.world.keeper.counters.poisoned.fetch_add(1, Ordering::Relaxed);
            self.forget(system);
        }
        let answered = result.map(|outgoing| Answered { outgoing, gate: self.gate(lsn) });
        // Whoever asked may have gone; what was applied stays applied.
        let _unheard = answer.send(answered);
        if big || refused {
            self.save(system);
        }
    }

    /// Opens when everything a system's state shows now is durable.
    fn gate(&self, lsn: Lsn) -> Gate {
        if lsn == Lsn(0) {
            return Gate::open();
        }
        Gate::at(lsn, self.world.durable.clone(), self.world.options.gate_wait_max)
    }

    /// Its id is fresh and its creator has not been answered, so nobody can have changed it meanwhile.
    fn adopt(&mut self, document: Document) {
        let system = document.state.system_id;
        if self.slots.contains(&system) {
            return;
        }
        self.make_room(1);
        if self.held() < self.systems_max && !self.is_full() {
            self.slots.put(system, Slot::Active(Box::new(Active::new(document))));
            self.world.keeper.counters.resident.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn settle(&mut self, outcome: Result<Outcome, JoinError>) {
        match outcome {
            Ok(Outcome::Loaded { first, result }) => self.loaded(*first, result),
            Ok(Outcome::Saved { system, version, attempt, result }) => {
                self.saved(system, version, attempt, &result);
            }
            // The tasks catch their panics themselves, and nobody aborts them while the shard lives.
            Err(error) => tracing::error!(%error, "a load or a save was lost"),
        }
        self.unpark();
    }

    /// Handles the requests that found no place, as far as there are places now.
    fn unpark(&mut self) {
        if !self.parked.is_empty() {
            self.make_room(0);
        }
        while !self.is_full() {
            let Some(request) = self.parked.pop_front() else { break };
            self.handle(request);
        }
    }

    fn loaded(&mut self, first: Request, result: Result<Box<Document>, EngineError>) {
        let system = first.system;
        let Some(Slot::Loading(waiting)) = self.slots.pop(&system) else { return };
        self.loading -= 1;
        match result {
            Ok(document) => {
                self.make_room(1);
                self.slots.put(system, Slot::Active(Box::new(Active::new(*document))));
                self.handle(first);
                waiting.into_iter().for_each(|request| self.handle(request));
            }
            Err(error) => {
                self.world.keeper.counters.resident.fetch_sub(1, Ordering::Relaxed);
                waiting.into_iter().for_each(|request| refuse(request, error.clone()));
                refuse(first, error);
            }
        }
    }

    fn saved(&mut self, system: SystemId, version: u64, attempt: Attempt, result: &Result<(), SaveError>) {
        if let Some(Slot::Leaving(_)) = self.slots.peek(&system) {
            self.left(system);
            return;
        }
        let Some(Slot::Active(active)) = self.slots.peek_mut(&system) else { return };
        active.saving = false;
        active.attempt = attempt;
        match result {
            Ok(()) => {
                let left = events_since(version, active.document.state.version, active.unsaved);
                let covered = active.unsaved - left;
                self.world.keeper.counters.unsaved_events.fetch_sub(covered, Ordering::Relaxed);
                active.unsaved = left;
                active.dirty_since = Instant::now();
                active.failures = 0;
                if active.is_big(&self.world.options) {
                    self.save(system);
                }
                self.make_room(0);
            }
            Err(SaveError::Failed(_)) => {
                active.failures += 1;
                let delay = BACKOFF_FIRST.saturating_mul(1 << active.failures.min(16)).min(BACKOFF_MAX);
                active.not_before = Instant::now() + delay;
            }
            Err(SaveError::Conflict) => {
                tracing::error!(
                    lost_events = active.unsaved,
                    "another process has saved this system; its state is read anew, and what was not saved here is lost"
                );
                self.forget(system);
            }
        }
    }

    /// The last save of a dropped state has ended, well or not: those who waited for it begin anew.
    fn left(&mut self, system: SystemId) {
        let Some(Slot::Leaving(waiting)) = self.slots.pop(&system) else { return };
        self.world.keeper.counters.resident.fetch_sub(1, Ordering::Relaxed);
        waiting.into_iter().for_each(|request| self.handle(request));
    }

    /// Takes a system out of memory, saved or not. While a save of it is under way its slot stays, empty.
    fn forget(&mut self, system: SystemId) {
        let Some(Slot::Active(active)) = self.slots.pop(&system) else { return };
        let counters = &self.world.keeper.counters;
        counters.unsaved_events.fetch_sub(active.unsaved, Ordering::Relaxed);
        if active.saving {
            self.slots.put(system, Slot::Leaving(VecDeque::new()));
        } else {
            counters.resident.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Slots of systems that are known to exist.
    fn held(&self) -> usize {
        self.slots.len() - self.loading
    }

    /// Whether nothing more may be loaded.
    fn is_full(&self) -> bool {
        self.slots.len() >= self.systems_max.saturating_mul(2)
    }

    fn evict(&mut self, system: SystemId) {
        self.world.keeper.counters.evictions.fetch_add(1, Ordering::Relaxed);
        self.forget(system);
    }

    /// Lets the least recently used clean systems go until `more` new ones fit, and saves the dirty ones among them.
    fn make_room(&mut self, more: usize) {
        let mut over = (self.held() + more).saturating_sub(self.systems_max);
        if over == 0 {
            return;
        }
        let active = self.slots.iter().rev().filter(|(_, slot)| matches!(slot, Slot::Active(_)));
        let oldest: Vec<SystemId> = active.take(LOOK_MAX).map(|(system, _)| *system).collect();
        for system in oldest {
            if over == 0 {
                return;
            }
            let Some(Slot::Active(active)) = self.slots.peek(&system) else { continue };
            if active.saving {
                continue;
            }
            if active.unsaved == 0 {
                self.evict(system);
                over -= 1;
            } else {
                self.save(system);
            }
        }
    }

    /// Begins to save a system in a task of its own, unless it failed a moment ago.
    fn save(&mut self, system: SystemId) {
        let Some(Slot::Active(active)) = self.slots.peek_mut(&system) else { return };
        if active.saving || active.unsaved == 0 || Instant::now() < active.not_before {
            return;
        }
        active.saving = true;
        let document = active.document.clone();
        let mut attempt = std::mem::take(&mut active.attempt);
        let world = Arc::clone(&self.world);
        self.tasks.spawn(async move {
            let version = document.state.version;
            let permit = world.saves.acquire().await;
            let save = AssertUnwindSafe(world.keeper.save_behind(document, &mut attempt)).catch_unwind();
            let panicked = SaveError::Failed(EngineError::Internal { what: "a save panicked" });
            let result = save.await.unwrap_or(Err(panicked));
            drop(permit);
            Outcome::Saved { system, version, attempt, result }
        });
    }

    /// Saves what has been dirty for long, or all that is dirty when that is much, and lets go of what nobody has used for long.
    fn look_around(&mut self) {
        let now = Instant::now();
        let options = self.world.options;
        let pressed = self.world.is_pressed();
        let mut due = Vec::new();
        let mut idle = Vec::new();
        for (system, slot) in &self.slots {
            let Slot::Active(active) = slot else { continue };
            let unused = now.duration_since(active.used) >= options.idle_max;
            let delay = active.save_delay(options.save_delay_max);
            let old = delay.is_some_and(|delay| now.duration_since(active.dirty_since) >= delay);
            if active.unsaved > 0 && (unused || old || pressed || active.is_big(&options)) {
                due.push(*system);
            } else if unused && active.unsaved == 0 && !active.saving {
                idle.push(*system);
            }
        }
        due.into_iter().for_each(|system| self.save(system));
        idle.into_iter().for_each(|system| self.evict(system));
        self.unpark();
    }

    async fn drain(&mut self, deadline: Instant, answer: oneshot::Sender<usize>) {
        self.draining = true;
        let parked = std::mem::take(&mut self.parked);
        parked.into_iter().for_each(|request| refuse(request, EngineError::Draining));
        // When the deadline passes, what is unsaved stays so and is counted.
        let _in_time = timeout_at(deadline, self.save_all()).await.is_ok();
        let _unheard = answer.send(self.dirty().len());
    }

    async fn save_all(&mut self) {
        loop {
            let leaving = self.slots.iter().any(|(_, slot)| matches!(slot, Slot::Leaving(_)));
            let dirty = self.dirty();
            for system in &dirty {
                if let Some(Slot::Active(active)) = self.slots.peek_mut(system) {
                    active.not_before = Instant::now();
                }
                self.save(*system);
            }
            if dirty.is_empty() && !leaving {
                return;
            }
            let Some(outcome) = self.tasks.join_next().await else { return };
            let failed = matches!(&outcome, Ok(Outcome::Saved { result: Err(_), .. }));
            self.settle(outcome);
            if failed {
                sleep(BACKOFF_FIRST).await;
            }
        }
    }

    fn dirty(&self) -> Vec<SystemId> {
        let dirty = |slot: &Slot| matches!(slot, Slot::Active(active) if active.unsaved > 0);
        self.slots.iter().filter(|(_, slot)| dirty(slot)).map(|(system, _)| *system).collect()
    }
}

fn refuse(request: Request, error: EngineError) {
    let Request { queue, answer, .. } = request;
    queue.done();
    let _unheard = answer.send(Err(error));
}
