//! What the outside world contributes to decisions: wall time and dice, in one place, so that tests can give their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mipro_telemetry::clock::unix_us;
use tokio::time::Instant;
use uuid::Uuid;

use crate::system::Context;

/// Makes a fresh [`Context`] for each command. Clones share one sequence. Never blocks.
#[derive(Debug, Clone)]
pub struct Contexts {
    base: u64,
    counter: Arc<AtomicU64>,
    wall: Wall,
}

/// Where wall time comes from.
#[derive(Debug, Clone, Copy)]
enum Wall {
    Real,
    Fixed(u64),
    /// The runtime's clock, which a test may have paused: so many microseconds after the Unix epoch at that instant.
    Runtime(u64, Instant),
}

impl Wall {
    fn now_us(self) -> u64 {
        match self {
            Self::Real => unix_us(),
            Self::Fixed(at_us) => at_us,
            Self::Runtime(from_us, origin) => {
                from_us + u64::try_from(origin.elapsed().as_micros()).unwrap_or(u64::MAX)
            }
        }
    }
}

impl Contexts {
    /// Real time, and a sequence of seeds that starts where the operating system's randomness says.
    #[must_use]
    pub fn from_os() -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        Self { base: high ^ low.rotate_left(32), counter: Arc::default(), wall: Wall::Real }
    }

    /// Real time and a repeatable sequence of seeds.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { base: seed, counter: Arc::default(), wall: Wall::Real }
    }

    /// A repeatable sequence of seeds at one instant, `now_us` after the Unix epoch.
    #[must_use]
    pub fn frozen(seed: u64, now_us: u64) -> Self {
        Self { wall: Wall::Fixed(now_us), ..Self::seeded(seed) }
    }

    /// A repeatable sequence of seeds, and the time of the runtime's clock, which stands at `now_us` after the Unix epoch
    /// at this call: for simulations, whose runtime's clock is paused.
    #[must_use]
    pub fn simulated(seed: u64, now_us: u64) -> Self {
        Self { wall: Wall::Runtime(now_us, Instant::now()), ..Self::seeded(seed) }
    }

    /// The context of one command: now, and a seed no other command of this sequence gets.
    #[must_use]
    pub fn context(&self) -> Context {
        let turn = self.counter.fetch_add(1, Ordering::Relaxed);
        Context { now_us: self.wall.now_us(), seed: scramble(self.base.wrapping_add(turn)) }
    }
}

/// The finalizer of SplitMix64: a bijection, so that neighbours in the sequence share nothing visible and never collide.
const fn scramble(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
