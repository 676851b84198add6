//! Counts of instructions: what callgrind wrote, and the file in which benches hand their counts to the gate.
//!
//! Unlike a time, a count is the same at every run of the same program; but another compiler, C library or vector unit makes
//! another program of the same code. So a count goes with its [`Toolchain`].

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The value of [`Instructions::schema`].
pub const SCHEMA: &str = "mipro.instructions/1";

/// What scenes cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instructions {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// What the counts depend on besides the code.
    pub toolchain: Toolchain,
    /// By `room/scene`.
    pub scenes: BTreeMap<String, SceneCount>,
}

/// What makes another program, or another count, of the same code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toolchain {
    /// As `rustc -vV` says it: release, commit and day.
    pub rustc: String,
    /// The target triple.
    pub target: String,
    /// Its version.
    pub valgrind: String,
    /// The C library, whose copying and allocating is counted, too; empty where it does not tell.
    pub libc: String,
    /// The widest vector instructions by which libraries choose their code.
    pub simd: String,
}

/// What one scene cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SceneCount {
    /// Of the whole call.
    pub instructions: u64,
    /// Operations in that call.
    pub operations: u64,
}

/// Why a file of counts can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Not JSON, or not of this form.
    #[error("no counts of instructions: {0}")]
    Json(#[from] serde_json::Error),
    /// Of another version.
    #[error("counts of instructions of schema \"{0}\"; this build reads \"{SCHEMA}\"")]
    Schema(String),
}

/// Why callgrind's output holds no count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallgrindError {
    /// No `events:` line that names `Ir`.
    #[error("it counts no instructions (no event Ir)")]
    NoEvent,
    /// Neither `totals:` nor `summary:`, or no number in it.
    #[error("it has no total of them")]
    NoTotal,
    /// The measured function was never entered.
    #[error("not one instruction was collected: the measured function was not found by its name")]
    Nothing,
}

impl Instructions {
    /// None yet.
    #[must_use]
    pub fn of(toolchain: Toolchain) -> Self {
        Self { schema: SCHEMA.to_owned(), toolchain, scenes: BTreeMap::new() }
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is not of this form.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let read: Self = serde_json::from_str(text)?;
        if read.schema == SCHEMA { Ok(read) } else { Err(FileError::Schema(read.schema)) }
    }

    /// The file's text.
    ///
    /// # Panics
    /// Never: strings and numbers are JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings and numbers are JSON");
        text.push('\n');
        text
    }
}

impl SceneCount {
    /// Instructions an operation.
    #[must_use]
    pub fn each(&self) -> f64 {
        self.instructions as f64 / self.operations.max(1) as f64
    }
}

impl Toolchain {
    fn parts(&self) -> [(&'static str, &str); 5] {
        let Self { rustc, target, valgrind, libc, simd } = self;
        [("rustc", rustc), ("target", target), ("valgrind", valgrind), ("C library", libc), ("SIMD", simd)]
    }

    /// In what `seen` is another; `None` where counts of both can be held against each other.
    #[must_use]
    pub fn difference(&self, seen: &Self) -> Option<String> {
        let pairs = self.parts().into_iter().zip(seen.parts());
        let differ = pairs.filter(|((_, ours), (_, theirs))| ours != theirs);
        let told: Vec<String> =
            differ.map(|((name, ours), (_, theirs))| format!("{name} {theirs}, not {ours}")).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<String> = self.parts().map(|(name, value)| format!("{name} {value}")).into();
        f.write_str(&told.join(", "))
    }
}

/// The instructions that a callgrind output file counts: its `totals:`, or where a version writes none, the sum of its parts'
/// `summary:` lines. (The format is described in valgrind's manual, "Callgrind Format Specification".)
///
/// # Errors
/// When there is no such count in it, or it is 0.
pub fn callgrind_total(text: &str) -> Result<u64, CallgrindError> {
    let lines = |name: &'static str| text.lines().filter_map(move |line| line.trim().strip_prefix(name));
    let events = lines("events:").next().ok_or(CallgrindError::NoEvent)?;
    let column = events.split_whitespace().position(|event| event == "Ir").ok_or(CallgrindError::NoEvent)?;
    let number =
        |line: &str| line.split_whitespace().nth(column).and_then(|number| number.parse::<u64>().ok());
    let total = match lines("totals:").next() {
        Some(totals) => number(totals),
        None => lines("summary:").map(number).reduce(|sum, part| Some(sum? + part?)).flatten(),
    };
    match total.ok_or(CallgrindError::NoTotal)? {
        0 => Err(CallgrindError::Nothing),
        instructions => Ok(instructions),
    }
}
