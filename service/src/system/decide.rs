//! Commands into events. Nothing is changed here; what is refused leaves no trace.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::command::{Command, Context, NewCandidate, NewSystem, Reply, Status, StatusReport};
use super::content::CandidateContent;
use super::event::{Event, Pick, propensity};
use super::probe::Probe;
use super::prompt::{Message, PromptHash, match_prompt};
use super::refusal::{Refusal, require};
use super::rollouts::{Phase, Rollout, RolloutKey, age_us};
use super::state::{BASELINE, Held, State};
use crate::optimizer::{Policy, Suggestion, recommend};

/// Rollouts one command may expire, so that no caller pays for many.
const EXPIRED_PER_COMMAND_MAX: usize = 64;

/// What an accepted command comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What happened, in order; empty where nothing changes.
    pub events: Vec<Event>,
    /// The answer. Its version is that after the events.
    pub reply: Reply,
}

/// The events of a new system: itself, and its `baseline`. The spec must be valid ([`super::SystemSpec::validate`]).
#[must_use]
pub fn create(new: &NewSystem) -> Vec<Event> {
    let baseline = Event::CandidateAdded {
        candidate_id: BASELINE.to_owned(),
        content: Arc::new(CandidateContent::default()),
        params: std::collections::BTreeMap::new(),
    };
    vec![Event::SystemCreated { system: Arc::new(new.clone()) }, baseline]
}

/// Decides a command. Deterministic: the same state, command and context give the same decision.
///
/// # Errors
/// The [`Refusal`] that tells the caller what is wrong; the state is as it was.
pub fn decide(
    state: &State,
    command: &Command,
    context: &Context,
    probe: &mut impl Probe,
) -> Result<Decision, Refusal> {
    let mut draft = Draft { state, context, events: Vec::new() };
    let reply = match command {
        Command::AddCandidate(new) => draft.add_candidate(new)?,
        Command::StartRollout { rollout_id, messages } => draft.start(rollout_id, messages, probe)?,
        Command::Report(report) => draft.report(report, probe)?,
    };
    Ok(Decision { events: draft.events, reply })
}

/// A decision being made.
struct Draft<'s> {
    state: &'s State,
    context: &'s Context,
    events: Vec<Event>,
}

impl Draft<'_> {
    /// The system's version once the events so far are applied.
    fn version(&self) -> u64 {
        self.state.version + self.events.len() as u64
    }

    /// Rollouts whose time is up ride along with commands that change something anyway. This event comes last, so that
    /// it never pushes out of the dedup window what the command is about; `own`, the command's rollout, is left alone.
    fn expire_due(&mut self, own: Option<RolloutKey>) {
        let due = self.due().filter(|(key, _)| Some(*key) != own);
        let started_seqs: Vec<u64> = due.map(|(_, rollout)| rollout.seq).collect();
        if !started_seqs.is_empty() {
            self.events.push(Event::RolloutsExpired { started_seqs, rollout_ids: Vec::new() });
        }
    }

    /// Open rollouts whose time is up, oldest first, as many as one command may expire.
    fn due(&self) -> impl Iterator<Item = (RolloutKey, Rollout)> {
        let ttl_us = self.state.spec.limits.rollout_ttl_us;
        let due = move |(_, rollout): &(_, Rollout)| age_us(self.context.now_us, rollout.opened_s) >= ttl_us;
        self.state.rollouts.open().take_while(due).take(EXPIRED_PER_COMMAND_MAX)
    }

    fn add_candidate(&mut self, new: &NewCandidate) -> Result<Reply, Refusal> {
        let limits = &self.state.spec.limits;
        new.content.validate(&self.state.spec.prompt)?;
        require(new.params.len() <= limits.params_max, "params", "has too many dimensions")?;
        let names_fit = new.params.keys().all(|name| !name.is_empty() && name.len() <= limits.id_bytes_max);
        require(names_fit, "params", "has an empty or too long name")?;
        let size = serde_json::to_vec(&new.content).map_or(usize::MAX, |json| json.len());
        require(size <= limits.content_bytes_max, "deltas", "is larger than this system takes")?;

        let hash = new.content.hash();
        let same_content = self.state.catalog.by_content.get(&hash).map(|&arm| self.state.candidate_id(arm));
        if let Some(id) = &new.candidate_id {
            check_candidate_id(id, limits.id_bytes_max)?;
            let taken =
                self.state.candidate(id).is_some_and(|(candidate, _)| candidate.content.hash() != hash);
            if taken {
                return Err(Refusal::CandidateIdTaken(id.clone()));
            }
        }
        if let Some(candidate_id) = same_content {
            let candidate_id = candidate_id.to_owned();
            return Ok(Reply::Candidate { candidate_id, version: self.version() });
        }
        if self.state.arms.len() >= limits.candidates_max {
            return Err(Refusal::Full { what: "candidates", max: limits.candidates_max });
        }
        let derived = || new.content.derived_id();
        let candidate_id = new.candidate_id.clone().unwrap_or_else(derived);
        if self.state.candidate(&candidate_id).is_some() {
            return Err(Refusal::CandidateIdTaken(candidate_id));
        }
        let (content, params) = (Arc::new(new.content.clone()), new.params.clone());
        self.events.push(Event::CandidateAdded { candidate_id: candidate_id.clone(), content, params });
        self.expire_due(None);
        Ok(Reply::Candidate { candidate_id, version: self.version() })
    }

    fn start(
        &mut self,
        rollout_id: &str,
        messages: &[Message],
        probe: &mut impl Probe,
    ) -> Result<Reply, Refusal> {
        let state = self.state;
        check_rollout_id(rollout_id, state.spec.limits.id_bytes_max)?;
        let key = RolloutKey::of(rollout_id);
        let matched = match_prompt(&state.spec.prompt, messages).is_some();
        if let Some(rollout) = state.rollouts.get(key) {
            let probability = rollout.probability.map(f64::from);
            let reply = state.rollout_reply(rollout.arm, (probability, matched, true), state.version);
            return Ok(Reply::Rollout(reply));
        }
        self.check_room()?;
        let (Suggestion { arm, probability }, pick) = if matched {
            self.pick(probe)
        } else {
            (Suggestion { arm: 0, probability: 1.0 }, Pick::Unmatched)
        };
        let thrown = matches!(pick, Pick::Policy | Pick::Batch);
        self.events.push(Event::RolloutStarted {
            rollout_id: rollout_id.to_owned(),
            candidate_id: state.candidate_id(arm).to_owned(),
            probability,
            pick,
            seed: thrown.then_some(self.context.seed),
            prompt_hash: Some(PromptHash::of(messages)),
        });
        self.expire_due(Some(key));
        let version = self.version();
        Ok(Reply::Rollout(state.rollout_reply(arm, (Some(probability), matched, false), version)))
    }

    fn pick(&self, probe: &mut impl Probe) -> (Suggestion, Pick) {
        if let Some(Held { arm, remaining: 1.., probability }) = self.state.held {
            return (Suggestion { arm, probability }, Pick::Held);
        }
        let suggestion = probe.suggest(|| {
            let mut dice = ChaCha8Rng::seed_from_u64(self.context.seed);
            self.state.spec.policy().suggest(&self.state.arms_view(), &mut dice)
        });
        let batch = self.state.spec.rollouts_per_candidate.is_some();
        // A state always has its baseline, so a policy always has an arm to suggest.
        let Suggestion { arm, probability } = suggestion.unwrap_or(Suggestion { arm: 0, probability: 1.0 });
        let suggestion = Suggestion { arm, probability: propensity(probability) };
        (suggestion, if batch { Pick::Batch } else { Pick::Policy })
    }

    fn check_room(&self) -> Result<(), Refusal> {
        let max = self.state.spec.limits.rollouts_open_max;
        // Those whose time is up make room.
        if self.state.rollouts.open_len() >= max && self.due().next().is_none() {
            return Err(Refusal::Full { what: "open rollouts", max });
        }
        Ok(())
    }

    fn report(&mut self, report: &StatusReport, probe: &mut impl Probe) -> Result<Reply, Refusal> {
        check_rollout_id(&report.rollout_id, self.state.spec.limits.id_bytes_max)?;
        let call = Call::read(report)?;
        let sent = match &report.candidate_id {
            Some(id) => Some(self.state.catalog.by_id.get(id).copied().ok_or_else(|| unknown_candidate(id))?),
            None => None,
        };
        let key = RolloutKey::of(&report.rollout_id);
        let known = self.state.rollouts.get(key);
        let (arm, rollout) = match (known, sent) {
            (Some(rollout), Some(sent)) if rollout.arm != sent => {
                return Err(self.mismatch(report, rollout.arm, sent));
            }
            (Some(rollout), _) => (rollout.arm, Some(rollout)),
            (None, Some(sent)) => (sent, None),
            (None, None) => return Err(Refusal::UnknownRollout(report.rollout_id.clone())),
        };
        let effect = self.effect(&report.rollout_id, rollout.as_ref(), &call)?;
        if rollout.is_none() {
            self.check_room()?;
        }
        let duplicate = effect.is_none();
        if !duplicate {
            self.write_effect(report, arm, rollout.is_none(), &effect, probe);
            self.expire_due(Some(key));
        }
        let failed = rollout.is_some_and(|rollout| rollout.phase == Phase::Failed);
        Ok(Reply::Status {
            candidate_id: self.state.candidate_id(arm).to_owned(),
            rollout_id: report.rollout_id.clone(),
            status: if failed { Status::Failed } else { call.status },
            version: self.version(),
            duplicate,
        })
    }

    fn mismatch(&self, report: &StatusReport, actual: usize, sent: usize) -> Refusal {
        let id = |arm: usize| self.state.candidate_id(arm).to_owned();
        Refusal::CandidateMismatch {
            rollout_id: report.rollout_id.clone(),
            actual: id(actual),
            sent: id(sent),
        }
    }

    /// What a status call changes, given where the rollout stands. Calls are compared by effect, so whatever has been
    /// applied before is no longer part of it.
    fn effect(&self, rollout_id: &str, rollout: Option<&Rollout>, call: &Call) -> Result<Effect, Refusal> {
        let Some(rollout) = rollout else { return Ok(Effect { reward: call.reward, close: call.close }) };
        let reward = match (call.reward, rollout.reward) {
            (None, _) => None,
            (Some(_), _) if rollout.phase == Phase::Failed => {
                return Err(Refusal::Failed(rollout_id.to_owned()));
            }
            (Some(sent), Some(recorded)) if sent == recorded => None,
            (Some(sent), Some(recorded)) => {
                return Err(Refusal::RewardConflict { rollout_id: rollout_id.to_owned(), recorded, sent });
            }
            (Some(sent), None) => {
                self.check_in_time(rollout_id, rollout)?;
                Some(sent)
            }
        };
        let close = match (call.close, rollout.phase) {
            (Some(Phase::Failed), _) if rollout.reward.is_some() => {
                return Err(Refusal::AlreadyRewarded(rollout_id.to_owned()));
            }
            (Some(Phase::Failed), Phase::Failed) | (Some(Phase::Done), Phase::Done | Phase::Failed) => None,
            (close, _) => close,
        };
        Ok(Effect { reward, close })
    }

    /// A first reward counts while the rollout is open; after a `done` that carried none until its time is up; and after it
    /// expired for as long as it is remembered.
    fn check_in_time(&self, rollout_id: &str, rollout: &Rollout) -> Result<(), Refusal> {
        let ttl_us = self.state.spec.limits.rollout_ttl_us;
        if rollout.phase == Phase::Done && age_us(self.context.now_us, rollout.opened_s) >= ttl_us {
            return Err(Refusal::TooLate { rollout_id: rollout_id.to_owned(), ttl_s: ttl_us / 1_000_000 });
        }
        Ok(())
    }

    fn write_effect(
        &mut self,
        report: &StatusReport,
        arm: usize,
        adopt: bool,
        effect: &Effect,
        probe: &mut impl Probe,
    ) {
        let rollout_id = || report.rollout_id.clone();
        let candidate_id = || self.state.candidate_id(arm).to_owned();
        if adopt {
            self.events
                .push(Event::RolloutAdopted { rollout_id: rollout_id(), candidate_id: candidate_id() });
        }
        if let Some(reward) = effect.reward {
            let candidate_id = candidate_id();
            self.events.push(Event::RewardReceived { rollout_id: rollout_id(), candidate_id, reward });
            let learned = probe.observe(|| self.learned(arm, reward));
            self.events.push(learned);
        }
        let candidate_id = self.state.candidate_id(arm).to_owned();
        match effect.close {
            Some(Phase::Done) => {
                self.events.push(Event::RolloutDone { rollout_id: rollout_id(), candidate_id });
            }
            Some(Phase::Failed) => {
                self.events.push(Event::RolloutFailed { rollout_id: rollout_id(), candidate_id });
            }
            _ => {}
        }
    }

    /// What the optimizer will know once `reward` is applied.
    fn learned(&self, arm: usize, reward: f64) -> Event {
        let mut arms = self.state.arms.clone();
        self.state.spec.policy().observe(&mut arms[arm], reward);
        let best = recommend(&arms, self.state.spec.tpe.alpha).unwrap_or(0);
        let id = |arm: usize| self.state.candidate_id(arm).to_owned();
        Event::TpeUpdated {
            candidate_id: id(arm),
            reward_count: arms[arm].n,
            avg_reward: arms[arm].mean,
            best_candidate_id: id(best),
            best_score: (arms[best].n > 0).then_some(arms[best].mean),
        }
    }
}

/// A status call, read into what it asks for.
struct Call {
    status: Status,
    reward: Option<f64>,
    close: Option<Phase>,
}

impl Call {
    fn read(report: &StatusReport) -> Result<Self, Refusal> {
        let finite = report.reward.is_none_or(f64::is_finite);
        require(finite, "reward", "must be a finite number")?;
        let needed = matches!(report.status, Status::Reward | Status::RewardDone);
        require(
            !needed || report.reward.is_some(),
            "reward",
            "is required for status reward and reward_done",
        )?;
        Ok(match (report.status, report.reward) {
            // A fault of the infrastructure has no reward, whatever a client puts there.
            (Status::Failed, _) => Self { status: Status::Failed, reward: None, close: Some(Phase::Failed) },
            (Status::Reward, reward) => Self { status: Status::Reward, reward, close: None },
            (Status::Done, None) => Self { status: Status::Done, reward: None, close: Some(Phase::Done) },
            (_, reward) => Self { status: Status::RewardDone, reward, close: Some(Phase::Done) },
        })
    }
}

/// What a status call changes.
struct Effect {
    reward: Option<f64>,
    close: Option<Phase>,
}

impl Effect {
    fn is_none(&self) -> bool {
        self.reward.is_none() && self.close.is_none()
    }
}

/// An id nobody has may be of any length; what goes back is bounded.
fn unknown_candidate(id: &str) -> Refusal {
    Refusal::UnknownCandidate(id.chars().take(256).collect())
}

fn check_rollout_id(id: &str, bytes_max: usize) -> Result<(), Refusal> {
    require(!id.is_empty(), "rollout_id", "must not be empty")?;
    require(id.len() <= bytes_max, "rollout_id", "is too long")?;
    require(!id.chars().any(char::is_control), "rollout_id", "must not hold control characters")
}

/// A candidate's id travels in a response header.
fn check_candidate_id(id: &str, bytes_max: usize) -> Result<(), Refusal> {
    require(!id.is_empty(), "candidate_id", "must not be empty")?;
    require(id.len() <= bytes_max, "candidate_id", "is too long")?;
    require(
        id.bytes().all(|byte| byte.is_ascii_graphic()),
        "candidate_id",
        "must be visible ASCII without spaces",
    )
}
