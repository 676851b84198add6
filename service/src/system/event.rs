//! What has happened to a system: facts, in order. Applying one cannot fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::NewSystem;
use super::content::CandidateContent;
use super::prompt::PromptHash;

/// An event with its place in the system's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// 1, 2, 3, … without gaps; the system's version after this event.
    pub seq: u64,
    /// When it was decided, microseconds since the Unix epoch.
    pub at_us: u64,
    /// What happened.
    pub event: Event,
}

/// How a rollout came to its candidate. The order of the variants is part of the stored form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// The policy picked it for this rollout.
    Policy,
    /// Batch mode: the policy picked it for this rollout and the next ones.
    Batch,
    /// Batch mode: picked before and still held.
    Held,
    /// The messages didn't come from the baseline prompt, so they went through unchanged, credited to `baseline`.
    Unmatched,
}

/// A fact. The names are the wire contract's where it has one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The system was made. Always the first event.
    #[serde(rename = "mipro.system.created")]
    SystemCreated {
        /// All of it.
        system: Arc<NewSystem>,
    },
    /// A candidate was registered; the first is `baseline`.
    #[serde(rename = "mipro.candidate.added")]
    CandidateAdded {
        /// Its id.
        candidate_id: String,
        /// What it changes.
        content: Arc<CandidateContent>,
        /// Its place in the search space.
        #[serde(default)]
        params: BTreeMap<String, u32>,
    },
    /// A rollout came through the proxy and has its candidate.
    #[serde(rename = "mipro.rollout.started")]
    RolloutStarted {
        /// The caller's name for it.
        rollout_id: String,
        /// Its candidate.
        candidate_id: String,
        /// The probability with which the policy picked that candidate; in batch mode, when it picked for the batch.
        /// 1 for unmatched rollouts. Has the precision of an `f32` ([`propensity`]), except in events of older builds.
        probability: f64,
        /// How it was picked.
        pick: Pick,
        /// What the policy's dice were seeded with, for audits; absent where none were thrown. Never shown: the next
        /// seeds follow from it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seed: Option<u64>,
        /// A digest of the messages that were to be answered, for audits; absent in events of older builds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prompt_hash: Option<PromptHash>,
    },
    /// A rollout that never came through the proxy was reported with its candidate.
    #[serde(rename = "mipro.rollout.adopted")]
    RolloutAdopted {
        /// The caller's name for it.
        rollout_id: String,
        /// Its candidate.
        candidate_id: String,
    },
    /// A rollout's reward.
    #[serde(rename = "mipro.reward.received")]
    RewardReceived {
        /// Which rollout.
        rollout_id: String,
        /// Whose reward.
        candidate_id: String,
        /// The reward; finite.
        reward: f64,
    },
    /// What the policy made of a reward, whichever policy it is (clients know the name); follows [`Event::RewardReceived`].
    #[serde(rename = "mipro.tpe.update")]
    TpeUpdated {
        /// The candidate that learned.
        candidate_id: String,
        /// Its rewards so far.
        reward_count: u64,
        /// Their mean.
        avg_reward: f64,
        /// Whom the optimizer now recommends.
        best_candidate_id: String,
        /// The recommended candidate's mean reward.
        best_score: Option<f64>,
    },
    /// A rollout is finished.
    #[serde(rename = "mipro.rollout.done")]
    RolloutDone {
        /// Which.
        rollout_id: String,
        /// Its candidate.
        candidate_id: String,
    },
    /// A rollout was closed without a reward, through no fault of the prompt.
    #[serde(rename = "mipro.rollout.failed")]
    RolloutFailed {
        /// Which.
        rollout_id: String,
        /// Its candidate.
        candidate_id: String,
    },
    /// Rollouts were open beyond their time to live, and no longer count as in flight.
    #[serde(rename = "mipro.rollout.expired")]
    RolloutsExpired {
        /// Which, oldest first, by the numbers of the events that began them.
        #[serde(default)]
        started_seqs: Vec<u64>,
        /// Which, as events of schema 1 name them; empty in newer ones.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        rollout_ids: Vec<String>,
    },
}

/// A probability as it is recorded: rounded to the precision of an `f32` where it is decided, so that event, state and
/// answer agree; what was picked never has 0.
#[must_use]
pub fn propensity(probability: f64) -> f64 {
    f64::from((probability as f32).max(f32::MIN_POSITIVE))
}

impl Event {
    /// The event's type, as in the `type` field of the events route.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SystemCreated { .. } => "mipro.system.created",
            Self::CandidateAdded { .. } => "mipro.candidate.added",
            Self::RolloutStarted { .. } => "mipro.rollout.started",
            Self::RolloutAdopted { .. } => "mipro.rollout.adopted",
            Self::RewardReceived { .. } => "mipro.reward.received",
            Self::TpeUpdated { .. } => "mipro.tpe.update",
            Self::RolloutDone { .. } => "mipro.rollout.done",
            Self::RolloutFailed { .. } => "mipro.rollout.failed",
            Self::RolloutsExpired { .. } => "mipro.rollout.expired",
        }
    }
}
