//! A process of the service: it begins on what the last one left, runs, and dies.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use mipro_service::clock::Contexts;
use mipro_service::engine::{self, Engine, EngineKind, EngineOptions};
use mipro_service::log::{EventLog, MemoryLog};
use mipro_service::store::{Blobs, Stores};
use mipro_service::system::{NewSystem, PatternMessage, Prompt, SystemSpec};
use mipro_telemetry::Recorders;
use object_store::memory::InMemory;
use tokio::runtime::Builder;
use uuid::Uuid;

use crate::book::{Book, ORG, Service};
use crate::client::{self, Client, Founded};
use crate::dice::Dice;
use crate::scene::{DIRECTOR, LATE, Scene, lock};
use crate::stores::{SimObjects, SimTable, Wire};

/// Systems of a history; more than have a place in memory.
const SYSTEMS: usize = 5;
const CLIENTS: usize = 4;

/// What outlives a process.
pub(crate) struct Outside {
    pub(crate) scene: Arc<Scene>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) table: Arc<SimTable>,
    pub(crate) objects: Arc<SimObjects>,
    pub(crate) systems: Arc<[Uuid]>,
    pub(crate) book: Arc<Book>,
    pub(crate) clients: Vec<Arc<Mutex<Client>>>,
    pub(crate) founded: Founded,
    pub(crate) processes: u64,
}

impl Outside {
    pub(crate) fn new(seed: u64, print: bool) -> Self {
        let scene = Arc::new(Scene::new(seed, print));
        let wire = Arc::new(Wire::default());
        let inner = Arc::new(InMemory::new());
        let systems: Arc<[Uuid]> = (0..SYSTEMS as u64).map(|index| system_id(seed, index)).collect();
        let table = SimTable::new(&scene, &wire, &systems, &inner);
        let objects = SimObjects::new(&scene, &wire, &table, inner);
        let clients = (0..CLIENTS).map(|number| Client::new(number, CLIENTS, SYSTEMS)).collect();
        let (book, founded) = (Arc::default(), Founded::default());
        Self { scene, wire, table, objects, systems, book, clients, founded, processes: 0 }
    }

    /// Runs one process to its end, which `life` decides. What it leaves undone dies with it.
    pub(crate) fn process<R>(&mut self, life: impl AsyncFnOnce(&Self, Service) -> R) -> R {
        self.processes += 1;
        let mut dice = self.scene.dice("process", &[self.processes]);
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing");
        let (result, ran_ms) = runtime.block_on(async {
            self.scene.begin();
            let engine = self.engine();
            let service = Service {
                engine,
                scene: Arc::clone(&self.scene),
                book: Arc::clone(&self.book),
                systems: Arc::clone(&self.systems),
                process: self.processes,
            };
            self.spawn_late();
            let result = life(self, service).await;
            (result, self.scene.ran_ms())
        });
        drop(runtime);
        self.scene.end(ran_ms, dice.between(1, 2_000));
        result
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

    fn engine(&self) -> Arc<dyn Engine> {
        let mut dice = self.scene.dice("options", &[]);
        let contexts =
            Contexts::simulated(self.scene.seed ^ (self.processes << 32), self.scene.base_us());
        let mut options = actor_options(contexts);
        options.actor.shards = 1 + dice.index(2);
        options.actor.systems_max = options.actor.shards * (1 + dice.index(2));
        options.actor.save_events_max = dice.between(1, 20);
        options.actor.save_delay_max = Duration::from_millis(dice.between(500, 4_000));
        options.actor.gate_wait_max = Duration::from_secs(2);
        let blobs = Blobs::over(self.objects.clone(), Duration::from_millis(400));
        let stores = Stores { table: self.table.clone(), blobs };
        engine_on(&options, stores, Arc::new(MemoryLog::default()))
    }
}

/// What every engine here is told.
pub(crate) fn actor_options(contexts: Contexts) -> EngineOptions {
    EngineOptions::new(EngineKind::Actor, contexts)
}

/// An engine on a log.
pub(crate) fn engine_on(options: &EngineOptions, stores: Stores, log: Arc<dyn EventLog>) -> Arc<dyn Engine> {
    // Histograms are large, and nobody looks at these.
    static RECORDERS: LazyLock<Recorders> = LazyLock::new(Recorders::new);
    engine::build_with_log(options, stores, RECORDERS.clone(), log)
}

/// The clients' tasks, which end with the process.
pub(crate) fn spawn_clients(outside: &Outside, service: &Service) -> Vec<tokio::task::JoinHandle<()>> {
    let spawn = |client: &Arc<Mutex<Client>>| {
        tokio::spawn(client::live(Arc::clone(client), service.clone(), Arc::clone(&outside.founded)))
    };
    outside.clients.iter().map(spawn).collect()
}

/// Lives under load for a while and is killed.
pub(crate) async fn under_load(outside: &Outside, service: Service, for_ms: u64) {
    let _clients = spawn_clients(outside, &service);
    outside.scene.turn(DIRECTOR, for_ms).await;
    outside.scene.note(DIRECTOR, || "killed".to_owned());
}

/// Lets every client finish what it has begun.
pub(crate) async fn to_the_end(outside: &Outside, service: &Service) {
    outside.scene.calm_down();
    outside.clients.iter().for_each(|client| lock(client).finishing = true);
    let clients = spawn_clients(outside, service);
    let all = async {
        for client in clients {
            if client.await.is_err() {
                outside.scene.violated("a client panicked".to_owned());
            }
        }
    };
    if tokio::time::timeout(Duration::from_secs(300), all).await.is_err() {
        outside.scene.violated("the service does not answer though nothing is wrong any more".to_owned());
    }
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
