//! The one place where this project reads the monotonic and the wall clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock, for durations.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall time as microseconds since the Unix epoch; 0 if the clock stands before it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
pub fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A duration as whole nanoseconds, saturating after 584 years.
#[must_use]
pub fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
