//! A state as JSON: how a **document** holds it, the stored form of engines that keep the whole history in one object. Snapshots have a form of their own ([`crate::codec::state`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::command::{OrgId, SystemId};
use super::event::propensity;
use super::rollouts::{Phase, Rollout, RolloutKey, Rollouts, seconds};
use super::spec::SystemSpec;
use super::state::{Best, Candidate, Catalog, Held, State, SystemStatus, Totals};
use crate::optimizer::Arm;

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut state = serializer.serialize_struct("State", 15)?;
        state.serialize_field("system_id", &self.system_id)?;
        state.serialize_field("org_id", &self.org_id)?;
        state.serialize_field("name", &self.name)?;
        state.serialize_field("spec", &self.spec)?;
        state.serialize_field("status", &self.status)?;
        state.serialize_field("version", &self.version)?;
        state.serialize_field("created_us", &self.created_us)?;
        state.serialize_field("updated_us", &self.updated_us)?;
        state.serialize_field("best", &self.best)?;
        state.serialize_field("totals", &self.totals)?;
        state.serialize_field("candidates", &self.catalog.candidates)?;
        state.serialize_field("arms", &self.arms.iter().map(StoredArm::from).collect::<Vec<_>>())?;
        state.serialize_field("held", &self.held)?;
        state.serialize_field("open", &Rows(&|| self.rollouts.open()))?;
        state.serialize_field("closed", &Rows(&|| self.rollouts.closed()))?;
        state.end()
    }
}

/// Rollouts as rows, made one by one.
struct Rows<'a, I>(&'a dyn Fn() -> I);

impl<I: Iterator<Item = (RolloutKey, Rollout)>> Serialize for Rows<'_, I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)().map(|(key, rollout)| Row::new(key, &rollout)))
    }
}

/// A rollout as documents hold it since schema 2.
#[derive(Serialize, Deserialize)]
struct Row {
    /// Its [`RolloutKey`], hexadecimal.
    key: String,
    arm: usize,
    phase: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reward: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    opened_s: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    closed_s: u32,
    #[serde(default, skip_serializing_if = "is_none")]
    seq: u64,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

fn is_none(seq: &u64) -> bool {
    *seq == 0
}

impl Row {
    fn new(key: RolloutKey, rollout: &Rollout) -> Self {
        let &Rollout { arm, phase, reward, probability, opened_s, closed_s, seq } = rollout;
        let key = key.0.iter().fold(0_u128, |key, &byte| (key << 8) | u128::from(byte));
        let probability = probability.map(f64::from);
        Self { key: format!("{key:024x}"), arm, phase, reward, probability, opened_s, closed_s, seq }
    }

    fn read(self) -> Option<(RolloutKey, Rollout)> {
        let digits = self.key.len() == 2 * RolloutKey::BYTES;
        let [_, _, _, _, key @ ..] =
            u128::from_str_radix(&self.key, 16).ok().filter(|_| digits)?.to_be_bytes();
        let Self { arm, phase, reward, probability, opened_s, closed_s, seq, .. } = self;
        let probability = probability.map(|probability| propensity(probability) as f32);
        Some((RolloutKey(key), Rollout { arm, phase, reward, probability, opened_s, closed_s, seq }))
    }
}

/// A rollout as documents of schema 1 hold it, under its id.
#[derive(Deserialize)]
struct OldRollout {
    arm: usize,
    phase: Phase,
    #[serde(default)]
    reward: Option<f64>,
    probability: f64,
    opened_us: u64,
    closed_us: u64,
    seq: u64,
}

impl OldRollout {
    fn read(&self) -> Rollout {
        let probability = (self.phase == Phase::Open).then(|| propensity(self.probability) as f32);
        Rollout {
            arm: self.arm,
            phase: self.phase,
            reward: self.reward,
            probability,
            opened_s: seconds(self.opened_us),
            closed_s: seconds(self.closed_us),
            seq: self.seq,
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

impl From<&Arm> for StoredArm {
    fn from(&Arm { starts, pending, n, mean, m2 }: &Arm) -> Self {
        Self { starts, pending, n, mean, m2 }
    }
}

impl From<StoredArm> for Arm {
    fn from(StoredArm { starts, pending, n, mean, m2 }: StoredArm) -> Self {
        Self { starts, pending, n, mean, m2 }
    }
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
    /// Schema 1 alone.
    #[serde(default)]
    rollouts: BTreeMap<String, OldRollout>,
    /// Since schema 2, as is `closed`.
    #[serde(default)]
    open: Vec<Row>,
    #[serde(default)]
    closed: Vec<Row>,
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut stored = StoredState::deserialize(deserializer)?;
        let rollouts = stored.rollouts().map_err(D::Error::custom)?;
        let held = stored.held.map(|held| Held { probability: propensity(held.probability), ..held });
        let state = Self {
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
            catalog: Arc::new(Catalog::new(stored.candidates)),
            arms: stored.arms.into_iter().map(Arm::from).collect(),
            held,
            rollouts,
        };
        state.check().map_err(D::Error::custom)?;
        Ok(state)
    }
}

impl StoredState {
    fn rollouts(&mut self) -> Result<Rollouts, &'static str> {
        let mut rollouts = Rollouts::default();
        // Both lists of a state come in the order of their `seq` there.
        let mut old: Vec<_> = std::mem::take(&mut self.rollouts).into_iter().collect();
        old.sort_by_key(|(_, rollout)| rollout.seq);
        for (id, rollout) in old {
            rollouts.insert(RolloutKey::of(&id), &rollout.read());
        }
        for row in std::mem::take(&mut self.open).into_iter().chain(std::mem::take(&mut self.closed)) {
            let (key, rollout) = row.read().ok_or("a rollout's key must be 24 hexadecimal digits")?;
            rollouts.insert(key, &rollout);
        }
        Ok(rollouts)
    }
}

impl State {
    /// What the code relies on when it indexes; a state that breaks it was not written by this program.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let arms = self.arms.len();
        if arms == 0 || arms != self.catalog.candidates.len() {
            return Err("a state must have one arm for each candidate, and at least one");
        }
        let mut rollouts = self.rollouts.open().chain(self.rollouts.closed());
        if rollouts.any(|(_, rollout)| rollout.arm >= arms) || self.held.is_some_and(|held| held.arm >= arms)
        {
            return Err("a state's rollouts must belong to its candidates");
        }
        let seqs = self.rollouts.open().map(|(_, rollout)| rollout.seq);
        if !seqs.is_sorted_by(|a, b| a < b) {
            return Err("a state's open rollouts must stand in the order in which they began");
        }
        Ok(())
    }
}
