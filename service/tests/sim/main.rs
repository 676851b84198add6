//! The whole service, simulated: one seed is one history.

mod book;
mod check;
mod client;
mod dice;
mod explore;
mod process;
mod scene;
mod stores;

use book::{Call, Service};
use process::Outside;

/// What a history came to.
struct Report {
    seed: u64,
    hash: String,
    calls: usize,
    violations: Vec<String>,
}

fn history(seed: u64, print: bool) -> Report {
    let mut outside = Outside::new(seed, print);
    let mut dice = outside.scene.dice("history", &[]);
    for _ in 0..dice.between(1, 4) {
        let for_ms = dice.between(200, 2_500);
        outside.process(async |outside: &Outside, service: Service| {
            process::under_load(outside, service, for_ms).await;
        });
    }
    outside.process(async |outside: &Outside, service: Service| {
        process::to_the_end(outside, &service).await;
        for system in 0..outside.systems.len() {
            service.make(8, system, 0, Call::State).await;
        }
        if service.engine.shutdown().await.is_err() {
            outside.scene.violated("a clean stop failed".to_owned());
        }
    });
    let events = (0..outside.systems.len()).map(|system| truth(&outside, system)).collect();
    let truth = check::Truth { events, host_gone: std::env::var("HG").is_ok() };
    for wrong in check::check(&truth, &outside.book.made()) {
        outside.scene.violated(wrong);
    }
    let hash = outside.scene.hash();
    Report { seed, hash, calls: outside.book.made().len(), violations: outside.scene.violations() }
}

fn truth(outside: &Outside, system: usize) -> Vec<mipro_service::system::Recorded> {
    use futures_util::FutureExt;
    use object_store::ObjectStoreExt;
    let Some(row) = outside.table.rows.get(outside.systems[system]) else { return Vec::new() };
    let path = object_store::path::Path::from(row.state_ref.unwrap());
    let bytes = async { outside.objects.inner.get(&path).await.unwrap().bytes().await.unwrap() };
    let bytes = bytes.now_or_never().unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    serde_json::from_value(value["events"].take()).unwrap()
}

#[test]
fn one() {
    let seed = std::env::var("MIPRO_SIM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let t = mipro_telemetry::clock::now();
    for s in seed..seed + 20 {
        let a = history(s, std::env::var("P").is_ok());
        let b = history(s, false);
        println!("{} {} {} calls {} {:?}", a.seed, a.hash, a.hash == b.hash, a.calls, a.violations);
    }
    println!("{:?}", t.elapsed());
}
