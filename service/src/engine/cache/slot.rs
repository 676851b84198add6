//! Slots, one a system, and the LRU map they are found by.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, OwnedMutexGuard};

use super::super::EngineError;
use super::super::document::Document;
use super::super::keeper::Attempt;
use crate::system::SystemId;

/// How many of the oldest slots one eviction looks at: enough to pass over a few busy ones.
const LOOK_MAX: usize = 16;

/// One system's place in the cache.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) system: SystemId,
    content: Arc<AsyncMutex<Content>>,
    /// Held for the length of a save behind the answers, so that one system's saves keep their order.
    saving: AsyncMutex<Attempt>,
}

/// What is in a slot.
#[derive(Debug)]
pub(super) enum Content {
    /// Nothing: the next to hold the lock loads it.
    Empty,
    /// The state.
    Held(Box<Held>),
    /// Nothing, and the slot has left the map: look it up again.
    Retired,
}

/// A state in memory.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) document: Document,
    /// Events that no save has covered.
    pub(super) unsaved: u64,
    /// The flusher was told to come at once.
    pub(super) urgent: bool,
    /// Saves that failed in a row.
    pub(super) failures: u32,
}

impl Held {
    pub(super) fn clean(document: Document) -> Self {
        Self { document, unsaved: 0, urgent: false, failures: 0 }
    }
}

impl Content {
    /// Takes the state out; the slot is empty until it is put back.
    pub(super) fn take(&mut self) -> Result<Box<Held>, EngineError> {
        match std::mem::replace(self, Self::Empty) {
            Self::Held(held) => Ok(held),
            Self::Empty | Self::Retired => Err(EngineError::Internal { what: "a loaded slot is empty" }),
        }
    }

    pub(super) fn held(&self) -> Result<&Held, EngineError> {
        match self {
            Self::Held(held) => Ok(held),
            Self::Empty | Self::Retired => Err(EngineError::Internal { what: "a loaded slot is empty" }),
        }
    }

    fn is_dirty(&self) -> bool {
        matches!(self, Self::Held(held) if held.unsaved > 0)
    }
}

impl Slot {
    fn new(system: SystemId) -> Self {
        Self { system, content: Arc::new(AsyncMutex::new(Content::Empty)), saving: AsyncMutex::default() }
    }

    pub(super) async fn lock(&self) -> OwnedMutexGuard<Content> {
        Arc::clone(&self.content).lock_owned().await
    }

    pub(super) fn try_lock(&self) -> Option<OwnedMutexGuard<Content>> {
        Arc::clone(&self.content).try_lock_owned().ok()
    }

    /// Waits for this system's turn to be saved.
    pub(super) async fn save_turn(&self) -> AsyncMutexGuard<'_, Attempt> {
        self.saving.lock().await
    }
}

/// The slots by system, least recently used last.
#[derive(Debug)]
pub(super) struct Slots {
    map: Mutex<LruCache<SystemId, Arc<Slot>>>,
    max: usize,
}

impl Slots {
    pub(super) fn new(max: usize) -> Self {
        Self { map: Mutex::new(LruCache::unbounded()), max: max.max(1) }
    }

    pub(super) fn find(&self, system: SystemId) -> Option<Arc<Slot>> {
        self.map().get(&system).map(Arc::clone)
    }

    pub(super) fn find_or_insert(&self, system: SystemId) -> Arc<Slot> {
        Arc::clone(self.map().get_or_insert(system, || Arc::new(Slot::new(system))))
    }

    pub(super) fn len(&self) -> usize {
        self.map().len()
    }

    pub(super) fn all(&self) -> Vec<Arc<Slot>> {
        self.map().iter().map(|(_, slot)| Arc::clone(slot)).collect()
    }

    /// Whether a new slot should push out an old one.
    pub(super) fn is_crowded(&self) -> bool {
        self.len() >= self.max
    }

    /// Whether a new slot must not come in.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.max.saturating_mul(2)
    }

    /// Takes a slot out of the map. Only its lock's holder can.
    pub(super) fn retire(&self, slot: &Slot, content: &mut Content) {
        *content = Content::Retired;
        self.map().pop(&slot.system);
    }

    /// Retires clean slots, oldest first, until a new one fits. Gives how many, and the dirty ones that stand in the way.
    pub(super) fn evict(&self) -> (u64, Vec<Arc<Slot>>) {
        let oldest: Vec<Arc<Slot>> =
            self.map().iter().rev().take(LOOK_MAX).map(|(_, slot)| Arc::clone(slot)).collect();
        let mut evicted = 0;
        let mut dirty = Vec::new();
        for slot in oldest {
            if !self.is_crowded() {
                break;
            }
            // A locked slot is in use, hence not the least recently used for long.
            let Some(mut content) = slot.try_lock() else { continue };
            if content.is_dirty() {
                drop(content);
                dirty.push(slot);
            } else {
                self.retire(&slot, &mut content);
                evicted += 1;
            }
        }
        (evicted, dirty)
    }

    fn map(&self) -> MutexGuard<'_, LruCache<SystemId, Arc<Slot>>> {
        // No code that can panic runs under this lock but the map's own.
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
