//! Telling a waiting person how far a run is.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mipro_telemetry::clock;

#[cfg(test)]
mod tests;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Width of the bar.
const BAR_CELLS: u64 = 24;

/// Hears how far a run is. Called from the run's own task, so implementations must not block for long.
pub trait Progress: Send + Sync {
    /// The run begins; `total` rollouts are intended, or none can be told beforehand.
    fn started(&self, total: Option<u64>);
    /// Called about ten times a second, and once at the end: rollouts done (`errors` of them failed) and in flight.
    fn tick(&self, done: u64, errors: u64, in_flight: u64);
    /// The run is over.
    fn finished(&self);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

/// A listener that tells nobody.
#[must_use]
pub fn silent() -> Arc<dyn Progress> {
    Arc::new(Silent)
}

impl Progress for Silent {
    fn started(&self, _total: Option<u64>) {}
    fn tick(&self, _done: u64, _errors: u64, _in_flight: u64) {}
    fn finished(&self) {}
}

/// A bar with the time left on a terminal; plain lines every few seconds elsewhere.
pub struct TerminalProgress {
    label: String,
    style: Style,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Bar { color: bool },
    Lines,
}

struct State {
    out: Box<dyn Write + Send>,
    total: Option<u64>,
    start: Instant,
    written: Option<Instant>,
    last: (u64, u64, u64),
}

impl TerminalProgress {
    /// On stderr: a bar if it is a terminal, coloured unless `NO_COLOR` is set or the terminal is dumb.
    #[must_use]
    pub fn stderr(label: impl Into<String>) -> Self {
        let told = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let style = match io::stderr().is_terminal() && !dumb {
            true => Style::Bar { color: !told("NO_COLOR") },
            false => Style::Lines,
        };
        Self::new(label.into(), style, Box::new(io::stderr()))
    }

    /// As [`TerminalProgress::stderr`], but without colour whatever the environment says.
    #[must_use]
    pub fn without_color(mut self) -> Self {
        if let Style::Bar { color } = &mut self.style {
            *color = false;
        }
        self
    }

    fn new(label: String, style: Style, out: Box<dyn Write + Send>) -> Self {
        let state = State { out, total: None, start: clock::now(), written: None, last: (0, 0, 0) };
        Self { label, style, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while writing leaves the numbers usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, state: &mut State, now: Instant) {
        state.written = Some(now);
        let elapsed = now - state.start;
        let text = match self.style {
            Style::Bar { color } => format!("\r\x1b[2K{}", bar(&self.label, state, elapsed, color)),
            Style::Lines => format!("{}\n", words(&self.label, state, elapsed)),
        };
        // Progress that nobody can read is no reason to end a run.
        let _ = state.out.write_all(text.as_bytes()).and_then(|()| state.out.flush());
    }
}

impl Progress for TerminalProgress {
    fn started(&self, total: Option<u64>) {
        let now = clock::now();
        let mut state = self.state();
        state.total = total;
        state.start = now;
        state.last = (0, 0, 0);
        state.written = Some(now);
        if matches!(self.style, Style::Bar { .. }) {
            self.write(&mut state, now);
        }
    }

    fn tick(&self, done: u64, errors: u64, in_flight: u64) {
        let now = clock::now();
        let mut state = self.state();
        state.last = (done, errors, in_flight);
        let since = state.written.map_or(LINE_EVERY, |at| now.saturating_duration_since(at));
        let due = match self.style {
            Style::Bar { .. } => Duration::from_millis(90),
            Style::Lines => LINE_EVERY,
        };
        if since >= due {
            self.write(&mut state, now);
        }
    }

    fn finished(&self) {
        let mut state = self.state();
        self.write(&mut state, clock::now());
        if matches!(self.style, Style::Bar { .. }) {
            let _ = state.out.write_all(b"\n");
        }
    }
}

/// The line in words: the same on a terminal and elsewhere.
fn words(label: &str, state: &State, elapsed: Duration) -> String {
    let (done, errors, in_flight) = state.last;
    let mut text = format!("{label} {done}");
    // Writing to a String cannot fail.
    if let Some(total) = state.total {
        let _ = write!(text, "/{total}");
    }
    if errors > 0 {
        let _ = write!(text, ", {errors} failed");
    }
    if in_flight > 0 {
        let _ = write!(text, ", {in_flight} in flight");
    }
    let _ = write!(text, ", {}", short(elapsed));
    if let Some(left) = left(state, elapsed) {
        let _ = write!(text, ", {} left", short(left));
    }
    text
}

fn bar(label: &str, state: &State, elapsed: Duration, color: bool) -> String {
    let words = words(label, state, elapsed);
    let Some(total) = state.total.filter(|t| *t > 0) else { return words };
    let full = (state.last.0.min(total) * BAR_CELLS / total) as usize;
    let empty = BAR_CELLS as usize - full;
    let (on, off) = match (color, state.last.1 > 0) {
        (false, _) => ("", ""),
        (true, false) => ("\x1b[32m", "\x1b[0m"),
        (true, true) => ("\x1b[33m", "\x1b[0m"),
    };
    format!("[{on}{}{off}{}] {words}", "=".repeat(full), " ".repeat(empty))
}

/// Time left, going by what is done so far.
fn left(state: &State, elapsed: Duration) -> Option<Duration> {
    let (done, total) = (state.last.0, state.total?);
    let remaining = total.checked_sub(done).filter(|r| *r > 0)?;
    (done > 0).then(|| elapsed.mul_f64(remaining as f64 / done as f64))
}

fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3600, seconds / 60 % 60),
    }
}
