//! What a person writes for a link: a preset's name, or `db=12ms,s3=40ms,up=50mbit`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Profile;

const KBIT: u64 = 1_000;
const MBIT: u64 = 1_000 * KBIT;
const GBIT: u64 = 1_000 * MBIT;

/// The names that stand for whole links.
pub const PRESETS: [&str; 3] = ["loopback", "same-region", "cross-region"];

/// Both links of a run: to the database, and to S3. Displays as something that parses to the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSpec {
    /// A preset's name, or the values themselves.
    pub name: String,
    /// The link to the database.
    pub db: Profile,
    /// The link to S3.
    pub s3: Profile,
    /// Whether the values were chosen so that rung `blob` lands inside the figures of an earlier system. The report
    /// must say so: agreement with those figures is then no finding.
    pub fitted: bool,
}

/// Why a text is not a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkSpecError {
    /// Neither a preset nor `key=value`.
    #[error(
        "unknown link {0:?}: use loopback, same-region, cross-region, or values such as db=12ms,s3=40ms,up=50mbit"
    )]
    Unknown(String),
    /// A key that a link doesn't have.
    #[error("unknown link value {0:?}: the keys are db, s3, jitter, up and down")]
    Key(String),
    /// The same key more than once.
    #[error("link value {0} is given twice")]
    Twice(&'static str),
    /// Not a time.
    #[error("{key}={value:?} is not a time: write 12ms, 800us or 1.5s, at most 60s")]
    Time {
        /// The key.
        key: &'static str,
        /// What it was given.
        value: String,
    },
    /// Not a bandwidth.
    #[error("{key}={value:?} is not a bandwidth: write 50mbit, 800kbit or 1gbit (a second), at least 1kbit")]
    Bandwidth {
        /// The key.
        key: &'static str,
        /// What it was given.
        value: String,
    },
    /// Only values that say nothing of either delay.
    #[error("a link needs db=<round trip> or s3=<round trip>, such as db=12ms,s3=40ms")]
    NoDelay,
}

impl LinkSpec {
    /// No delay at all: the emulator only counts.
    #[must_use]
    pub fn loopback() -> Self {
        Self { name: PRESETS[0].to_owned(), db: Profile::default(), s3: Profile::default(), fitted: false }
    }

    /// Services in one region: 1 ms to the database, 15 ms to S3.
    #[must_use]
    pub fn same_region() -> Self {
        Self {
            name: PRESETS[1].to_owned(),
            db: Profile { rtt_us: 1_000, ..Profile::default() },
            s3: Profile { rtt_us: 15_000, ..Profile::default() },
            fitted: false,
        }
    }

    /// Fitted to an earlier system's figures: a database query on a new connection is four round trips of 70 ms
    /// (handshake, start, prepare, execute); an S3 request on a new connection is two of 52 ms, and an upload's bytes
    /// take their time at 16 Mbit/s, so that it grows with the state by 0.5 ms a KB.
    #[must_use]
    pub fn cross_region() -> Self {
        Self {
            name: PRESETS[2].to_owned(),
            db: Profile { rtt_us: 70_000, jitter_us: 1_000, ..Profile::default() },
            s3: Profile {
                rtt_us: 52_000,
                jitter_us: 1_000,
                up_bits_per_second: Some(16 * MBIT),
                down_bits_per_second: Some(50 * MBIT),
            },
            fitted: true,
        }
    }
}

impl fmt::Display for LinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for LinkSpec {
    type Err = LinkSpecError;

    fn from_str(text: &str) -> Result<Self, LinkSpecError> {
        match text.trim() {
            "loopback" => Ok(Self::loopback()),
            "same-region" => Ok(Self::same_region()),
            "cross-region" => Ok(Self::cross_region()),
            text if text.contains('=') => text.parse::<Values>()?.into_spec(),
            text => Err(LinkSpecError::Unknown(text.to_owned())),
        }
    }
}

/// The values of a link that has no name. Jitter and bandwidth hold for both links.
#[derive(Default)]
struct Values {
    db_us: Option<u64>,
    s3_us: Option<u64>,
    jitter_us: Option<u64>,
    up: Option<u64>,
    down: Option<u64>,
}

impl FromStr for Values {
    type Err = LinkSpecError;

    fn from_str(text: &str) -> Result<Self, LinkSpecError> {
        let mut values = Self::default();
        for part in text.split(',') {
            let (key, value) =
                part.split_once('=').ok_or_else(|| LinkSpecError::Unknown(part.trim().to_owned()))?;
            let (key, slot, parse): (_, _, fn(_, &str) -> _) = match key.trim() {
                "db" => ("db", &mut values.db_us, parse_time),
                "s3" => ("s3", &mut values.s3_us, parse_time),
                "jitter" => ("jitter", &mut values.jitter_us, parse_time),
                "up" => ("up", &mut values.up, parse_bandwidth),
                "down" => ("down", &mut values.down, parse_bandwidth),
                other => return Err(LinkSpecError::Key(other.to_owned())),
            };
            if slot.replace(parse(key, value.trim())?).is_some() {
                return Err(LinkSpecError::Twice(key));
            }
        }
        Ok(values)
    }
}

impl Values {
    fn into_spec(self) -> Result<LinkSpec, LinkSpecError> {
        if self.db_us.is_none() && self.s3_us.is_none() {
            return Err(LinkSpecError::NoDelay);
        }
        let (db_us, s3_us) = (self.db_us.unwrap_or(0), self.s3_us.unwrap_or(0));
        let profile = |rtt_us| Profile {
            rtt_us,
            jitter_us: self.jitter_us.unwrap_or(0),
            up_bits_per_second: self.up,
            down_bits_per_second: self.down,
        };
        let mut name = format!("db={},s3={}", Time(db_us), Time(s3_us));
        for (key, value) in [("up", self.up), ("down", self.down)] {
            if let Some(value) = value {
                name.push_str(&format!(",{key}={}", Bandwidth(value)));
            }
        }
        if let Some(jitter_us) = self.jitter_us {
            name.push_str(&format!(",jitter={}", Time(jitter_us)));
        }
        Ok(LinkSpec { name, db: profile(db_us), s3: profile(s3_us), fitted: false })
    }
}

/// Microseconds, in the largest unit that needs no fraction.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us if us % 1_000 == 0 => write!(f, "{}ms", us / 1_000),
            us => write!(f, "{us}us"),
        }
    }
}

/// Bits a second, in the largest unit that needs no fraction.
struct Bandwidth(u64);

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bits if bits % GBIT == 0 => write!(f, "{}gbit", bits / GBIT),
            bits if bits % MBIT == 0 => write!(f, "{}mbit", bits / MBIT),
            bits if bits % KBIT == 0 => write!(f, "{}kbit", bits / KBIT),
            bits => write!(f, "{bits}bit"),
        }
    }
}

fn parse_time(key: &'static str, value: &str) -> Result<u64, LinkSpecError> {
    // "ms" and "us" are looked for before "s", which both end with.
    parse_units(value, &[("ms", 1_000), ("us", 1), ("s", 1_000_000)])
        .filter(|us| *us <= Profile::DELAY_US_MAX)
        .ok_or_else(|| LinkSpecError::Time { key, value: value.to_owned() })
}

fn parse_bandwidth(key: &'static str, value: &str) -> Result<u64, LinkSpecError> {
    parse_units(value, &[("gbit", GBIT), ("mbit", MBIT), ("kbit", KBIT), ("bit", 1)])
        .filter(|bits| *bits >= Profile::BITS_PER_SECOND_MIN)
        .ok_or_else(|| LinkSpecError::Bandwidth { key, value: value.to_owned() })
}

/// `<decimal number><unit>`, rounded to a whole number of the least unit.
fn parse_units(value: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = units.iter().find_map(|(name, unit)| Some((value.strip_suffix(name)?, *unit)))?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let scaled = (number.parse::<f64>().ok()? * unit as f64).round();
    // Beyond this a float no longer holds every whole number; no delay or bandwidth comes near.
    (scaled <= (1_u64 << 53) as f64).then_some(scaled as u64)
}
