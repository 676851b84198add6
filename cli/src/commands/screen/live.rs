//! The live view of one stretch of load: a few lines redrawn in place on a terminal, a plain line now and then elsewhere.
//!
//! `view` turns what is known into lines; this file decides when, and writes them. All of it runs in the task that ticks, ten
//! times a second; the rollouts' own tasks never wait for it.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mipro_loadgen::{Figures, Progress};
use mipro_telemetry::clock;
use mipro_testbed::process::Usage;

#[cfg(test)]
mod tests;
mod view;

use view::View;

/// Least time between two redraws.
const REDRAW_EVERY: Duration = Duration::from_millis(100);
/// Least time between two looks at what costs the run a copy of its histograms.
const FIGURES_EVERY: Duration = Duration::from_millis(500);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// What "now" means for the rate.
const RATE_OVER: Duration = Duration::from_secs(10);
/// From when on CPU time can be told from rounding.
const CPU_FROM: Duration = Duration::from_secs(1);
/// Ticks remembered for the rate: as many as `RATE_OVER` has, with room.
const TICKS_MAX: usize = 128;

/// Where it is shown.
pub(super) enum Surface {
    /// A terminal of so many columns, asked for anew at every redraw.
    Terminal {
        color: bool,
        width: fn() -> usize,
    },
    Lines,
}

/// Shows one stretch of load.
pub(super) struct Live {
    label: String,
    surface: Surface,
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    total: Option<u64>,
    start: Instant,
    /// CPU seconds of this process when the stretch began.
    cpu_at_start_s: f64,
    /// Done, failed, in flight.
    last: (u64, u64, u64),
    ticks: VecDeque<(Instant, u64)>,
    figures: Option<Figures>,
    figures_at: Option<Instant>,
    written_at: Option<Instant>,
    /// Lines of the block on the terminal, the cursor being under the last of them.
    drawn: usize,
}

impl Live {
    /// On stderr: a block if it is a terminal that can redraw, plain lines elsewhere. Colour unless `no_color`, or `NO_COLOR` in
    /// the environment, forbids it.
    pub(super) fn stderr(label: &str, no_color: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let surface = if io::stderr().is_terminal() && !dumb {
            Surface::Terminal { color: !no_color && !set("NO_COLOR"), width: stderr_width }
        } else {
            Surface::Lines
        };
        Self::new(label, surface, Box::new(io::stderr()))
    }

    fn new(label: &str, surface: Surface, out: Box<dyn Write + Send>) -> Self {
        let state = State {
            out,
            total: None,
            start: clock::now(),
            cpu_at_start_s: own_cpu_s(),
            last: (0, 0, 0),
            ticks: VecDeque::with_capacity(TICKS_MAX),
            figures: None,
            figures_at: None,
            written_at: None,
            drawn: 0,
        };
        Self { label: label.to_owned(), surface, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while writing leaves the numbers usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything known, at this instant.
    fn view<'a>(&'a self, state: &'a State, now: Instant) -> View<'a> {
        let elapsed = now.saturating_duration_since(state.start);
        let cpu_s = own_cpu_s() - state.cpu_at_start_s;
        View {
            label: &self.label,
            total: state.total,
            done: state.last.0,
            failed: state.last.1,
            in_flight: state.last.2,
            elapsed,
            rate: rate(&state.ticks),
            figures: state.figures.as_ref(),
            // The kernel counts in hundredths of a second.
            cpu_share: (elapsed >= CPU_FROM).then(|| cpu_s / elapsed.as_secs_f64()),
        }
    }

    fn redraw(&self, state: &mut State, now: Instant) {
        let Surface::Terminal { color, width } = self.surface else { return };
        let lines = self.view(state, now).block(width(), color);
        let mut text = erase(state.drawn);
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        state.drawn = lines.len();
        state.written_at = Some(now);
        state.put(&text);
    }

    fn line(&self, state: &mut State, now: Instant) {
        let text = self.view(state, now).line();
        state.written_at = Some(now);
        state.put(&format!("{text}\n"));
    }
}

impl State {
    fn put(&mut self, text: &str) {
        // Progress that nobody can read is no reason to end a run.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    fn due(&self, every: Duration, now: Instant) -> bool {
        self.written_at.is_none_or(|at| now.saturating_duration_since(at) >= every)
    }
}

/// Moves to the first of the lines drawn last and clears from there on.
fn erase(drawn: usize) -> String {
    if drawn == 0 { String::new() } else { format!("\x1b[{drawn}F\x1b[0J") }
}

/// Rollouts a second over the ticks remembered; `None` until there are two.
fn rate(ticks: &VecDeque<(Instant, u64)>) -> Option<f64> {
    let ((first, before), (last, now)) = (ticks.front()?, ticks.back()?);
    let seconds = last.saturating_duration_since(*first).as_secs_f64();
    (seconds > 0.0).then(|| (now - before) as f64 / seconds)
}

fn stderr_width() -> usize {
    rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col))
}

/// CPU seconds of this process, user and system: the load generator is in it and little else.
fn own_cpu_s() -> f64 {
    Usage::of_this_process().map_or(0.0, |usage| usage.cpu_s())
}

impl Progress for Live {
    fn started(&self, total: Option<u64>) {
        let now = clock::now();
        let mut state = self.state();
        state.total = total;
        state.start = now;
        state.cpu_at_start_s = own_cpu_s();
        state.last = (0, 0, 0);
        state.ticks.clear();
        state.ticks.push_back((now, 0));
        state.figures = None;
        // Elsewhere than on a terminal, the first line comes when there is something to tell.
        state.written_at = Some(now);
        self.redraw(&mut state, now);
    }

    fn tick(&self, done: u64, errors: u64, in_flight: u64) {
        let now = clock::now();
        let mut state = self.state();
        state.last = (done, errors, in_flight);
        while state.ticks.len() >= TICKS_MAX
            || state.ticks.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) > RATE_OVER)
        {
            state.ticks.pop_front();
        }
        state.ticks.push_back((now, done));
        match self.surface {
            Surface::Terminal { .. } if state.due(REDRAW_EVERY, now) => self.redraw(&mut state, now),
            Surface::Lines if state.due(LINE_EVERY, now) => self.line(&mut state, now),
            _ => {}
        }
    }

    fn wants_figures(&self) -> bool {
        let now = clock::now();
        self.state().figures_at.is_none_or(|at| now.saturating_duration_since(at) >= FIGURES_EVERY)
    }

    fn figures(&self, figures: &Figures) {
        let mut state = self.state();
        state.figures = Some(figures.clone());
        state.figures_at = Some(clock::now());
    }

    /// The block gives way to one line, so that what ended stays as a list.
    fn finished(&self) {
        let now = clock::now();
        let mut state = self.state();
        let block = erase(state.drawn);
        state.drawn = 0;
        state.put(&block);
        self.line(&mut state, now);
    }
}
