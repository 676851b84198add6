//! The pacer's work: each arrival into the backlog when it is due.

use std::time::{Duration, Instant};

use mipro_telemetry::clock;

use crate::dispatch::Backlog;
use crate::pacer::Pacer;
use crate::schedule::Due;

/// What the pacer did.
pub(crate) struct Paced {
    /// Arrivals that went into the backlog.
    pub(crate) released: u64,
    /// The intended start of the last of them.
    pub(crate) span: Duration,
    /// Whether it ever waited for room.
    pub(crate) backlog_full: bool,
    /// What it was told to leave: the one at hand, then the rest.
    left: (Option<u64>, Due),
}

impl Paced {
    /// Intended starts of what it did not release, in order.
    pub(crate) fn not_released(self) -> impl Iterator<Item = u64> {
        self.left.0.into_iter().chain(self.left.1.map(|(_, at_ns)| at_ns))
    }
}

/// Releases what is due, until there is no more or the pacer is told to stop.
pub(crate) fn pace(pacer: &Pacer, start: Instant, mut due: Due, backlogs: &[Backlog]) -> Paced {
    let mut released = 0;
    let (mut span_ns, mut backlog_full) = (0, false);
    let mut at_hand = None;
    for (number, at_ns) in due.by_ref() {
        let backlog = &backlogs[(number % backlogs.len() as u64) as usize];
        if !release(pacer, start, backlog, (number, at_ns), &mut backlog_full) {
            at_hand = Some(at_ns);
            break;
        }
        released += 1;
        span_ns = at_ns;
    }
    Paced { released, span: Duration::from_nanos(span_ns), backlog_full, left: (at_hand, due) }
}

/// Waits for one arrival's time, and for room; false when told to stop.
fn release(
    pacer: &Pacer,
    start: Instant,
    backlog: &Backlog,
    (number, at_ns): (u64, u64),
    backlog_full: &mut bool,
) -> bool {
    let Some(mut woke) = pacer.wait_until(start + Duration::from_nanos(at_ns)) else { return false };
    loop {
        let released_ns = clock::as_ns(woke.saturating_duration_since(start));
        if backlog.push(number, at_ns, released_ns).is_ok() {
            return true;
        }
        *backlog_full = true;
        if !pacer.pause() {
            return false;
        }
        woke = clock::now();
    }
}
