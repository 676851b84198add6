//! What is shown of a run that goes on, as lines no wider than the terminal.

use std::time::Duration;

use mipro_loadgen::Figures;
use mipro_telemetry::Group;

/// Columns of the bar of what is done.
const BAR: usize = 24;
/// Columns of a stage's bar at most.
const STAGE_BAR: usize = 20;
/// Assumed where the terminal does not tell its width.
const WIDTH_DEFAULT: usize = 80;
/// From this share of one core on, the generator may be what limits the rate.
const CPU_HIGH: f64 = 0.8;
/// From this lag on, the generator is late by more than its figures' last digit.
const LAG_HIGH_US: f64 = 10_000.0;

/// Everything that can be shown.
pub(super) struct View<'a> {
    pub(super) label: &'a str,
    /// Rollouts intended, if that is known.
    pub(super) total: Option<u64>,
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) in_flight: u64,
    pub(super) elapsed: Duration,
    /// Rollouts a second, lately.
    pub(super) rate: Option<f64>,
    pub(super) figures: Option<&'a Figures>,
    /// CPU time of this process over wall time: 1 is one core.
    pub(super) cpu_share: Option<f64>,
}

#[derive(Clone, Copy)]
enum Tone {
    Plain,
    Good,
    Bad,
    Faint,
}

/// A line under construction: pieces of text, each in one colour, cut at the width.
struct Line {
    pieces: Vec<(Tone, String)>,
}

impl Line {
    fn new(text: impl Into<String>) -> Self {
        Self { pieces: vec![(Tone::Plain, text.into())] }
    }

    fn and(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.pieces.push((tone, text.into()));
        self
    }

    /// At most `width` characters (all that are used are one column wide), coloured or not. What is cut ends in `…`, so that no
    /// figure passes for a smaller one.
    fn cut(&self, width: usize, color: bool) -> String {
        let whole: usize = self.pieces.iter().map(|(_, text)| text.chars().count()).sum();
        let cut = whole > width;
        let mut left = if cut { width.saturating_sub(1) } else { width };
        let mut line = String::new();
        for (tone, text) in &self.pieces {
            let text: String = text.chars().filter(|c| !c.is_control()).take(left).collect();
            left -= text.chars().count();
            let code = match tone {
                _ if !color || text.is_empty() => None,
                Tone::Plain => None,
                Tone::Good => Some("32"),
                Tone::Bad => Some("31"),
                Tone::Faint => Some("2"),
            };
            match code {
                Some(code) => line.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
                None => line.push_str(&text),
            }
        }
        if cut {
            line.push('…');
        }
        line
    }
}

impl View<'_> {
    /// The block of a terminal with `width` columns (0: not known). One column stays free, since a line that fills the last one
    /// wraps on some terminals, and a block of wrapped lines cannot be redrawn.
    pub(super) fn block(&self, width: usize, color: bool) -> Vec<String> {
        let width = if width == 0 { WIDTH_DEFAULT } else { width }.saturating_sub(1).max(1);
        let mut lines = vec![self.heading(width), self.counts(), self.response()];
        lines.extend(self.stages(width));
        lines.push(self.generator());
        lines.iter().map(|line| line.cut(width, color)).collect()
    }

    /// The same in one line.
    pub(super) fn line(&self) -> String {
        let mut parts = vec![format!("{} {}", self.label, self.progress())];
        if self.failed > 0 {
            parts.push(format!("{} failed", self.failed));
        }
        if self.in_flight > 0 {
            parts.push(format!("{} in flight", self.in_flight));
        }
        parts.extend(self.rate.map(|rate| format!("{}/s", digits(rate))));
        if let Some([p50, _, p99]) = self.figures.and_then(|figures| figures.response_us) {
            parts.push(format!("p50 {} ms, p99 {} ms", ms(p50), ms(p99)));
        }
        if let Some((group, us)) = self.largest_stage() {
            parts.push(format!("mostly {group} {} ms", ms(us)));
        }
        parts.push(short(self.elapsed));
        parts.extend(self.left().map(|left| format!("{} left", short(left))));
        parts.join(", ")
    }

    /// `12/40`, or `12` where nobody knows of how many.
    fn progress(&self) -> String {
        self.total.map_or_else(|| self.done.to_string(), |total| format!("{}/{total}", self.done))
    }

    /// Time left, going by what is done so far.
    fn left(&self) -> Option<Duration> {
        let remaining = self.total?.checked_sub(self.done).filter(|remaining| *remaining > 0)?;
        (self.done > 0).then(|| self.elapsed.mul_f64(remaining as f64 / self.done as f64))
    }

    fn heading(&self, width: usize) -> Line {
        let left = self.left().map_or_else(String::new, |left| format!(", {} left", short(left)));
        let words = format!("{} {}, {}{left}", self.label, self.progress(), short(self.elapsed));
        let Some(total) = self.total.filter(|total| *total > 0) else { return Line::new(words) };
        // Where there is no room for both, the words are what matters.
        if words.chars().count() + BAR + 3 > width {
            return Line::new(words);
        }
        let full = (self.done.min(total) * BAR as u64 / total) as usize;
        let tone = if self.failed > 0 { Tone::Bad } else { Tone::Good };
        Line::new("[")
            .and(tone, "=".repeat(full))
            .and(Tone::Plain, format!("{}] {words}", " ".repeat(BAR - full)))
    }

    fn counts(&self) -> Line {
        let rate = self.rate.map_or_else(|| "–".to_owned(), digits);
        let line = Line::new(format!("  rate {rate}/s  in flight {}  ", self.in_flight));
        if self.failed == 0 {
            return line.and(Tone::Faint, "none failed");
        }
        let classes = self.figures.map_or_else(String::new, classes);
        line.and(Tone::Bad, format!("{} failed{classes}", self.failed))
    }

    fn response(&self) -> Line {
        let line = Line::new("  response ");
        match self.figures.and_then(|figures| Some((figures.response_us?, figures.samples))) {
            Some(([p50, p90, p99], samples)) => line
                .and(Tone::Plain, format!("p50 {} ms  p90 {} ms  p99 {} ms ", ms(p50), ms(p90), ms(p99)))
                .and(Tone::Faint, format!("of {samples} so far")),
            None => line.and(Tone::Faint, "none yet"),
        }
    }

    /// The roll-ups that took any time, largest first, the LLM among them.
    fn stages(&self, width: usize) -> Vec<Line> {
        let mut groups: Vec<(Group, f64)> = self.figures.map_or_else(Vec::new, |figures| {
            figures.groups_us.iter().copied().filter(|(_, us)| *us > 0.0).collect()
        });
        groups.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let Some((_, largest)) = groups.first().copied() else { return Vec::new() };
        let room = width.saturating_sub(26).min(STAGE_BAR);
        let bar = |us: f64| match (us / largest * room as f64).round() as usize {
            0 => String::new(),
            cells => format!("  {}", "#".repeat(cells)),
        };
        groups
            .iter()
            .map(|(group, us)| {
                let tone = if *group == Group::Llm { Tone::Faint } else { Tone::Good };
                Line::new(format!("  {:<8} {:>8} ms", group.name(), ms(*us))).and(tone, bar(*us))
            })
            .collect()
    }

    /// The largest roll-up that is the service's own.
    fn largest_stage(&self) -> Option<(Group, f64)> {
        let groups = self.figures?.groups_us.iter().copied();
        groups.filter(|(group, us)| *group != Group::Llm && *us > 0.0).max_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// How the generator itself fares: what it adds is in nobody's service.
    fn generator(&self) -> Line {
        let lag = self.figures.and_then(|figures| figures.lag_p99_us);
        let mut line = Line::new("  generator ");
        line = match lag {
            Some(us) if us >= LAG_HIGH_US => line.and(Tone::Bad, format!("late by {} ms at p99", ms(us))),
            Some(us) => line.and(Tone::Plain, format!("lag p99 {} ms", ms(us))),
            None => line.and(Tone::Faint, "no lag yet"),
        };
        match self.cpu_share {
            Some(share) if share >= CPU_HIGH => {
                line.and(Tone::Bad, format!("  CPU {:.0} % of a core: it may be the limit", share * 100.0))
            }
            Some(share) => line.and(Tone::Plain, format!("  CPU {:.0} % of a core", share * 100.0)),
            None => line,
        }
    }
}

/// `: timeout 2, http_5xx 1`
fn classes(figures: &Figures) -> String {
    let accounting = &figures.accounting;
    let classes = [
        ("4xx", accounting.http_4xx),
        ("5xx", accounting.http_5xx),
        ("invalid", accounting.invalid),
        ("connect", accounting.connect),
        ("tls", accounting.tls),
        ("write", accounting.write),
        ("read", accounting.read),
        ("timeout", accounting.timeout),
    ];
    let some: Vec<String> = classes
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if some.is_empty() { String::new() } else { format!(": {}", some.join(", ")) }
}

/// Microseconds as milliseconds, three digits.
fn ms(us: f64) -> String {
    digits(us / 1000.0)
}

fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3600, seconds / 60 % 60),
    }
}
