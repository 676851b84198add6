//! How the service fares as systems and histories grow: memory and start-up with many idle systems, recovery of one with a
//! long tail, the size of what is stored. Prints figures beside their targets, judges nothing.
//!
//! `cargo bench -p mipro-service --bench scale -- [idle [SYSTEMS]] [recovery] [snapshots]`; all of them unless named.
//! Logs lie below the target directory, or where `MIPRO_BENCH_DIR` says. Rows and objects of `idle` lie in `/dev/shm`, or where
//! `MIPRO_BENCH_STORES` says: they stand for a database and an object store elsewhere.
#![expect(clippy::unwrap_used, reason = "a measurement that can't go on stops here")]
#![expect(clippy::print_stdout, reason = "it prints")]

mod idle;
mod recovery;
mod snapshots;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mipro_service::store::{Blobs, Stores, TableOptions, open_table};
use mipro_service::system::{
    Command, Limits, Message, NewSystem, PatternMessage, Prompt, Status, StatusReport, SystemId, SystemSpec,
};
use mipro_telemetry::clock;
use store::Objects;
use uuid::Uuid;

const SYSTEMS: u64 = 1_000_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let wanted = |part: &str| words.is_empty() || words.iter().any(|word| word == part);
    let systems = words.iter().find_map(|word| word.parse().ok()).unwrap_or(SYSTEMS);
    let root = std::env::var_os("MIPRO_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = tempfile::tempdir_in(root).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // First: what the others leave in the allocator must not count.
    if wanted("idle") {
        idle::run(&runtime, dir.path(), systems);
    }
    if wanted("recovery") {
        recovery::run(&runtime, dir.path());
    }
    if wanted("snapshots") {
        snapshots::run(&runtime, dir.path());
    }
}

/// A database in a file of `dir`, or in memory without one, and these objects.
async fn stores(rows: Option<PathBuf>, objects: Arc<Objects>) -> Stores {
    let path = rows.map_or_else(|| ":memory:".to_owned(), |path| path.display().to_string());
    let options = TableOptions { url: format!("sqlite:{path}"), ..TableOptions::default() };
    let table = open_table(&options).await.unwrap();
    Stores { table, blobs: Blobs::over(objects, Duration::from_secs(60)) }
}

/// Random in its high half, counted in its low one.
fn system_id(index: u64) -> SystemId {
    Uuid::from_u64_pair(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15), index)
}

fn new_system(system_id: SystemId, limits: Limits) -> NewSystem {
    let pattern = |role: &str, order, pattern: &str| PatternMessage {
        role: role.into(),
        order,
        pattern: pattern.into(),
    };
    let messages = vec![pattern("system", 0, "Answer with one label."), pattern("user", 1, "Query: {query}")];
    let wildcards = [("query".to_owned(), "REQUIRED".to_owned())].into();
    let prompt = Arc::new(Prompt::new("p".into(), "P".into(), messages, wildcards));
    let spec =
        SystemSpec { prompt, model: "m".into(), provider: "mock".into(), limits, ..SystemSpec::default() };
    NewSystem { system_id, org_id: Uuid::from_u128(2), name: None, spec }
}

fn messages() -> Arc<[Message]> {
    let text = |role: &str, text: &str| Message { role: role.into(), text: Some(text.into()) };
    Arc::new([text("system", "Answer with one label."), text("user", "Query: which of these labels fits?")])
}

/// A rollout's two commands, with an id as clients make them.
fn rollout(index: u64, messages: &Arc<[Message]>) -> [Command; 2] {
    let dice = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let rollout_id = Uuid::from_u128(u128::from(dice) << 64 | 0x4000_8000).to_string();
    let start = Command::StartRollout { rollout_id: rollout_id.clone(), messages: Arc::clone(messages) };
    let reward = Some((dice >> 11) as f64 / (1_u64 << 53) as f64);
    let report = StatusReport { rollout_id, status: Status::RewardDone, reward, candidate_id: None };
    [start, Command::Report(report)]
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// `median (least to most)` in milliseconds.
fn spread_ms(values: Vec<f64>) -> String {
    let values = sorted(values);
    let (least, most) = (values[0] * 1e3, values[values.len() - 1] * 1e3);
    format!("{:.2} ms ({least:.2} to {most:.2})", values[values.len() / 2] * 1e3)
}

/// Seconds that `work` takes.
fn timed<R>(work: impl FnOnce() -> R) -> (f64, R) {
    let begun = clock::now();
    let result = work();
    (begun.elapsed().as_secs_f64(), result)
}
