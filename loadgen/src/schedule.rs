//! When rollouts should start.

use std::time::Duration;

use crate::arrivals::{Arrivals, Rate, Shape};
use crate::recording::Replay;

/// How rollouts arrive.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub enum Schedule {
    /// The closed model: each lane starts its next rollout when its last one has ended.
    #[default]
    Closed,
    /// The open model: rollouts arrive whatever the service does. At most as many as there are lanes (slots) are in flight;
    /// who finds none free waits, and that waiting counts.
    Open(Arrivals),
    /// The open model, with the arrivals (and payloads and pauses) of a recording.
    Replay(Replay),
}

/// The intended starts of a pass, numbered, within its limits: nanoseconds from its start.
pub(crate) type Due = Box<dyn Iterator<Item = (u64, u64)> + Send>;

impl Schedule {
    /// What is due until both limits; none where rollouts arrive by themselves.
    pub(crate) fn due(&self, count: Option<u64>, duration: Option<Duration>) -> Option<Due> {
        let duration_ns = duration.map_or(u128::MAX, |d| d.as_nanos());
        let within = move |at: &u64| u128::from(*at) < duration_ns;
        let numbers = 0..count.unwrap_or(u64::MAX);
        match self {
            Self::Closed => None,
            Self::Open(arrivals) => Some(Box::new(numbers.zip(arrivals.starts().take_while(within)))),
            Self::Replay(replay) => Some(Box::new(numbers.zip(replay.starts().take_while(within)))),
        }
    }

    /// How long its rate lasts, where that is told.
    #[must_use]
    pub fn length(&self) -> Option<Duration> {
        match self {
            Self::Closed | Self::Replay(_) => None,
            Self::Open(arrivals) => arrivals.rate().length(),
        }
    }

    /// Whether it ends without anybody saying when.
    #[must_use]
    pub fn ends(&self) -> bool {
        matches!(self, Self::Replay(_)) || self.length().is_some()
    }

    /// The highest rate at which rollouts arrive, per second; none where it is not told.
    #[must_use]
    pub fn highest_rate(&self) -> Option<f64> {
        match self {
            Self::Closed | Self::Replay(_) => None,
            Self::Open(arrivals) => Some(arrivals.rate().highest()),
        }
    }

    /// How a pass over it warms up.
    pub(crate) fn warm_up(&self) -> Self {
        match self {
            Self::Closed => Self::Closed,
            Self::Open(arrivals) => Self::Open(arrivals.warm_up()),
            Self::Replay(replay) => {
                let seconds = replay.span_ns() as f64 / 1e9;
                let mean = if seconds > 0.0 { replay.len() as f64 / seconds } else { 1.0 };
                let mean = Rate::Constant(mean.min(crate::arrivals::RATE_MAX_PER_SECOND));
                // Cannot fail: above 0 and no more than what is allowed.
                Arrivals::new(Shape::Constant, mean, 0).map_or(Self::Closed, Self::Open)
            }
        }
    }
}
