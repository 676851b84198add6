//! All that is remembered of a system: bounded, whatever traffic comes.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::{OrgId, RolloutReply, SystemId};
use super::content::CandidateContent;
use super::rollouts::{Rollout, RolloutKey, Rollouts};
use super::spec::SystemSpec;
use crate::optimizer::{Arm, ArmsView, Space};

/// The id of every system's first candidate: the prompt as the job gave it.
pub const BASELINE: &str = "baseline";

/// Whether a system takes rollouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemStatus {
    /// It does.
    #[default]
    Active,
}

impl SystemStatus {
    /// The name in JSON and in the `systems` table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
        }
    }
}

/// A registered candidate. Its statistics are the arm of the same index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its id.
    pub candidate_id: String,
    /// What it changes; shared with the rollouts that are rendering it.
    pub content: Arc<CandidateContent>,
    /// Its place in the search space: dimension → choice.
    #[serde(default)]
    pub params: BTreeMap<String, u32>,
    /// When it was registered, microseconds since the Unix epoch.
    #[serde(default)]
    pub added_us: u64,
}

/// Batch mode: the candidate that is being held.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Index of the candidate.
    pub arm: usize,
    /// Rollout starts it is still held for.
    pub remaining: u32,
    /// With which probability it was picked.
    pub probability: f64,
}

/// Whom the optimizer recommends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The candidate.
    pub candidate_id: String,
    /// Its mean reward; `None` before its first.
    pub score: Option<f64>,
}

/// Counters over a system's whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Rollouts begun or adopted.
    pub rollouts: u64,
    /// Rollouts with a reward.
    pub rewards: u64,
    /// Rollouts done.
    pub done: u64,
    /// Rollouts failed.
    pub failed: u64,
    /// Rollouts that were open beyond their time to live.
    pub expired: u64,
    /// Rollouts whose messages didn't come from the baseline prompt.
    pub unmatched: u64,
}

/// A system's state: the fold of its events. Changed by [`super::apply()`] alone. A clone copies the rollouts as flat memory
/// and shares the candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Its id.
    pub system_id: SystemId,
    /// Its owner.
    pub org_id: OrgId,
    /// Its name for people.
    pub name: Option<String>,
    /// Its settings.
    pub spec: Arc<SystemSpec>,
    /// Whether it takes rollouts.
    pub status: SystemStatus,
    /// Sequence number of its newest event.
    pub version: u64,
    /// When it was made, microseconds since the Unix epoch.
    pub created_us: u64,
    /// When its newest event was decided, microseconds since the Unix epoch.
    pub updated_us: u64,
    /// Whom the optimizer recommends.
    pub best: Best,
    /// Counters.
    pub totals: Totals,
    /// Candidates, shared with clones until one more is registered.
    pub(crate) catalog: Arc<Catalog>,
    /// The candidates' statistics, by the same index.
    pub(crate) arms: Vec<Arm>,
    /// Batch mode's held candidate.
    pub(crate) held: Option<Held>,
    /// Rollouts open, and closed ones within the dedup window.
    pub(crate) rollouts: Rollouts,
}

/// The registered candidates, and what follows from them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Catalog {
    /// In order of registration; `baseline` first.
    pub candidates: Vec<Candidate>,
    /// Candidate id → index. The hasher is the same in every process: state must not depend on what else runs.
    pub by_id: HashMap<String, usize, BuildHasherDefault<DefaultHasher>>,
    /// Content hash → index; of two candidates of the same content (explicit ids of an older build) the first one.
    pub by_content: BTreeMap<[u8; 32], usize>,
    /// The candidates' places.
    pub space: Space,
}

impl Catalog {
    pub(crate) fn new(candidates: Vec<Candidate>) -> Self {
        let mut catalog = Self::default();
        candidates.into_iter().for_each(|candidate| catalog.push(candidate));
        catalog.index_space();
        catalog
    }

    pub(super) fn add(&mut self, candidate: Candidate) {
        self.push(candidate);
        self.index_space();
    }

    fn push(&mut self, candidate: Candidate) {
        let arm = self.candidates.len();
        self.by_id.insert(candidate.candidate_id.clone(), arm);
        self.by_content.entry(candidate.content.hash()).or_insert(arm);
        self.candidates.push(candidate);
    }

    fn index_space(&mut self) {
        self.space = Space::new(self.candidates.iter().map(|candidate| &candidate.params));
    }
}

impl State {
    /// The candidate of that id, with its statistics.
    #[must_use]
    pub fn candidate(&self, candidate_id: &str) -> Option<(&Candidate, &Arm)> {
        self.catalog.by_id.get(candidate_id).map(|&arm| (&self.catalog.candidates[arm], &self.arms[arm]))
    }

    /// Every candidate with its statistics, in order of registration.
    pub fn candidates(&self) -> impl Iterator<Item = (&Candidate, &Arm)> {
        self.catalog.candidates.iter().zip(&self.arms)
    }

    /// The rollout of that id, if it is remembered.
    #[must_use]
    pub fn rollout(&self, rollout_id: &str) -> Option<Rollout> {
        self.rollouts.get(RolloutKey::of(rollout_id))
    }

    /// Rollouts remembered: open ones, and closed ones within the dedup window.
    #[must_use]
    pub fn remembered(&self) -> (usize, usize) {
        (self.rollouts.open_len(), self.rollouts.closed_len())
    }

    /// Rollouts in flight: begun, without a reward, within their time to live.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.arms.iter().map(|arm| u64::from(arm.pending)).sum()
    }

    pub(crate) fn arms_view(&self) -> ArmsView<'_> {
        ArmsView { arms: &self.arms, space: &self.catalog.space }
    }

    pub(crate) fn candidate_id(&self, arm: usize) -> &str {
        &self.catalog.candidates[arm].candidate_id
    }

    /// The answer to a start: candidate `arm`; probability, whether the messages matched, whether it is an old choice.
    pub(crate) fn rollout_reply(
        &self,
        arm: usize,
        (probability, matched, sticky): (Option<f64>, bool, bool),
        version: u64,
    ) -> RolloutReply {
        let candidate = &self.catalog.candidates[arm];
        RolloutReply {
            candidate_id: candidate.candidate_id.clone(),
            content: Arc::clone(&candidate.content),
            prompt: Arc::clone(&self.spec.prompt),
            spec: Arc::clone(&self.spec),
            probability,
            matched,
            sticky,
            version,
        }
    }
}
