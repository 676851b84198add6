//! A state as bytes: what a snapshot holds before it is compressed.
//!
//! Rollouts are stored column by column, in the order in which the state keeps them: like stands beside like, so that compression leaves
//! little but the keys and the rewards' digits. Times and event numbers are distances from the one before.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use uuid::Uuid;

use super::event::{content, json};
use super::{CodecError, admit, read};
use crate::optimizer::Arm;
use crate::system::rollouts::Rollouts;
use crate::system::state::{Catalog, Held, Totals};
use crate::system::{Best, Candidate, Phase, Rollout, RolloutKey, State, SystemStatus};

/// The version of the messages here.
pub const SCHEMA: u32 = 1;
/// The oldest reader that understands what this build writes.
pub const MIN_READER: u32 = 1;

const DAMAGED: CodecError = CodecError::Damaged("no valid state");
const COLUMNS: CodecError = CodecError::Damaged("the columns of its rollouts have different lengths");

/// A whole state.
#[derive(Clone, PartialEq, Message)]
struct Stored {
    /// The writer's version.
    #[prost(uint32, tag = "1")]
    schema: u32,
    /// The oldest reader that may read it.
    #[prost(uint32, tag = "2")]
    min_reader: u32,
    /// 16 bytes each.
    #[prost(bytes = "vec", tag = "3")]
    system_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    org_id: Vec<u8>,
    #[prost(string, optional, tag = "5")]
    name: Option<String>,
    /// The [`crate::system::SystemSpec`] as JSON.
    #[prost(bytes = "vec", tag = "6")]
    spec_json: Vec<u8>,
    /// 0: active.
    #[prost(uint32, tag = "7")]
    status: u32,
    #[prost(uint64, tag = "8")]
    version: u64,
    #[prost(uint64, tag = "9")]
    created_us: u64,
    #[prost(uint64, tag = "10")]
    updated_us: u64,
    #[prost(string, tag = "11")]
    best_candidate_id: String,
    #[prost(double, optional, tag = "12")]
    best_score: Option<f64>,
    #[prost(message, optional, tag = "13")]
    totals: Option<StoredTotals>,
    /// In order of registration.
    #[prost(message, repeated, tag = "14")]
    candidates: Vec<StoredCandidate>,
    #[prost(message, optional, tag = "15")]
    arms: Option<Arms>,
    #[prost(message, optional, tag = "16")]
    held: Option<StoredHeld>,
    /// By the event that began them.
    #[prost(message, optional, tag = "17")]
    open: Option<Columns>,
    /// In the order in which they were closed, or rewarded since.
    #[prost(message, optional, tag = "18")]
    closed: Option<Columns>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredTotals {
    #[prost(uint64, tag = "1")]
    rollouts: u64,
    #[prost(uint64, tag = "2")]
    rewards: u64,
    #[prost(uint64, tag = "3")]
    done: u64,
    #[prost(uint64, tag = "4")]
    failed: u64,
    #[prost(uint64, tag = "5")]
    expired: u64,
    #[prost(uint64, tag = "6")]
    unmatched: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredCandidate {
    #[prost(string, tag = "1")]
    candidate_id: String,
    /// The [`crate::system::CandidateContent`] as JSON.
    #[prost(bytes = "vec", tag = "2")]
    content_json: Vec<u8>,
    /// By rising name.
    #[prost(message, repeated, tag = "3")]
    params: Vec<Param>,
    #[prost(uint64, tag = "4")]
    added_us: u64,
}

/// A candidate's choice in a dimension.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Param {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    choice: u32,
}

/// The candidates' statistics, a column for each.
#[derive(Clone, PartialEq, Message)]
struct Arms {
    #[prost(uint64, repeated, tag = "1")]
    starts: Vec<u64>,
    #[prost(uint32, repeated, tag = "2")]
    pending: Vec<u32>,
    #[prost(uint64, repeated, tag = "3")]
    n: Vec<u64>,
    #[prost(double, repeated, tag = "4")]
    mean: Vec<f64>,
    #[prost(double, repeated, tag = "5")]
    m2: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredHeld {
    #[prost(uint32, tag = "1")]
    arm: u32,
    #[prost(uint32, tag = "2")]
    remaining: u32,
    #[prost(float, optional, tag = "3")]
    probability: Option<f32>,
}

/// Rollouts, column by column. A column holds something for each rollout, or for each one of a kind, as said.
#[derive(Clone, PartialEq, Message)]
struct Columns {
    /// 12 bytes each.
    #[prost(bytes = "vec", tag = "1")]
    keys: Vec<u8>,
    /// A byte each: the phase (0 open, 1 expired, 2 done, 3 failed), and 4 where there is a reward.
    #[prost(bytes = "vec", tag = "2")]
    tags: Vec<u8>,
    /// Index of the candidate.
    #[prost(uint32, repeated, tag = "3")]
    arms: Vec<u32>,
    /// Of those that have a reward: first the lowest byte of each, then the next, … (IEEE 754 doubles).
    #[prost(bytes = "vec", tag = "4")]
    rewards: Vec<u8>,
    /// Of those open without a reward.
    #[prost(float, repeated, tag = "5")]
    probabilities: Vec<f32>,
    /// Of those open, and of those expired or done without a reward: seconds since the Unix epoch, as distances.
    #[prost(sint64, repeated, tag = "6")]
    opened_s: Vec<i64>,
    /// Of those not open; the same.
    #[prost(sint64, repeated, tag = "7")]
    closed_s: Vec<i64>,
    /// Of those open: the event that began them, as distances.
    #[prost(sint64, repeated, tag = "8")]
    seqs: Vec<i64>,
}

/// Each number as its distance from the one before.
pub(super) fn distances(numbers: impl Iterator<Item = u64>) -> Vec<i64> {
    let step = |last: &mut u64, number: u64| {
        Some(number.wrapping_sub(std::mem::replace(last, number)).cast_signed())
    };
    numbers.scan(0, step).collect()
}

/// The numbers that have these distances.
pub(super) fn sums(distances: &[i64]) -> impl Iterator<Item = u64> {
    distances.iter().scan(0_u64, |sum, distance| {
        *sum = sum.wrapping_add_signed(*distance);
        Some(*sum)
    })
}

pub(super) fn params(params: &BTreeMap<String, u32>) -> Vec<Param> {
    params.iter().map(|(name, &choice)| Param { name: name.clone(), choice }).collect()
}

pub(super) fn read_params(params: &[Param]) -> BTreeMap<String, u32> {
    params.iter().map(|param| (param.name.clone(), param.choice)).collect()
}

/// Encodes a state. Equal states give equal bytes.
#[must_use]
pub fn encode(state: &State) -> Vec<u8> {
    let Totals { rollouts, rewards, done, failed, expired, unmatched } = state.totals;
    let candidate = |candidate: &Candidate| StoredCandidate {
        candidate_id: candidate.candidate_id.clone(),
        content_json: json(&*candidate.content),
        params: params(&candidate.params),
        added_us: candidate.added_us,
    };
    let stored = Stored {
        schema: SCHEMA,
        min_reader: MIN_READER,
        system_id: state.system_id.as_bytes().to_vec(),
        org_id: state.org_id.as_bytes().to_vec(),
        name: state.name.clone(),
        spec_json: json(&*state.spec),
        status: match state.status {
            SystemStatus::Active => 0,
        },
        version: state.version,
        created_us: state.created_us,
        updated_us: state.updated_us,
        best_candidate_id: state.best.candidate_id.clone(),
        best_score: state.best.score,
        totals: Some(StoredTotals { rollouts, rewards, done, failed, expired, unmatched }),
        candidates: state.catalog.candidates.iter().map(candidate).collect(),
        arms: Some(arms(&state.arms)),
        held: state.held.map(|held| StoredHeld {
            arm: place(held.arm),
            remaining: held.remaining,
            probability: Some(held.probability as f32),
        }),
        open: Some(columns(state.rollouts.open_len(), state.rollouts.open())),
        closed: Some(columns(state.rollouts.closed_len(), state.rollouts.closed())),
    };
    stored.encode_to_vec()
}

fn place(arm: usize) -> u32 {
    u32::try_from(arm).expect("a system has far fewer candidates than 2^32")
}

fn arms(arms: &[Arm]) -> Arms {
    Arms {
        starts: arms.iter().map(|arm| arm.starts).collect(),
        pending: arms.iter().map(|arm| arm.pending).collect(),
        n: arms.iter().map(|arm| arm.n).collect(),
        mean: arms.iter().map(|arm| arm.mean).collect(),
        m2: arms.iter().map(|arm| arm.m2).collect(),
    }
}

/// Whether it is remembered when such a rollout began.
fn has_opened(phase: Phase, rewarded: bool) -> bool {
    phase == Phase::Open || (!rewarded && phase != Phase::Failed)
}

fn columns(len: usize, rollouts: impl Iterator<Item = (RolloutKey, Rollout)>) -> Columns {
    let mut keys = Vec::with_capacity(len * RolloutKey::BYTES);
    let (mut tags, mut arms) = (Vec::with_capacity(len), Vec::with_capacity(len));
    let (mut rewards, mut probabilities) = (Vec::new(), Vec::new());
    let (mut opened, mut closed, mut seqs) = (Vec::new(), Vec::new(), Vec::new());
    for (key, rollout) in rollouts {
        keys.extend(key.0);
        tags.push(rollout.phase as u8 | u8::from(rollout.reward.is_some()) << 2);
        arms.push(place(rollout.arm));
        rewards.extend(rollout.reward);
        probabilities.extend(rollout.probability);
        if has_opened(rollout.phase, rollout.reward.is_some()) {
            opened.push(u64::from(rollout.opened_s));
        }
        if rollout.phase == Phase::Open {
            seqs.push(rollout.seq);
        } else {
            closed.push(u64::from(rollout.closed_s));
        }
    }
    let (opened_s, closed_s) = (distances(opened.into_iter()), distances(closed.into_iter()));
    let seqs = distances(seqs.into_iter());
    Columns { keys, tags, arms, rewards: planes(&rewards), probabilities, opened_s, closed_s, seqs }
}

/// The numbers' lowest bytes, then the next ones, …: signs and exponents, and the many zeros of short numbers, come
/// to stand together.
fn planes(numbers: &[f64]) -> Vec<u8> {
    let mut planes = Vec::with_capacity(numbers.len() * 8);
    for plane in 0..8 {
        planes.extend(numbers.iter().map(|number| number.to_le_bytes()[plane]));
    }
    planes
}

fn numbers(planes: &[u8]) -> Result<impl Iterator<Item = f64>, CodecError> {
    let len = planes.len() / 8;
    let number = move |at: usize| f64::from_le_bytes(std::array::from_fn(|plane| planes[plane * len + at]));
    if planes.len().is_multiple_of(8) { Ok((0..len).map(number)) } else { Err(COLUMNS) }
}

/// Reads a state back.
///
/// # Errors
/// [`CodecError`]: it is no state, its parts disagree, or it is a newer build's.
pub fn decode(bytes: &[u8]) -> Result<State, CodecError> {
    let stored: Stored = read(bytes, SCHEMA, "no valid state")?;
    admit(stored.min_reader, SCHEMA)?;
    let StoredTotals { rollouts, rewards, done, failed, expired, unmatched } =
        stored.totals.unwrap_or_default();
    let candidates = stored.candidates.into_iter().map(|stored| {
        Ok(Candidate {
            content: content(&stored.content_json)?,
            params: read_params(&stored.params),
            candidate_id: stored.candidate_id,
            added_us: stored.added_us,
        })
    });
    let held = |held: StoredHeld| {
        let probability = f64::from(held.probability.ok_or(DAMAGED)?);
        Ok(Held { arm: held.arm as usize, remaining: held.remaining, probability })
    };
    let spec = serde_json::from_slice(&stored.spec_json);
    let state = State {
        system_id: Uuid::from_slice(&stored.system_id).map_err(|_| DAMAGED)?,
        org_id: Uuid::from_slice(&stored.org_id).map_err(|_| DAMAGED)?,
        name: stored.name,
        spec: spec.map_err(|_| CodecError::Damaged("a system's settings are no valid JSON"))?,
        status: match stored.status {
            0 => SystemStatus::Active,
            _ => return Err(DAMAGED),
        },
        version: stored.version,
        created_us: stored.created_us,
        updated_us: stored.updated_us,
        best: Best { candidate_id: stored.best_candidate_id, score: stored.best_score },
        totals: Totals { rollouts, rewards, done, failed, expired, unmatched },
        catalog: Arc::new(Catalog::new(candidates.collect::<Result<_, CodecError>>()?)),
        arms: read_arms(&stored.arms.unwrap_or_default())?,
        held: stored.held.map(held).transpose()?,
        rollouts: read_rollouts(&stored.open.unwrap_or_default(), &stored.closed.unwrap_or_default())?,
    };
    state.check().map_err(CodecError::Damaged)?;
    Ok(state)
}

fn read_arms(stored: &Arms) -> Result<Vec<Arm>, CodecError> {
    let len = stored.starts.len();
    if [stored.pending.len(), stored.n.len(), stored.mean.len(), stored.m2.len()] != [len; 4] {
        return Err(CodecError::Damaged("the columns of its arms have different lengths"));
    }
    let arm = |at: usize| Arm {
        starts: stored.starts[at],
        pending: stored.pending[at],
        n: stored.n[at],
        mean: stored.mean[at],
        m2: stored.m2[at],
    };
    Ok((0..len).map(arm).collect())
}

fn read_rollouts(open: &Columns, closed: &Columns) -> Result<Rollouts, CodecError> {
    let mut rollouts = Rollouts::default();
    rollouts.reserve(open.tags.len() + closed.tags.len());
    read_columns(open, true, &mut rollouts)?;
    read_columns(closed, false, &mut rollouts)?;
    if rollouts.open_len() + rollouts.closed_len() != open.tags.len() + closed.tags.len() {
        return Err(CodecError::Damaged("it holds a rollout twice"));
    }
    Ok(rollouts)
}

fn read_columns(columns: &Columns, open: bool, rollouts: &mut Rollouts) -> Result<(), CodecError> {
    let (keys, beyond) = columns.keys.as_chunks::<{ RolloutKey::BYTES }>();
    if !beyond.is_empty() || [keys.len(), columns.arms.len()] != [columns.tags.len(); 2] {
        return Err(COLUMNS);
    }
    let mut rewards = numbers(&columns.rewards)?;
    let mut probabilities = columns.probabilities.iter().copied();
    let mut opened = sums(&columns.opened_s);
    let mut closed = sums(&columns.closed_s);
    let mut seqs = sums(&columns.seqs);
    for ((key, &tag), &arm) in keys.iter().zip(&columns.tags).zip(&columns.arms) {
        let phase = match tag & 3 {
            0 => Phase::Open,
            1 => Phase::Expired,
            2 => Phase::Done,
            _ => Phase::Failed,
        };
        if tag > 7 || open != (phase == Phase::Open) {
            return Err(CodecError::Damaged("a rollout stands in an unknown phase"));
        }
        let rewarded = tag & 4 != 0;
        let rollout = Rollout {
            arm: arm as usize,
            phase,
            reward: take(&mut rewards, rewarded)?,
            probability: take(&mut probabilities, open && !rewarded)?,
            opened_s: time(take(&mut opened, has_opened(phase, rewarded))?)?,
            closed_s: time(take(&mut closed, !open)?)?,
            seq: take(&mut seqs, open)?.unwrap_or(0),
        };
        rollouts.insert(RolloutKey(*key), &rollout);
    }
    let over = rewards.next().is_some() || probabilities.next().is_some() || opened.next().is_some();
    if over || closed.next().is_some() || seqs.next().is_some() { Err(COLUMNS) } else { Ok(()) }
}

/// The column's next value, for a rollout that has one there.
fn take<T>(column: &mut impl Iterator<Item = T>, has: bool) -> Result<Option<T>, CodecError> {
    if has { column.next().map(Some).ok_or(COLUMNS) } else { Ok(None) }
}

fn time(seconds: Option<u64>) -> Result<u32, CodecError> {
    u32::try_from(seconds.unwrap_or(0)).map_err(|_| CodecError::Damaged("a time lies beyond all times"))
}
