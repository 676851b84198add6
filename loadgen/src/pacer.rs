//! Waking up when an arrival is due, to a few microseconds: a thread of its own that sleeps and then spins.
//!
//! A timer of the asynchronous runtime wakes to the next millisecond, by design; at thousands of arrivals a second that is
//! bursts. The operating system's sleep oversleeps by its timer slack (50 µs unless lowered) and by whatever the scheduler
//! takes, so the last stretch before an arrival is spent awake.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use mipro_telemetry::clock;

#[cfg(test)]
mod tests;

/// Spent awake before an arrival where the kernel lets sleeps be exact …
const SPIN_EXACT: Duration = Duration::from_micros(60);

/// … and where it rounds them by the usual slack.
const SPIN_SLACK: Duration = Duration::from_micros(120);

/// Tells a pacer from outside that it should end; dropping it does so, too.
#[derive(Debug)]
pub(crate) struct Stop {
    told: Arc<AtomicBool>,
    thread: Thread,
}

impl Stop {
    /// Ends its waiting at once.
    pub(crate) fn stop(&self) {
        self.told.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The waiting side; lives on its thread.
#[derive(Debug)]
pub(crate) struct Pacer {
    told: Arc<AtomicBool>,
    spin: Duration,
}

/// Runs `work` on a pacer's thread, at least to its next wait after it was told to stop.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn spawn(work: impl FnOnce(Pacer) + Send + 'static) -> io::Result<Stop> {
    let told = Arc::new(AtomicBool::new(false));
    let pacer_told = Arc::clone(&told);
    let thread = thread::Builder::new().name("mipro-pacer".to_owned()).spawn(move || {
        let spin = if lower_timer_slack().is_ok() { SPIN_EXACT } else { SPIN_SLACK };
        work(Pacer { told: pacer_told, spin });
    })?;
    Ok(Stop { told, thread: thread.thread().clone() })
}

impl Pacer {
    /// Sleeps, then spins, until then; gives the time it woke, or none when told to stop. An instant that has passed is not
    /// waited for.
    pub(crate) fn wait_until(&self, due: Instant) -> Option<Instant> {
        loop {
            if self.told.load(Ordering::Acquire) {
                return None;
            }
            let now = clock::now();
            let left = due.saturating_duration_since(now);
            if left.is_zero() {
                return Some(now);
            }
            match left.checked_sub(self.spin) {
                Some(sleep) if !sleep.is_zero() => thread::park_timeout(sleep),
                _ => std::hint::spin_loop(),
            }
        }
    }

    /// Waits a little for somebody else; false when told to stop.
    pub(crate) fn pause(&self) -> bool {
        thread::park_timeout(Duration::from_millis(1));
        !self.told.load(Ordering::Acquire)
    }
}

/// Asks the kernel to end this thread's sleeps when they should end. Writing the file is the way that needs no system call
/// of our own.
fn lower_timer_slack() -> io::Result<()> {
    // `self/task/<tid>` has no such file, but each thread is found by its number, too.
    let link = std::fs::read_link("/proc/thread-self")?;
    let thread = link.file_name().ok_or(io::ErrorKind::NotFound)?;
    std::fs::write(std::path::Path::new("/proc").join(thread).join("timerslack_ns"), "1")
}
