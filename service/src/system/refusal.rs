//! Why a command is refused: the only way a decision can fail. The outside maps each to a status code.

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// 404
    #[error(
        "rollout `{0}` is not known here; send candidate_id to report a rollout that never went through the proxy"
    )]
    UnknownRollout(String),
    /// 422
    #[error("candidate `{0}` is not known to this system")]
    UnknownCandidate(String),
    /// 409
    #[error("rollout `{rollout_id}` belongs to candidate `{actual}`, not to `{sent}`")]
    CandidateMismatch {
        /// Which rollout.
        rollout_id: String,
        /// Whose it is.
        actual: String,
        /// Whose the caller says it is.
        sent: String,
    },
    /// 409
    #[error("rollout `{rollout_id}` already has reward {recorded}; {sent} differs")]
    RewardConflict {
        /// Which rollout.
        rollout_id: String,
        /// What it has.
        recorded: f64,
        /// What the caller sent.
        sent: f64,
    },
    /// 409
    #[error("rollout `{0}` was closed as failed and takes no reward")]
    Failed(String),
    /// 409: the first reward after a `done` that carried none came too late.
    #[error(
        "rollout `{rollout_id}` was done without a reward more than {ttl_s} s after its start and takes none any more"
    )]
    TooLate {
        /// Which rollout.
        rollout_id: String,
        /// The time to live, seconds.
        ttl_s: u64,
    },
    /// 409: `failed` for a rollout that already has a reward.
    #[error("rollout `{0}` already has a reward and can't be closed as failed")]
    AlreadyRewarded(String),
    /// 400
    #[error("`{field}` {problem}")]
    Invalid {
        /// The field's name as clients send it.
        field: &'static str,
        /// What is wrong with it, as the rest of a sentence.
        problem: String,
    },
    /// 409: that candidate_id names other content.
    #[error("candidate_id `{0}` is taken by other deltas")]
    CandidateIdTaken(String),
    /// 429
    #[error("the system holds {max} {what} at most")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

pub(super) fn require(holds: bool, field: &'static str, problem: &str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Invalid { field, problem: problem.to_owned() }) }
}
