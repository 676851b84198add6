//! How long the mock takes for a call: a pure function of (model, seed, key).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::Rng;

use crate::draw;
use crate::units::{self, parse_duration, show_duration};

/// The shortest call of [`Latency::Seed`].
pub const SEED_MIN: Duration = Duration::from_millis(1_300);
/// The longest call of [`Latency::Seed`].
pub const SEED_MAX: Duration = Duration::from_millis(2_800);
/// The median of [`Latency::Seed`].
pub const SEED_MEDIAN: Duration = Duration::from_millis(1_900);
/// Spread of the logarithm: puts about 3 % of the unclipped draws beyond either end.
const SEED_SIGMA: f64 = 0.2;
/// Out-of-range draws are drawn again so many times before they are set to the nearer end.
const REDRAWS_MAX: u32 = 16;

/// How long calls take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Latency {
    /// Answers at once.
    #[default]
    None,
    /// Every call takes the same time.
    Fixed(Duration),
    /// Lognormal, clipped to [`SEED_MIN`]–[`SEED_MAX`]: what a small hosted model took in the measurements that this
    /// project set out from.
    Seed,
}

/// When the parts of an answer leave, counted from the arrival of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// Microseconds until the first byte.
    pub first_byte_us: u64,
    /// Microseconds until the last byte; never less than `first_byte_us`.
    pub total_us: u64,
}

/// Why a latency model was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such model.
    #[error("`{0}` is not a latency model: use none, fixed:20ms (any duration), or seed")]
    Unknown(String),
    /// `fixed:` with a bad duration.
    #[error("in `fixed:…`: {0}")]
    Fixed(units::Error),
}

impl Latency {
    /// The delay of the call that `key` stands for.
    #[must_use]
    pub fn delay(self, seed: u64, key: u64) -> Delay {
        match self {
            Self::None => Delay { first_byte_us: 0, total_us: 0 },
            Self::Fixed(total) => {
                let total_us = as_us(total);
                Delay { first_byte_us: total_us / 4 * 3, total_us }
            }
            Self::Seed => seeded(seed, key),
        }
    }
}

fn seeded(seed: u64, key: u64) -> Delay {
    let mut rng = draw::stream(seed, "latency", &key.to_le_bytes());
    let (min, max) = (SEED_MIN.as_secs_f64(), SEED_MAX.as_secs_f64());
    let mut seconds = 0.0;
    // Drawing again, rather than only clamping, leaves no heap of equal values at the two ends.
    for _ in 0..REDRAWS_MAX {
        seconds = SEED_MEDIAN.as_secs_f64() * (SEED_SIGMA * draw::normal(&mut rng)).exp();
        if (min..=max).contains(&seconds) {
            break;
        }
    }
    let total = Duration::from_secs_f64(seconds.clamp(min, max));
    let share = rng.random_range(0.55..0.9);
    Delay { first_byte_us: as_us(total.mul_f64(share)), total_us: as_us(total) }
}

fn as_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl FromStr for Latency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.trim() {
            "none" => Ok(Self::None),
            "seed" => Ok(Self::Seed),
            other => match other.strip_prefix("fixed:") {
                Some(duration) => parse_duration(duration).map(Self::Fixed).map_err(Error::Fixed),
                None => Err(Error::Unknown(other.to_owned())),
            },
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Fixed(duration) => write!(f, "fixed:{}", show_duration(*duration)),
            Self::Seed => f.write_str("seed"),
        }
    }
}

#[cfg(test)]
mod tests;
