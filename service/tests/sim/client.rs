//! A client: one thing after the other, each until it knows what became of it, across the deaths of the service.
//!
//! It gives up calls, walks away from them, repeats them with the same key, sends them twice at once, sends two rewards for
//! one rollout, and repeats long after what was answered long ago.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use mipro_service::system::Status;

use crate::book::{Call, Outcome, Service};
use crate::dice::Dice;
use crate::process::{PLACES, TRIES};
use crate::scene::{CLIENTS, lock};

/// How long a patient client waits.
const PATIENCE_MS: u64 = 4_000;

/// One step of a client: a call, or two at once.
#[derive(Debug, Clone)]
struct Step {
    system: usize,
    call: Call,
    /// Sent at the same moment.
    beside: Option<Call>,
    /// It was sent before.
    begun: bool,
}

/// What a client remembers; outlives the processes it talks to.
#[derive(Debug)]
pub(crate) struct Client {
    number: usize,
    todo: VecDeque<Step>,
    /// Answered calls, to be repeated some day.
    past: Vec<Step>,
    /// The highest version seen, by system.
    seen: BTreeMap<usize, u64>,
    rollouts: u64,
    turns: u64,
    /// Begins nothing new.
    pub(crate) finishing: bool,
}

/// Systems that are known to exist.
pub(crate) type Founded = Arc<Mutex<Vec<usize>>>;

impl Client {
    /// A client that begins by founding some of the systems.
    pub(crate) fn new(number: usize, clients: usize) -> Arc<Mutex<Self>> {
        let own = (0..PLACES).filter(|place| place % clients == number).map(|place| place * TRIES);
        let todo =
            own.map(|system| Step { system, call: Call::Create, beside: None, begun: false }).collect();
        Arc::new(Mutex::new(Self {
            number,
            todo,
            past: Vec::new(),
            seen: BTreeMap::new(),
            rollouts: 0,
            turns: 0,
            finishing: false,
        }))
    }

    /// The disk is gone: what was seen may be gone with it.
    pub(crate) fn forget_seen(&mut self) {
        self.seen.clear();
    }

    fn seen(&self, system: usize) -> u64 {
        self.seen.get(&system).copied().unwrap_or(0)
    }

    /// The next step, which stays where it is until it is settled.
    fn next(&mut self, dice: &mut Dice, founded: &Founded) -> Option<Step> {
        if self.todo.is_empty() && !self.finishing {
            let founded = lock(founded);
            if !founded.is_empty() {
                let system = founded[dice.index(founded.len())];
                self.plan(system, dice);
            }
        }
        // A creation that died with its process is of unknown outcome, too.
        while let Some(step) = self.todo.front_mut().filter(|step| step.call == Call::Create) {
            if !std::mem::replace(&mut step.begun, true) {
                break;
            }
            step.system += 1;
            step.begun = false;
            if step.system.is_multiple_of(TRIES) {
                self.todo.pop_front();
            }
        }
        let step = self.todo.front_mut()?;
        if let (true, Some(beside)) = (std::mem::replace(&mut step.begun, true), &mut step.beside)
            && dice.chance(500)
        {
            // Of two rivals the other one may come first this time.
            std::mem::swap(&mut step.call, beside);
        }
        Some(step.clone())
    }

    fn plan(&mut self, system: usize, dice: &mut Dice) {
        let once = |call| Step { system, call, beside: None, begun: false };
        let rollout = format!("c{}-{}", self.number, self.rollouts);
        let reward = dice.below(1_000) as f64 / 1_000.0;
        let start = Call::Start { rollout: rollout.clone() };
        let report = |status, reward| Call::Report { rollout: rollout.clone(), status, reward, adopt: false };
        let (first, done) = (report(Status::Reward, Some(reward)), report(Status::Done, None));
        let both = report(Status::RewardDone, Some(reward));
        let twice = |call: Call| Step { beside: Some(call.clone()), ..once(call) };
        self.rollouts += 1;
        let steps = match dice.below(15) {
            0 | 1 => vec![once(start), once(first), once(done)],
            2 | 3 => vec![once(start), once(both)],
            4 => vec![once(start), once(report(Status::Failed, None))],
            5 => {
                let adopted =
                    Call::Report { rollout, status: Status::RewardDone, reward: Some(reward), adopt: true };
                vec![twice(adopted)]
            }
            6 => vec![once(start), once(done), once(first)],
            7 => vec![once(start), once(first), once(report(Status::Reward, Some(reward + 1.0))), once(done)],
            8 => vec![twice(start), twice(both)],
            9 | 13 | 14 => {
                let rival = report(Status::Reward, Some(reward + 2.0));
                vec![once(start), Step { beside: Some(rival), ..once(first) }, once(done)]
            }
            10 => vec![once(Call::State)],
            11 => vec![once(Call::Events { since: dice.below(20) })],
            _ if self.rollouts.is_multiple_of(3) => {
                vec![once(Call::Candidate { text: format!("Say {rollout}.") })]
            }
            _ => {
                let index = dice.index(self.past.len());
                self.past.get(index).cloned().into_iter().collect()
            }
        };
        self.todo.extend(steps);
    }

    /// What is left to do once a step's outcomes are in.
    fn settle(&mut self, step: &Step, outcomes: &[Option<Outcome>], dice: &mut Dice, founded: &Founded) {
        for outcome in outcomes.iter().flatten() {
            if let Some(version) = outcome.version() {
                let seen = self.seen.entry(step.system).or_default();
                *seen = (*seen).max(version);
            }
        }
        let definite = outcomes.iter().all(|o| o.as_ref().is_some_and(Outcome::is_definite));
        if step.call == Call::Create {
            if definite {
                self.todo.pop_front();
                let mut founded = lock(founded);
                founded.push(step.system);
                // Who comes first in one instant is chance.
                founded.sort_unstable();
            }
        } else if definite || dice.chance(80) {
            // Now and then nobody ever asks again what became of a call.
            self.todo.pop_front();
            if definite {
                self.past.push(Step { begun: false, ..step.clone() });
            }
        }
    }
}

/// Lives until the process dies. With `finish`, until there is nothing left to do.
pub(crate) async fn live(client: Arc<Mutex<Client>>, service: Service, founded: Founded) {
    let number = lock(&client).number;
    let lane = CLIENTS + number as u64;
    loop {
        let turn = {
            let mut client = lock(&client);
            client.turns += 1;
            client.turns
        };
        let mut dice = service.scene.dice("client", &[number as u64, turn]);
        service.scene.turn(lane, dice.below(120)).await;
        let next = lock(&client).next(&mut dice, &founded);
        let Some(step) = next else {
            if lock(&client).finishing {
                return;
            }
            continue;
        };
        let seen = lock(&client).seen(step.system);
        let vanishing = !service.scene.is_calm() && dice.chance(service.scene.weather.vanishing);
        let patience_ms = if vanishing { dice.below(200) } else { PATIENCE_MS };
        let make = |call| service.make(number, step.system, seen, call);
        let work = async {
            match step.beside.clone() {
                None => vec![Some(make(step.call.clone()).await)],
                Some(beside) => {
                    let (a, b) = tokio::join!(biased; make(step.call.clone()), make(beside));
                    vec![Some(a), Some(b)]
                }
            }
        };
        let outcomes = tokio::select! {
            biased;
            outcomes = work => outcomes,
            () = service.scene.turn(lane, patience_ms) => {
                service.scene.saw("gone", 1);
                service.scene.note(lane, || "gone".to_owned());
                vec![None]
            }
        };
        lock(&client).settle(&step, &outcomes, &mut dice, &founded);
    }
}
