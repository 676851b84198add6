//! A history checker in the manner of Jepsen: what clients were told, against what is there in the end.
//!
//! Clients write down every call with its outcome ([`Observation`]); in the end a system's events and its state are read
//! ([`Truth`]). [`check()`] says whether one explains the other:
//! - every acknowledged reward, start and `done` is in the events exactly once, with the acknowledged value and
//!   candidate, at a place no later than the acknowledged version;
//! - what had an unknown outcome is there once or not at all; what was refused for good is not there; nothing else is;
//! - places are dense; a rollout is started, rewarded, done, in that order; counts, means and what the optimizer said
//!   are the fold of the events;
//! - versions that one client sees never go back; what a read showed is still there, in the same place.
//!
//! Pure, and ignorant of HTTP but for the meaning of a status code: it knows the wire contract's events and state, nothing
//! of how they are kept.

mod check;
mod rollout;
#[cfg(test)]
mod tests;
mod truth;
mod verdict;

pub use check::check;
pub use truth::{CandidateTotals, Event, Kind, State, Truth, Unreadable};
pub use verdict::{Problem, Verdict, Violation};

/// What a status call reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// A reward; the rollout stays open.
    Reward,
    /// The end, with or without a reward.
    Done,
    /// Both.
    RewardDone,
    /// The end, through no fault of the prompt.
    Failed,
}

impl Status {
    /// Its name in a status call.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reward => "reward",
            Self::Done => "done",
            Self::RewardDone => "reward_done",
            Self::Failed => "failed",
        }
    }
}

/// What a client asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// A completion through the proxy, which starts the rollout if it is new.
    Start {
        /// The client's name for it.
        rollout: String,
    },
    /// A status call.
    Report {
        /// The client's name for it.
        rollout: String,
        /// What is reported.
        status: Status,
        /// The reward, where the call carried one.
        reward: Option<f64>,
    },
    /// The state's counts.
    Read,
}

impl Call {
    fn rollout(&self) -> Option<&str> {
        match self {
            Self::Start { rollout } | Self::Report { rollout, .. } => Some(rollout),
            Self::Read => None,
        }
    }

    /// The reward that this call asks to be recorded; a failure has none, whatever was sent.
    fn reward(&self) -> Option<f64> {
        match self {
            Self::Report { status: Status::Failed, .. } | Self::Start { .. } | Self::Read => None,
            Self::Report { reward, .. } => *reward,
        }
    }

    fn closes(&self) -> bool {
        matches!(self, Self::Report { status: Status::Done | Status::RewardDone, .. })
    }

    fn fails(&self) -> bool {
        matches!(self, Self::Report { status: Status::Failed, .. })
    }
}

/// What an acknowledgement said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The system's version, where the answer names one.
    pub version: Option<u64>,
    /// The rollout's candidate, where the answer names one.
    pub candidate: Option<String>,
    /// Whether the answer says that the call had been applied before.
    pub duplicate: Option<bool>,
}

/// What a read showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The system's version.
    pub version: u64,
    /// Rollouts begun.
    pub rollouts: u64,
    /// Rewards received.
    pub rewards: u64,
}

/// How a call ended for its client.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A 200 to a start or a report.
    Acknowledged(Answer),
    /// A 200 to a read.
    Saw(Reading),
    /// Refused for good, by this status code: nothing of it may be applied.
    Refused(u16),
    /// Cut off, timed out, or a 5xx: applied once or not at all.
    Unknown,
}

impl Outcome {
    /// What a status code other than 200 means: 4xx refuse, but for those that say that time was up; all else leaves it open.
    #[must_use]
    pub const fn not_ok(status: u16) -> Self {
        match status {
            408 | 499 => Self::Unknown,
            400..=498 => Self::Refused(status),
            _ => Self::Unknown,
        }
    }

    /// Whether the call may have been applied.
    fn may_apply(&self) -> bool {
        matches!(self, Self::Acknowledged(_) | Self::Unknown)
    }
}

/// One call of one client. A client's observations are in the order in which it made the calls, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Which client.
    pub client: u32,
    /// Which system, by a name of the caller's choosing (a system's id is a capability, and violations are printed).
    pub system: String,
    /// What was asked.
    pub call: Call,
    /// How it ended.
    pub outcome: Outcome,
}
