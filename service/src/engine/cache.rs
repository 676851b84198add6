//! States in an LRU cache, one lock a system; saved before the answer (write-through) or behind it (write-back).
//!
//! - A **slot** holds one system. Its lock is held while a command runs, so commands of one system queue (`queue`) and
//!   concurrent misses load once.
//! - **Write-through** holds the lock until the save is done. Whatever becomes of the caller, the save runs to its end; if it
//!   fails, the state is dropped from memory, so that memory never runs ahead of the stores.
//! - **Write-back** marks the slot dirty and answers. The [`flusher`] saves it when it is old or big enough. A failed save
//!   leaves it dirty and is tried again; the sum of unsaved events is bounded. What a crash loses is what was dirty.
//!   A state that is dropped while a save of it is under way is read anew when that has ended, not before.
//! - **Eviction** takes the least recently used clean slots; a dirty one is saved first. A load begins beside the slots
//!   that hold a state and pushes one out only when it has found its system: anybody may ask for any id.
//!
//! One process at a time may serve a database so. A second one is noticed when a save finds the row moved: the state is
//! dropped and read anew, and what it had not saved is lost.

mod flusher;
mod slot;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mipro_telemetry::{Ledger, Stage};
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::document::{Document, Undone};
use super::keeper::{Keeper, SaveError, admit};
use super::{
    Access, Answer, BoxFuture, CacheOptions, Engine, EngineError, EngineOptions, Executed, Figures, Gate,
    Level, Question, Save,
};
use crate::clock::Contexts;
use crate::system::{Command, NewSystem, Reply, SystemId};
use flusher::Schedule;
use slot::{Content, Held, Slot, Slots};

/// How long a request waits for a place when every place is taken by a state that can't be evicted yet.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(2);

/// The engine `cache`.
#[derive(Debug)]
pub struct CacheEngine {
    shared: Arc<Shared>,
    shutdown_deadline: Duration,
    _flusher: DropGuard,
}

/// What requests and the flusher have in common.
#[derive(Debug)]
struct Shared {
    keeper: Keeper,
    contexts: Contexts,
    options: CacheOptions,
    slots: Slots,
    schedule: Schedule,
    /// Tells those who wait for a place that a slot was unlocked, saved or retired: one may have come free.
    room: Notify,
    draining: AtomicBool,
}

type Locked = (Arc<Slot>, OwnedMutexGuard<Content>);

impl CacheEngine {
    pub(super) fn new(options: &EngineOptions, keeper: Keeper) -> Self {
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            keeper,
            contexts: options.contexts.clone(),
            options: options.cache,
            slots: Slots::new(options.cache.systems_max),
            schedule: Schedule::default(),
            room: Notify::new(),
            draining: AtomicBool::new(false),
        });
        if options.cache.save == Save::Back {
            tokio::spawn(flusher::run(Arc::clone(&shared), stop.clone()));
        }
        Self { shared, shutdown_deadline: options.shutdown_deadline, _flusher: stop.drop_guard() }
    }
}

impl Shared {
    /// The system's slot, locked. Its content may be [`Content::Empty`], then with no save of it under way; it is never
    /// [`Content::Retired`].
    async fn lock(&self, system: SystemId, ledger: &Ledger) -> Result<Locked, EngineError> {
        loop {
            let slot = match self.slots.find(system) {
                Some(slot) => slot,
                None => {
                    self.make_room(ledger).await?;
                    self.slots.find_or_insert(system)
                }
            };
            let content = match slot.try_lock() {
                Some(content) => content,
                None => ledger.track(Stage::Queue, slot.lock()).await,
            };
            match *content {
                Content::Held(_) => return Ok((slot, content)),
                Content::Empty if slot.begin_anew() => return Ok((slot, content)),
                // The state was dropped while a save of it was under way. What is stored now is older than what will be.
                Content::Empty => {
                    drop(content);
                    drop(ledger.track(Stage::Queue, slot.save_turn()).await);
                }
                // It has left the map while we waited for it.
                Content::Retired => {}
            }
        }
    }

    /// The system's slot, locked, its state loaded and shown to be `access`'s.
    async fn hold(&self, system: SystemId, access: Access, ledger: &Ledger) -> Result<Locked, EngineError> {
        let (slot, mut content) = self.lock(system, ledger).await?;
        if let Content::Held(held) = &*content {
            admit(access, held.document.state.org_id)?;
            return Ok((slot, content));
        }
        match self.keeper.load(system, access, ledger).await {
            Ok(document) => {
                self.settle_in(&slot, &mut content, Box::new(Held::clean(document)));
                Ok((slot, content))
            }
            Err(error) => {
                self.slots.retire(&slot, &mut content);
                self.room.notify_waiters();
                Err(error)
            }
        }
    }

    /// Puts the state of a system that is known to exist into its slot and lets others go for it.
    fn settle_in(&self, slot: &Arc<Slot>, content: &mut Content, held: Box<Held>) {
        *content = Content::Held(held);
        if self.slots.settle_in(slot) {
            self.evict();
        }
    }

    /// Waits for a place to load into. Evicts what can be evicted at once, has the flusher save what can't, and waits only when the map is twice as full
    /// as it may be.
    async fn make_room(&self, ledger: &Ledger) -> Result<(), EngineError> {
        let freed = async {
            loop {
                let changed = self.room.notified();
                self.evict();
                if !self.slots.is_full() {
                    return;
                }
                changed.await;
            }
        };
        if !self.slots.is_full() {
            return Ok(());
        }
        self.evict();
        if !self.slots.is_full() {
            return Ok(());
        }
        let waited = ledger.track(Stage::Queue, timeout(ROOM_WAIT_MAX, freed)).await;
        waited.map_err(|_| EngineError::overloaded("every place for systems in memory is taken"))
    }

    fn evict(&self) {
        let counters = &self.keeper.counters;
        let (evicted, dirty) = self.slots.evict();
        counters.evictions.fetch_add(evicted, Ordering::Relaxed);
        for slot in dirty {
            self.schedule.at(Instant::now(), &slot);
        }
    }

    fn refuse_when_draining(&self) -> Result<(), EngineError> {
        if self.draining.load(Ordering::SeqCst) { Err(EngineError::Draining) } else { Ok(()) }
    }

    async fn run(
        self: &Arc<Self>,
        system: SystemId,
        access: Access,
        command: &Command,
        ledger: &Ledger,
    ) -> Result<Reply, EngineError> {
        let (slot, content) = self.hold(system, access, ledger).await?;
        // Asked under the lock: a shutdown that begins now will see what this command leaves behind.
        self.refuse_when_draining()?;
        let reply = match self.options.save {
            Save::Through => self.run_through(slot, content, command, ledger).await,
            Save::Back => self.run_back(&slot, content, command, ledger),
        };
        self.room.notify_waiters();
        reply
    }

    async fn run_through(
        self: &Arc<Self>,
        slot: Arc<Slot>,
        mut content: OwnedMutexGuard<Content>,
        command: &Command,
        ledger: &Ledger,
    ) -> Result<Reply, EngineError> {
        // Out of the slot while memory is ahead of the stores: whoever comes next finds it saved, or loads it.
        let mut held = content.take()?;
        match held.document.execute(command, &self.contexts.context(), ledger, |_| Ok(())) {
            Ok(done) if done.events == 0 => {
                *content = Content::Held(held);
                Ok(done.reply)
            }
            Ok(done) => {
                self.save_through(slot, content, held, ledger).await?;
                Ok(done.reply)
            }
            Err(Undone::Refused(refusal)) => {
                *content = Content::Held(held);
                Err(refusal.into())
            }
            Err(Undone::Poisoned) => Err(self.poisoned(&held)),
        }
    }

    /// Saves and puts the state back into its slot. Runs to its end also when the caller goes away: a save that is cut off
    /// might still reach the stores after the next one.
    async fn save_through(
        self: &Arc<Self>,
        slot: Arc<Slot>,
        mut content: OwnedMutexGuard<Content>,
        held: Box<Held>,
        ledger: &Ledger,
    ) -> Result<(), SaveError> {
        let shared = Arc::clone(self);
        let ledger = ledger.clone();
        let saving = tokio::spawn(async move {
            let saved = shared.keeper.save_through(held.document.clone(), None, &ledger).await;
            if saved.is_ok() {
                shared.settle_in(&slot, &mut content, held);
            }
            drop(content);
            shared.room.notify_waiters();
            saved
        });
        saving.await.unwrap_or(Err(SaveError::Failed(EngineError::Internal { what: "a save panicked" })))
    }

    fn run_back(
        &self,
        slot: &Arc<Slot>,
        mut content: OwnedMutexGuard<Content>,
        command: &Command,
        ledger: &Ledger,
    ) -> Result<Reply, EngineError> {
        let counters = &self.keeper.counters;
        if counters.unsaved_events.load(Ordering::Relaxed) >= self.options.unsaved_events_max {
            return Err(EngineError::overloaded("too many events wait to be saved"));
        }
        let mut held = content.take()?;
        match held.document.execute(command, &self.contexts.context(), ledger, |_| Ok(())) {
            Ok(done) => {
                if done.events > 0 {
                    counters.unsaved_events.fetch_add(done.events, Ordering::Relaxed);
                    self.mark_dirty(slot, &mut held, done.events);
                }
                *content = Content::Held(held);
                Ok(done.reply)
            }
            Err(Undone::Refused(refusal)) => {
                *content = Content::Held(held);
                Err(refusal.into())
            }
            Err(Undone::Poisoned) => Err(self.poisoned(&held)),
        }
    }

    fn mark_dirty(&self, slot: &Arc<Slot>, held: &mut Held, events: u64) {
        let spec = &held.document.state.spec;
        let events_max =
            spec.snapshot_events_max.map_or(u64::MAX, u64::from).min(self.options.save_events_max);
        let delay = spec.snapshot_s_max.map_or(Duration::MAX, |s| Duration::from_secs(s.into()));
        let delay = delay.min(self.options.save_delay_max);
        if held.unsaved == 0 {
            self.schedule.at(Instant::now() + delay, slot);
        }
        held.unsaved += events;
        if held.unsaved >= events_max.max(1) && !held.urgent {
            held.urgent = true;
            self.schedule.at(Instant::now(), slot);
        }
    }

    /// Drops a state that was taken out of its slot.
    fn poisoned(&self, held: &Held) -> EngineError {
        let counters = &self.keeper.counters;
        counters.unsaved_events.fetch_sub(held.unsaved, Ordering::Relaxed);
        counters.poisoned.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            lost_events_max = held.unsaved,
            "a command panicked; its system's state was dropped from memory and will be loaded anew"
        );
        EngineError::Internal { what: "a command panicked" }
    }

    async fn create(self: &Arc<Self>, new: &NewSystem, ledger: &Ledger) -> Result<Reply, EngineError> {
        let (slot, content) = self.lock(new.system_id, ledger).await?;
        self.refuse_when_draining()?;
        if matches!(*content, Content::Held(_)) {
            return Err(EngineError::AlreadyExists);
        }
        let (document, reply) = Document::begin(new, &self.contexts.context());
        self.save_through(slot, content, Box::new(Held::clean(document)), ledger)
            .await
            .map_err(super::creation)?;
        Ok(reply)
    }
}

impl Engine for CacheEngine {
    fn create<'a>(
        &'a self,
        new: NewSystem,
        ledger: &'a Ledger,
    ) -> BoxFuture<'a, Result<Executed, EngineError>> {
        Box::pin(async move {
            let reply = self.shared.create(&new, ledger).await?;
            Ok(Executed { reply, gate: Gate::open() })
        })
    }

    fn execute<'a>(
        &'a self,
        system: SystemId,
        access: Access,
        command: Command,
        ledger: &'a Ledger,
    ) -> BoxFuture<'a, Result<Executed, EngineError>> {
        Box::pin(async move {
            let reply = self.shared.run(system, access, &command, ledger).await?;
            Ok(Executed { reply, gate: Gate::open() })
        })
    }

    fn inspect<'a>(
        &'a self,
        system: SystemId,
        access: Access,
        question: Question,
        ledger: &'a Ledger,
    ) -> BoxFuture<'a, Result<Answer, EngineError>> {
        Box::pin(async move {
            let (_slot, content) = self.shared.hold(system, access, ledger).await?;
            let body = content.held().map(|held| held.document.answer(&question));
            drop(content);
            self.shared.room.notify_waiters();
            Ok(Answer { body: body?, gate: Gate::open() })
        })
    }

    fn durability(&self) -> Level {
        match self.shared.options.save {
            Save::Through => Level::Stored,
            Save::Back => Level::Memory,
        }
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(super::stores_ready(&self.shared.keeper.stores))
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async {
            self.shared.draining.store(true, Ordering::SeqCst);
            let deadline = Instant::now() + self.shutdown_deadline;
            let saved = timeout_at(deadline, flusher::save_all(&self.shared)).await;
            saved.map_err(|_| {
                let lost = self.figures().unsaved_events;
                tracing::error!(unsaved_events = lost, "the deadline passed before everything was saved");
                EngineError::Timeout { what: "saving everything before the stop" }
            })
        })
    }

    fn figures(&self) -> Figures {
        Figures { resident: self.shared.slots.len() as u64, ..self.shared.keeper.counters.read() }
    }
}

#[cfg(test)]
mod tests;
