//! A shard's requests against the ends of loads and saves, the watermark, the log's end and time.
//!
//! Whatever the order: there is one copy of a system, nobody is told anything that is not durable, everybody is answered,
//! and what was acknowledged is there in the next process, once.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mipro_service::clock::Contexts;
use mipro_service::engine::{Access, Engine, EngineError, EngineOptions, Question};
use mipro_service::store::{Blobs, Stores};
use mipro_service::system::{Command, Reply, Status, StatusReport};
use mipro_telemetry::{Ledger, Operation};
use object_store::memory::InMemory;
use serde_json::Value;
use tokio::task::{JoinHandle, yield_now};
use uuid::Uuid;

use super::held::{Desk, End, HandLog, HeldTable, Kind};
use super::{Choices, explore};
use crate::book::ORG;
use crate::process::{engine_on, new_system};
use crate::scene::{EPOCH_US, lock, say};

/// A few rounds of the runtime: no chain of messages within the service is longer.
const ROUNDS: usize = 24;

/// What is tried in every order.
struct Script {
    name: &'static str,
    /// Each client's calls, one after the other.
    clients: &'static [&'static [Ask]],
    systems: usize,
    systems_max: usize,
    /// Store calls that may fail, or be done and said to have failed.
    failures: usize,
    closes: bool,
    ticks: usize,
    executions_max: u64,
}

/// A call, and of which system.
#[derive(Debug, Clone, Copy)]
enum Ask {
    /// Reports the reward of a rollout of its own.
    Report(usize),
    /// Reports a reward that others report, too, in the same words.
    Repeat(usize),
    /// Reads the events.
    Read(usize),
}

impl Ask {
    const fn system(self) -> usize {
        let (Self::Report(system) | Self::Repeat(system) | Self::Read(system)) = self;
        system
    }
}

/// What may happen next.
#[derive(Debug, Clone, Copy)]
enum Act {
    Send(usize),
    Let(usize, End),
    Rise,
    Close,
    Tick,
}

/// What a client was told.
type Told = Result<u64, EngineError>;

struct Play<'s> {
    script: &'s Script,
    desk: Arc<Desk>,
    table: Arc<HeldTable>,
    stores: Stores,
    log: Arc<HandLog>,
    engine: Arc<dyn Engine>,
    systems: Vec<Uuid>,
    /// Each client's next call, and the one under way.
    next: Vec<usize>,
    under_way: Vec<Option<JoinHandle<Told>>>,
    acknowledged: Vec<(usize, String)>,
    /// What calls found wrong themselves.
    wrong: Arc<Mutex<Option<String>>>,
    failures: usize,
    ticks: usize,
}

fn options(systems_max: usize) -> EngineOptions {
    let mut options = crate::process::actor_options(Contexts::simulated(7, EPOCH_US));
    options.actor.shards = 1;
    options.actor.systems_max = systems_max;
    options.actor.save_events_max = 1;
    options.actor.gate_wait_max = Duration::from_secs(5);
    options
}

impl<'s> Play<'s> {
    async fn begin(script: &'s Script) -> Self {
        let desk = Arc::new(Desk::default());
        let table = Arc::new(HeldTable { desk: Arc::clone(&desk), rows: Mutex::default() });
        let blobs = Blobs::over(Arc::new(InMemory::new()), Duration::from_secs(5));
        let stores = Stores { table: table.clone(), blobs };
        let log = HandLog::new();
        let engine = engine_on(&options(script.systems_max), stores.clone(), log.clone());
        let systems: Vec<Uuid> = (0..script.systems as u128).map(|n| Uuid::from_u128(0x51 + n)).collect();
        for system in &systems {
            let ledger = Ledger::start(Operation::CreateJob);
            let created = engine.create(new_system(*system), &ledger).await.expect("nothing is held yet");
            log.rise();
            created.gate.wait(&ledger).await.expect("it is durable");
        }
        for _ in 0..ROUNDS {
            yield_now().await;
        }
        desk.holding.store(true, Ordering::SeqCst);
        let clients = script.clients.len();
        Self {
            script,
            desk,
            table,
            stores,
            log,
            engine,
            systems,
            next: vec![0; clients],
            under_way: (0..clients).map(|_| None).collect(),
            acknowledged: Vec::new(),
            wrong: Arc::default(),
            failures: script.failures,
            ticks: script.ticks,
        }
    }

    fn acts(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        for (client, calls) in self.script.clients.iter().enumerate() {
            if self.under_way[client].is_none() && self.next[client] < calls.len() {
                acts.push(Act::Send(client));
            }
        }
        for (index, held) in lock(&self.desk.held).iter().enumerate() {
            acts.push(Act::Let(index, End::Done));
            if self.failures > 0 {
                acts.push(Act::Let(index, End::Failed));
                if held.kind == Kind::Save {
                    acts.push(Act::Let(index, End::Lost));
                }
            }
        }
        if !self.log.is_closed() && self.log.durable() < self.log.appended.load(Ordering::SeqCst) {
            acts.push(Act::Rise);
            if self.script.closes {
                acts.push(Act::Close);
            }
        }
        if self.ticks > 0 && !acts.is_empty() {
            acts.push(Act::Tick);
        }
        acts
    }

    async fn play(&mut self, act: Act) -> Result<(), String> {
        match act {
            Act::Send(client) => self.send(client),
            Act::Let(index, end) => {
                self.failures -= usize::from(end != End::Done);
                let held = lock(&self.desk.held).remove(index);
                let _gone = held.release.send(end);
            }
            Act::Rise => self.log.rise(),
            Act::Close => self.log.close(),
            Act::Tick => {
                self.ticks -= 1;
                tokio::time::advance(Duration::from_secs(1)).await;
            }
        }
        for _ in 0..ROUNDS {
            yield_now().await;
        }
        self.hear().await;
        let found = lock(&self.desk.wrong).take().or_else(|| lock(&self.wrong).take());
        found.map_or(Ok(()), |wrong| Err(format!("{wrong}, after {act:?}")))
    }

    fn send(&mut self, client: usize) {
        let index = self.next[client];
        self.next[client] += 1;
        let (engine, log, wrong) = (Arc::clone(&self.engine), Arc::clone(&self.log), Arc::clone(&self.wrong));
        let call = self.script.clients[client][index];
        let system = self.systems[call.system()];
        let rollout = rollout(client, index, call);
        let table = Arc::clone(&self.table);
        self.under_way[client] = Some(tokio::spawn(async move {
            let told = match call {
                Ask::Report(_) | Ask::Repeat(_) => report(&*engine, system, rollout).await,
                Ask::Read(_) => read(&*engine, system).await,
            };
            // In the very moment in which the caller is told.
            if let Ok(version) = told
                && let Some(place) = log.place(system, version)
                && place > log.durable()
                && stored(&table, system) < version
            {
                let durable = log.durable();
                *lock(&wrong) = Some(format!("told of version {version} at {place}, durable is {durable}"));
            }
            told
        }));
    }

    async fn hear(&mut self) {
        for client in 0..self.under_way.len() {
            if self.under_way[client].as_ref().is_some_and(JoinHandle::is_finished) {
                let ended = self.under_way[client].take().expect("it is there").await;
                let index = self.next[client] - 1;
                let call = self.script.clients[client][index];
                if matches!(ended, Ok(Ok(_))) && !matches!(call, Ask::Read(_)) {
                    self.acknowledged.push((call.system(), rollout(client, index, call)));
                }
            }
        }
    }

    /// Lets everything through; everybody must be answered then. The next process must have what was acknowledged.
    async fn finish(mut self) -> Result<(), String> {
        self.desk.holding.store(false, Ordering::SeqCst);
        for held in lock(&self.desk.held).drain(..) {
            let _gone = held.release.send(End::Done);
        }
        for client in 0..self.under_way.len() {
            let Some(call) = self.under_way[client].take() else { continue };
            if tokio::time::timeout(Duration::from_secs(60), call).await.is_err() {
                return Err(format!("client {client} is never answered"));
            }
        }
        // Its tasks may be in the midst of a save: the next process must cope with what there is.
        let (log, stores) = (self.log.survivor(), self.stores.clone());
        drop(self.engine);
        let next = engine_on(&options(8), stores, log);
        let mut there: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (number, system) in self.systems.iter().enumerate() {
            let events = body(&*next, *system).await.map_err(|error| format!("the next process: {error}"))?;
            let rewarded = |item: &Value| item["type"] == "mipro.reward.received";
            let items = events["items"].as_array().cloned().unwrap_or_default();
            let ids =
                items.iter().filter(|item| rewarded(item)).filter_map(|item| item["rollout_id"].as_str());
            there.insert(number, ids.map(str::to_owned).collect());
        }
        for (system, rollout) in &self.acknowledged {
            let times = there[system].iter().filter(|id| *id == rollout).count();
            if times != 1 {
                return Err(format!(
                    "{rollout} of system {system} was acknowledged and is there {times} times"
                ));
            }
        }
        Ok(())
    }
}

/// How far the stores have a system: what a snapshot holds is not lost with the log.
fn stored(table: &HeldTable, system: Uuid) -> u64 {
    lock(&table.rows).get(&system).map_or(0, |row| row.version)
}

fn rollout(client: usize, index: usize, call: Ask) -> String {
    if matches!(call, Ask::Repeat(_)) { "everybody's".to_owned() } else { format!("c{client}-{index}") }
}

async fn report(engine: &dyn Engine, system: Uuid, rollout_id: String) -> Told {
    let ledger = Ledger::start(Operation::Unknown);
    let candidate_id = Some("baseline".to_owned());
    let report = StatusReport { rollout_id, status: Status::RewardDone, reward: Some(1.0), candidate_id };
    let executed = engine.execute(system, Access::Org(ORG), Command::Report(report), &ledger).await?;
    executed.gate.wait(&ledger).await?;
    let Reply::Status { version, .. } = executed.reply else { return Ok(0) };
    Ok(version)
}

async fn body(engine: &dyn Engine, system: Uuid) -> Result<Value, EngineError> {
    let ledger = Ledger::start(Operation::Unknown);
    let question = Question::Events { since_seq: 0, limit: 1_000 };
    let answer = engine.inspect(system, Access::Org(ORG), question, &ledger).await?;
    answer.gate.wait(&ledger).await?;
    Ok(answer.body)
}

async fn read(engine: &dyn Engine, system: Uuid) -> Told {
    Ok(body(engine, system).await?["next_seq"].as_u64().unwrap_or(0))
}

fn every_order(script: &Script) {
    let orders = explore(script.executions_max, |choices: &mut Choices| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime without I/O needs nothing").block_on(async {
            let mut play = Play::begin(script).await;
            loop {
                let acts = play.acts();
                if acts.is_empty() {
                    return play.finish().await;
                }
                let act = acts[choices.choose(acts.len())];
                play.play(act).await?;
            }
        })
    });
    say(&format!("{}: {orders} interleavings\n", script.name));
}

#[test]
fn two_systems_for_one_place() {
    every_order(&Script {
        name: "eviction against requests",
        clients: &[&[Ask::Report(0)], &[Ask::Report(1)], &[Ask::Report(0)]],
        systems: 2,
        systems_max: 1,
        failures: 0,
        closes: false,
        ticks: 0,
        executions_max: 200_000,
    });
}

#[test]
fn stores_that_fail_or_lose_their_answer() {
    every_order(&Script {
        name: "failing saves and loads against requests",
        clients: &[&[Ask::Report(0)], &[Ask::Report(1)]],
        systems: 2,
        systems_max: 1,
        failures: 1,
        closes: false,
        ticks: 1,
        executions_max: 200_000,
    });
}

#[test]
fn the_log_ends() {
    every_order(&Script {
        name: "the log's end against answers",
        clients: &[&[Ask::Repeat(0), Ask::Read(0)], &[Ask::Repeat(0), Ask::Report(0)]],
        systems: 1,
        systems_max: 1,
        failures: 0,
        closes: true,
        ticks: 0,
        executions_max: 200_000,
    });
}
