//! What may be asked of a system. A command may be refused; what it turns into ([`super::event`]) may not.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::content::CandidateContent;
use super::prompt::{Message, Prompt};
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
    /// With which probability it was chosen; `None` for a rollout that is rewarded or closed, where its event alone knows, and
    /// for one that nothing records.
    pub probability: Option<f64>,
    /// Whether the messages come from the baseline prompt.
    pub matched: bool,
    /// The rollout had its candidate before this call.
    pub sticky: bool,
    /// Sequence number of the newest event.
    pub version: u64,
}
