//! When the rollouts of the open model should start: a pure function of (index, seed), whatever any server does.
//!
//! A rate says how many arrivals are expected until a time; the start of arrival `k` is where that sum reaches `k` (constant
//! arrivals), or where it reaches the `k`-th point of a Poisson process of rate 1 (Poisson arrivals). So ramps and steps are
//! exact: nothing is rounded to intervals.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::error::Error;

#[cfg(test)]
mod tests;

/// Highest rate: a generator on one thread sends no more than this anyway.
pub const RATE_MAX_PER_SECOND: f64 = 10_000_000.0;

/// The stream of the seed's generator that arrivals draw from; payloads draw from the streams of their indices.
const ARRIVALS_STREAM: u64 = u64::MAX;

/// How arrivals follow one another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shape {
    /// As evenly as the rate allows: the first at 0, for comparing two servers.
    #[default]
    Constant,
    /// Exponential gaps, as from many users who know nothing of one another: for finding out what a server can carry.
    Poisson,
}

impl Shape {
    /// As people type it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
        }
    }
}

/// How many arrivals there are, per second.
#[derive(Debug, Clone, PartialEq)]
pub enum Rate {
    /// The same all the time; without an end.
    Constant(f64),
    /// Changes evenly from one rate to another, and ends there.
    Ramp {
        /// At the beginning.
        from: f64,
        /// At the end.
        to: f64,
        /// How long that takes.
        over: Duration,
    },
    /// One rate after the other, each for the same time; ends after the last.
    Steps {
        /// The rates, in order.
        rates: Vec<f64>,
        /// How long each holds.
        each: Duration,
    },
}

/// Arrivals of the open model. Two with the same shape, rate and seed are the same arrivals.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrivals {
    shape: Shape,
    rate: Rate,
    seed: u64,
}

impl Arrivals {
    /// Arrivals of that shape and rate; the seed matters to [`Shape::Poisson`] only.
    ///
    /// # Errors
    /// [`Error::Options`] when a rate is not a number above 0 (one end of a ramp may be 0), is above
    /// [`RATE_MAX_PER_SECOND`], or holds for no time.
    pub fn new(shape: Shape, rate: Rate, seed: u64) -> Result<Self, Error> {
        check(&rate)?;
        Ok(Self { shape, rate, seed })
    }

    /// How arrivals follow one another.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How many there are.
    #[must_use]
    pub fn rate(&self) -> &Rate {
        &self.rate
    }

    /// The intended start of arrival `index`, in nanoseconds from the run's start; none when the rate ends before it. O(index)
    /// for Poisson arrivals: who wants one after the other takes [`Arrivals::starts`].
    #[must_use]
    pub fn at(&self, index: u64) -> Option<u64> {
        match self.shape {
            Shape::Constant => self.rate.reaches(index as f64).map(nanoseconds),
            Shape::Poisson => self.starts().nth(usize::try_from(index).ok()?),
        }
    }

    /// All intended starts in order, in nanoseconds from the run's start. Ends with the rate; never, where that is constant.
    #[must_use]
    pub fn starts(&self) -> Starts {
        let mut gaps = ChaCha8Rng::seed_from_u64(self.seed);
        gaps.set_stream(ARRIVALS_STREAM);
        Starts { arrivals: self.clone(), index: 0, sum: 0.0, gaps }
    }

    /// The same arrivals' rate at the beginning, held: for warming up. A ramp that begins at 0 warms up at its mean.
    #[must_use]
    pub fn warm_up(&self) -> Self {
        let rate = match &self.rate {
            Rate::Constant(rate) => *rate,
            Rate::Ramp { from, .. } if *from > 0.0 => *from,
            Rate::Ramp { to, .. } => to / 2.0,
            Rate::Steps { rates, .. } => rates.first().copied().unwrap_or(1.0),
        };
        // Another seed: a warm-up that replayed the run's first arrivals would be practice for the very test.
        Self { shape: self.shape, rate: Rate::Constant(rate), seed: !self.seed }
    }
}

impl Rate {
    /// The highest rate there is, per second.
    #[must_use]
    pub fn highest(&self) -> f64 {
        match self {
            Self::Constant(rate) => *rate,
            Self::Ramp { from, to, .. } => from.max(*to),
            Self::Steps { rates, .. } => rates.iter().copied().fold(0.0, f64::max),
        }
    }

    /// When it ends by itself.
    #[must_use]
    pub fn length(&self) -> Option<Duration> {
        match self {
            Self::Constant(_) => None,
            Self::Ramp { over, .. } => Some(*over),
            Self::Steps { rates, each } => u32::try_from(rates.len()).ok().and_then(|n| each.checked_mul(n)),
        }
    }

    /// How many arrivals are expected before `seconds`.
    #[must_use]
    pub fn expected(&self, seconds: f64) -> f64 {
        let seconds = self.length().map_or(seconds, |length| seconds.min(length.as_secs_f64()));
        match self {
            Self::Constant(rate) => rate * seconds,
            Self::Ramp { from, to, over } => {
                from * seconds + (to - from) / (2.0 * over.as_secs_f64()) * seconds * seconds
            }
            Self::Steps { rates, each } => {
                let each = each.as_secs_f64();
                let begins = (0u32..).map(|step| f64::from(step) * each);
                rates.iter().zip(begins).map(|(rate, begin)| rate * (seconds - begin).clamp(0.0, each)).sum()
            }
        }
    }

    /// When `count` arrivals are expected to have been, in seconds; none if it ends before.
    fn reaches(&self, count: f64) -> Option<f64> {
        match self {
            Self::Constant(rate) => Some(count / rate),
            Self::Ramp { from, to, over } => {
                let over = over.as_secs_f64();
                if count >= (from + to) / 2.0 * over {
                    return None;
                }
                // The root of a·t² + from·t = count, in the form that loses no digits where a is small.
                let a = (to - from) / (2.0 * over);
                let root = (from * from + 4.0 * a * count).max(0.0).sqrt();
                Some(if count > 0.0 { (2.0 * count / (from + root)).min(over) } else { 0.0 })
            }
            Self::Steps { rates, each } => {
                let each = each.as_secs_f64();
                let (mut begin, mut before) = (0.0, 0.0);
                for rate in rates {
                    if count < before + rate * each {
                        return Some(begin + (count - before) / rate);
                    }
                    before += rate * each;
                    begin += each;
                }
                None
            }
        }
    }
}

fn check(rate: &Rate) -> Result<(), Error> {
    let wrong = |message: String| Err(Error::Options(message));
    let fits = |rate: f64| rate.is_finite() && (0.0..=RATE_MAX_PER_SECOND).contains(&rate);
    let (rates, time): (&[f64], _) = match rate {
        Rate::Constant(rate) => (&[*rate], None),
        Rate::Ramp { from, to, over } => (&[*from, *to], Some(*over)),
        Rate::Steps { rates, each } => (rates, Some(*each)),
    };
    if let Some(bad) = rates.iter().find(|r| !fits(**r)) {
        return wrong(format!("a rate of {bad} is not between 0 and {RATE_MAX_PER_SECOND} per second"));
    }
    let some = match rate {
        Rate::Ramp { from, to, .. } => *from > 0.0 || *to > 0.0,
        _ => !rates.is_empty() && rates.iter().all(|r| *r > 0.0),
    };
    if !some {
        return wrong("a rate of 0 makes no rollout: give one above 0".to_owned());
    }
    if time.is_some_and(|t| t.is_zero()) {
        return wrong("a rate that holds for no time makes no rollout".to_owned());
    }
    Ok(())
}

/// Times are far below the 104 days from which on a double counts nanoseconds in twos; beyond the range they stay at its end.
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

/// The intended starts of [`Arrivals`], one after the other.
#[derive(Debug, Clone)]
pub struct Starts {
    arrivals: Arrivals,
    index: u64,
    /// Sum of the unit-rate gaps so far.
    sum: f64,
    gaps: ChaCha8Rng,
}

impl Iterator for Starts {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let count = match self.arrivals.shape {
            Shape::Constant => self.index as f64,
            Shape::Poisson => {
                // 1 − u lies in (0, 1], so that its logarithm is finite.
                self.sum -= (1.0 - self.gaps.random::<f64>()).ln();
                self.sum
            }
        };
        self.index += 1;
        self.arrivals.rate.reaches(count).map(nanoseconds)
    }
}
