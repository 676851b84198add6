//! What may be asked of a system. A command may be refused; what it turns into ([`super::event`]) may not.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::content::CandidateContent;
use super::prompt::Prompt;
use super::spec::SystemSpec;

/// A system's id: UUIDv4, because the proxy URL that carries it is a capability.
pub type SystemId = Uuid;
/// Who owns a system.
pub type OrgId = Uuid;

/// What the outside world contributes to a decision: the heart has no clock and no dice of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Wall time, microseconds since the Unix epoch.
    pub now_us: u64,
    /// Fresh randomness for this command alone.
    pub seed: u64,
}

/// Everything that makes a new system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewSystem {
    /// Its id.
    pub system_id: SystemId,
    /// Its owner.
    pub org_id: OrgId,
    /// Its name for people, if it has one.
    pub name: Option<String>,
    /// What the job asked for.
    pub spec: SystemSpec,
}

/// A command to an existing system.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Register a candidate.
    AddCandidate(NewCandidate),
    /// Pick a candidate for a rollout (or find the one it already has).
    StartRollout {
        /// The caller's name for the rollout.
        rollout_id: String,
        /// The messages it wants answered, to be matched against the baseline prompt.
        messages: Arc<[Message]>,
    },
    /// A status call.
    Report(StatusReport),
}

/// A candidate to register.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewCandidate {
    /// The id to give it; made from its content when absent.
    pub candidate_id: Option<String>,
    /// Deltas, stage payloads, metadata, parent: what it is.
    pub content: CandidateContent,
    /// Its place in the search space: dimension → choice. Empty: a dimension of its own.
    pub params: std::collections::BTreeMap<String, u32>,
}

/// One chat message, as far as prompts care.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, …
    pub role: String,
    /// Its text; `None` where the content is not plain text (such a message never matches a baseline pattern).
    pub text: Option<String>,
}

/// What a status call says happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The reward is known; `done` follows.
    Reward,
    /// Finished; with a reward it is [`Status::RewardDone`].
    Done,
    /// Both in one call.
    RewardDone,
    /// Closed without a reward: not the prompt's fault.
    Failed,
}

/// A status call.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusReport {
    /// Which rollout.
    pub rollout_id: String,
    /// What happened.
    pub status: Status,
    /// The reward; finite (checked where JSON is read, and again here).
    pub reward: Option<f64>,
    /// Whose reward; known from the rollout when absent.
    pub candidate_id: Option<String>,
}

/// What an accepted command answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// A system was made (or found).
    Created {
        /// Sequence number of its newest event.
        version: u64,
    },
    /// A candidate was registered, or was there already.
    Candidate {
        /// Its id.
        candidate_id: String,
        /// Sequence number of the newest event.
        version: u64,
    },
    /// A rollout has its candidate.
    Rollout(RolloutReply),
    /// A status call was applied, or had been before.
    Status {
        /// Whose rollout it is.
        candidate_id: String,
        /// Which rollout.
        rollout_id: String,
        /// What the call amounted to: `done` with a reward is `reward_done`; `failed` for any call to a failed rollout.
        status: Status,
        /// Sequence number of the newest event.
        version: u64,
        /// The call had been applied before and changed nothing.
        duplicate: bool,
    },
}

/// What the proxy needs to serve a rollout; content is shared, never copied.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutReply {
    /// The rollout's candidate.
    pub candidate_id: String,
    /// What the candidate changes.
    pub content: Arc<CandidateContent>,
    /// The baseline it changes.
    pub prompt: Arc<Prompt>,
    /// The system's settings (model, provider, …).
    pub spec: Arc<SystemSpec>,
    /// With which probability it was chosen.
    pub probability: f64,
    /// Whether the messages come from the baseline prompt.
    pub matched: bool,
    /// The rollout had its candidate before this call.
    pub sticky: bool,
    /// Sequence number of the newest event.
    pub version: u64,
}

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
