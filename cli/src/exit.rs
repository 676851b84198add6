//! Exit codes, in one place. 2 (usage) is mostly clap's own.

use std::io::Write as _;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// It did what it was asked.
    Ok,
    /// It could not run.
    Failed,
    /// A threshold, a budget or a comparison is breached.
    Breached,
    /// What was asked contradicts itself, in a way that only the command sees.
    Usage,
    /// The measurement is not to be believed.
    Invalid,
    /// Ctrl-C: what there was has been reported.
    Interrupted,
    /// SIGTERM: the same.
    Terminated,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(match code {
            Code::Ok => 0,
            Code::Failed => 1,
            Code::Usage => 2,
            Code::Breached => 99,
            Code::Invalid => 125,
            Code::Interrupted => 130,
            Code::Terminated => 143,
        })
    }
}

/// Says on stderr what kept a measurement from being made.
pub(crate) fn tell(error: &dyn std::error::Error) {
    // Nobody is left to tell if stderr is gone.
    let _ = writeln!(std::io::stderr(), "{error}");
}

/// Says what is wrong with the command line, where only the command itself sees it, and gives "usage".
pub(crate) fn misused(error: &anyhow::Error) -> Code {
    // Nobody is left to tell if stderr is gone.
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    Code::Usage
}

/// Says what went wrong, causes included, and gives "could not run".
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    // Nobody is left to tell if stderr is gone.
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    Code::Failed.into()
}
