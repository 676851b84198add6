//! When rollouts should start.
//!
//! The closed model is all there is yet: as many lanes as may be in flight, and each starts its next rollout as soon as its
//! last one ended. The open model (arrivals at a rate of their own, constant or Poisson, whatever the service does) belongs
//! here as another variant: `Schedule::intended` then answers from the index and the seed, a pacer wakes the lanes, and
//! `lag` tells the difference. Everything after the intended start is the same for both.

use std::time::Instant;

/// How rollouts arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Schedule {
    /// Each lane starts its next rollout when its last one has ended.
    #[default]
    Closed,
}

impl Schedule {
    /// When a lane that became free at `free` should have started its next rollout.
    pub(crate) fn intended(self, free: Instant) -> Instant {
        match self {
            Self::Closed => free,
        }
    }
}
