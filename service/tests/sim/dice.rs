//! Randomness of one history: every draw is a function of the seed and of what is being decided, never of who drew before.
//!
//! So two things that happen in one instant, in whichever order, get the same dice; and a change in one room of the
//! simulation does not reshuffle the others.

/// A stream of draws.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The stream for one decision of one history.
    pub(crate) fn of(seed: u64, what: &str, place: &[u64]) -> Self {
        let start = what.bytes().fold(scramble(seed), |hash, byte| scramble(hash ^ u64::from(byte)));
        Self(place.iter().fold(start, |hash, part| scramble(hash.wrapping_add(*part))))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        scramble(self.0)
    }

    /// 0 to `end` - 1.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// `first` to `last`, both included.
    pub(crate) fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True `share` times in a thousand.
    pub(crate) fn chance(&mut self, share: u64) -> bool {
        self.below(1_000) < share
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }
}

/// The finalizer of SplitMix64.
fn scramble(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
