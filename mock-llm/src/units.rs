//! Durations and rates as people write them: `20ms`, `1.5s`, `0.5%`.

use std::time::Duration;

/// Why a duration or a rate was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a number with a unit of time.
    #[error("`{0}` is not a duration: write a number with a unit, us, ms, s or m, such as 20ms")]
    Duration(String),
    /// Not a percentage between 0 and 100.
    #[error("`{0}` is not a rate: write a percentage from 0% to 100% with at most 4 decimals, such as 0.5%")]
    Rate(String),
}

/// The longest duration that is taken: an hour.
const DURATION_MAX: Duration = Duration::from_secs(3_600);

/// Reads `500us`, `20ms`, `1.5s`, `2m`; exact to the microsecond, an hour at most.
///
/// # Errors
/// Where the text is no such duration.
pub fn parse_duration(text: &str) -> Result<Duration, Error> {
    let wrong = || Error::Duration(text.to_owned());
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = trimmed.split_at(digits);
    let (scale_us, decimals) = match unit {
        "us" | "µs" => (1, 0),
        "ms" => (1_000, 3),
        "s" => (1_000_000, 6),
        "m" => (60_000_000, 6),
        _ => return Err(wrong()),
    };
    let scaled = parse_decimal(number, decimals).ok_or_else(wrong)?;
    let us = scaled.checked_mul(scale_us).ok_or_else(wrong)? / 10_u64.pow(decimals);
    let duration = Duration::from_micros(us);
    if duration > DURATION_MAX { Err(wrong()) } else { Ok(duration) }
}

/// Writes a duration so that [`parse_duration`] reads the same one back.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let us = duration.as_micros();
    match us {
        0 => "0ms".to_owned(),
        _ if us.is_multiple_of(1_000_000) => format!("{}s", us / 1_000_000),
        _ if us.is_multiple_of(1_000) => format!("{}ms", us / 1_000),
        _ => format!("{us}us"),
    }
}

/// A share of calls, kept in millionths so that rates add up exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Rate {
    ppm: u32,
}

impl Rate {
    /// Every call.
    pub const ALL: Self = Self { ppm: 1_000_000 };

    /// So many in a million; `None` above a million.
    #[must_use]
    pub const fn from_ppm(ppm: u32) -> Option<Self> {
        if ppm > Self::ALL.ppm { None } else { Some(Self { ppm }) }
    }

    /// So many in a million.
    #[must_use]
    pub const fn ppm(self) -> u32 {
        self.ppm
    }
}

impl std::str::FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Rate(text.to_owned());
        let number = text.trim().strip_suffix('%').ok_or_else(wrong)?;
        let ppm = parse_decimal(number, 4).ok_or_else(wrong)?;
        u32::try_from(ppm).ok().and_then(Self::from_ppm).ok_or_else(wrong)
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.ppm / 10_000, self.ppm % 10_000);
        if rest == 0 {
            return write!(f, "{whole}%");
        }
        let decimals = format!("{rest:04}");
        write!(f, "{whole}.{}%", decimals.trim_end_matches('0'))
    }
}

/// Reads a plain decimal number as a whole number of 10^-`decimals`; `None` if it has more decimals than that.
fn parse_decimal(text: &str, decimals: u32) -> Option<u64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(rest) || text.ends_with('.') {
        return None;
    }
    let missing = (decimals as usize).checked_sub(rest.len())?;
    format!("{whole}{rest}{}", "0".repeat(missing)).parse().ok()
}

#[cfg(test)]
mod tests;
