//! Events into state. Cannot fail, and depends on nothing but state and event: replaying a history gives the same state.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{Command, Context, NewSystem, Reply};
use super::decide::{create, decide};
use super::event::{Event, Pick, Recorded};
use super::probe::{NoProbe, Probe};
use super::refusal::Refusal;
use super::state::{BASELINE, Best, Candidate, Held, Index, Phase, Rollout, State, SystemStatus, Totals};
use crate::optimizer::{Arm, Space};

/// Closed rollouts one event may forget because of their age; those beyond the limit of their number always go.
const FORGOTTEN_PER_EVENT_MAX: usize = 64;

/// Makes a system: its state, its first events, and the answer. The spec must be valid ([`super::SystemSpec::validate`]).
#[must_use]
pub fn found(new: &NewSystem, context: &Context) -> (State, Vec<Recorded>, Reply) {
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
    debug_assert_eq!(recorded.seq, state.version + 1, "events come in order and without gaps");
    state.version = recorded.seq;
    state.updated_us = recorded.at_us;
    let (seq, at_us) = (recorded.seq, recorded.at_us);
    match &recorded.event {
        Event::SystemCreated { system } => {
            *state = State::empty(system, at_us);
            state.version = seq;
        }
        Event::CandidateAdded { candidate_id, content, params } => {
            state.add_candidate(Candidate {
                candidate_id: candidate_id.clone(),
                content: Arc::clone(content),
                params: params.clone(),
                added_us: at_us,
            });
        }
        Event::RolloutStarted { rollout_id, candidate_id, probability, pick } => {
            let matched = *pick != Pick::Unmatched;
            state.open_rollout(rollout_id, candidate_id, (*probability, matched), recorded);
            state.hold(candidate_id, *probability, *pick);
        }
        Event::RolloutAdopted { rollout_id, candidate_id } => {
            state.open_rollout(rollout_id, candidate_id, (1.0, true), recorded);
        }
        Event::RewardReceived { rollout_id, reward, .. } => {
            state.reward(rollout_id, *reward, probe);
        }
        Event::TpeUpdated { best_candidate_id, best_score, .. } => {
            state.best = Best { candidate_id: best_candidate_id.clone(), score: *best_score };
        }
        Event::RolloutDone { rollout_id, .. } => state.close(rollout_id, Phase::Done, recorded),
        Event::RolloutFailed { rollout_id, .. } => state.close(rollout_id, Phase::Failed, recorded),
        Event::RolloutsExpired { rollout_ids } => {
            rollout_ids.iter().for_each(|id| state.close(id, Phase::Expired, recorded));
        }
    }
    state.forget_closed(at_us);
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
            candidates: Vec::new(),
            arms: Vec::new(),
            held: None,
            rollouts: BTreeMap::new(),
            index: Index::default(),
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

    fn add_candidate(&mut self, candidate: Candidate) {
        let arm = self.candidates.len();
        self.index.by_id.insert(candidate.candidate_id.clone(), arm);
        self.index.by_content.entry(candidate.content.hash()).or_insert(arm);
        self.candidates.push(candidate);
        self.arms.push(Arm::default());
        self.index.space = Space::new(self.candidates.iter().map(|candidate| &candidate.params));
    }

    fn arm_of(&self, candidate_id: &str) -> usize {
        self.index.by_id.get(candidate_id).copied().unwrap_or(0)
    }

    fn open_rollout(
        &mut self,
        id: &str,
        candidate_id: &str,
        (probability, matched): (f64, bool),
        recorded: &Recorded,
    ) {
        let arm = self.arm_of(candidate_id);
        let Some(stats) = self.arms.get_mut(arm) else { return };
        stats.begin();
        self.totals.rollouts += 1;
        self.totals.unmatched += u64::from(!matched);
        let id: Arc<str> = Arc::from(id);
        let (seq, at_us) = (recorded.seq, recorded.at_us);
        let rollout = Rollout {
            arm,
            phase: Phase::Open,
            reward: None,
            probability,
            matched,
            opened_us: at_us,
            closed_us: at_us,
            seq,
        };
        self.index.open.insert(seq, Arc::clone(&id));
        self.rollouts.insert(id, rollout);
    }

    fn hold(&mut self, candidate_id: &str, probability: f64, pick: Pick) {
        match pick {
            Pick::Batch => {
                let remaining = self.spec.rollouts_per_candidate.unwrap_or(1).saturating_sub(1);
                self.held = Some(Held { arm: self.arm_of(candidate_id), remaining, probability });
            }
            Pick::Held => {
                if let Some(held) = &mut self.held {
                    held.remaining = held.remaining.saturating_sub(1);
                }
            }
            Pick::Policy | Pick::Unmatched => {}
        }
    }

    fn reward(&mut self, id: &str, reward: f64, probe: &mut impl Probe) {
        let Some(rollout) = self.rollouts.get_mut(id) else { return };
        let Some(arm) = self.arms.get_mut(rollout.arm) else { return };
        if rollout.is_pending() {
            arm.end();
        }
        rollout.reward = Some(reward);
        let policy = self.spec.policy();
        probe.observe(|| policy.observe(arm, reward));
        self.totals.rewards += 1;
    }

    fn close(&mut self, id: &str, phase: Phase, recorded: &Recorded) {
        let Some((id, _)) = self.rollouts.get_key_value(id) else { return };
        let id = Arc::clone(id);
        let Some(rollout) = self.rollouts.get_mut(&id) else { return };
        if rollout.is_pending()
            && let Some(arm) = self.arms.get_mut(rollout.arm)
        {
            arm.end();
        }
        let order = if rollout.phase == Phase::Open { &mut self.index.open } else { &mut self.index.closed };
        order.remove(&rollout.seq);
        rollout.phase = phase;
        rollout.closed_us = recorded.at_us;
        // Rollouts that expire together share an event; their order in it keeps the places apart.
        rollout.seq = self.index.closed.last_key_value().map_or(0, |(last, _)| last + 1).max(recorded.seq);
        self.index.closed.insert(rollout.seq, id);
        match phase {
            Phase::Done => self.totals.done += 1,
            Phase::Failed => self.totals.failed += 1,
            Phase::Expired => self.totals.expired += 1,
            Phase::Open => {}
        }
    }

    /// Forgets the oldest closed rollouts: those beyond the limit of their number, and those older than the window.
    fn forget_closed(&mut self, now_us: u64) {
        let limits = self.spec.limits;
        let mut aged = 0;
        while let Some(entry) = self.index.closed.first_entry() {
            let closed_us = self.rollouts.get(entry.get()).map_or(0, |rollout| rollout.closed_us);
            let old =
                now_us.saturating_sub(closed_us) >= limits.dedup_window_us && aged < FORGOTTEN_PER_EVENT_MAX;
            aged += usize::from(old);
            let id = entry.get().clone();
            if !old && self.index.closed.len() <= limits.rollouts_closed_max {
                return;
            }
            self.index.closed.pop_first();
            self.rollouts.remove(&id);
        }
    }
}
