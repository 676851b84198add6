//! One shard: a task that owns the state of its systems and handles one message at a time.
//!
//! Handlers are synchronous. Loads and saves run in tasks of their own and come back as messages, so that one system's slow
//! store never holds up its neighbours. Every queue is bounded: the mailbox, the requests that wait for a load, and those
//! that wait for a place.
//!
//! A command is decided, its events are numbered and appended to the log, and only then applied ([`active`]): a log that
//! refuses them changes nothing. Should applying panic, that system's state is dropped, the caller is answered 500, and the
//! next request recovers it, under a new epoch, from what is stored and from the log; at the level `memory`, whose log keeps
//! nothing, what had not been saved is lost with it. A save that was under way then is waited for first: there is never more
//! than one copy of a system, in memory or on its way to the stores.
//!
//! Whether an id names a system is not known before it is loaded, and anybody may ask for any id: a load takes a place
//! beside the systems in memory and pushes none of them out until it has found one.
//!
//! Reading order: here, [`active`], [`answer`], [`saves`].

mod active;
mod answer;
mod saves;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use lru::LruCache;
use mipro_telemetry::{Ledger, Operation, Stage, StageGuard};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::figures::Counters;
use super::keeper::SaveError;
use super::pressure::Lanes;
use super::storage::{Loaded, Memo, Saved, Storage};
use super::{ActorOptions, EngineError, Gate, Question, UnrecordedStart};
use crate::clock::Contexts;
use crate::engine::Access;
use crate::log::{EventLog, Lsn};
use crate::system::{Command, Refusal, Reply, RolloutReply, SystemId};
use active::Active;
pub(super) use active::batch;
use saves::Covered;

/// Requests that wait for one system to be loaded, or for a place in the shard.
const WAITING_MAX: usize = 1_024;
/// How often a shard looks for systems to save or to let go.
const TICK: Duration = Duration::from_secs(1);

/// What all shards share.
#[derive(Debug)]
pub(super) struct World {
    pub(super) storage: Storage,
    pub(super) counters: Arc<Counters>,
    pub(super) contexts: Contexts,
    pub(super) log: Arc<dyn EventLog>,
    /// Whether the log keeps what is appended beyond this process's life: then nothing is lost with a state that was not
    /// saved.
    pub(super) logged: bool,
    pub(super) durable: watch::Receiver<Lsn>,
    pub(super) options: ActorOptions,
    pub(super) loads: Semaphore,
    pub(super) saves: Semaphore,
}

impl World {
    /// Whether so much is unsaved that nothing may be added to it. What the log keeps is bounded by the log.
    fn is_behind(&self) -> bool {
        !self.logged
            && self.counters.unsaved_events.load(Ordering::Relaxed) >= self.options.unsaved_events_max
    }

    /// Whether so much is unsaved that saves should not wait until they are due.
    fn is_pressed(&self) -> bool {
        !self.logged
            && self.counters.unsaved_events.load(Ordering::Relaxed) >= self.options.unsaved_events_max / 2
    }

    pub(super) fn durable_now(&self) -> Lsn {
        *self.durable.borrow()
    }
}

/// What a shard saw when it last looked around; for its engine's figures.
#[derive(Debug, Default)]
pub(super) struct Sight {
    pub(super) dirty: AtomicU64,
    pub(super) dirty_age_ms: AtomicU64,
    pub(super) lag_events: AtomicU64,
}

impl Sight {
    fn tell(&self, dirty: u64, oldest: Duration, lag_events: u64) {
        self.dirty.store(dirty, Ordering::Relaxed);
        let age_ms = u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX);
        self.dirty_age_ms.store(age_ms, Ordering::Relaxed);
        self.lag_events.store(lag_events, Ordering::Relaxed);
    }
}

/// What a shard is told.
#[derive(Debug)]
pub(super) enum Message {
    Request(Box<Request>),
    /// A new system, stored already, and its first events' place in the log.
    Adopt(Box<Loaded>, Lsn),
    /// Save a system soon: the log can't be trimmed before.
    Snapshot(SystemId),
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
    BestKnown(UnrecordedStart),
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
    /// The events asked for are in the log; these are the newest that may be shown.
    InLog {
        version: u64,
    },
    Unrecorded(Box<RolloutReply>),
    /// A refusal, too, tells what the state holds: "already has reward 1".
    Refused(Refusal),
}

/// A system's place in the shard.
#[derive(Debug)]
enum Slot {
    /// Being loaded for the first request, which these follow; to be saved at once if the log asked for it.
    Loading {
        waiting: VecDeque<Request>,
        lags: bool,
    },
    Active(Box<Active>),
    /// Its state was dropped while a save of it was under way, or while events of it were not durable. These wait for so many
    /// ends of such: what is loaded before is older than what will be stored.
    Leaving {
        waiting: VecDeque<Request>,
        ends: usize,
    },
}

/// What comes back from a task.
#[derive(Debug)]
enum Outcome {
    Loaded { system: SystemId, first: Option<Box<Request>>, result: Result<Box<Loaded>, EngineError> },
    Saved { system: SystemId, covered: Covered, memo: Memo, result: Result<Saved, SaveError> },
    Durable { system: SystemId },
}

/// A shard's own state.
#[derive(Debug)]
pub(super) struct Shard {
    world: Arc<World>,
    lanes: Arc<Lanes>,
    sight: Arc<Sight>,
    slots: LruCache<SystemId, Slot>,
    systems_max: usize,
    /// How many of the slots are [`Slot::Loading`].
    loading: usize,
    /// Requests for systems that have no place yet.
    parked: VecDeque<Request>,
    tasks: JoinSet<Outcome>,
    draining: bool,
    /// Where events are encoded.
    buffer: Vec<u8>,
}

impl Shard {
    pub(super) fn new(world: Arc<World>, lanes: Arc<Lanes>, sight: Arc<Sight>) -> Self {
        let systems_max = world.options.systems_max.div_ceil(world.options.shards.max(1)).max(1);
        Self {
            world,
            lanes,
            sight,
            slots: LruCache::unbounded(),
            systems_max,
            loading: 0,
            parked: VecDeque::new(),
            tasks: JoinSet::new(),
            draining: false,
            buffer: Vec::new(),
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
                    Some(Message::Request(request)) => {
                        self.lanes.leave(request.system);
                        self.handle(*request);
                    }
                    Some(Message::Adopt(loaded, lsn)) => self.adopt(*loaded, lsn),
                    Some(Message::Snapshot(system)) => self.snapshot(system),
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
            Some(Slot::Loading { waiting, .. } | Slot::Leaving { waiting, .. })
                if waiting.len() < WAITING_MAX =>
            {
                waiting.push_back(request);
            }
            Some(Slot::Loading { .. } | Slot::Leaving { .. }) => {
                refuse(
                    request,
                    EngineError::overloaded("too many requests wait for this system to be loaded"),
                );
            }
            None => self.load_for(request),
        }
    }

    /// Loads the request's system, or parks the request when there is no place for it.
    fn load_for(&mut self, request: Request) {
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
        self.load(request.system, Some(request));
    }

    /// Loads a system for a request, or to have it saved.
    fn load(&mut self, system: SystemId, first: Option<Request>) {
        self.slots.put(system, Slot::Loading { waiting: VecDeque::new(), lags: first.is_none() });
        self.loading += 1;
        self.world.counters.resident.fetch_add(1, Ordering::Relaxed);
        let world = Arc::clone(&self.world);
        self.tasks.spawn(async move {
            let Some(Request { access, ask, ledger, queue, answer, .. }) = first else {
                let result = world.load(system, &Ledger::start(Operation::Background)).await;
                return Outcome::Loaded { system, first: None, result };
            };
            queue.done();
            let result = world.load(system, &ledger).await;
            let queue = ledger.enter(Stage::Queue);
            let first = Some(Box::new(Request { system, access, ask, ledger, queue, answer }));
            Outcome::Loaded { system, first, result }
        });
    }

    /// A sealed segment can't be trimmed before this system is saved.
    fn snapshot(&mut self, system: SystemId) {
        match self.slots.peek_mut(&system) {
            Some(Slot::Active(_)) => self.save(system),
            Some(Slot::Loading { lags, .. }) => *lags = true,
            // Whoever asks will ask again.
            Some(Slot::Leaving { .. }) => {}
            None => {
                if !self.is_full() && !self.draining {
                    self.load(system, None);
                }
            }
        }
    }

    /// Its id is fresh and its creator has not been answered, so nobody can have changed it meanwhile.
    fn adopt(&mut self, loaded: Loaded, lsn: Lsn) {
        let system = loaded.state.system_id;
        if self.slots.contains(&system) {
            return;
        }
        self.make_room(1);
        if self.held() < self.systems_max && !self.is_full() {
            self.slots.put(system, Slot::Active(Box::new(Active::new(loaded, lsn))));
            self.world.counters.resident.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn settle(&mut self, outcome: Result<Outcome, JoinError>) {
        match outcome {
            Ok(Outcome::Loaded { system, first, result }) => self.loaded(system, first, result),
            Ok(Outcome::Saved { system, covered, memo, result }) => {
                self.saved(system, covered, memo, &result);
            }
            Ok(Outcome::Durable { system }) => self.left(system),
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

    fn loaded(
        &mut self,
        system: SystemId,
        first: Option<Box<Request>>,
        result: Result<Box<Loaded>, EngineError>,
    ) {
        let Some(Slot::Loading { waiting, lags }) = self.slots.pop(&system) else { return };
        self.loading -= 1;
        let requests = first.into_iter().map(|first| *first).chain(waiting);
        match result {
            Ok(loaded) => {
                self.make_room(1);
                // Whatever was read had been appended before, durable or not: its answers wait for all of it.
                let lsn = if self.world.logged { self.world.log.health().appended } else { Lsn(0) };
                self.world.counters.unsaved_events.fetch_add(loaded.unsaved_events, Ordering::Relaxed);
                self.slots.put(system, Slot::Active(Box::new(Active::new(*loaded, lsn))));
                if lags {
                    // Nobody may want it: it pushes out none of those who are in use.
                    self.slots.demote(&system);
                    self.save(system);
                }
                requests.for_each(|request| self.handle(request));
            }
            Err(error) => {
                self.world.counters.resident.fetch_sub(1, Ordering::Relaxed);
                requests.for_each(|request| refuse(request, error.clone()));
            }
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
}

impl World {
    /// Loads a system, whosever it is: that is asked of each request when it is answered, as another org's may be waiting
    /// behind the first.
    async fn load(&self, system: SystemId, ledger: &Ledger) -> Result<Box<Loaded>, EngineError> {
        let _permit = ledger.track(Stage::Queue, self.loads.acquire()).await;
        let load = AssertUnwindSafe(self.storage.load(system, ledger)).catch_unwind();
        let loaded = load.await.unwrap_or(Err(EngineError::Internal { what: "a load panicked" }));
        loaded.map(Box::new)
    }
}

fn refuse(request: Request, error: EngineError) {
    let Request { queue, answer, .. } = request;
    queue.done();
    let _unheard = answer.send(Err(error));
}
