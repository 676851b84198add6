//! Demo rollouts as files: when rollouts began, what they were about, what their client paused. Recorded from a run or from
//! a service's events, replayed at any speed.
//!
//! The format (`mipro.rollouts/1`) is lines of JSON. The first names the format and where the rollouts come from; each other
//! line is a rollout, in order of time:
//!
//! ```json
//! {"format":"mipro.rollouts/1","source":"run"}
//! {"at_us":0,"seed":1206139474}
//! {"at_us":20000,"seed":88,"think_us":[0,1500000]}
//! ```
//!
//! `at_us`: start, in microseconds from the recording's beginning, no less than the line before's. `seed`: which example of
//! the data set, up to 4294967295; left out where unknown (then replaying draws it from its own seed and the line's number). `think_us`: pauses
//! before the first and the second status call, in microseconds; left out where there are none. Empty lines are skipped;
//! unknown fields are refused, so that a later format is not taken for this one.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The value of a recording's `format`.
pub const FORMAT: &str = "mipro.rollouts/1";

/// Most rollouts in a recording.
pub const ROLLOUTS_MAX: usize = 1_000_000;

/// Longest line read.
const LINE_BYTES_MAX: u64 = 4096;

/// Recorded rollouts, in order of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    source: Source,
    rollouts: Vec<Recorded>,
}

/// Where recorded rollouts come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A run of this generator.
    #[default]
    Run,
    /// The events of a system, as its service tells them.
    Events,
}

/// One rollout of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Start, in microseconds from the recording's beginning.
    pub at_us: u64,
    /// Which example of the data set, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// Pauses before the first and the second status call.
    #[serde(default, skip_serializing_if = "no_pause")]
    pub think_us: [u64; 2],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    source: Source,
}

/// Why a recording could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line is not what it should be.
    #[error("line {line}: {reason}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The file could not be read.
    #[error("reading failed: {0}")]
    Read(#[from] io::Error),
}

fn no_pause(think_us: &[u64; 2]) -> bool {
    *think_us == [0, 0]
}

impl Recording {
    /// Recorded rollouts in any order; they are put in order of time, and begin at their first. Beyond [`ROLLOUTS_MAX`] the
    /// last are left out.
    #[must_use]
    pub fn new(source: Source, mut rollouts: Vec<Recorded>) -> Self {
        rollouts.sort_by_key(|rollout| rollout.at_us);
        rollouts.truncate(ROLLOUTS_MAX);
        let first_us = rollouts.first().map_or(0, |rollout| rollout.at_us);
        rollouts.iter_mut().for_each(|rollout| rollout.at_us -= first_us);
        Self { source, rollouts }
    }

    /// Its rollouts, in order of time.
    #[must_use]
    pub fn rollouts(&self) -> &[Recorded] {
        &self.rollouts
    }

    /// Where they come from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// Reads a recording.
    ///
    /// # Errors
    /// When it cannot be read, or is none: the error names the first line that is wrong and why.
    pub fn read(mut from: impl BufRead) -> Result<Self, Error> {
        let mut lines = Lines { from: &mut from, number: 0 };
        let Some(first) = lines.next_line()? else {
            return Err(Error::Line {
                line: 1,
                reason: format!("the file is empty, not a {FORMAT} recording"),
            });
        };
        let head: Head = lines.parse(&first)?;
        if head.format != FORMAT {
            return lines.wrong(format!("the format is {}; this build reads {FORMAT}", head.format));
        }
        let mut rollouts: Vec<Recorded> = Vec::new();
        while let Some(line) = lines.next_line()? {
            let rollout: Recorded = lines.parse(&line)?;
            let before_us = rollouts.last().map_or(0, |last| last.at_us);
            if rollout.at_us < before_us {
                return lines
                    .wrong(format!("at_us {} is before the line above's {before_us}", rollout.at_us));
            }
            if rollouts.len() == ROLLOUTS_MAX {
                return lines.wrong(format!("a recording holds at most {ROLLOUTS_MAX} rollouts"));
            }
            rollouts.push(rollout);
        }
        if rollouts.is_empty() {
            return lines.wrong("there is no rollout in it".to_owned());
        }
        Ok(Self { source: head.source, rollouts })
    }

    /// Writes it.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut to, &Head { format: FORMAT.to_owned(), source: self.source })?;
        for rollout in &self.rollouts {
            to.write_all(b"\n")?;
            serde_json::to_writer(&mut to, rollout)?;
        }
        to.write_all(b"\n")
    }
}

/// A recording at a speed.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    recording: std::sync::Arc<Recording>,
    speed: f64,
}

impl Replay {
    /// The recording, so many times as fast; pauses shrink alike.
    ///
    /// # Errors
    /// [`crate::Error::Options`] when the speed is not between 0.001 and 10,000.
    pub fn new(recording: Recording, speed: f64) -> Result<Self, crate::Error> {
        if !(0.001..=10_000.0).contains(&speed) {
            return Err(crate::Error::Options(format!("a speed of {speed} is not between 0.001 and 10000")));
        }
        Ok(Self { recording: std::sync::Arc::new(recording), speed })
    }

    /// All intended starts in order, in nanoseconds from the run's start.
    pub(crate) fn starts(&self) -> impl Iterator<Item = u64> + Send + use<> {
        let Self { recording, speed } = self.clone();
        (0..).map_while(move |index: usize| Some(faster(recording.rollouts.get(index)?.at_us, speed)))
    }

    /// What rollout `index` is about; none where the recording does not say.
    pub(crate) fn seed(&self, index: u64) -> Option<u32> {
        self.rollout(index)?.seed
    }

    /// Pauses before the status calls of rollout `index`, in nanoseconds.
    pub(crate) fn think_ns(&self, index: u64) -> [u64; 2] {
        let think_us = self.rollout(index).map_or([0, 0], |rollout| rollout.think_us);
        think_us.map(|us| faster(us, self.speed))
    }

    /// Pauses of rollout `index` as they were recorded.
    pub(crate) fn think_us(&self, index: u64) -> [u64; 2] {
        self.think_ns(index).map(|ns| ns / 1_000)
    }

    fn rollout(&self, index: u64) -> Option<&Recorded> {
        self.recording.rollouts.get(usize::try_from(index).ok()?)
    }

    /// From the first start to the last.
    pub(crate) fn span_ns(&self) -> u64 {
        self.recording.rollouts.last().map_or(0, |last| faster(last.at_us, self.speed))
    }

    /// How many rollouts it has.
    pub(crate) fn len(&self) -> usize {
        self.recording.rollouts.len()
    }
}

fn faster(us: u64, speed: f64) -> u64 {
    (us as f64 * 1_000.0 / speed).round() as u64
}

struct Lines<'a, R> {
    from: &'a mut R,
    number: usize,
}

impl<R: BufRead> Lines<'_, R> {
    /// The next line that is not empty.
    fn next_line(&mut self) -> Result<Option<String>, Error> {
        loop {
            let mut bytes = Vec::new();
            self.number += 1;
            let read = io::Read::take(&mut *self.from, LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
            if read as u64 == LINE_BYTES_MAX && bytes.last() != Some(&b'\n') {
                return self.wrong(format!("it is longer than {LINE_BYTES_MAX} bytes"));
            }
            if read == 0 {
                return Ok(None);
            }
            let Ok(text) = String::from_utf8(bytes) else {
                return self.wrong("it is not UTF-8 text".to_owned());
            };
            if !text.trim().is_empty() {
                return Ok(Some(text));
            }
        }
    }

    fn parse<'t, T: Deserialize<'t>>(&self, text: &'t str) -> Result<T, Error> {
        serde_json::from_str(text).or_else(|error| {
            // Of where the error is, only the column says something: each line is a document of its own.
            let told = error.to_string();
            let reason = told.split(" at line ").next().unwrap_or_default();
            self.wrong(format!("{reason} (column {})", error.column()))
        })
    }

    fn wrong<T>(&self, reason: String) -> Result<T, Error> {
        Err(Error::Line { line: self.number, reason })
    }
}
