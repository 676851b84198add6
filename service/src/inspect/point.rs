//! A point in a system's history, as people name it: an event's number, or a time.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::system::Recorded;

/// Up to where a history is to be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// After this event.
    Seq(u64),
    /// After the last event that was decided at this time or before, microseconds since the Unix epoch.
    Time(u64),
}

impl Point {
    /// Whether an event lies before this point or at it.
    #[must_use]
    pub fn covers(self, recorded: &Recorded) -> bool {
        self.covers_place(recorded.seq, recorded.at_us)
    }

    /// Whether a state lies before this point or at it, whose newest event has this number and time.
    #[must_use]
    pub fn covers_place(self, seq: u64, at_us: u64) -> bool {
        match self {
            Self::Seq(last) => seq <= last,
            Self::Time(last_us) => at_us <= last_us,
        }
    }
}

/// A text that names no point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is neither an event's number nor a time: say 4711, or 2026-05-01T03:00:00Z (RFC 3339, with its zone)"
)]
pub struct UnknownPoint(String);

impl FromStr for Point {
    type Err = UnknownPoint;

    fn from_str(text: &str) -> Result<Self, UnknownPoint> {
        let unknown = || UnknownPoint(text.to_owned());
        if let Ok(seq) = text.parse::<u64>() {
            // There is no state before the first event.
            return if seq == 0 { Err(unknown()) } else { Ok(Self::Seq(seq)) };
        }
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| unknown())?;
        u64::try_from(time.unix_timestamp_nanos() / 1_000).map(Self::Time).map_err(|_| unknown())
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seq(seq) => write!(f, "event {seq}"),
            Self::Time(at_us) => f.write_str(&rfc3339(*at_us)),
        }
    }
}

/// A time in UTC, to the microsecond.
#[must_use]
pub fn rfc3339(at_us: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_us) * 1_000);
    at.unwrap_or(OffsetDateTime::UNIX_EPOCH).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_told_apart() {
        assert_eq!("4711".parse(), Ok(Point::Seq(4711)));
        assert_eq!("1970-01-01T00:00:01.5Z".parse(), Ok(Point::Time(1_500_000)));
        assert_eq!("1970-01-01T01:00:01+01:00".parse(), Ok(Point::Time(1_000_000)));
        for text in ["", "0", "-1", "now", "2026-05-01", "2026-05-01T03:00:00", "1969-01-01T00:00:00Z"] {
            assert!(text.parse::<Point>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_point_covers_what_lies_at_it() {
        assert!(Point::Seq(3).covers_place(3, 9) && !Point::Seq(3).covers_place(4, 9));
        assert!(Point::Time(9).covers_place(4, 9) && !Point::Time(8).covers_place(4, 9));
    }
}
