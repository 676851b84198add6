//! Clients that write down what they asked for and what they were told, and repeat what they never learned the outcome of.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mipro_testbed::history::{Answer, Call, Event, Observation, Outcome, Reading, State, Status, Truth};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::common::{KEY, chat};

/// A twin makes a client's call at the same time, and is another client in the books.
const TWIN: u32 = 1_000;
/// Answers in a row that say "try again" before a client gives up for this round.
const UNAVAILABLE_MAX: u32 = 200;
/// Times that a reader of the truth asks.
const READS_MAX: u32 = 10;

/// Deterministic dice: SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

/// A system, by its id and by the name it has in the books.
#[derive(Debug, Clone)]
pub(crate) struct System {
    pub(crate) name: String,
    pub(crate) id: String,
}

/// Where a service is now.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    http: reqwest::Client,
    base: String,
}

impl Place {
    pub(crate) fn new(base: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        Self { http, base: base.to_owned() }
    }

    fn route(&self, system: &System, rest: &str) -> String {
        format!("{}/api/prompt-learning/online/mipro/systems/{}/{rest}", self.base, system.id)
    }

    /// Repeats what is answered 503: on a busy machine a store may be slow once.
    async fn get(&self, system: &System, rest: &str) -> (u16, Value) {
        let mut last = (0, Value::Null);
        for _ in 0..READS_MAX {
            let request = self.http.get(self.route(system, rest)).bearer_auth(KEY);
            last = told(request).await.map_or((0, Value::Null), |told| (told.status, told.body));
            if last.0 != 503 {
                break;
            }
        }
        last
    }

    /// All events, and the state.
    pub(crate) async fn truth(&self, system: &System) -> Truth {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let since = events.last().map_or(0, |event| event.seq);
            let (status, page) = self.get(system, &format!("events?since_seq={since}&limit=500")).await;
            assert_eq!(status, 200, "events of {} after {since}: {page}", system.name);
            let items = page["items"].as_array().expect("a page has items");
            if items.is_empty() {
                break;
            }
            events.extend(items.iter().map(|item| Event::read(item).expect("an event of the contract")));
        }
        let (status, state) = self.get(system, "state").await;
        assert_eq!(status, 200, "state of {}: {state}", system.name);
        Truth { events, state: State::read(&state).expect("a state of the contract") }
    }
}

struct Told {
    status: u16,
    candidate: Option<String>,
    unrecorded: bool,
    body: Value,
}

/// `None` when no whole answer came.
async fn told(request: RequestBuilder) -> Option<Told> {
    let answer = request.send().await.ok()?;
    let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let (candidate, unrecorded) = (header("x-mipro-candidate-id"), header("x-mipro-unrecorded").is_some());
    let status = answer.status().as_u16();
    let bytes = answer.bytes().await.ok()?;
    Some(Told { status, candidate, unrecorded, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
}

/// One step of a client: a call, whether a rollout from elsewhere names its candidate, and what it must be answered.
#[derive(Debug, Clone)]
struct Step {
    call: Call,
    adopt: bool,
    twin: bool,
    expected: u16,
}

/// A client of one system: one call at a time, each repeated with the same key until it is answered.
#[derive(Debug)]
pub(crate) struct Writer {
    id: u32,
    system: System,
    dice: Dice,
    rollouts: u32,
    steps: VecDeque<Step>,
    pub(crate) observations: Vec<Observation>,
    /// Answers that no history explains: a repeated call refused, a refusal that did not come.
    pub(crate) complaints: Vec<String>,
}

impl Writer {
    pub(crate) fn new(id: u32, system: System, seed: u64) -> Self {
        let dice = Dice(seed);
        let (steps, observations, complaints) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { id, system, dice, rollouts: 0, steps, observations, complaints }
    }

    /// Calls until a call is cut off, or `acks` is closed; each answer adds a permit to it.
    pub(crate) async fn run(mut self, place: Place, acks: Arc<Semaphore>) -> Self {
        let mut unavailable = 0;
        while unavailable < UNAVAILABLE_MAX && !acks.is_closed() {
            if self.steps.is_empty() {
                self.next_rollout();
            }
            match self.step(&place).await {
                Stepped::On => unavailable = 0,
                Stepped::Again => unavailable += 1,
                Stepped::Cut => break,
            }
            acks.add_permits(1);
        }
        self
    }

    /// Repeats what is open until it is answered, and makes no new call.
    pub(crate) async fn settle(&mut self, place: &Place) {
        let open = self.observations.last().is_some_and(|last| last.outcome == Outcome::Unknown);
        for _ in 0..UNAVAILABLE_MAX {
            if !open || matches!(self.step(place).await, Stepped::On) {
                return;
            }
        }
        self.complaints.push(format!("client {} could not settle {:?}", self.id, self.steps.front()));
    }

    async fn step(&mut self, place: &Place) -> Stepped {
        let Some(step) = self.steps.front().cloned() else { return Stepped::On };
        let (outcome, twin) = if step.twin {
            let (own, twin) = tokio::join!(self.send(place, &step), self.send(place, &step));
            (own, Some(twin))
        } else {
            (self.send(place, &step).await, None)
        };
        if let Some((twin, _)) = twin {
            self.note(TWIN + self.id, &step, twin);
        }
        let (outcome, alive) = outcome;
        let known = outcome != Outcome::Unknown;
        self.note(self.id, &step, outcome);
        match (known, alive) {
            (true, _) => {
                self.steps.pop_front();
                Stepped::On
            }
            (false, true) => Stepped::Again,
            (false, false) => Stepped::Cut,
        }
    }

    fn note(&mut self, client: u32, step: &Step, outcome: Outcome) {
        let wrong = match &outcome {
            Outcome::Acknowledged(_) | Outcome::Saw(_) => step.expected != 200,
            Outcome::Refused(code) => *code != step.expected,
            Outcome::Unknown => false,
        };
        if wrong {
            let (call, expected) = (&step.call, step.expected);
            self.complaints.push(format!(
                "system {}: {call:?} was answered {outcome:?}, not {expected}",
                self.system.name
            ));
        }
        let (system, call) = (self.system.name.clone(), step.call.clone());
        self.observations.push(Observation { client, system, call, outcome });
    }

    /// The outcome, and whether the service still answers.
    async fn send(&self, place: &Place, step: &Step) -> (Outcome, bool) {
        let request = match &step.call {
            Call::Start { rollout } => {
                let url =
                    format!("{}/api/mipro/v1/{}/{rollout}/chat/completions", place.base, self.system.id);
                place.http.post(url).json(&chat("Say what is asked.", "Question: why? Choices: a, b"))
            }
            Call::Report { rollout, status, reward } => {
                let mut body = json!({"rollout_id": rollout, "status": status.name(), "reward": reward});
                if step.adopt {
                    body["candidate_id"] = json!("baseline");
                }
                place.http.post(place.route(&self.system, "status")).bearer_auth(KEY).json(&body)
            }
            Call::Read => place.http.get(place.route(&self.system, "state")).bearer_auth(KEY),
        };
        let Some(told) = told(request).await else { return (Outcome::Unknown, false) };
        if told.status != 200 || told.unrecorded {
            let code = if told.unrecorded { 503 } else { told.status };
            return (Outcome::not_ok(code), true);
        }
        let count = |name: &str| told.body[name].as_u64();
        let outcome = match &step.call {
            Call::Read => Outcome::Saw(Reading {
                version: count("version").unwrap_or_default(),
                rollouts: count("rollout_count").unwrap_or_default(),
                rewards: count("reward_count").unwrap_or_default(),
            }),
            _ => Outcome::Acknowledged(Answer {
                version: count("version"),
                candidate: told.candidate.or_else(|| told.body["candidate_id"].as_str().map(str::to_owned)),
                duplicate: told.body["duplicate"].as_bool(),
            }),
        };
        (outcome, true)
    }

    /// The calls of one more rollout: every way there is to begin, reward and end one, and some that must be refused.
    fn next_rollout(&mut self) {
        self.rollouts += 1;
        let rollout = format!("c{}-{}", self.id, self.rollouts);
        let reward = self.dice.roll(9) as f64 / 8.0;
        let start = Step::of(Call::Start { rollout: rollout.clone() });
        let report = |status, reward| Step::of(Call::Report { rollout: rollout.clone(), status, reward });
        let rewarded = |status| report(status, Some(reward));
        let done = || report(Status::Done, None);
        let steps = match self.dice.roll(10) {
            0 | 1 => vec![start, rewarded(Status::Reward), done()],
            2 => vec![start, rewarded(Status::RewardDone)],
            3 => vec![Step { adopt: true, ..rewarded(Status::RewardDone) }],
            4 => vec![start, done(), rewarded(Status::Reward)],
            5 => vec![start, report(Status::Failed, None)],
            6 => {
                let other = Step { expected: 409, ..report(Status::Reward, Some(reward + 1.0)) };
                vec![start, rewarded(Status::Reward), other, done()]
            }
            7 => vec![start, rewarded(Status::RewardDone), rewarded(Status::RewardDone)],
            8 => vec![Step { expected: 404, ..rewarded(Status::Reward) }],
            _ => {
                let twin = Step { twin: true, ..start.clone() };
                vec![twin, start, Step { twin: true, ..rewarded(Status::RewardDone) }]
            }
        };
        self.steps.extend(steps);
        if self.dice.roll(3) == 0 {
            self.steps.push_back(Step::of(Call::Read));
        }
    }
}

impl Step {
    fn of(call: Call) -> Self {
        Self { call, adopt: false, twin: false, expected: 200 }
    }
}

enum Stepped {
    /// The next step may be made.
    On,
    /// The service is there and did not do it.
    Again,
    /// No answer came.
    Cut,
}
