//! What must hold of a history, whatever went wrong in it.
//!
//! The truth is what the service holds in the end: the events of each system, in order. Everything any client was ever told
//! is held against it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mipro_service::codec::state;
use mipro_service::snapshot::format::{self, Expected};
use mipro_service::store::SystemRow;
use mipro_service::system::{Event, NoProbe, Recorded, Refusal, Reply, State, Status, apply, view};
use serde_json::Value;

use crate::book::{Call, EVENTS_MAX, Made, Outcome};

/// Events one command makes, less one.
const BATCH: u64 = 5;

/// What the service holds in the end.
#[derive(Debug)]
pub(crate) struct Truth {
    /// By system; nothing of those whose creation nobody was told of.
    pub(crate) events: BTreeMap<usize, Vec<Recorded>>,
    /// Every pointer there ever was, with what it pointed at.
    pub(crate) moves: Vec<(usize, SystemRow, Bytes)>,
    /// The host went away with its disk: what was acknowledged may be lost, and nothing else may be wrong.
    pub(crate) host_gone: bool,
    /// The process that the truth is of.
    pub(crate) process: u64,
}

/// What happened to a rollout.
#[derive(Debug, Default)]
struct Facts {
    candidate: String,
    probability: f64,
    opened: Vec<u64>,
    rewards: Vec<(u64, f64)>,
    done: Vec<u64>,
    failed: Vec<u64>,
}

/// Everything that is wrong.
pub(crate) fn check(truth: &Truth, made: &[Made]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (system, events) in &truth.events {
        let calls: Vec<&Made> = made.iter().filter(|made| made.system == *system).collect();
        let mut judge = Judge { system: *system, events, calls, facts: gather(events), wrong: &mut wrong };
        judge.structure();
        judge.invented();
        judge.reads(if truth.host_gone { truth.process } else { 0 });
        if !truth.host_gone {
            judge.promises();
            judge.snapshots(truth.moves.iter().filter(|(of, ..)| of == system));
        }
    }
    wrong
}

/// What happened to each rollout.
fn gather(events: &[Recorded]) -> BTreeMap<String, Facts> {
    let mut all: BTreeMap<String, Facts> = BTreeMap::new();
    for recorded in events {
        let seq = recorded.seq;
        match &recorded.event {
            Event::RolloutStarted { rollout_id, candidate_id, probability, .. } => {
                let facts = all.entry(rollout_id.clone()).or_default();
                facts.opened.push(seq);
                (facts.candidate, facts.probability) = (candidate_id.clone(), *probability);
            }
            Event::RolloutAdopted { rollout_id, candidate_id } => {
                let facts = all.entry(rollout_id.clone()).or_default();
                facts.opened.push(seq);
                (facts.candidate, facts.probability) = (candidate_id.clone(), 1.0);
            }
            Event::RewardReceived { rollout_id, reward, .. } => {
                all.entry(rollout_id.clone()).or_default().rewards.push((seq, *reward));
            }
            Event::RolloutDone { rollout_id, .. } => {
                all.entry(rollout_id.clone()).or_default().done.push(seq);
            }
            Event::RolloutFailed { rollout_id, .. } => {
                all.entry(rollout_id.clone()).or_default().failed.push(seq);
            }
            _ => {}
        }
    }
    all
}

struct Judge<'a> {
    system: usize,
    events: &'a [Recorded],
    calls: Vec<&'a Made>,
    facts: BTreeMap<String, Facts>,
    wrong: &'a mut Vec<String>,
}

impl Judge<'_> {
    fn say(&mut self, what: impl std::fmt::Display) {
        self.wrong.push(format!("system {}: {what}", self.system));
    }

    /// Dense, and every thing at most once.
    fn structure(&mut self) {
        let sparse = (1..).zip(self.events).find(|(seq, recorded)| recorded.seq != *seq);
        if let Some((seq, recorded)) = sparse {
            self.say(format!("event {} stands at place {seq}", recorded.seq));
        }
        let mut candidates = BTreeSet::new();
        for recorded in self.events {
            if let Event::CandidateAdded { candidate_id, .. } = &recorded.event
                && !candidates.insert(candidate_id)
            {
                self.wrong.push(format!("system {}: candidate {candidate_id} twice", self.system));
            }
        }
        let twice = |facts: &Facts| {
            facts.opened.len() > 1
                || facts.rewards.len() > 1
                || facts.done.len() > 1
                || facts.failed.len() > 1
        };
        let doubled: Vec<_> = self.facts.iter().filter(|(_, facts)| twice(facts)).collect();
        let doubled: Vec<String> =
            doubled.iter().map(|(id, facts)| format!("{id} twice: {facts:?}")).collect();
        doubled.into_iter().for_each(|what| self.say(what));
    }

    /// Every event was asked for, by a call that may have been taken.
    fn invented(&mut self) {
        let taken: Vec<&Call> =
            self.calls.iter().filter(|made| may_count(made)).map(|made| &made.call).collect();
        let mut wrong = Vec::new();
        for recorded in self.events {
            let asked = match &recorded.event {
                Event::SystemCreated { .. } => taken.contains(&&Call::Create),
                Event::RolloutStarted { rollout_id, .. } => {
                    taken.iter().any(|call| matches!(call, Call::Start { rollout } if rollout == rollout_id))
                }
                Event::RolloutAdopted { rollout_id, .. } => taken.iter().any(
                    |call| matches!(call, Call::Report { rollout, adopt: true, .. } if rollout == rollout_id),
                ),
                Event::RewardReceived { rollout_id, reward, .. } => taken.iter().any(|call| {
                    matches!(call, Call::Report { rollout, reward: Some(sent), .. }
                        if rollout == rollout_id && sent == reward)
                }),
                Event::RolloutDone { rollout_id, .. } => taken.iter().any(|call| {
                    matches!(call, Call::Report { rollout, status: Status::Done | Status::RewardDone, .. }
                        if rollout == rollout_id)
                }),
                Event::RolloutFailed { rollout_id, .. } => taken.iter().any(|call| {
                    matches!(call, Call::Report { rollout, status: Status::Failed, .. }
                        if rollout == rollout_id)
                }),
                Event::CandidateAdded { .. } | Event::TpeUpdated { .. } | Event::RolloutsExpired { .. } => {
                    true
                }
            };
            if !asked {
                wrong.push(format!("nobody asked for event {}: {:?}", recorded.seq, recorded.event));
            }
        }
        wrong.into_iter().for_each(|what| self.say(what));
    }

    /// Every state and every list of events that was shown, by `process` and later ones, is the fold, or a part, of the truth.
    fn reads(&mut self, process: u64) {
        let mut wrong = Vec::new();
        let mut states: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
        for made in &self.calls {
            let Some(Outcome::Body(body)) = &made.outcome else { continue };
            if made.process < process {
                continue;
            }
            if let Call::Events { since } = made.call {
                let items = body["items"].as_array().map_or(0, Vec::len);
                let upto = since + items as u64;
                if *body != view::events_json(self.events, since, items) || items == EVENTS_MAX {
                    wrong.push(format!("events {since}.. to {upto} were shown and are not the truth"));
                }
                if upto < made.seen && since < made.seen {
                    wrong.push(format!("events up to {upto} were shown to who had seen {}", made.seen));
                }
            } else {
                states.entry(body["version"].as_u64().unwrap_or(0)).or_default().push(body);
            }
        }
        let mut folded = None;
        for recorded in self.events {
            match &mut folded {
                None => folded = State::from_created(recorded),
                Some(state) => apply(state, recorded, &mut NoProbe),
            }
            let Some(state) = &folded else { break };
            let Some(shown) = states.remove(&recorded.seq) else { continue };
            let truth = view::state_json(state);
            if shown.iter().any(|shown| **shown != truth) {
                wrong.push(format!("the state shown at version {} is not the fold", recorded.seq));
            }
        }
        wrong.extend(states.keys().map(|version| format!("version {version} was shown and is lost")));
        wrong.into_iter().for_each(|what| self.say(what));
    }

    /// Every state that was ever stored and pointed at is the fold of the truth up to there, byte for byte.
    fn snapshots<'m>(&mut self, moves: impl Iterator<Item = &'m (usize, SystemRow, Bytes)>) {
        let mut wrong = Vec::new();
        for (_, row, object) in moves {
            let expected =
                Expected { checksum: row.state_checksum, bytes: row.state_bytes, system: row.system_id };
            let version = row.version;
            let unpacked = match format::unpack(object, &expected) {
                Ok(unpacked) => unpacked,
                Err(error) => {
                    wrong.push(format!("the snapshot of version {version}: {error}"));
                    continue;
                }
            };
            let upto = usize::try_from(version).unwrap_or(usize::MAX).min(self.events.len());
            let fold = State::fold(&self.events[..upto]);
            let same = fold.is_some_and(|fold| state::encode(&fold) == state::encode(&unpacked.state));
            if (unpacked.seq, unpacked.epoch) != (version, row.epoch) || !same {
                wrong
                    .push(format!("the snapshot of version {version}, epoch {}, is not the fold", row.epoch));
            }
        }
        wrong.into_iter().for_each(|what| self.say(what));
    }

    /// Everything anybody was told is so.
    fn promises(&mut self) {
        let mut known = BTreeSet::new();
        let mut wrong = Vec::new();
        for made in &self.calls {
            let Some(outcome) = &made.outcome else { continue };
            if outcome.version().is_some_and(|version| version < made.seen) {
                wrong.push(format!("the version went back from {} to {:?}", made.seen, outcome.version()));
            }
            let kept = match outcome {
                Outcome::Reply(reply) => self.replied(&made.call, reply),
                Outcome::Refused(refusal) => self.refused(made, refusal, &known),
                Outcome::NotFound if made.call != Call::Create => Err("a system is gone".to_owned()),
                Outcome::Exists if self.events.is_empty() => Err("no such system".to_owned()),
                _ => Ok(()),
            };
            if let Err(what) = kept {
                let Made { client, process, call, .. } = made;
                let outcome = outcome.brief();
                wrong.push(format!("{what}: client {client}, process {process}, {call:?} -> {outcome}"));
            }
            if let (Call::Start { rollout }, Outcome::Reply(_)) = (&made.call, outcome) {
                known.insert((made.client, rollout.clone()));
            }
        }
        wrong.into_iter().for_each(|what| self.say(what));
    }

    fn replied(&self, call: &Call, reply: &Reply) -> Result<(), String> {
        let last = self.events.last().map_or(0, |last| last.seq);
        let lost = |version: &u64| {
            if *version > last {
                Err(format!("version {version} is lost, {last} is the last"))
            } else {
                Ok(())
            }
        };
        match reply {
            Reply::Created { version } => lost(version),
            Reply::Candidate { candidate_id, version } => {
                let added = self.events.iter().find(|recorded| {
                    matches!(&recorded.event, Event::CandidateAdded { candidate_id: id, .. } if id == candidate_id)
                });
                let seq = added.ok_or("the candidate is lost")?.seq;
                if seq > *version { Err(format!("the candidate came at {seq}")) } else { lost(version) }
            }
            Reply::Rollout(rollout) => {
                let Call::Start { rollout: id } = call else { return Err("the wrong reply".to_owned()) };
                let facts = self.facts.get(id).ok_or("the start is lost")?;
                let opened = facts.opened.first().copied().ok_or("the start is lost")?;
                let same = facts.candidate == rollout.candidate_id
                    && rollout.probability.is_none_or(|told| told.to_bits() == facts.probability.to_bits());
                if !same {
                    return Err(format!("the candidate is another: {facts:?}"));
                }
                within(opened, rollout.version, !rollout.sticky)?;
                lost(&rollout.version)
            }
            Reply::Status { candidate_id, rollout_id, version, duplicate, .. } => {
                let facts = self.facts.get(rollout_id).ok_or("the rollout is lost")?;
                if facts.candidate != *candidate_id {
                    return Err(format!("the candidate is another: {facts:?}"));
                }
                reported(facts, call, *version, !duplicate)?;
                lost(version)
            }
        }
    }

    fn refused(
        &self,
        made: &Made,
        refusal: &Refusal,
        known: &BTreeSet<(usize, String)>,
    ) -> Result<(), String> {
        match refusal {
            Refusal::RewardConflict { rollout_id, recorded, .. } => {
                let held = self.facts.get(rollout_id).and_then(|facts| facts.rewards.first());
                let same = held.is_some_and(|(_, reward)| reward.to_bits() == recorded.to_bits());
                if same { Ok(()) } else { Err(format!("the reward that was in the way is {held:?}")) }
            }
            Refusal::Failed(rollout_id) => match self.facts.get(rollout_id) {
                Some(facts) if !facts.failed.is_empty() => Ok(()),
                _ => Err("it never failed".to_owned()),
            },
            Refusal::AlreadyRewarded(rollout_id) => match self.facts.get(rollout_id) {
                Some(facts) if !facts.rewards.is_empty() => Ok(()),
                _ => Err("it has no reward".to_owned()),
            },
            // Right where the start is one of those that were given up.
            Refusal::UnknownRollout(rollout_id) => {
                let told = known.contains(&(made.client, rollout_id.clone()));
                if told { Err("an acknowledged start was forgotten".to_owned()) } else { Ok(()) }
            }
            other => Err(format!("nobody gave reason for this refusal: {other}")),
        }
    }
}

/// Whether a call may have had an effect.
fn may_count(made: &Made) -> bool {
    matches!(
        made.outcome,
        None | Some(Outcome::Reply(_) | Outcome::Unknown(_) | Outcome::Exists | Outcome::Broken(_))
    )
}

fn within(seq: u64, version: u64, fresh: bool) -> Result<(), String> {
    if seq > version {
        return Err(format!("it came at {seq}, after the version of the answer"));
    }
    if fresh && version - seq > BATCH {
        Err(format!("it came at {seq}, long before the answer"))
    } else {
        Ok(())
    }
}

fn reported(facts: &Facts, call: &Call, version: u64, fresh: bool) -> Result<(), String> {
    let Call::Report { status, reward, .. } = call else { return Err("the wrong reply".to_owned()) };
    let mut newest = 0;
    if let (Some(reward), Status::Reward | Status::RewardDone | Status::Done) = (reward, status) {
        let (seq, held) = facts.rewards.first().ok_or("the reward is lost")?;
        if held.to_bits() != reward.to_bits() {
            return Err(format!("the reward is {held}"));
        }
        newest = newest.max(*seq);
    }
    if matches!(status, Status::Done | Status::RewardDone) {
        // A `done` for a rollout that was closed as failed is a duplicate of that.
        let closed = facts.done.first().or_else(|| facts.failed.first());
        newest = newest.max(*closed.ok_or("the end is lost")?);
    }
    if *status == Status::Failed {
        newest = newest.max(*facts.failed.first().ok_or("the failure is lost")?);
    }
    within(newest, version, fresh)
}
