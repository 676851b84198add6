//! The terminal's view of a report: one sentence, then the ladder, then what stands behind it.

use crate::format::counted;
use crate::headline::headline;
use crate::schema::Report;

mod profile;
mod sections;
mod table;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether ANSI colours are used.
    pub color: bool,
    /// Columns of the terminal; tables that are wider are split, never cut. At least 60, at most 120 are used.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self { color: false, width: 120 }
    }
}

/// What a piece of text means, and so which colour it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Strong,
    Dim,
    Good,
    Bad,
}

impl Style {
    fn width(self) -> usize {
        self.width.clamp(60, 120)
    }

    fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            _ if !self.color => "",
            Tone::Plain => "",
            Tone::Strong => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Bad => "1;31",
        };
        if code.is_empty() || text.is_empty() {
            text.to_owned()
        } else {
            format!("\x1b[{code}m{text}\x1b[0m")
        }
    }
}

/// The whole report as text, each line ended; the first is [`headline`], unbroken.
#[must_use]
pub fn render(report: &Report, style: Style) -> String {
    let mut page = Page { style, text: String::new() };
    page.line(&headline(report), Tone::Strong);
    page.environment(report);
    page.profile(report);
    if report.profile.is_some() && report.rungs.is_empty() {
        return page.text;
    }
    page.ladder(report);
    page.times(report);
    page.turns_on(report);
    page.costs(report);
    page.seed(report);
    page.operations(report);
    page.database(report);
    page.growth(report);
    page.makespan(report);
    page.resources(report);
    page.accounting(report);
    page.comparisons(report);
    page.verdicts(report);
    page.text
}

/// Text under construction.
struct Page {
    style: Style,
    text: String,
}

impl Page {
    /// One line; control characters in it (an escape sequence in a CPU's name, say) are made harmless.
    fn line(&mut self, text: &str, tone: Tone) {
        self.text.push_str(&self.style.paint(&harmless(text), tone));
        self.text.push('\n');
    }

    /// A paragraph, broken at spaces to the width.
    fn paragraph(&mut self, text: &str, tone: Tone) {
        for line in wrap(&harmless(text), self.style.width()) {
            self.line(&line, tone);
        }
    }

    fn heading(&mut self, title: &str, note: &str) {
        self.text.push('\n');
        let together = title.chars().count() + 2 + note.chars().count() <= self.style.width();
        self.text.push_str(&self.style.paint(title, Tone::Strong));
        if together && !note.is_empty() {
            self.text.push_str("  ");
            self.text.push_str(&self.style.paint(note, Tone::Dim));
        }
        self.text.push('\n');
        if !together {
            self.paragraph(note, Tone::Dim);
        }
    }

    fn environment(&mut self, report: &Report) {
        let (run, environment) = (&report.run, &report.environment);
        let dirty = if run.dirty { " (with uncommitted changes)" } else { "" };
        self.text.push('\n');
        let rungs = match &report.profile {
            Some(profile) => counted(profile.sides.len(), "side", "sides"),
            None => counted(report.rungs.len(), "rung", "rungs"),
        };
        self.paragraph(
            &format!(
                "run {}, commit {}{dirty}, seed {}, {rungs}: {}",
                run.id, run.commit, run.seed, run.command
            ),
            Tone::Plain,
        );
        let cores = counted(environment.cores as usize, "core", "cores");
        let memory = crate::format::bytes(environment.memory_bytes as f64);
        self.paragraph(
            &format!(
                "{}, {cores}, {memory}, {}, kernel {}, {:.1} % of CPU time stolen. {}",
                environment.cpu, environment.os, environment.kernel, environment.steal_pct, environment.noise
            ),
            Tone::Dim,
        );
        let dataset = if environment.dataset.is_empty() {
            String::new()
        } else {
            format!("; dataset {}", environment.dataset)
        };
        let logs = if environment.log_filesystem.is_empty() {
            String::new()
        } else {
            format!("; logs on {}", environment.log_filesystem)
        };
        self.paragraph(
            &format!(
                "stack {}: {}, {}; link {}; LLM {}{dataset}{logs}",
                environment.stack,
                environment.database,
                environment.object_store,
                environment.link,
                environment.llm
            ),
            Tone::Dim,
        );
    }
}

/// Text without control characters.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

/// Words laid into lines of at most `width` characters; a longer word is broken.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let gap = usize::from(used > 0);
            if used + gap + word.len() <= width {
                let line = lines.last_mut().expect("starts with one line");
                if gap == 1 {
                    line.push(' ');
                }
                line.extend(&word);
                used += gap + word.len();
                break;
            }
            if used > 0 {
                lines.push(String::new());
                used = 0;
                continue;
            }
            let rest = word.split_off(width.max(1));
            lines.last_mut().expect("starts with one line").extend(&word);
            lines.push(String::new());
            word = rest;
        }
    }
    lines
}
