//! What goes wrong with a call: seeded shares of calls that are refused, broken, cut or slow.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::draw;
use crate::units::{self, Rate, parse_duration, show_duration};

/// How long a stalled call keeps silent unless told otherwise: longer than clients wait.
pub const STALL_DEFAULT: Duration = Duration::from_secs(600);
/// How much later a slow call's first byte comes unless told otherwise.
pub const SLOW_DEFAULT: Duration = Duration::from_secs(5);

/// The shares of calls that go wrong, and how.
///
/// Written `rate-limit=1%,error=1%,cut=0.5%,stall=0.1%,slow=2%`; `stall` and `slow` may name their duration
/// (`slow=2%:3s`). What isn't named doesn't happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Answered 429 with `Retry-After: 1`.
    pub rate_limit: Rate,
    /// Answered 500.
    pub error: Rate,
    /// The connection breaks in the middle of the body.
    pub cut: Rate,
    /// No byte at all for `stall_for`.
    pub stall: Rate,
    /// The silence of a stalled call; then the answer comes after all, if anybody still waits.
    pub stall_for: Duration,
    /// The first byte, and with it the whole answer, comes later by `slow_by`.
    pub slow: Rate,
    /// How much later.
    pub slow_by: Duration,
}

impl Default for Faults {
    fn default() -> Self {
        let never = Rate::default();
        Self {
            rate_limit: never,
            error: never,
            cut: never,
            stall: never,
            stall_for: STALL_DEFAULT,
            slow: never,
            slow_by: SLOW_DEFAULT,
        }
    }
}

/// One call's fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nothing goes wrong.
    None,
    /// 429.
    RateLimit,
    /// 500.
    Error,
    /// The body breaks off.
    Cut,
    /// A long silence before the first byte.
    Stall,
    /// A late first byte.
    Slow,
}

impl Fault {
    /// The name that options and the plan header use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::RateLimit => "rate-limit",
            Self::Error => "error",
            Self::Cut => "cut",
            Self::Stall => "stall",
            Self::Slow => "slow",
        }
    }
}

/// Why a list of faults was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An item without `=`.
    #[error("`{0}` has no rate: write it as name=1%")]
    NoRate(String),
    /// No such fault.
    #[error("`{0}` is not a fault: use rate-limit, error, cut, stall or slow")]
    Unknown(String),
    /// The same fault twice.
    #[error("`{0}` is given twice")]
    Twice(&'static str),
    /// A duration where there is nothing to last.
    #[error("`{0}` takes no duration: only stall and slow do")]
    NoDuration(&'static str),
    /// A rate or a duration that can't be read.
    #[error("in `{name}`: {reason}")]
    Value {
        /// Which fault.
        name: &'static str,
        /// What is wrong with it.
        reason: units::Error,
    },
    /// More than every call.
    #[error("the rates add up to {0}, but a call has one fault at most: keep the sum at 100% or below")]
    TooMuch(String),
}

impl Faults {
    /// The fate of the call that `key` stands for. `attempt` tells the retries of one call apart.
    #[must_use]
    pub fn draw(&self, seed: u64, key: u64, attempt: u32) -> Fault {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&key.to_le_bytes());
        bytes[8..].copy_from_slice(&attempt.to_le_bytes());
        // In whole millionths, so that shares that add up to 100% leave no gap.
        let drawn_ppm = (draw::uniform(seed, "fault", &bytes) * 1e6) as u32;
        let mut below_ppm = 0;
        for (fault, rate) in self.rates() {
            below_ppm += rate.ppm();
            if drawn_ppm < below_ppm {
                return fault;
            }
        }
        Fault::None
    }

    fn rates(&self) -> [(Fault, Rate); 5] {
        [
            (Fault::RateLimit, self.rate_limit),
            (Fault::Error, self.error),
            (Fault::Cut, self.cut),
            (Fault::Stall, self.stall),
            (Fault::Slow, self.slow),
        ]
    }

    fn set(&mut self, name: &str, value: &str) -> Result<Fault, Error> {
        let all = [Fault::RateLimit, Fault::Error, Fault::Cut, Fault::Stall, Fault::Slow];
        let fault = all
            .into_iter()
            .find(|fault| fault.name() == name)
            .ok_or_else(|| Error::Unknown(name.to_owned()))?;
        let wrong = |reason| Error::Value { name: fault.name(), reason };
        let (rate, duration) = match value.split_once(':') {
            Some((rate, duration)) => (rate, Some(parse_duration(duration).map_err(wrong)?)),
            None => (value, None),
        };
        let rate = rate.parse().map_err(wrong)?;
        match (fault, duration) {
            (Fault::Stall, duration) => {
                self.stall = rate;
                self.stall_for = duration.unwrap_or(STALL_DEFAULT);
            }
            (Fault::Slow, duration) => {
                self.slow = rate;
                self.slow_by = duration.unwrap_or(SLOW_DEFAULT);
            }
            (other, Some(_)) => return Err(Error::NoDuration(other.name())),
            (Fault::RateLimit, None) => self.rate_limit = rate,
            (Fault::Error, None) => self.error = rate,
            (Fault::Cut | Fault::None, None) => self.cut = rate,
        }
        Ok(fault)
    }
}

impl FromStr for Faults {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut faults = Self::default();
        let mut seen = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (name, value) = item.split_once('=').ok_or_else(|| Error::NoRate(item.to_owned()))?;
            let fault = faults.set(name.trim(), value.trim())?;
            if seen.contains(&fault) {
                return Err(Error::Twice(fault.name()));
            }
            seen.push(fault);
        }
        let total_ppm: u32 = faults.rates().iter().map(|(_, rate)| rate.ppm()).sum();
        if total_ppm > Rate::ALL.ppm() {
            return Err(Error::TooMuch(format!("{}%", f64::from(total_ppm) / 1e4)));
        }
        Ok(faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (fault, rate) in self.rates() {
            let duration = match fault {
                Fault::Stall if self.stall_for != STALL_DEFAULT => Some(self.stall_for),
                Fault::Slow if self.slow_by != SLOW_DEFAULT => Some(self.slow_by),
                _ => None,
            };
            if rate == Rate::default() && duration.is_none() {
                continue;
            }
            write!(f, "{separator}{}={rate}", fault.name())?;
            if let Some(duration) = duration {
                write!(f, ":{}", show_duration(duration))?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
