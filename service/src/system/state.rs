//! All that is remembered of a system: bounded, whatever traffic comes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::command::{OrgId, RolloutReply, SystemId};
use super::content::CandidateContent;
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

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Begun.
    Open,
    /// Open beyond its time to live. It no longer counts as in flight, but may still be reported.
    Expired,
    /// Finished.
    Done,
    /// Closed without a reward, through no fault of the prompt.
    Failed,
}

/// What is remembered of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Index of its candidate.
    pub arm: usize,
    /// Where it stands.
    pub phase: Phase,
    /// Its reward, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
    /// With which probability its candidate was picked.
    pub probability: f64,
    /// Whether its messages came from the baseline prompt.
    pub matched: bool,
    /// When it began, microseconds since the Unix epoch.
    pub opened_us: u64,
    /// When its phase last changed from open; equals `opened_us` before.
    pub closed_us: u64,
    /// The event that put it where it is in the order of open or closed rollouts.
    pub seq: u64,
}

impl Rollout {
    /// Whether it counts as in flight.
    #[must_use]
    pub(crate) fn is_pending(&self) -> bool {
        self.phase == Phase::Open && self.reward.is_none()
    }
}

/// Batch mode: the candidate that is being held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// A system's state: the fold of its events. Changed by [`super::apply()`] alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// Candidates in order of registration; `baseline` first.
    pub(crate) candidates: Vec<Candidate>,
    /// The candidates' statistics, by the same index.
    #[serde(serialize_with = "serialize_arms")]
    pub(crate) arms: Vec<Arm>,
    /// Batch mode's held candidate.
    pub(crate) held: Option<Held>,
    /// Rollouts open, and closed ones within the dedup window.
    pub(crate) rollouts: BTreeMap<Arc<str>, Rollout>,
    /// What follows from the rest, kept for speed.
    #[serde(skip)]
    pub(crate) index: Index,
}

/// What follows from a state's other fields.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Index {
    /// Candidate id → index.
    pub by_id: HashMap<String, usize>,
    /// Content hash → index.
    pub by_content: HashMap<[u8; 32], usize>,
    /// Open rollouts by the event that began them.
    pub open: BTreeMap<u64, Arc<str>>,
    /// Rollouts no longer open by the event that ended them.
    pub closed: BTreeMap<u64, Arc<str>>,
    /// The candidates' places.
    pub space: Space,
}

impl State {
    /// The candidate of that id, with its statistics.
    #[must_use]
    pub fn candidate(&self, candidate_id: &str) -> Option<(&Candidate, &Arm)> {
        self.index.by_id.get(candidate_id).map(|&arm| (&self.candidates[arm], &self.arms[arm]))
    }

    /// Every candidate with its statistics, in order of registration.
    pub fn candidates(&self) -> impl Iterator<Item = (&Candidate, &Arm)> {
        self.candidates.iter().zip(&self.arms)
    }

    /// The rollout of that id, if it is remembered.
    #[must_use]
    pub fn rollout(&self, rollout_id: &str) -> Option<&Rollout> {
        self.rollouts.get(rollout_id)
    }

    /// Rollouts in flight: begun, without a reward, within their time to live.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.arms.iter().map(|arm| u64::from(arm.pending)).sum()
    }

    pub(crate) fn arms_view(&self) -> ArmsView<'_> {
        ArmsView { arms: &self.arms, space: &self.index.space }
    }

    pub(crate) fn rollout_reply(&self, rollout: &Rollout, sticky: bool, version: u64) -> RolloutReply {
        let candidate = &self.candidates[rollout.arm];
        RolloutReply {
            candidate_id: candidate.candidate_id.clone(),
            content: Arc::clone(&candidate.content),
            prompt: Arc::clone(&self.spec.prompt),
            spec: Arc::clone(&self.spec),
            probability: rollout.probability,
            matched: rollout.matched,
            sticky,
            version,
        }
    }

    /// Rebuilds what follows from the candidates.
    pub(crate) fn index_candidates(&mut self) {
        let ids = self.candidates.iter().enumerate();
        self.index.by_id = ids.clone().map(|(arm, c)| (c.candidate_id.clone(), arm)).collect();
        // Of two candidates of the same content (explicit ids of an older build) the first one answers.
        self.index.by_content = ids.rev().map(|(arm, c)| (c.content.hash(), arm)).collect();
        self.index.space = Space::new(self.candidates.iter().map(|c| &c.params));
    }

    fn index_rollouts(&mut self) {
        for (id, rollout) in &self.rollouts {
            let order =
                if rollout.phase == Phase::Open { &mut self.index.open } else { &mut self.index.closed };
            order.insert(rollout.seq, Arc::clone(id));
        }
    }
}

/// An arm as it is stored; the optimizer itself knows no JSON.
#[derive(Serialize, Deserialize)]
struct StoredArm {
    starts: u64,
    pending: u32,
    n: u64,
    mean: f64,
    m2: f64,
}

fn serialize_arms<S: Serializer>(arms: &[Arm], serializer: S) -> Result<S::Ok, S::Error> {
    let stored = |&Arm { starts, pending, n, mean, m2 }: &Arm| StoredArm { starts, pending, n, mean, m2 };
    serializer.collect_seq(arms.iter().map(stored))
}

/// A state as it is read back; fields it doesn't know are skipped.
#[derive(Deserialize)]
struct StoredState {
    system_id: SystemId,
    org_id: OrgId,
    #[serde(default)]
    name: Option<String>,
    spec: Arc<SystemSpec>,
    #[serde(default)]
    status: SystemStatus,
    version: u64,
    created_us: u64,
    updated_us: u64,
    best: Best,
    totals: Totals,
    candidates: Vec<Candidate>,
    arms: Vec<StoredArm>,
    #[serde(default)]
    held: Option<Held>,
    rollouts: BTreeMap<Arc<str>, Rollout>,
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = StoredState::deserialize(deserializer)?;
        stored.check().map_err(serde::de::Error::custom)?;
        let arm =
            |StoredArm { starts, pending, n, mean, m2 }: StoredArm| Arm { starts, pending, n, mean, m2 };
        let mut state = Self {
            system_id: stored.system_id,
            org_id: stored.org_id,
            name: stored.name,
            spec: stored.spec,
            status: stored.status,
            version: stored.version,
            created_us: stored.created_us,
            updated_us: stored.updated_us,
            best: stored.best,
            totals: stored.totals,
            candidates: stored.candidates,
            arms: stored.arms.into_iter().map(arm).collect(),
            held: stored.held,
            rollouts: stored.rollouts,
            index: Index::default(),
        };
        state.index_candidates();
        state.index_rollouts();
        Ok(state)
    }
}

impl StoredState {
    /// What the code relies on when it indexes; a document that breaks it was not written by this program.
    fn check(&self) -> Result<(), &'static str> {
        let arms = self.arms.len();
        if arms == 0 || arms != self.candidates.len() {
            return Err("a state must have one arm for each candidate, and at least one");
        }
        if self.rollouts.values().any(|r| r.arm >= arms) || self.held.as_ref().is_some_and(|h| h.arm >= arms)
        {
            return Err("a state's rollouts must belong to its candidates");
        }
        Ok(())
    }
}
