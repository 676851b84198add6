//! Slots, one a system, and the LRU map they are found by.

use std::collections::HashMap;
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

    /// Whether no save of it is under way; it then forgets what an earlier state's save had left half done. Only the lock's
    /// holder can tell: no save begins meanwhile.
    pub(super) fn begin_anew(&self) -> bool {
        let turn = self.saving.try_lock();
        turn.is_ok_and(|mut attempt| {
            *attempt = Attempt::default();
            true
        })
    }

    fn is_saving(&self) -> bool {
        self.saving.try_lock().is_err()
    }

    /// Waits for this system's turn to be saved.
    pub(super) async fn save_turn(&self) -> AsyncMutexGuard<'_, Attempt> {
        self.saving.lock().await
    }
}

/// The slots by system.
#[derive(Debug)]
pub(super) struct Slots {
    maps: Mutex<Maps>,
    max: usize,
}

#[derive(Debug)]
struct Maps {
    /// Systems that are known to exist, least recently used last.
    known: LruCache<SystemId, Arc<Slot>>,
    /// Systems somebody has asked for and that are being loaded or created.
    asked: HashMap<SystemId, Arc<Slot>>,
}

impl Slots {
    pub(super) fn new(max: usize) -> Self {
        let maps = Maps { known: LruCache::unbounded(), asked: HashMap::new() };
        Self { maps: Mutex::new(maps), max: max.max(1) }
    }

    pub(super) fn find(&self, system: SystemId) -> Option<Arc<Slot>> {
        let mut maps = self.maps();
        maps.known.get(&system).map(Arc::clone).or_else(|| maps.asked.get(&system).map(Arc::clone))
    }

    pub(super) fn find_or_insert(&self, system: SystemId) -> Arc<Slot> {
        let mut maps = self.maps();
        if let Some(slot) = maps.known.get(&system) {
            return Arc::clone(slot);
        }
        Arc::clone(maps.asked.entry(system).or_insert_with(|| Arc::new(Slot::new(system))))
    }

    /// Systems that are known to exist.
    pub(super) fn len(&self) -> usize {
        self.maps().known.len()
    }

    /// All that can be dirty.
    pub(super) fn all(&self) -> Vec<Arc<Slot>> {
        self.maps().known.iter().map(|(_, slot)| Arc::clone(slot)).collect()
    }

    /// Whether a new slot must not come in.
    pub(super) fn is_full(&self) -> bool {
        let maps = self.maps();
        maps.known.len() + maps.asked.len() >= self.max.saturating_mul(2)
    }

    /// A slot's system was found to exist. Only its lock's holder can say so. Gives whether there are too many now.
    pub(super) fn settle_in(&self, slot: &Arc<Slot>) -> bool {
        let mut maps = self.maps();
        if maps.asked.remove(&slot.system).is_some() {
            maps.known.put(slot.system, Arc::clone(slot));
        }
        maps.known.len() > self.max
    }

    /// Takes a slot out of the map. Only its lock's holder can.
    pub(super) fn retire(&self, slot: &Slot, content: &mut Content) {
        *content = Content::Retired;
        let mut maps = self.maps();
        maps.known.pop(&slot.system);
        maps.asked.remove(&slot.system);
    }

    /// Retires clean slots, oldest first, until there are no more than there may be, and slots whose callers went away
    /// before they were loaded. Gives how many held a state, and the dirty ones that stand in the way.
    pub(super) fn evict(&self) -> (u64, Vec<Arc<Slot>>) {
        let mut evicted = 0;
        let mut dirty = Vec::new();
        for slot in self.oldest_beyond_max() {
            if self.len() <= self.max {
                break;
            }
            // A locked slot is in use, hence not the least recently used for long.
            let Some(mut content) = slot.try_lock() else { continue };
            if content.is_dirty() {
                drop(content);
                dirty.push(slot);
            } else if !slot.is_saving() {
                self.retire(&slot, &mut content);
                evicted += 1;
            }
        }
        if self.is_full() {
            self.retire_abandoned();
        }
        (evicted, dirty)
    }

    fn oldest_beyond_max(&self) -> Vec<Arc<Slot>> {
        let maps = self.maps();
        if maps.known.len() <= self.max {
            return Vec::new();
        }
        maps.known.iter().rev().take(LOOK_MAX).map(|(_, slot)| Arc::clone(slot)).collect()
    }

    fn retire_abandoned(&self) {
        let asked: Vec<Arc<Slot>> = self.maps().asked.values().map(Arc::clone).collect();
        for slot in asked {
            // Whoever loads it or creates it holds its lock; one that has settled in since is not abandoned.
            let Some(mut content) = slot.try_lock() else { continue };
            if matches!(*content, Content::Empty) && self.maps().asked.contains_key(&slot.system) {
                self.retire(&slot, &mut content);
            }
        }
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        // No code that can panic runs under this lock but the maps' own.
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
