//! Postgres and S3 in containers, frozen, stopped and cut off under load: at the level `disk` the log alone carries the promise.
//!
//! `MIPRO_FAULT_SECONDS` says how long a fault lasts at least (3); it goes on until several snapshots have failed. Needs the images of
//! `scripts/build-images`; without Docker or the images it says so and passes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use mipro_service::store::{
    BlobOptions, Blobs, S3Credentials, StoreError, SystemRow, SystemTable, TableOptions, open_table,
};
use mipro_telemetry::{Ledger, Operation, clock};
use mipro_testbed::containers::Containers;
use mipro_testbed::history::{Truth, check};
use mipro_testbed::stack::StackKind;
use reqwest::Method;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::common::*;
use super::kill_clients::{Place, System, Writer};
use super::kill_ground::Ground;

const SYSTEMS: u32 = 2;
const CLIENTS_PER_SYSTEM: u32 = 2;
/// Answers that are awaited before the fault, and at least during it.
const ACKS: usize = 100;
/// Saves that must have failed before a fault may end.
const FAILURES: f64 = 3.0;
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The archive's longest pause after failures is a minute.
const DEADLINE: Duration = Duration::from_secs(180);
const QUEUED_BYTES_MAX: f64 = 1024.0 * 1024.0;
const KEPT_BYTES_MAX: f64 = 256.0 * 1024.0 * 1024.0;
const RSS_GROWTH_KIB_MAX: f64 = 256.0 * 1024.0;
/// A store that does not answer is given up soon, so that many saves fail.
const TIMEOUTS: [(&str, &str); 3] = [
    ("MIPRO_BLOBS_TIMEOUT_MS", "3000"),
    ("MIPRO_DATABASE_CONNECT_TIMEOUT_MS", "3000"),
    ("MIPRO_DATABASE_QUERY_TIMEOUT_MS", "3000"),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    S3Paused,
    PostgresRestarted,
    BothAway,
}

impl Fault {
    async fn begin(self, containers: &Containers) {
        match self {
            Self::S3Paused => containers.s3().pause().await.unwrap(),
            Self::PostgresRestarted => containers.postgres().stop().await.unwrap(),
            Self::BothAway => {
                containers.s3().cut_off().await.unwrap();
                containers.postgres().kill().await.unwrap();
            }
        }
    }

    async fn end(self, containers: &Containers) {
        match self {
            Self::S3Paused => containers.s3().unpause().await.unwrap(),
            Self::PostgresRestarted => containers.postgres().start_again().await.unwrap(),
            Self::BothAway => {
                containers.postgres().start_again().await.unwrap();
                containers.s3().reconnect().await.unwrap();
            }
        }
    }
}

/// What the service and its process say about themselves at one moment, or the most that was seen of each.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    queued_bytes: f64,
    kept_bytes: f64,
    segments: f64,
    trimmed: f64,
    lag_events: f64,
    unsaved: f64,
    saves: f64,
    failures: f64,
    rss_kib: f64,
}

impl Figures {
    fn read(page: &str, proc_status: &str) -> Self {
        let value = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in {page}")).trim().parse::<f64>().unwrap()
        };
        let rss = proc_status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
        Self {
            queued_bytes: value("mipro_log_queued_bytes"),
            kept_bytes: value("mipro_log_kept_bytes"),
            segments: value("mipro_log_segments"),
            trimmed: value("mipro_log_segments_trimmed_total"),
            lag_events: value("mipro_snapshot_lag_events"),
            unsaved: value("mipro_events_unsaved"),
            saves: value("mipro_saves_total"),
            failures: value("mipro_save_failures_total"),
            rss_kib: rss.map_or(0.0, |text| text.trim().parse().unwrap()),
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            queued_bytes: self.queued_bytes.max(other.queued_bytes),
            kept_bytes: self.kept_bytes.max(other.kept_bytes),
            segments: self.segments.max(other.segments),
            trimmed: self.trimmed.max(other.trimmed),
            lag_events: self.lag_events.max(other.lag_events),
            unsaved: self.unsaved.max(other.unsaved),
            saves: self.saves.max(other.saves),
            failures: self.failures.max(other.failures),
            rss_kib: self.rss_kib.max(other.rss_kib),
        }
    }
}

/// Rows and objects as they are, past the service.
struct Pointers {
    table: Arc<dyn SystemTable>,
    blobs: Blobs,
    /// Objects that were asked for and found.
    found: u64,
}

impl Pointers {
    async fn open(ground: &Ground) -> Self {
        let stack = ground.stack();
        let env: BTreeMap<String, String> = stack.service_env().into_iter().collect();
        let credentials = Some(S3Credentials {
            access_key_id: env["AWS_ACCESS_KEY_ID"].clone(),
            secret_access_key: env["AWS_SECRET_ACCESS_KEY"].clone(),
            session_token: None,
        });
        let patience = Duration::from_secs(3);
        let options = BlobOptions {
            url: stack.blobs_url().to_owned(),
            timeout: patience,
            credentials,
            ..BlobOptions::default()
        };
        let url = stack.database_direct_url().to_owned();
        let table =
            TableOptions { url, connect_timeout: patience, query_timeout: patience, ..Default::default() };
        let table = open_table(&table).await.unwrap();
        Self { table, blobs: Blobs::open(&options).unwrap(), found: 0 }
    }

    /// `None` while the database is away.
    async fn rows(&self) -> Option<Vec<SystemRow>> {
        self.table.list(None, 100, &Ledger::start(Operation::Unknown)).await.ok()
    }

    /// Fails when a row names an object that is not there. Whether both stores could be asked about everything.
    async fn check(&mut self) -> bool {
        let Some(rows) = self.rows().await else { return false };
        let mut all = true;
        for (key, role) in rows.iter().flat_map(named) {
            match self.blobs.size(&key).await {
                Ok(_) => self.found += 1,
                Err(StoreError::NotFound) => {
                    // The row may have moved on since, and what it named before may go.
                    let Some(now) = self.rows().await else { return false };
                    let still = now.iter().flat_map(named).any(|(other, _)| other == key);
                    assert!(!still, "a row names a {role} that is not there");
                }
                Err(_) => all = false,
            }
        }
        all
    }
}

fn named(row: &SystemRow) -> Vec<(String, &'static str)> {
    let current = row.state_ref.clone().map(|key| (key, "state"));
    let previous = row.previous.as_ref().map(|previous| (previous.state_ref.clone(), "previous state"));
    current.into_iter().chain(previous).collect()
}

/// A running service, and the one who looks at it from outside.
struct Scene {
    ground: Ground,
    role: Role,
    client: Client,
    pointers: Pointers,
    acks: Arc<Semaphore>,
    most: Figures,
}

impl Scene {
    async fn new() -> Option<Self> {
        let ground = Ground::new(StackKind::Containers, "binary").await?;
        let role = ground.serve_with(&TIMEOUTS).unwrap();
        let pointers = Pointers::open(&ground).await;
        let client = Client::new(&role.url, KEY);
        let (acks, most) = (Arc::new(Semaphore::new(0)), Figures::default());
        Some(Self { ground, role, client, pointers, acks, most })
    }

    /// Looks, checks what must always hold, and tells what it saw.
    async fn look(&mut self) -> Figures {
        let request = self.client.request(Method::GET, "/metrics");
        let page = request.send().await.unwrap().text().await.unwrap();
        let pid = self.role.child.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let now = Figures::read(&page, &status);
        self.most = self.most.most(now);
        self.pointers.check().await;
        now
    }

    /// Looks again and again until `enough` says so.
    async fn until(&mut self, what: &str, mut enough: impl FnMut(&Figures, usize) -> bool) -> Figures {
        let begun = clock::now();
        loop {
            let now = self.look().await;
            if enough(&now, self.acks.available_permits()) {
                return now;
            }
            let waited = begun.elapsed();
            assert!(waited < DEADLINE + fault_time(), "{what}: {now:?}; {}", self.role.stderr());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn containers(&self) -> &Containers {
        self.ground.stack().containers().expect("a stack of containers has them")
    }
}

/// How long a fault lasts at least.
fn fault_time() -> Duration {
    let seconds = std::env::var("MIPRO_FAULT_SECONDS").ok();
    Duration::from_secs(seconds.map_or(3, |text| text.parse().expect("MIPRO_FAULT_SECONDS is a number")))
}

/// Writers under way, on systems of their own.
struct Load {
    systems: Vec<System>,
    running: JoinSet<Writer>,
}

impl Load {
    async fn start(scene: &Scene) -> Self {
        let (place, mut running) = (Place::new(&scene.role.url), JoinSet::new());
        let mut systems = Vec::new();
        for index in 0..SYSTEMS {
            let job = scene.client.small_job().await;
            let system = System { name: format!("s{index}"), id: job.system_id };
            for client in 0..CLIENTS_PER_SYSTEM {
                let id = index * CLIENTS_PER_SYSTEM + client;
                let writer = Writer::new(id, system.clone(), u64::from(id) + 1);
                running.spawn(writer.run(place.clone(), Arc::clone(&scene.acks)));
            }
            systems.push(system);
        }
        Self { systems, running }
    }

    async fn stop(mut self, scene: &Scene) -> (Vec<System>, Vec<Writer>) {
        scene.acks.close();
        let mut writers = Vec::new();
        while let Some(writer) = self.running.join_next().await {
            writers.push(writer.unwrap());
        }
        (self.systems, writers)
    }
}

async fn truths(systems: &[System], url: &str) -> BTreeMap<String, Truth> {
    let place = Place::new(url);
    let mut truths = BTreeMap::new();
    for system in systems {
        truths.insert(system.name.clone(), place.truth(system).await);
    }
    truths
}

async fn survives(fault: Fault) {
    let Some(mut scene) = Scene::new().await else { return };
    let load = Load::start(&scene).await;
    let before = scene.until("a calm start", |now, acks| acks >= ACKS && now.saves >= 4.0).await;
    assert!(scene.pointers.check().await && scene.pointers.found > 0, "rows and objects can be asked");

    fault.begin(scene.containers()).await;
    let (begun, acks_before) = (clock::now(), scene.acks.available_permits());
    let at_end = scene
        .until("failing saves", |now, acks| {
            let enough = now.failures >= before.failures + FAILURES && acks >= acks_before + ACKS;
            enough && begun.elapsed() >= fault_time()
        })
        .await;
    let (lasted, acks) = (begun.elapsed(), scene.acks.available_permits() - acks_before);
    fault.end(scene.containers()).await;

    let ended = clock::now();
    scene
        .until("snapshots that catch up", |now, _| {
            now.saves >= at_end.saves + f64::from(2 * SYSTEMS) && now.lag_events * 2.0 <= at_end.lag_events
        })
        .await;
    let caught_up = ended.elapsed();
    let (systems, writers) = load.stop(&scene).await;
    scene.until("everything saved", |now, _| now.unsaved == 0.0).await;
    scene.until("a log that is trimmed", |now, _| now.trimmed > at_end.trimmed).await;
    let trimmed = ended.elapsed();
    assert!(scene.pointers.check().await, "all rows and objects can be asked again");

    let most = scene.most;
    assert!(most.queued_bytes <= QUEUED_BYTES_MAX && most.kept_bytes <= KEPT_BYTES_MAX, "{most:?}");
    assert!(most.rss_kib <= before.rss_kib + RSS_GROWTH_KIB_MAX, "before {before:?}, most {most:?}");
    let found = scene.pointers.found;
    let verdict = holds(scene, &systems, &writers).await;
    // Past the capture of the test runner.
    let _ = writeln!(
        std::io::stderr(),
        "{fault:?} for {:.1} s: {acks} answers meanwhile, {} saves failed, lag at its end {}; caught up in {:.1} s, trimmed in {:.1} s; \
         most: RSS {:.0} KiB (before {:.0}), queued {} B, kept {} B in {} segments; {verdict} ({found} objects found)",
        lasted.as_secs_f64(),
        at_end.failures - before.failures,
        at_end.lag_events,
        caught_up.as_secs_f64(),
        trimmed.as_secs_f64(),
        most.rss_kib,
        before.rss_kib,
        most.queued_bytes,
        most.kept_bytes,
        most.segments,
    );
}

/// What clients were told is there, in the rows too, and after a kill and a start, and the log and the stores are whole.
async fn holds(mut scene: Scene, systems: &[System], writers: &[Writer]) -> String {
    let complaints: Vec<&String> = writers.iter().flat_map(|writer| &writer.complaints).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    let observations: Vec<_> = writers.iter().flat_map(|writer| writer.observations.clone()).collect();
    let told = truths(systems, &scene.role.url).await;
    let verdict = check(&observations, &told);
    assert!(verdict.holds(), "{verdict}");
    assert_eq!(verdict.unknown, 0, "no call to a system in memory may need the stores");
    let rows = scene.pointers.rows().await.unwrap();
    for system in systems {
        let row = rows.iter().find(|row| row.system_id.to_string() == system.id).expect("it has a row");
        assert_eq!(row.version, told[&system.name].events.last().unwrap().seq, "{} is saved", system.name);
    }
    scene.role.signal(rustix::process::Signal::KILL);
    scene.role.child.wait().unwrap();
    let role = scene.ground.serve_with(&TIMEOUTS).unwrap();
    let verdict = check(&observations, &truths(systems, &role.url).await);
    assert!(verdict.holds(), "after a kill: {verdict}");
    let (status, _, stderr) = role.stop();
    assert!(status.success(), "{status}: {stderr}");
    scene.ground.verify();
    let (acknowledged, unknown, lost) = (verdict.acknowledged, verdict.unknown, verdict.lost);
    format!("{acknowledged} acknowledged, {unknown} unknown, {lost} lost, {} doubled", verdict.doubled)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_object_store_stops_no_acknowledgement() {
    survives(Fault::S3Paused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_database_stops_no_acknowledgement() {
    survives(Fault::PostgresRestarted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_stores_away_stop_no_acknowledgement() {
    survives(Fault::BothAway).await;
}
