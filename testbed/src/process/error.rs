//! What can go wrong with a child process.

use std::io;
use std::path::PathBuf;

/// Why a child could not be started, or is not there any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program could not be executed at all.
    #[error("cannot start {name}: cannot run {}", program.display())]
    Spawn {
        /// The child's name in the run.
        name: String,
        /// The program that was to be run.
        program: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file that takes the child's output could not be made.
    #[error("cannot start {name}: cannot write its log in {}", path.display())]
    Log {
        /// The child's name in the run.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The child ended by itself before it said that it was ready.
    #[error("{name} ended before it was ready ({status}); {}", tail_text(stderr_tail))]
    Died {
        /// The child's name in the run.
        name: String,
        /// How it ended, in words (`exit status: 3`, `signal: 9 (SIGKILL)`).
        status: String,
        /// The last lines it wrote; empty if it wrote none.
        stderr_tail: String,
    },
    /// The deadline passed without a ready line; the child has been ended.
    #[error("{name} was not ready within {deadline_ms} ms and was stopped; {}", tail_text(stderr_tail))]
    NotReady {
        /// The child's name in the run.
        name: String,
        /// How long it was given, in milliseconds.
        deadline_ms: u128,
        /// The last lines it wrote; empty if it wrote none.
        stderr_tail: String,
    },
}

/// The tail as the end of a sentence.
pub(crate) fn tail_text(tail: &str) -> String {
    if tail.is_empty() { "it wrote nothing".to_owned() } else { format!("its last lines:\n{tail}") }
}
