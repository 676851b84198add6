//! A process of the service: it begins on what the last one left, runs, and dies.

use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use mipro_service::clock::Contexts;
use mipro_service::engine::{self, Engine, EngineKind, EngineOptions};
use mipro_service::log::disk::sim::SimDisk;
use mipro_service::log::{EventLog, Level};
use mipro_service::offload::Offload;
use mipro_service::store::{Blobs, Stores};
use mipro_service::system::{NewSystem, PatternMessage, Prompt, SystemSpec};
use mipro_telemetry::Recorders;
use object_store::memory::InMemory;
use tokio::runtime::Builder;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::book::{Book, Call, ORG, Service};
use crate::client::{self, Client, Founded};
use crate::dice::Dice;
use crate::journal::{self, Journal, Written};
use crate::scene::{DIRECTOR, LATE, Scene, lock};
use crate::stores::{SimObjects, SimTable, Wire};

/// Systems of a history; more than have a place in memory.
pub(crate) const PLACES: usize = 5;
/// Ids for each: a creation of unknown outcome is begun anew under the next one, as the service makes a new id each time.
pub(crate) const TRIES: usize = 3;
const CLIENTS: usize = 4;
/// The client that reads everything at the start of a process.
const AUDITOR: usize = 8;

/// What outlives a process.
pub(crate) struct Outside {
    pub(crate) scene: Arc<Scene>,
    wire: Arc<Wire>,
    pub(crate) disk: SimDisk,
    written: Arc<Written>,
    pub(crate) table: Arc<SimTable>,
    pub(crate) objects: Arc<SimObjects>,
    pub(crate) systems: Arc<[Uuid]>,
    pub(crate) book: Arc<Book>,
    clients: Vec<Arc<Mutex<Client>>>,
    pub(crate) founded: Founded,
    pub(crate) processes: u64,
    /// The disk was lost with everything on it, or the machine has died at the level `os`.
    pub(crate) host_gone: bool,
    /// Operations of the disk that the trace has.
    noted: usize,
}

impl Outside {
    pub(crate) fn new(seed: u64, print: bool) -> Self {
        let scene = Arc::new(Scene::new(seed, print));
        let wire = Arc::new(Wire::default());
        let inner = Arc::new(InMemory::new());
        let ids = (PLACES * TRIES) as u64;
        let systems: Arc<[Uuid]> = (0..ids).map(|index| system_id(seed, index)).collect();
        let table = SimTable::new(&scene, &wire, &systems, &inner);
        let objects = SimObjects::new(&scene, &wire, &table, inner);
        let clients = (0..CLIENTS).map(|number| Client::new(number, CLIENTS)).collect();
        Self {
            scene,
            wire,
            disk: SimDisk::new(),
            written: Arc::default(),
            table,
            objects,
            systems,
            book: Arc::default(),
            clients,
            founded: Founded::default(),
            processes: 0,
            host_gone: false,
            noted: 0,
        }
    }

    /// Runs one process to its end, which `life` decides. What it leaves undone dies with it. `None`: it never began.
    pub(crate) fn process<R>(&mut self, life: impl AsyncFnOnce(&Self, Service, &Journal) -> R) -> Option<R> {
        self.processes += 1;
        let mut dice = self.scene.dice("process", &[self.processes]);
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing");
        let (result, ran_ms) = runtime.block_on(async {
            self.scene.begin();
            if !self.scene.is_calm() && dice.chance(150) {
                self.disk.off_after(dice.below(20));
            }
            let mut result = None;
            if let Some(mut journal) = Journal::open(&self.scene, &self.disk, &self.written, self.processes) {
                let service = self.service(journal.log.clone());
                journal.spawn_writer();
                self.spawn_late();
                let engine = Arc::clone(&service.engine);
                result = Some(life(self, service, &journal).await);
                let figures = engine.figures();
                self.scene.saw("evicted", figures.evictions);
                self.scene.saw("archived", figures.log.archived);
                self.scene.saw("trimmed", figures.log.trimmed);
                self.written.ended(self.processes, journal.durable());
            }
            // Before its tasks are dropped: what they still would do comes to nothing.
            self.fall(&mut dice);
            (result, self.scene.ran_ms())
        });
        drop(runtime);
        self.scene.end(ran_ms, dice.between(1, 2_000));
        result
    }

    /// What the process's end does to the disk.
    fn fall(&mut self, dice: &mut Dice) {
        let operations = self.disk.operations();
        for operation in &operations[self.noted..] {
            self.scene.note(DIRECTOR, || format!("disk: {operation:?}"));
        }
        self.noted = operations.len();
        self.disk.fail_syncs(0, 0);
        match dice.below(10) {
            _ if self.scene.is_calm() => self.disk.kill(),
            0 if self.scene.weather.host_goes => {
                (self.disk, self.noted) = (SimDisk::new(), 0);
                self.written.forget();
                self.lossy("the host is gone");
            }
            0..4 => self.disk.kill(),
            _ if !self.scene.weather.machine_dies => self.disk.kill(),
            _ => {
                self.disk.crash_seeded(dice.next());
                if self.scene.weather.level == Level::Os {
                    self.lossy("the machine died at the level os");
                }
            }
        }
        journal::note_disk(&self.scene, &self.disk);
    }

    /// What was acknowledged before may be lost now, as the level in force says; nothing else may be wrong.
    fn lossy(&mut self, why: &'static str) {
        self.scene.note(DIRECTOR, || why.to_owned());
        self.scene.saw(why, 1);
        self.host_gone = true;
        self.clients.iter().for_each(|client| lock(client).forget_seen());
    }

    fn service(&self, log: Arc<dyn EventLog>) -> Service {
        Service {
            engine: self.engine(log),
            scene: Arc::clone(&self.scene),
            book: Arc::clone(&self.book),
            systems: Arc::clone(&self.systems),
            process: self.processes,
            disk: self.disk.clone(),
            host_gone: self.host_gone,
        }
    }

    /// What is still on the wire arrives whoever runs.
    fn spawn_late(&self) {
        let (scene, wire) = (Arc::clone(&self.scene), Arc::clone(&self.wire));
        tokio::spawn(async move {
            loop {
                scene.turn(LATE, 1).await;
                wire.deliver(scene.now_ms());
            }
        });
    }

    pub(crate) fn stores(&self) -> Stores {
        let blobs = Blobs::over(self.objects.clone(), Duration::from_millis(400));
        Stores { table: self.table.clone(), blobs }
    }

    fn engine(&self, log: Arc<dyn EventLog>) -> Arc<dyn Engine> {
        let mut dice = self.scene.dice("options", &[]);
        let contexts = Contexts::simulated(self.scene.seed ^ (self.processes << 32), self.scene.base_us());
        let mut options = actor_options(contexts);
        options.actor.shards = 1 + dice.index(2);
        options.actor.systems_max = options.actor.shards * (1 + dice.index(2));
        options.actor.save_events_max = dice.between(1, 20);
        options.actor.save_delay_max = Duration::from_millis(dice.between(500, 4_000));
        options.actor.gate_wait_max = Duration::from_secs(2);
        options.actor.archive_every = Duration::from_millis(dice.between(1, 10) * 200);
        engine_on(&options, self.stores(), log)
    }

    /// The clients' tasks, which end with the process.
    fn spawn_clients(&self, service: &Service) -> Vec<JoinHandle<()>> {
        let spawn = |client: &Arc<Mutex<Client>>| {
            tokio::spawn(client::live(Arc::clone(client), service.clone(), Arc::clone(&self.founded)))
        };
        self.clients.iter().map(spawn).collect()
    }

    /// Lives under load for a while and is killed, or dies of its log.
    pub(crate) async fn under_load(&self, service: Service, journal: &Journal, for_ms: u64) {
        let mut dice = self.scene.dice("load", &[service.process]);
        if dice.chance(250) {
            self.disk.off_after(dice.below(200));
        }
        let _clients = self.spawn_clients(&service);
        let auditor = service.clone();
        let founded = lock(&self.founded).clone();
        tokio::spawn(async move { audit(&auditor, &founded).await });
        let mut fault = journal.log.inner.fault();
        let failed = async {
            let _fault = fault.wait_for(Option::is_some).await.is_ok();
        };
        tokio::select! {
            biased;
            () = self.scene.turn(DIRECTOR, for_ms) => {
                self.scene.saw("killed", 1);
                self.scene.saw("killed at os", u64::from(self.scene.weather.level == Level::Os));
                self.scene.note(DIRECTOR, || "killed".to_owned());
            }
            () = failed => {
                self.scene.saw("log failed", 1);
                self.scene.note(DIRECTOR, || "the log failed".to_owned());
                self.scene.turn(DIRECTOR, dice.below(200)).await;
            }
        }
    }

    /// Lets every client finish what it has begun, with nothing going wrong any more, and stops cleanly.
    pub(crate) async fn to_the_end(&self, service: &Service) {
        self.clients.iter().for_each(|client| lock(client).finishing = true);
        let clients = self.spawn_clients(service);
        let all = async {
            for client in clients {
                if client.await.is_err() {
                    self.scene.violated("a client panicked".to_owned());
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(300), all).await.is_err() {
            self.scene.violated("the service does not answer though nothing is wrong any more".to_owned());
        }
        let founded = lock(&self.founded).clone();
        audit(service, &founded).await;
        if service.engine.shutdown().await.is_err() {
            self.scene.violated("a clean stop failed".to_owned());
        }
        if self.objects.unexpected.load(Ordering::SeqCst) > 0 {
            self.scene.violated("an object was copied or put in parts: not simulated".to_owned());
        }
    }
}

/// Reads everything, as one client more.
pub(crate) async fn audit(service: &Service, founded: &[usize]) {
    for system in founded {
        for call in [Call::Events { since: 0 }, Call::State] {
            service.make(AUDITOR, *system, 0, call).await;
            service.scene.turn(crate::scene::CLIENTS + AUDITOR as u64, 1).await;
        }
    }
}

/// What every engine here is told.
pub(crate) fn actor_options(contexts: Contexts) -> EngineOptions {
    EngineOptions { offload: Offload::Inline, ..EngineOptions::new(EngineKind::Actor, contexts) }
}

/// An engine on a log.
pub(crate) fn engine_on(options: &EngineOptions, stores: Stores, log: Arc<dyn EventLog>) -> Arc<dyn Engine> {
    // Histograms are large, and nobody looks at these.
    static RECORDERS: LazyLock<Recorders> = LazyLock::new(Recorders::new);
    engine::build_with_log(options, stores, RECORDERS.clone(), log)
}

fn system_id(seed: u64, index: u64) -> Uuid {
    let mut dice = Dice::of(seed, "system", &[index]);
    Uuid::from_u64_pair(dice.next(), dice.next())
}

pub(crate) fn new_system(system_id: Uuid) -> NewSystem {
    let message = |role: &str, order, pattern: &str| PatternMessage {
        role: role.to_owned(),
        order,
        pattern: pattern.to_owned(),
    };
    let messages = vec![message("system", 0, "Name the intent."), message("user", 1, "Query: {query}")];
    let wildcards = [("query".to_owned(), "REQUIRED".to_owned())].into();
    let prompt = Prompt::new("p".to_owned(), "P".to_owned(), messages, wildcards);
    let spec = SystemSpec { prompt: Arc::new(prompt), model: "m".to_owned(), ..SystemSpec::default() };
    NewSystem { system_id, org_id: ORG, name: None, spec }
}
