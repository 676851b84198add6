//! Saves dirty slots behind the answers.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::super::keeper::{SaveError, events_since};
use super::Shared;
use super::slot::{Content, Slot};
use crate::system::SystemId;

/// Saves that run at once.
const SAVES_MAX: usize = 16;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// When which slot is to be saved. A slot may stand in it more than once; saving a clean one does nothing.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: Mutex<BTreeMap<(Instant, SystemId), Arc<Slot>>>,
    changed: Notify,
}

impl Schedule {
    /// Has the flusher look at `slot` at `when`.
    pub(super) fn at(&self, when: Instant, slot: &Arc<Slot>) {
        self.due().insert((when, slot.system), Arc::clone(slot));
        self.changed.notify_one();
    }

    fn next(&self) -> Option<Instant> {
        self.due().first_key_value().map(|((when, _), _)| *when)
    }

    fn pop(&self, now: Instant) -> Option<Arc<Slot>> {
        let mut due = self.due();
        let first = due.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn due(&self) -> MutexGuard<'_, BTreeMap<(Instant, SystemId), Arc<Slot>>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Saves what is due until `stop`; saves under way are then dropped, whose slots stay dirty.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut saves = JoinSet::new();
    loop {
        while saves.len() < SAVES_MAX {
            let Some(slot) = shared.schedule.pop(Instant::now()) else { break };
            let shared = Arc::clone(&shared);
            saves.spawn(async move { save(&shared, &slot).await });
        }
        let free = saves.len() < SAVES_MAX;
        let next = shared.schedule.next();
        tokio::select! {
            () = stop.cancelled() => return,
            _ = saves.join_next(), if !saves.is_empty() => {}
            () = shared.schedule.changed.notified(), if free => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if free && next.is_some() => {}
        }
    }
}

/// Saves a slot if it is dirty. A failure leaves it dirty and has the flusher come again.
pub(super) async fn save(shared: &Shared, slot: &Arc<Slot>) {
    save_in_turn(shared, slot).await;
    // Not before the turn has ended: until then the slot can't be evicted.
    shared.room.notify_waiters();
}

async fn save_in_turn(shared: &Shared, slot: &Arc<Slot>) {
    let mut attempt = slot.save_turn().await;
    let document = match &*slot.lock().await {
        Content::Held(held) if held.unsaved > 0 => held.document.clone(),
        _ => return,
    };
    let version = document.state.version;
    let result = shared.keeper.save_behind(document, &mut attempt).await;
    settle(shared, slot, version, result).await;
}

pub(super) async fn settle(shared: &Shared, slot: &Arc<Slot>, version: u64, result: Result<(), SaveError>) {
    let mut content = slot.lock().await;
    let Content::Held(held) = &mut *content else { return };
    let unsaved = &shared.keeper.counters.unsaved_events;
    match result {
        Ok(()) => {
            let left = events_since(version, held.document.state.version, held.unsaved);
            unsaved.fetch_sub(held.unsaved - left, Ordering::Relaxed);
            held.failures = 0;
            held.urgent = false;
            held.unsaved = 0;
            if left > 0 {
                shared.mark_dirty(slot, held, left);
            }
        }
        Err(SaveError::Failed(_)) => {
            held.failures += 1;
            let delay = BACKOFF_FIRST.saturating_mul(1 << held.failures.min(16)).min(BACKOFF_MAX);
            shared.schedule.at(Instant::now() + delay, slot);
        }
        Err(SaveError::Conflict) => {
            unsaved.fetch_sub(held.unsaved, Ordering::Relaxed);
            tracing::error!(
                lost_events = held.unsaved,
                "another process has saved this system; its state is read anew, and what was not saved here is lost"
            );
            shared.slots.retire(slot, &mut content);
        }
    }
}

/// Saves every dirty slot, again and again while stores fail. Ends when nothing is dirty: bound it by a deadline.
pub(super) async fn save_all(shared: &Shared) {
    let mut wait = BACKOFF_FIRST;
    loop {
        let mut slots = shared.slots.all().into_iter();
        let mut saves = FuturesUnordered::new();
        loop {
            while saves.len() < SAVES_MAX {
                let Some(slot) = slots.next() else { break };
                saves.push(async move { save(shared, &slot).await });
            }
            if saves.next().await.is_none() {
                break;
            }
        }
        if shared.keeper.counters.unsaved_events.load(Ordering::Relaxed) == 0 {
            return;
        }
        sleep(wait).await;
        wait = (wait * 2).min(BACKOFF_MAX);
    }
}
