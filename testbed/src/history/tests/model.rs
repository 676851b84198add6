//! A service that keeps its promises, and clients whose answers get lost: makes histories that the checker must accept.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::*;

pub(super) const SYSTEM: &str = "s";

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fate {
    Answered,
    /// Applied, and the answer is lost with the process.
    AnswerLost,
    /// Never arrived.
    CallLost,
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    client: u32,
    rollout: u8,
    call: u8,
    reward: u8,
    fate: Fate,
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![6 => Just(Fate::Answered), 1 => Just(Fate::AnswerLost), 1 => Just(Fate::CallLost)];
    let step = (0..3_u32, 0..4_u8, 0..7_u8, 0..3_u8, fate)
        .prop_map(|(client, rollout, call, reward, fate)| Step { client, rollout, call, reward, fate });
    proptest::collection::vec(step, 1..60)
}

#[derive(Default)]
struct Known {
    candidate: String,
    reward: Option<f64>,
    closed: bool,
    failed: bool,
}

#[derive(Default)]
pub(super) struct Model {
    rollouts: BTreeMap<String, Known>,
    pub(super) events: Vec<Kind>,
    pub(super) observations: Vec<Observation>,
}

impl Model {
    pub(super) fn run(steps: &[Step]) -> Self {
        let added = |candidate: &str| Kind::CandidateAdded { candidate: candidate.to_owned() };
        let mut model =
            Self { events: vec![Kind::Created, added("baseline"), added("c1")], ..Self::default() };
        steps.iter().for_each(|step| model.step(step));
        model
    }

    fn step(&mut self, step: &Step) {
        // A rollout belongs to one client, but for the last, which all share.
        let owner = if step.rollout == 3 { 0 } else { step.client };
        let rollout = format!("c{owner}-r{}", step.rollout);
        let reward = Some(f64::from(step.reward) / 4.0);
        let call = |status, reward| Call::Report { rollout: rollout.clone(), status, reward };
        let call = match step.call {
            0 | 1 => Call::Start { rollout: rollout.clone() },
            2 => call(Status::Reward, reward),
            3 => call(Status::RewardDone, reward),
            4 => call(Status::Done, None),
            5 => call(Status::Failed, None),
            _ => Call::Read,
        };
        let outcome = match step.fate {
            Fate::CallLost => Outcome::Unknown,
            Fate::AnswerLost => {
                let _ = self.serve(&call);
                Outcome::Unknown
            }
            Fate::Answered => self.serve(&call),
        };
        let system = SYSTEM.to_owned();
        self.observations.push(Observation { client: step.client, system, call, outcome });
    }

    fn version(&self) -> u64 {
        self.events.len() as u64
    }

    fn serve(&mut self, call: &Call) -> Outcome {
        match call {
            Call::Start { rollout } => self.start(rollout),
            Call::Report { rollout, status, reward } => self.report(rollout, *status, *reward),
            Call::Read => {
                let folded = State::fold(&numbered(&self.events));
                let (rollouts, rewards) = (folded.rollouts, folded.rewards);
                Outcome::Saw(Reading { version: self.version(), rollouts, rewards })
            }
        }
    }

    fn start(&mut self, rollout: &str) -> Outcome {
        if !self.rollouts.contains_key(rollout) {
            let candidate = if rollout.ends_with('1') { "c1" } else { "baseline" }.to_owned();
            let known = Known { candidate: candidate.clone(), ..Known::default() };
            self.rollouts.insert(rollout.to_owned(), known);
            self.events.push(Kind::Started { rollout: rollout.to_owned(), candidate });
        }
        let candidate = Some(self.rollouts[rollout].candidate.clone());
        Outcome::Acknowledged(Answer { candidate, ..Answer::default() })
    }

    fn report(&mut self, rollout: &str, status: Status, reward: Option<f64>) -> Outcome {
        let Some(known) = self.rollouts.get_mut(rollout) else { return Outcome::Refused(404) };
        let refused = match (status, reward, known.reward) {
            (Status::Failed, _, recorded) => recorded.is_some(),
            (_, Some(_), _) if known.failed => true,
            (_, Some(sent), Some(recorded)) => sent.to_bits() != recorded.to_bits(),
            _ => false,
        };
        if refused {
            return Outcome::Refused(409);
        }
        let (id, candidate) = (rollout.to_owned(), known.candidate.clone());
        let mut duplicate = true;
        if let Some(reward) = reward.filter(|_| known.reward.is_none() && status != Status::Failed) {
            duplicate = false;
            known.reward = Some(reward);
            self.events.push(Kind::Rewarded { rollout: id.clone(), candidate: candidate.clone(), reward });
            self.events.push(Kind::Learned { candidate: candidate.clone(), rewards: 0, mean: 0.0 });
        }
        let closes = matches!(status, Status::Done | Status::RewardDone);
        if closes && !known.closed && !known.failed {
            (duplicate, known.closed) = (false, true);
            self.events.push(Kind::Done { rollout: id.clone() });
        }
        if status == Status::Failed && !known.failed {
            (duplicate, known.failed) = (false, true);
            self.events.push(Kind::Failed { rollout: id });
        }
        let (version, candidate) = (Some(self.version()), Some(candidate));
        Outcome::Acknowledged(Answer { version, candidate, duplicate: Some(duplicate) })
    }

    pub(super) fn truth(&self) -> Truth {
        truth(&self.events)
    }

    pub(super) fn verdict(&self) -> Verdict {
        verdict(&self.observations, self.truth())
    }
}

pub(super) fn verdict(observations: &[Observation], truth: Truth) -> Verdict {
    check(observations, &BTreeMap::from([(SYSTEM.to_owned(), truth)]))
}

/// Gives events their places, and has the optimizer say what the rewards so far make.
pub(super) fn numbered(kinds: &[Kind]) -> Vec<Event> {
    let mut folded = State::default();
    let mut events = Vec::with_capacity(kinds.len());
    for (index, kind) in kinds.iter().enumerate() {
        let mut kind = kind.clone();
        if let Kind::Learned { candidate, rewards, mean } = &mut kind {
            let totals = folded.candidates.get(candidate).copied().unwrap_or_default();
            (*rewards, *mean) = (totals.rewards, totals.mean.unwrap_or_default());
        }
        let event = Event { seq: index as u64 + 1, kind };
        folded.apply(&event);
        events.push(event);
    }
    events
}

/// A truth in which everything but what the clients were told fits together.
pub(super) fn truth(kinds: &[Kind]) -> Truth {
    let events = numbered(kinds);
    Truth { state: State::fold(&events), events }
}
