//! Where every intended rollout goes: the classes of failure and their counts.

use std::fmt;

use mipro_bench_reports::Accounting;

#[cfg(test)]
mod tests;

/// Most different failures told apart by message; the rest are counted by class alone.
pub(crate) const FAILURES_MAX: usize = 16;

/// Longest message kept of a failure.
const DETAIL_CHARS_MAX: usize = 300;

/// The classes of failure, as in the report's `accounting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A 4xx answer.
    Http4xx,
    /// A 5xx answer.
    Http5xx,
    /// Answered, but not as the contract says.
    Invalid,
    /// No connection.
    Connect,
    /// TLS failed.
    Tls,
    /// Sending failed.
    Write,
    /// Receiving failed.
    Read,
    /// No answer in time.
    Timeout,
    /// Not done when its own deadline, counted from the intended start, had passed.
    Deadline,
}

impl Class {
    /// As in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http4xx => "http_4xx",
            Self::Http5xx => "http_5xx",
            Self::Invalid => "invalid",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Write => "write",
            Self::Read => "read",
            Self::Timeout => "timeout",
            Self::Deadline => "deadline",
        }
    }

    /// Adds one rollout of this class.
    pub(crate) fn count(self, accounting: &mut Accounting) {
        let counter = match self {
            Self::Http4xx => &mut accounting.http_4xx,
            Self::Http5xx => &mut accounting.http_5xx,
            Self::Invalid => &mut accounting.invalid,
            Self::Connect => &mut accounting.connect,
            Self::Tls => &mut accounting.tls,
            Self::Write => &mut accounting.write,
            Self::Read => &mut accounting.read,
            Self::Timeout => &mut accounting.timeout,
            Self::Deadline => &mut accounting.deadline,
        };
        *counter += 1;
    }
}

/// One failed call: its class and, for people, what happened. Never holds a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// Which class.
    pub class: Class,
    /// What happened, in a few words.
    pub detail: String,
    /// Which limit of this machine it met, if one: then it says nothing of the service.
    pub exhausted: Option<Exhausted>,
}

/// A limit of the generator's own machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// No more open files (EMFILE, ENFILE).
    Descriptors,
    /// No free local port (EADDRNOTAVAIL).
    Ports,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.class.name())
    }
}

impl Failure {
    pub(crate) fn new(class: Class, detail: impl Into<String>) -> Self {
        let detail: String = detail.into();
        let detail = match detail.char_indices().nth(DETAIL_CHARS_MAX) {
            Some((at, _)) => format!("{}…", &detail[..at]),
            None => detail,
        };
        Self { class, detail, exhausted: None }
    }

    pub(crate) fn met(self, exhausted: Option<Exhausted>) -> Self {
        Self { exhausted, ..self }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Class::Invalid, detail)
    }
}

/// How often a failure was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureCount {
    /// Which step of the rollout failed.
    pub step: &'static str,
    /// The failure, as first met.
    pub failure: Failure,
    /// How many rollouts it ended.
    pub count: u64,
}

/// Adds to a bounded list of failures; what no longer fits is left to the accounting's classes.
pub(crate) fn note(failures: &mut Vec<FailureCount>, step: &'static str, failure: &Failure, count: u64) {
    if let Some(known) = failures.iter_mut().find(|f| f.step == step && f.failure == *failure) {
        known.count += count;
    } else if failures.len() < FAILURES_MAX {
        failures.push(FailureCount { step, failure: failure.clone(), count });
    }
}

/// The sum of two runs' books.
pub(crate) fn add(into: &mut Accounting, from: &Accounting) {
    let Accounting {
        intended,
        ok,
        http_4xx,
        http_5xx,
        invalid,
        connect,
        tls,
        write,
        read,
        timeout,
        deadline,
        unsent,
        in_flight_at_end,
    } = from;
    into.intended += intended;
    into.ok += ok;
    into.http_4xx += http_4xx;
    into.http_5xx += http_5xx;
    into.invalid += invalid;
    into.connect += connect;
    into.tls += tls;
    into.write += write;
    into.read += read;
    into.timeout += timeout;
    into.deadline += deadline;
    into.unsent += unsent;
    into.in_flight_at_end += in_flight_at_end;
}
