//! What the checker found.

use std::fmt;

/// One thing that must not be.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// In which system, by the caller's name for it.
    pub system: String,
    /// What.
    pub problem: Problem,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "system {}: {}", self.system, self.problem)
    }
}

/// What must not be. Rollouts are named by the client's name for them, events by their place.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    /// Nothing is known of the system in the end.
    #[error("observed, but neither events nor state were read")]
    NoTruth,
    /// Acknowledged, and not there.
    #[error("{what} of rollout {rollout} was acknowledged and is lost")]
    Lost {
        /// `the start`, `the reward 0.5`, `the end`, …
        what: String,
        /// Whose.
        rollout: String,
    },
    /// There more than once.
    #[error("{what} of rollout {rollout} is there {} times, at {}", at.len(), places(at))]
    Doubled {
        /// `the start`, `the reward`, `the end`, …
        what: &'static str,
        /// Whose.
        rollout: String,
        /// Where.
        at: Vec<u64>,
    },
    /// Acknowledged with one value, there with another.
    #[error("rollout {rollout} was acknowledged with {acknowledged} and has {found} at {seq}")]
    Altered {
        /// Which.
        rollout: String,
        /// What the answer said.
        acknowledged: String,
        /// What the event says.
        found: String,
        /// Where.
        seq: u64,
    },
    /// The version in an acknowledgement does not reach its own event.
    #[error("{what} of rollout {rollout} was acknowledged at version {version} and stands at {seq}")]
    AcknowledgedBefore {
        /// `the reward`, …
        what: &'static str,
        /// Whose.
        rollout: String,
        /// What the answer said.
        version: u64,
        /// Where the event is.
        seq: u64,
    },
    /// There, although every call that asked for it was refused for good.
    #[error("{what} of rollout {rollout} was refused with {code} and is there at {seq}")]
    RefusedButApplied {
        /// `the reward 0.5`, …
        what: String,
        /// Whose.
        rollout: String,
        /// The status code.
        code: u16,
        /// Where.
        seq: u64,
    },
    /// There, although nobody asked for it.
    #[error("{what} of rollout {rollout} at {seq} was never asked for")]
    Invented {
        /// `the reward 0.5`, …
        what: String,
        /// Whose.
        rollout: String,
        /// Where.
        seq: u64,
    },
    /// Two answers claim to be the first.
    #[error("{count} answers claim to be the first to a call of rollout {rollout}")]
    FirstTwice {
        /// Whose.
        rollout: String,
        /// How many.
        count: usize,
    },
    /// A place is missing, repeated or out of order.
    #[error("event {found} stands where {expected} belongs")]
    NotDense {
        /// Which place it should be.
        expected: u64,
        /// Which it is.
        found: u64,
    },
    /// A rollout's events are out of order.
    #[error("rollout {rollout}: {later} at {later_seq} comes before {earlier}{}", at(*earlier_seq))]
    OutOfOrder {
        /// Which.
        rollout: String,
        /// What should come first.
        earlier: &'static str,
        /// Where it is, if anywhere.
        earlier_seq: Option<u64>,
        /// What should come after it.
        later: &'static str,
        /// Where it is.
        later_seq: u64,
    },
    /// A count, a mean or the version is not the fold of the events.
    #[error("{what} is {found}, and the events say {folded}")]
    NotTheFold {
        /// Which figure.
        what: String,
        /// What the state or an event says.
        found: String,
        /// What the fold of the events says.
        folded: String,
    },
    /// One client saw a version and later a lower one.
    #[error("client {client} saw version {before} and then {after}")]
    WentBack {
        /// Which client.
        client: u32,
        /// The higher one, seen first.
        before: u64,
        /// The lower one.
        after: u64,
    },
    /// An answer showed a version that the history never reached: what it showed has been lost.
    #[error("client {client} was shown version {version}, and the history ends at {last}")]
    ShownThenLost {
        /// Which client.
        client: u32,
        /// What it was shown.
        version: u64,
        /// The last event's place.
        last: u64,
    },
    /// A read showed other counts than the history has at that version.
    #[error(
        "client {client} was shown {shown} at version {version}, and the events up to there make {folded}"
    )]
    ShownOtherwise {
        /// Which client.
        client: u32,
        /// At which version.
        version: u64,
        /// What it was shown.
        shown: String,
        /// What the events up to that version make.
        folded: String,
    },
}

fn places(at: &[u64]) -> String {
    at.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

fn at(seq: Option<u64>) -> String {
    seq.map_or_else(|| ", which is missing".to_owned(), |seq| format!(" at {seq}"))
}

/// What the checker found over all systems.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// Systems observed.
    pub systems: u64,
    /// Calls that were acknowledged, reads included.
    pub acknowledged: u64,
    /// Calls refused for good.
    pub refused: u64,
    /// Calls whose outcome their client never learned.
    pub unknown: u64,
    /// Effects (starts, rewards, ends) that were acknowledged and are gone.
    pub lost: u64,
    /// Effects that are there more than once.
    pub doubled: u64,
    /// Everything that must not be; empty where the history holds.
    pub violations: Vec<Violation>,
}

impl Verdict {
    /// Whether observations and truth explain each other.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }

    /// Takes in the verdict of another, separate run.
    pub fn add(&mut self, other: Self) {
        self.systems += other.systems;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.violations.extend(other.violations);
    }

    pub(super) fn found(&mut self, system: &str, problem: Problem) {
        self.lost += u64::from(matches!(problem, Problem::Lost { .. }));
        self.doubled += u64::from(matches!(problem, Problem::Doubled { .. }));
        self.violations.push(Violation { system: system.to_owned(), problem });
    }
}

/// One line of figures, then one for each violation.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} systems: {} acknowledged, {} unknown, {} refused, {} lost, {} doubled",
            self.systems, self.acknowledged, self.unknown, self.refused, self.lost, self.doubled
        )?;
        self.violations.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}
