//! Events into state. Cannot fail, and depends on nothing but state and event: replaying a history gives the same state.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{Command, Context, NewSystem, Reply};
use super::content::CandidateContent;
use super::decide::{create, decide};
use super::event::{Event, Pick, Recorded, propensity};
use super::probe::{NoProbe, Probe};
use super::refusal::Refusal;
use super::rollouts::{Phase, Rollout, RolloutKey, Rollouts, age_us, seconds};
use super::state::{BASELINE, Best, Candidate, Held, State, SystemStatus, Totals};
use crate::optimizer::{Arm, Policy};

/// Closed rollouts one event may forget because of their age; those beyond the limit of their number always go.
const FORGOTTEN_PER_EVENT_MAX: usize = 64;

/// Makes a system: its state, its first events, and the answer. The spec must be valid ([`super::SystemSpec::validate`]).
#[must_use]
pub fn begin(new: &NewSystem, context: &Context) -> (State, Vec<Recorded>, Reply) {
    let mut state = State::empty(new, context.now_us);
    let recorded = record(&state, create(new), context);
    recorded.iter().for_each(|recorded| apply(&mut state, recorded, &mut NoProbe));
    let version = state.version;
    (state, recorded, Reply::Created { version })
}

/// Runs a command at once, for callers without a log: decides it, numbers its events, applies them. The recorded events
/// are what the history must keep. With a log between, the steps are the caller's: [`decide()`], [`record()`], append, [`apply()`].
///
/// # Errors
/// The [`Refusal`]; the state is as it was.
pub fn execute(
    state: &mut State,
    command: &Command,
    context: &Context,
    probe: &mut impl Probe,
) -> Result<(Vec<Recorded>, Reply), Refusal> {
    let decision = decide(state, command, context, probe)?;
    let recorded = record(state, decision.events, context);
    recorded.iter().for_each(|recorded| apply(state, recorded, probe));
    Ok((recorded, decision.reply))
}

/// Numbers the events of a decision as the next ones after `state`, which stays as it is until they are applied.
#[must_use]
pub fn record(state: &State, events: Vec<Event>, context: &Context) -> Vec<Recorded> {
    let at_us = context.now_us;
    (state.version + 1..).zip(events).map(|(seq, event)| Recorded { seq, at_us, event }).collect()
}

/// Applies the next event. Events must come in order and without gaps; keeping them so is the caller's part.
pub fn apply(state: &mut State, recorded: &Recorded, probe: &mut impl Probe) {
    state.step(recorded.seq, recorded.at_us, &Fact::of(&recorded.event), probe);
}

/// An event as far as the state cares: borrowed, and rollouts by their keys.
#[derive(Debug)]
pub(crate) enum Fact<'e> {
    Created(&'e NewSystem),
    Candidate { id: &'e str, content: &'e Arc<CandidateContent>, params: &'e BTreeMap<String, u32> },
    Started { key: RolloutKey, candidate_id: &'e str, probability: f64, pick: Pick },
    Adopted { key: RolloutKey, candidate_id: &'e str },
    Rewarded { key: RolloutKey, reward: f64 },
    Learned { best_candidate_id: &'e str, best_score: Option<f64> },
    Closed { key: RolloutKey, phase: Phase },
    Expired { started_seqs: &'e [u64], rollout_ids: &'e [String] },
}

impl<'e> Fact<'e> {
    pub(crate) fn of(event: &'e Event) -> Self {
        match event {
            Event::SystemCreated { system } => Self::Created(system),
            Event::CandidateAdded { candidate_id, content, params } => {
                Self::Candidate { id: candidate_id, content, params }
            }
            Event::RolloutStarted { rollout_id, candidate_id, probability, pick, .. } => Self::Started {
                key: RolloutKey::of(rollout_id),
                candidate_id,
                probability: *probability,
                pick: *pick,
            },
            Event::RolloutAdopted { rollout_id, candidate_id } => {
                Self::Adopted { key: RolloutKey::of(rollout_id), candidate_id }
            }
            Event::RewardReceived { rollout_id, reward, .. } => {
                Self::Rewarded { key: RolloutKey::of(rollout_id), reward: *reward }
            }
            Event::TpeUpdated { best_candidate_id, best_score, .. } => {
                Self::Learned { best_candidate_id, best_score: *best_score }
            }
            Event::RolloutDone { rollout_id, .. } => {
                Self::Closed { key: RolloutKey::of(rollout_id), phase: Phase::Done }
            }
            Event::RolloutFailed { rollout_id, .. } => {
                Self::Closed { key: RolloutKey::of(rollout_id), phase: Phase::Failed }
            }
            Event::RolloutsExpired { started_seqs, rollout_ids } => {
                Self::Expired { started_seqs, rollout_ids }
            }
        }
    }
}

impl State {
    /// A system before its first event.
    fn empty(new: &NewSystem, now_us: u64) -> Self {
        Self {
            system_id: new.system_id,
            org_id: new.org_id,
            name: new.name.clone(),
            spec: Arc::new(new.spec.clone()),
            status: SystemStatus::Active,
            version: 0,
            created_us: now_us,
            updated_us: now_us,
            best: Best { candidate_id: BASELINE.to_owned(), score: None },
            totals: Totals::default(),
            catalog: Arc::default(),
            arms: Vec::new(),
            held: None,
            rollouts: Rollouts::default(),
        }
    }

    /// The state that a whole history leads to; `None` unless it begins with the system's creation.
    #[must_use]
    pub fn fold(history: &[Recorded]) -> Option<Self> {
        let (first, rest) = history.split_first()?;
        let mut state = Self::from_created(first)?;
        rest.iter().for_each(|recorded| apply(&mut state, recorded, &mut NoProbe));
        Some(state)
    }

    /// The state after the first event; `None` if that is not the system's creation.
    #[must_use]
    pub fn from_created(recorded: &Recorded) -> Option<Self> {
        let Event::SystemCreated { system } = &recorded.event else { return None };
        let mut state = Self::empty(system, recorded.at_us);
        state.version = recorded.seq;
        Some(state)
    }

    /// Takes in the next fact.
    pub(crate) fn step(&mut self, seq: u64, at_us: u64, fact: &Fact<'_>, probe: &mut impl Probe) {
        debug_assert_eq!(seq, self.version + 1, "events come in order and without gaps");
        match fact {
            Fact::Created(system) => *self = Self::empty(system, at_us),
            Fact::Candidate { id, content, params } => self.add_candidate(Candidate {
                candidate_id: (*id).to_owned(),
                content: Arc::clone(content),
                params: (*params).clone(),
                added_us: at_us,
            }),
            Fact::Started { key, candidate_id, probability, pick } => {
                let (arm, probability) = (self.arm_of(candidate_id), propensity(*probability));
                self.totals.unmatched += u64::from(*pick == Pick::Unmatched);
                self.open_rollout(*key, arm, probability, (seq, at_us));
                self.hold(arm, probability, *pick);
            }
            Fact::Adopted { key, candidate_id } => {
                let arm = self.arm_of(candidate_id);
                self.open_rollout(*key, arm, 1.0, (seq, at_us));
            }
            Fact::Rewarded { key, reward } => self.reward(*key, *reward, at_us, probe),
            Fact::Learned { best_candidate_id, best_score } => {
                if self.best.candidate_id != *best_candidate_id {
                    (*best_candidate_id).clone_into(&mut self.best.candidate_id);
                }
                self.best.score = *best_score;
            }
            Fact::Closed { key, phase } => self.close(*key, *phase, at_us),
            Fact::Expired { started_seqs, rollout_ids } => {
                let begun = self.rollouts.begun_by(started_seqs);
                let named = rollout_ids.iter().map(|id| RolloutKey::of(id));
                begun.into_iter().chain(named).for_each(|key| self.close(key, Phase::Expired, at_us));
            }
        }
        self.version = seq;
        self.updated_us = at_us;
        self.forget_closed(at_us);
    }

    fn add_candidate(&mut self, candidate: Candidate) {
        Arc::make_mut(&mut self.catalog).add(candidate);
        self.arms.push(Arm::default());
    }

    fn arm_of(&self, candidate_id: &str) -> usize {
        self.catalog.by_id.get(candidate_id).copied().unwrap_or(0)
    }

    fn open_rollout(&mut self, key: RolloutKey, arm: usize, probability: f64, (seq, at_us): (u64, u64)) {
        let Some(stats) = self.arms.get_mut(arm) else { return };
        stats.begin();
        self.totals.rollouts += 1;
        let rollout = Rollout {
            arm,
            phase: Phase::Open,
            reward: None,
            probability: Some(probability as f32),
            opened_s: seconds(at_us),
            closed_s: 0,
            seq,
        };
        self.rollouts.insert(key, &rollout);
    }

    fn hold(&mut self, arm: usize, probability: f64, pick: Pick) {
        match pick {
            Pick::Batch => {
                let remaining = self.spec.rollouts_per_candidate.unwrap_or(1).saturating_sub(1);
                self.held = Some(Held { arm, remaining, probability });
            }
            Pick::Held => {
                if let Some(held) = &mut self.held {
                    held.remaining = held.remaining.saturating_sub(1);
                }
            }
            Pick::Policy | Pick::Unmatched => {}
        }
    }

    fn reward(&mut self, key: RolloutKey, reward: f64, at_us: u64, probe: &mut impl Probe) {
        let change = |rollout: &mut Rollout| {
            rollout.reward = Some(reward);
            // It may be repeated for the whole window from now on, not from when its rollout was closed or expired.
            rollout.closed_s = rollout.closed_s.max(seconds(at_us));
        };
        let Some(before) = self.rollouts.change(key, change) else { return };
        let Some(arm) = self.arms.get_mut(before.arm) else { return };
        if before.is_pending() {
            arm.end();
        }
        let policy = self.spec.policy();
        probe.observe(|| policy.observe(arm, reward));
        self.totals.rewards += 1;
    }

    fn close(&mut self, key: RolloutKey, phase: Phase, at_us: u64) {
        let close = |rollout: &mut Rollout| {
            rollout.phase = phase;
            rollout.closed_s = seconds(at_us);
        };
        let Some(before) = self.rollouts.change(key, close) else { return };
        if before.is_pending()
            && let Some(arm) = self.arms.get_mut(before.arm)
        {
            arm.end();
        }
        match phase {
            Phase::Done => self.totals.done += 1,
            Phase::Failed => self.totals.failed += 1,
            Phase::Expired => self.totals.expired += 1,
            Phase::Open => {}
        }
    }

    /// Forgets the oldest closed rollouts: those beyond the limit of their number, and those older than the window.
    fn forget_closed(&mut self, now_us: u64) {
        let limits = &self.spec.limits;
        let mut aged = 0;
        while let Some(closed_s) = self.rollouts.oldest_closed_s() {
            let old = age_us(now_us, closed_s) >= limits.dedup_window_us && aged < FORGOTTEN_PER_EVENT_MAX;
            aged += usize::from(old);
            if !old && self.rollouts.closed_len() <= limits.rollouts_closed_max {
                return;
            }
            self.rollouts.forget_oldest_closed();
        }
    }
}
