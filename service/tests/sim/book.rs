//! What clients did and were told: the history that is checked.

use std::sync::{Arc, Mutex};

use mipro_service::engine::error::LogTrouble;
use mipro_service::engine::{Access, Engine, EngineError, Executed, Question};
use mipro_service::log::disk::sim::SimDisk;
use mipro_service::system::{
    CandidateContent, Command, Message, NewCandidate, Refusal, Reply, Status, StatusReport,
};
use mipro_telemetry::{Ledger, Operation};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::scene::{CLIENTS, Scene, lock};

/// The org of every system.
pub(crate) const ORG: Uuid = Uuid::from_u128(0xa);
/// The most events one read asks for.
pub(crate) const EVENTS_MAX: usize = 10_000;

/// What a client asks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    Create,
    Start { rollout: String },
    Report { rollout: String, status: Status, reward: Option<f64>, adopt: bool },
    Candidate { text: String },
    State,
    Events { since: u64 },
}

/// What it was told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Reply(Reply),
    Body(Value),
    Refused(Refusal),
    /// There is no such system.
    NotFound,
    /// The system was there already.
    Exists,
    /// Not taken: surely without effect.
    NotTaken(String),
    /// It may have been done or not.
    Unknown(String),
    /// Events are missing: the disk they were on is gone.
    Lost,
    /// What no caller may ever be told: a fault of the program.
    Broken(String),
}

impl Outcome {
    /// Whether there is nothing left to ask.
    pub(crate) fn is_definite(&self) -> bool {
        matches!(self, Self::Reply(_) | Self::Body(_) | Self::Refused(_) | Self::Lost)
    }

    /// The version it showed.
    pub(crate) fn version(&self) -> Option<u64> {
        match self {
            Self::Reply(
                Reply::Created { version } | Reply::Candidate { version, .. } | Reply::Status { version, .. },
            ) => Some(*version),
            Self::Reply(Reply::Rollout(rollout)) => Some(rollout.version),
            Self::Body(body) => body["version"].as_u64(),
            _ => None,
        }
    }

    pub(crate) fn brief(&self) -> String {
        match self {
            Self::Reply(Reply::Rollout(r)) => {
                format!("rollout {} p={:?} sticky={} v{}", r.candidate_id, r.probability, r.sticky, r.version)
            }
            Self::Body(body) => format!("body {}", &blake3::hash(body.to_string().as_bytes()).to_hex()[..12]),
            other => format!("{other:?}"),
        }
    }
}

/// One call of one client.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) client: usize,
    pub(crate) system: usize,
    pub(crate) call: Call,
    /// The process that was asked.
    pub(crate) process: u64,
    /// The highest version this client had seen of the system when it asked.
    pub(crate) seen: u64,
    /// `None`: it never heard.
    pub(crate) outcome: Option<Outcome>,
}

/// Every call of a history, in the order in which they were sent.
#[derive(Debug, Default)]
pub(crate) struct Book {
    made: Mutex<Vec<Made>>,
}

impl Book {
    fn sent(&self, made: Made) -> usize {
        let mut book = lock(&self.made);
        book.push(made);
        book.len() - 1
    }

    fn heard(&self, index: usize, outcome: Outcome) {
        lock(&self.made)[index].outcome = Some(outcome);
    }

    pub(crate) fn made(&self) -> Vec<Made> {
        lock(&self.made).clone()
    }
}

/// A service as clients see it.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) scene: Arc<Scene>,
    pub(crate) book: Arc<Book>,
    pub(crate) systems: Arc<[Uuid]>,
    pub(crate) process: u64,
    pub(crate) disk: SimDisk,
    pub(crate) host_gone: bool,
}

impl Service {
    /// Makes a call and writes down what became of it. Dropping it leaves the outcome open.
    pub(crate) async fn make(&self, client: usize, system: usize, seen: u64, call: Call) -> Outcome {
        let lane = CLIENTS + client as u64;
        self.scene.note(lane, || format!("system {system}: {call:?}"));
        let process = self.process;
        let index = self.book.sent(Made { client, system, call: call.clone(), process, seen, outcome: None });
        let mut outcome = match self.perform(self.systems[system], call).await {
            Ok(outcome) => outcome,
            Err(error) => failed(error),
        };
        if self.disk.is_off() {
            // A machine without power tells nobody anything.
            std::future::pending::<()>().await;
        }
        self.scene.note(lane, || format!("system {system}: -> {}", outcome.brief()));
        if let Outcome::Broken(what) = &outcome
            && self.host_gone
            && what.contains("are neither in the log here, nor archived")
        {
            outcome = Outcome::Lost;
        }
        if let Outcome::Broken(what) = &outcome {
            self.scene.violated(format!("a caller was told of a fault of the program: {what}"));
        }
        match &outcome {
            Outcome::Reply(Reply::Status { duplicate: true, .. }) => self.scene.saw("duplicate", 1),
            Outcome::Refused(Refusal::RewardConflict { .. }) => self.scene.saw("conflict", 1),
            Outcome::NotTaken(_) => self.scene.saw("not taken", 1),
            Outcome::Unknown(_) => self.scene.saw("unknown", 1),
            _ => {}
        }
        self.book.heard(index, outcome.clone());
        outcome
    }

    async fn perform(&self, system: Uuid, call: Call) -> Result<Outcome, EngineError> {
        let ledger = Ledger::start(Operation::Unknown);
        let question = match call {
            Call::State => Question::State,
            Call::Events { since } => Question::Events { since_seq: since, limit: EVENTS_MAX },
            Call::Create => {
                let new = crate::process::new_system(system);
                return self.opened(self.engine.create(new, &ledger).await?, &ledger).await;
            }
            call => {
                let command = command(call);
                let executed = self.engine.execute(system, Access::Org(ORG), command, &ledger).await?;
                return self.opened(executed, &ledger).await;
            }
        };
        let answer = self.engine.inspect(system, Access::Org(ORG), question, &ledger).await?;
        answer.gate.wait(&ledger).await?;
        Ok(Outcome::Body(answer.body))
    }

    async fn opened(&self, executed: Executed, ledger: &Ledger) -> Result<Outcome, EngineError> {
        executed.gate.wait(ledger).await?;
        Ok(Outcome::Reply(executed.reply))
    }
}

fn failed(error: EngineError) -> Outcome {
    match error {
        EngineError::Refused(refusal) => Outcome::Refused(refusal),
        EngineError::NotFound => Outcome::NotFound,
        EngineError::AlreadyExists => Outcome::Exists,
        EngineError::Overloaded { .. }
        | EngineError::Overtaken
        | EngineError::Draining
        | EngineError::TooMuch { .. }
        | EngineError::Log(LogTrouble::Behind | LogTrouble::Full | LogTrouble::Blocked(_)) => {
            Outcome::NotTaken(error.to_string())
        }
        EngineError::Unavailable { .. } | EngineError::Timeout { .. } | EngineError::Log(_) => {
            Outcome::Unknown(error.to_string())
        }
        other => Outcome::Broken(other.to_string()),
    }
}

fn command(call: Call) -> Command {
    match call {
        Call::Start { rollout } => {
            let message =
                |role: &str, text: &str| Message { role: role.to_owned(), text: Some(text.to_owned()) };
            let messages = [message("system", "Name the intent."), message("user", "Query: my card")];
            Command::StartRollout { rollout_id: rollout, messages: messages.into() }
        }
        Call::Report { rollout, status, reward, adopt } => Command::Report(StatusReport {
            rollout_id: rollout,
            status,
            reward,
            candidate_id: adopt.then(|| "baseline".to_owned()),
        }),
        Call::Candidate { text } => Command::AddCandidate(NewCandidate {
            candidate_id: None,
            content: CandidateContent {
                deltas: json!({ "instruction_text": text }),
                ..CandidateContent::default()
            },
            params: [].into(),
        }),
        Call::Create | Call::State | Call::Events { .. } => unreachable!("no command"),
    }
}
