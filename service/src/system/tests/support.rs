//! A system under test: its state, its history, and a clock to be turned by hand.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::system::{
    CandidateContent, Command, Context, Message, NewCandidate, NewSystem, NoProbe, Prompt, Recorded, Refusal,
    Reply, RolloutReply, State, Status, StatusReport, SystemSpec, begin, execute,
};

pub(super) const SECOND_US: u64 = 1_000_000;
const START_US: u64 = 1_700_000_000 * SECOND_US;

pub(super) struct Rig {
    pub(super) state: State,
    pub(super) history: Vec<Recorded>,
    pub(super) now_us: u64,
    pub(super) seed: u64,
}

pub(super) fn prompt() -> Prompt {
    serde_json::from_value(json!({
        "id": "p", "name": "P",
        "messages": [
            {"role": "system", "order": 0, "pattern": "Answer with one label."},
            {"role": "user", "order": 1, "pattern": "Query: {query}"},
        ],
        "wildcards": {"query": "REQUIRED"},
    }))
    .unwrap()
}

pub(super) fn messages(query: &str) -> Arc<[Message]> {
    let message = |role: &str, text: String| Message { role: role.to_owned(), text: Some(text) };
    Arc::new([
        message("system", "Answer with one label.".to_owned()),
        message("user", format!("Query: {query}")),
    ])
}

pub(super) fn new_system(spec: SystemSpec) -> NewSystem {
    NewSystem {
        system_id: Uuid::from_u128(1),
        org_id: Uuid::from_u128(2),
        name: Some("demo".to_owned()),
        spec,
    }
}

pub(super) fn report(
    rollout: &str,
    status: Status,
    reward: Option<f64>,
    candidate: Option<&str>,
) -> StatusReport {
    let (rollout_id, candidate_id) = (rollout.to_owned(), candidate.map(str::to_owned));
    StatusReport { rollout_id, status, reward, candidate_id }
}

pub(super) fn deltas(text: &str) -> NewCandidate {
    let content =
        CandidateContent { deltas: json!({"instruction_text": text}), ..CandidateContent::default() };
    NewCandidate { content, ..NewCandidate::default() }
}

impl Rig {
    pub(super) fn new(change: impl FnOnce(&mut SystemSpec)) -> Self {
        let mut spec = SystemSpec { prompt: Arc::new(prompt()), ..SystemSpec::default() };
        change(&mut spec);
        spec.validate().unwrap();
        let context = Context { now_us: START_US, seed: 0 };
        let (state, history, _) = begin(&new_system(spec), &context);
        Self { state, history, now_us: START_US, seed: 0 }
    }

    /// A system with `baseline` and `others` candidates more, `c1`, `c2`, ….
    pub(super) fn with_candidates(others: usize, change: impl FnOnce(&mut SystemSpec)) -> Self {
        let mut rig = Self::new(change);
        for index in 1..=others {
            let named =
                NewCandidate { candidate_id: Some(format!("c{index}")), ..deltas(&format!("Text {index}")) };
            rig.run(&Command::AddCandidate(named)).unwrap();
        }
        rig
    }

    pub(super) fn run(&mut self, command: &Command) -> Result<Reply, Refusal> {
        self.seed += 1;
        let context = Context { now_us: self.now_us, seed: self.seed };
        let (events, reply) = execute(&mut self.state, command, &context, &mut NoProbe)?;
        self.history.extend(events);
        Ok(reply)
    }

    pub(super) fn start(&mut self, rollout: &str) -> RolloutReply {
        self.start_with(rollout, messages("why?")).unwrap()
    }

    pub(super) fn start_with(
        &mut self,
        rollout: &str,
        messages: Arc<[Message]>,
    ) -> Result<RolloutReply, Refusal> {
        match self.run(&Command::StartRollout { rollout_id: rollout.to_owned(), messages })? {
            Reply::Rollout(reply) => Ok(reply),
            other => panic!("unexpected reply: {other:?}"),
        }
    }

    pub(super) fn report(
        &mut self,
        rollout: &str,
        status: Status,
        reward: Option<f64>,
    ) -> Result<Told, Refusal> {
        self.tell(report(rollout, status, reward, None))
    }

    pub(super) fn tell(&mut self, report: StatusReport) -> Result<Told, Refusal> {
        match self.run(&Command::Report(report))? {
            Reply::Status { candidate_id, status, version, duplicate, .. } => {
                Ok(Told { candidate_id, status, version, duplicate })
            }
            other => panic!("unexpected reply: {other:?}"),
        }
    }

    pub(super) fn add(&mut self, new: NewCandidate) -> Result<String, Refusal> {
        match self.run(&Command::AddCandidate(new))? {
            Reply::Candidate { candidate_id, .. } => Ok(candidate_id),
            other => panic!("unexpected reply: {other:?}"),
        }
    }

    /// A whole rollout with this reward; says which candidate it had.
    pub(super) fn rollout(&mut self, rollout: &str, reward: f64) -> String {
        let candidate = self.start(rollout).candidate_id;
        self.report(rollout, Status::RewardDone, Some(reward)).unwrap();
        candidate
    }

    pub(super) fn pass_s(&mut self, seconds: u64) {
        self.now_us += seconds * SECOND_US;
    }

    /// Names of the events after the first `from`.
    pub(super) fn names(&self, from: usize) -> Vec<&'static str> {
        self.history[from..].iter().map(|recorded| recorded.event.name()).collect()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::to_value(&self.state).unwrap()
    }
}

/// A status reply, unwrapped.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    pub(super) candidate_id: String,
    pub(super) status: Status,
    pub(super) version: u64,
    pub(super) duplicate: bool,
}
