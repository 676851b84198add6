//! The rollouts a system remembers: open ones by the event that began them, closed ones by when they were closed.
//!
//! Flat: every entry is `Copy` and the containers hold nothing else, so that cloning a state with a hundred thousand
//! rollouts copies a few blocks of memory. Nothing depends on addresses, on time or on a random hasher.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use serde::{Deserialize, Serialize};

/// A rollout's name in the state: the first 96 bits of the BLAKE3 hash of its id.
///
/// 96 bits are enough: among n rollouts that one system remembers at a time, two share a key with a probability below
/// n²/2⁹⁷, which is 2.6 · 10⁻¹⁹ for 200,000. Whoever works for a collision (some 2⁴⁸ hashes) makes two rollouts of a
/// system of their own look like one; no other system is touched. Events keep the id itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RolloutKey(pub [u8; RolloutKey::BYTES]);

impl RolloutKey {
    /// Its length.
    pub const BYTES: usize = 12;

    /// The key of a rollout id.
    #[must_use]
    pub fn of(rollout_id: &str) -> Self {
        let hash = blake3::hash(rollout_id.as_bytes());
        let mut key = [0; Self::BYTES];
        key.copy_from_slice(&hash.as_bytes()[..Self::BYTES]);
        Self(key)
    }
}

impl Hash for RolloutKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// Passes on what is a hash already. The same in every process, unlike the standard library's default.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Where a rollout stands. The order of the variants is part of the stored form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Begun.
    Open,
    /// Open beyond its time to live. It no longer counts as in flight, but may still be reported.
    Expired,
    /// Finished.
    Done,
    /// Closed without a reward, through no fault of the prompt.
    Failed,
}

/// What is remembered of a rollout. Times are whole seconds since the Unix epoch, rounded up, so that nothing ends early.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rollout {
    /// Index of its candidate.
    pub arm: usize,
    /// Where it stands.
    pub phase: Phase,
    /// Its reward, once known.
    pub reward: Option<f64>,
    /// With which probability its candidate was picked; remembered while it is open and has no reward.
    pub probability: Option<f32>,
    /// When it began; 0 once nothing depends on it: closed with a reward, or failed.
    pub opened_s: u32,
    /// When it was last closed, or rewarded since: its place in the dedup window counts from there; 0 while it is open.
    pub closed_s: u32,
    /// The event that began it; 0 once it is closed.
    pub seq: u64,
}

impl Rollout {
    /// Whether it counts as in flight.
    #[must_use]
    pub(crate) fn is_pending(&self) -> bool {
        self.phase == Phase::Open && self.reward.is_none()
    }

    /// Forgets what nothing depends on any more, so that equal rollouts are equal in every bit.
    fn settled(mut self) -> Self {
        let open = self.phase == Phase::Open;
        if !open || self.reward.is_some() {
            self.probability = None;
        }
        if !open && (self.reward.is_some() || self.phase == Phase::Failed) {
            self.opened_s = 0;
        }
        if open {
            self.closed_s = 0;
        } else {
            self.seq = 0;
        }
        self
    }
}

/// A time in the state's grain: whole seconds, rounded up.
pub(super) fn seconds(at_us: u64) -> u32 {
    u32::try_from(at_us.div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// Microseconds since a time in the state's grain.
pub(super) fn age_us(now_us: u64, since_s: u32) -> u64 {
    now_us.saturating_sub(u64::from(since_s) * 1_000_000)
}

/// No slot.
const NONE: u32 = u32::MAX;

/// An entry; a member of one of two lists, or free.
#[derive(Debug, Clone, Copy)]
struct Slot {
    key: RolloutKey,
    arm: u32,
    /// The reward, or else the probability.
    value: f64,
    seq: u64,
    opened_s: u32,
    closed_s: u32,
    before: u32,
    after: u32,
    phase: Phase,
    rewarded: bool,
}

impl Slot {
    fn new(key: RolloutKey, rollout: &Rollout) -> Self {
        let rollout = rollout.settled();
        let probability = rollout.probability.map(f64::from);
        Self {
            key,
            arm: u32::try_from(rollout.arm).unwrap_or(u32::MAX),
            value: rollout.reward.or(probability).unwrap_or(0.0),
            seq: rollout.seq,
            opened_s: rollout.opened_s,
            closed_s: rollout.closed_s,
            before: NONE,
            after: NONE,
            phase: rollout.phase,
            rewarded: rollout.reward.is_some(),
        }
    }

    fn rollout(&self) -> Rollout {
        let pending = self.phase == Phase::Open && !self.rewarded;
        Rollout {
            arm: self.arm as usize,
            phase: self.phase,
            reward: self.rewarded.then_some(self.value),
            probability: pending.then_some(self.value as f32),
            opened_s: self.opened_s,
            closed_s: self.closed_s,
            seq: self.seq,
        }
    }
}

/// The two ends of a list of slots.
#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
    len: u32,
}

impl Default for List {
    fn default() -> Self {
        Self { first: NONE, last: NONE, len: 0 }
    }
}

/// All of them.
#[derive(Debug, Clone)]
pub(crate) struct Rollouts {
    slots: Vec<Slot>,
    /// The first free slot; the others follow by `after`.
    free: u32,
    places: HashMap<RolloutKey, u32, BuildHasherDefault<KeyHasher>>,
    open: List,
    closed: List,
}

impl Default for Rollouts {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: NONE,
            places: HashMap::default(),
            open: List::default(),
            closed: List::default(),
        }
    }
}

impl PartialEq for Rollouts {
    fn eq(&self, other: &Self) -> bool {
        self.open().eq(other.open()) && self.closed().eq(other.closed())
    }
}

impl Rollouts {
    /// Makes room for `count` more.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.slots.reserve_exact(count);
        self.places.reserve(count);
    }

    pub(crate) fn get(&self, key: RolloutKey) -> Option<Rollout> {
        self.places.get(&key).map(|&at| self.slots[at as usize].rollout())
    }

    pub(crate) fn open_len(&self) -> usize {
        self.open.len as usize
    }

    pub(crate) fn closed_len(&self) -> usize {
        self.closed.len as usize
    }

    /// Those open, by the event that began them.
    pub(crate) fn open(&self) -> impl Iterator<Item = (RolloutKey, Rollout)> {
        self.list(self.open)
    }

    /// Those no longer open, in the order in which they were closed or, if later, rewarded.
    pub(crate) fn closed(&self) -> impl Iterator<Item = (RolloutKey, Rollout)> {
        self.list(self.closed)
    }

    fn list(&self, list: List) -> impl Iterator<Item = (RolloutKey, Rollout)> {
        let slot = |at: u32| self.slots.get(at as usize);
        std::iter::successors(slot(list.first), move |last| slot(last.after))
            .map(|slot| (slot.key, slot.rollout()))
    }

    /// Adds a rollout at the end of its list. One of that key that is there already is replaced.
    pub(crate) fn insert(&mut self, key: RolloutKey, rollout: &Rollout) {
        self.remove(key);
        let slot = Slot::new(key, rollout);
        let at = if self.free == NONE {
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).expect("a system has far fewer rollouts than 2^32")
        } else {
            let at = self.free;
            self.free = self.slots[at as usize].after;
            self.slots[at as usize] = slot;
            at
        };
        self.places.insert(key, at);
        self.link(at);
    }

    /// Changes a rollout. One that changes its phase goes to the end of its list, and so does a closed one that is changed at
    /// all: its place in the dedup window is renewed. Returns it as it was.
    pub(crate) fn change(&mut self, key: RolloutKey, change: impl FnOnce(&mut Rollout)) -> Option<Rollout> {
        let at = *self.places.get(&key)?;
        let slot = self.slots[at as usize];
        let before = slot.rollout();
        let mut after = before;
        change(&mut after);
        let moves = after.phase != before.phase || (after.phase != Phase::Open && after != before);
        if moves {
            self.unlink(at);
        }
        self.slots[at as usize] = Slot { before: slot.before, after: slot.after, ..Slot::new(key, &after) };
        if moves {
            self.link(at);
        }
        Some(before)
    }

    /// Forgets the rollout that was closed first.
    pub(crate) fn forget_oldest_closed(&mut self) {
        if let Some(slot) = self.slots.get(self.closed.first as usize) {
            self.remove(slot.key);
        }
    }

    /// When the rollout that was closed first was closed.
    pub(crate) fn oldest_closed_s(&self) -> Option<u32> {
        self.slots.get(self.closed.first as usize).map(|slot| slot.closed_s)
    }

    /// The keys of the open rollouts that began with the events `seqs` (rising).
    pub(crate) fn begun_by(&self, seqs: &[u64]) -> Vec<RolloutKey> {
        let mut seqs = seqs.iter().peekable();
        let mut keys = Vec::with_capacity(seqs.len());
        for (key, rollout) in self.open() {
            while seqs.next_if(|seq| **seq < rollout.seq).is_some() {}
            match seqs.peek() {
                None => break,
                Some(seq) if **seq == rollout.seq => keys.push(key),
                Some(_) => {}
            }
        }
        keys
    }

    fn remove(&mut self, key: RolloutKey) {
        if let Some(at) = self.places.remove(&key) {
            self.unlink(at);
            self.slots[at as usize].after = self.free;
            self.free = at;
        }
    }

    fn list_of(&mut self, at: u32) -> &mut List {
        if self.slots[at as usize].phase == Phase::Open { &mut self.open } else { &mut self.closed }
    }

    fn link(&mut self, at: u32) {
        let list = self.list_of(at);
        let last = std::mem::replace(&mut list.last, at);
        list.len += 1;
        if last == NONE {
            list.first = at;
        } else {
            self.slots[last as usize].after = at;
        }
        let slot = &mut self.slots[at as usize];
        (slot.before, slot.after) = (last, NONE);
    }

    fn unlink(&mut self, at: u32) {
        let Slot { before, after, .. } = self.slots[at as usize];
        if before != NONE {
            self.slots[before as usize].after = after;
        }
        if after != NONE {
            self.slots[after as usize].before = before;
        }
        let list = self.list_of(at);
        list.len -= 1;
        if list.first == at {
            list.first = after;
        }
        if list.last == at {
            list.last = before;
        }
    }
}

#[cfg(test)]
mod tests;
