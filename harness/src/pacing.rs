//! How the rollouts of a slice arrive.
//!
//! Both sides get the same arrivals. Under the closed model the slower side would also get fewer of them, and hide what it
//! makes others wait; so the open model is what is asked for unless told otherwise, at a rate that leaves both sides room.

use std::fmt;
use std::str::FromStr;

use mipro_loadgen::{Arrivals, Rate, Schedule, Shape};

use crate::options::Error;

#[cfg(test)]
mod tests;

/// Share of the slower side's capacity that is light load: little waits for anything but its own work.
const LIGHT_SHARE: f64 = 0.3;

/// How the rollouts of a slice arrive.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Pacing {
    /// By the open model, at three tenths of what the slower side does under the closed one.
    #[default]
    Light,
    /// By the open model, so many a second.
    Rate(f64),
    /// By the closed model: each lane starts its next rollout when its last one has ended.
    Closed,
}

impl Pacing {
    /// The rate at which rollouts arrive, per second, where the slower side can do `capacity`; none under the closed model.
    ///
    /// # Errors
    /// When the rate that was asked for is beyond the capacity: such a comparison would only measure how long it lasts.
    pub(crate) fn rate(self, capacity: f64) -> Result<Option<f64>, Error> {
        match self {
            Self::Closed => Ok(None),
            Self::Light => Ok(Some(capacity * LIGHT_SHARE)),
            Self::Rate(rate) if rate < capacity => Ok(Some(rate)),
            Self::Rate(rate) => Err(Error::Unexpected(format!(
                "-q {rate}: the slower side did {capacity:.1} rollouts a second when it was given all it could take; of more, each \
                 would wait longer than the one before. Give a lower rate, more in flight (-c), or -q light"
            ))),
        }
    }
}

/// Arrivals at `rate` a second, the same for the same seed; without one, the closed model.
///
/// # Errors
/// When no such rate can be kept.
pub(crate) fn schedule(rate: Option<f64>, seed: u64) -> Result<Schedule, Error> {
    let Some(rate) = rate else { return Ok(Schedule::Closed) };
    let arrivals = Arrivals::new(Shape::Constant, Rate::Constant(rate), seed);
    arrivals.map(Schedule::Open).map_err(|error| Error::Unexpected(error.to_string()))
}

impl fmt::Display for Pacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Light => f.write_str("light"),
            Self::Closed => f.write_str("closed"),
            Self::Rate(rate) => write!(f, "{rate}"),
        }
    }
}

impl FromStr for Pacing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "light" => Ok(Self::Light),
            "closed" => Ok(Self::Closed),
            other => match other.parse::<f64>() {
                Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(Self::Rate(rate)),
                _ => Err(format!("`{other}` is no rate; say light, closed, or rollouts a second, as 50")),
            },
        }
    }
}
