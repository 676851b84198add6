//! Saving behind the answers, and letting systems go.
//!
//! A save is never ahead of the log: what it covers is durable there before it begins. So a crash never leaves a saved state
//! that the log knows nothing of (a new system's first state comes before its first events, and is no save).
//!
//! A system may leave memory when all it shows is durable and nothing would be lost with it: what is saved, or what the log
//! keeps. It is saved on its way out; where a store is down, a log that keeps its events lets it go all the same, so that a
//! dead store pins no memory.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::super::EngineError;
use super::super::error::LogTrouble;
use super::super::keeper::{SaveError, events_since};
use super::super::storage::{Memo, Saved};
use super::{Active, BACKOFF_FIRST, Outcome, Shard, Slot, World, refuse};
use crate::log::{Level, Lsn};
use crate::system::SystemId;

/// How many of the least recently used systems one look for room considers.
const LOOK_MAX: usize = 16;

/// What a save covered when it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Covered {
    version: u64,
    tail_bytes: u64,
}

/// What is to become of a system that should leave memory.
enum Leave {
    Now,
    AfterSave,
    NotYet,
}

impl World {
    /// Waits until the log has everything up to `lsn` on the disk, where it is kept on one: also at the level `os` a stored
    /// state must not know what the log has lost with the machine.
    pub(super) async fn on_disk(&self, lsn: Lsn) -> Result<(), EngineError> {
        self.log.hurry(Level::Disk);
        let mut durable = self.log.reached(Level::Disk).unwrap_or_else(|| self.at_level.clone());
        match timeout(self.options.gate_wait_max, durable.wait_for(|durable| *durable >= lsn)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(EngineError::Log(LogTrouble::Stopped)),
            Err(_) => Err(EngineError::Log(LogTrouble::Slow)),
        }
    }

    fn leave(&self, active: &Active) -> Leave {
        if active.saving || active.claim.is_under_way() || active.lsn > self.durable_now() {
            Leave::NotYet
        } else if active.unsaved == 0 || self.logged && active.failures > 0 {
            Leave::Now
        } else {
            Leave::AfterSave
        }
    }
}

impl Shard {
    /// Begins to save a system, unless it failed a moment ago: claims it first if it is not yet, and waits for a permit if
    /// there is none. Its state is copied when it has both.
    pub(super) fn save(&mut self, system: SystemId) {
        let Some(Slot::Active(active)) = self.slots.peek_mut(&system) else { return };
        if active.saving || active.unsaved == 0 || Instant::now() < active.not_before {
            return;
        }
        if !active.claim.is_held() {
            self.claim(system, None);
            return;
        }
        active.saving = true;
        let permits = Arc::clone(&self.world.saves);
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            self.store(system, permit);
            return;
        }
        self.tasks.spawn(async move {
            let permit = permits.acquire_owned().await.expect("the semaphore is never closed");
            Outcome::Permitted { system, permit }
        });
    }

    /// A save's turn has come.
    pub(super) fn permitted(&mut self, system: SystemId, permit: OwnedSemaphorePermit) {
        match self.slots.peek(&system) {
            Some(Slot::Leaving { .. }) => self.left(system),
            _ => self.store(system, permit),
        }
    }

    /// Saves a system as it is now, in a task of its own.
    fn store(&mut self, system: SystemId, permit: OwnedSemaphorePermit) {
        let Some(Slot::Active(active)) = self.slots.peek_mut(&system) else { return };
        let (capture, lsn) = (active.capture(), active.lsn);
        let covered = Covered { version: active.state.version, tail_bytes: active.tail_bytes };
        let mut memo = std::mem::take(&mut active.memo);
        let world = Arc::clone(&self.world);
        self.tasks.spawn(async move {
            let _permit = permit;
            let save = async {
                world.on_disk(lsn).await.map_err(SaveError::Failed)?;
                world.storage.save(capture, &mut memo).await
            };
            let panicked = SaveError::Failed(EngineError::Internal { what: "a save panicked" });
            let result = AssertUnwindSafe(save).catch_unwind().await.unwrap_or(Err(panicked));
            Outcome::Saved { system, covered, memo, result }
        });
    }

    pub(super) fn saved(
        &mut self,
        system: SystemId,
        covered: Covered,
        memo: Memo,
        result: &Result<Saved, SaveError>,
    ) {
        if let Some(Slot::Leaving { .. }) = self.slots.peek(&system) {
            self.left(system);
            return;
        }
        let Some(Slot::Active(active)) = self.slots.peek_mut(&system) else { return };
        active.saving = false;
        active.memo = memo;
        match result {
            Ok(saved) => {
                let left = events_since(covered.version, active.state.version, active.unsaved);
                let events = active.unsaved - left;
                self.world.counters.unsaved_events.fetch_sub(events, Ordering::Relaxed);
                active.unsaved = left;
                active.tail_bytes = active.tail_bytes.saturating_sub(covered.tail_bytes);
                active.saved_bytes = saved.bytes;
                active.dirty_since = Instant::now();
                active.failures = 0;
                if active.is_big(&self.world) {
                    self.save(system);
                }
                self.make_room(0);
            }
            Err(SaveError::Failed(_)) => {
                active.put_off_save();
                self.make_room(0);
            }
            Err(SaveError::Conflict) => {
                tracing::error!(
                    lost_events_max = active.unsaved,
                    "another process has saved this system; its state is read anew, and what was not saved here may be lost"
                );
                self.forget(system);
            }
        }
    }

    /// One of the things that a dropped state's slot waits for has happened. After the last of them, whoever waited begins
    /// anew.
    pub(super) fn left(&mut self, system: SystemId) {
        if let Some(Slot::Leaving { ends, .. }) = self.slots.peek_mut(&system)
            && *ends > 1
        {
            *ends -= 1;
            return;
        }
        let Some(Slot::Leaving { waiting, .. }) = self.slots.pop(&system) else { return };
        self.world.counters.resident.fetch_sub(1, Ordering::Relaxed);
        waiting.into_iter().for_each(|request| self.handle(request));
    }

    /// Takes a system out of memory, saved or not. Its slot stays, empty, while a save of it is under way, and while the log
    /// has not made all of its events durable: what is read before that may miss some of them.
    pub(super) fn forget(&mut self, system: SystemId) {
        let Some(Slot::Active(active)) = self.slots.pop(&system) else { return };
        let counters = &self.world.counters;
        counters.unsaved_events.fetch_sub(active.unsaved, Ordering::Relaxed);
        let mut ends = usize::from(active.saving);
        if active.lsn > self.world.durable_now() {
            ends += 1;
            let (world, lsn) = (Arc::clone(&self.world), active.lsn);
            self.tasks.spawn(async move {
                // However long it takes: who read the log sooner would number other events as those that are on their way. A
                // log that has stopped keeps nothing more and is told to whoever asks next.
                while world.on_disk(lsn).await == Err(EngineError::Log(LogTrouble::Slow)) {}
                Outcome::Durable { system }
            });
        }
        if ends > 0 {
            self.slots.put(system, Slot::Leaving { waiting: std::collections::VecDeque::new(), ends });
        } else {
            counters.resident.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn evict(&mut self, system: SystemId) {
        self.world.counters.evictions.fetch_add(1, Ordering::Relaxed);
        self.forget(system);
    }

    /// Lets the least recently used systems go until `more` new ones fit, and saves the dirty ones among them.
    pub(super) fn make_room(&mut self, more: usize) {
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
            match self.world.leave(active) {
                Leave::Now => {
                    self.evict(system);
                    over -= 1;
                }
                Leave::AfterSave => self.save(system),
                Leave::NotYet => {}
            }
        }
    }

    /// Saves what has been dirty for long, or all that is dirty when that is much, and lets go of what nobody has used for long.
    pub(super) fn look_around(&mut self) {
        let now = Instant::now();
        let options = self.world.options;
        let pressed = self.world.is_pressed();
        let (mut due, mut idle) = (Vec::new(), Vec::new());
        let (mut dirty, mut oldest, mut lag) = (0, Duration::ZERO, 0);
        for (system, slot) in &self.slots {
            let Slot::Active(active) = slot else { continue };
            let unused = now.duration_since(active.used) >= options.idle_max;
            let age = now.duration_since(active.dirty_since);
            let old = active.save_delay(options.save_delay_max).is_some_and(|delay| age >= delay);
            if active.unsaved > 0 {
                (dirty, oldest, lag) = (dirty + 1, oldest.max(age), active.unsaved.max(lag));
                if unused || old || pressed || active.is_big(&self.world) {
                    due.push(*system);
                }
            }
            if unused && matches!(self.world.leave(active), Leave::Now) {
                idle.push(*system);
            }
        }
        self.sight.tell(dirty, oldest, lag);
        due.into_iter().for_each(|system| self.save(system));
        idle.into_iter().for_each(|system| self.leave_idle(system));
        self.make_room(0);
        self.unpark();
    }

    fn leave_idle(&mut self, system: SystemId) {
        // A save of it may have begun just now.
        let Some(Slot::Active(active)) = self.slots.peek(&system) else { return };
        if matches!(self.world.leave(active), Leave::Now) {
            self.evict(system);
        }
    }

    pub(super) async fn drain(&mut self, deadline: Instant, answer: oneshot::Sender<usize>) {
        self.draining = true;
        let parked = std::mem::take(&mut self.parked);
        parked.into_iter().for_each(|request| refuse(request, EngineError::Draining));
        // When the deadline passes, what is unsaved stays so and is counted.
        let _in_time = timeout_at(deadline, self.save_all()).await.is_ok();
        let _unheard = answer.send(self.dirty().len());
    }

    /// Saves until nothing is dirty. What the log keeps gets one try: nothing is lost with it.
    async fn save_all(&mut self) {
        let mut failed: std::collections::HashSet<SystemId> = std::collections::HashSet::new();
        loop {
            let leaving = self.slots.iter().any(|(_, slot)| matches!(slot, Slot::Leaving { .. }));
            let mut dirty = self.dirty();
            dirty.retain(|system| !failed.contains(system));
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
            let failing = match &outcome {
                Ok(Outcome::Saved { system, result: Err(_), .. })
                | Ok(Outcome::Claimed { system, result: Err(_), .. }) => Some(*system),
                _ => None,
            };
            self.settle(outcome);
            match failing {
                Some(system) if self.world.logged => _ = failed.insert(system),
                Some(_) => sleep(BACKOFF_FIRST).await,
                None => {}
            }
        }
    }

    fn dirty(&self) -> Vec<SystemId> {
        let dirty = |slot: &Slot| matches!(slot, Slot::Active(active) if active.unsaved > 0);
        self.slots.iter().filter(|(_, slot)| dirty(slot)).map(|(system, _)| *system).collect()
    }
}
