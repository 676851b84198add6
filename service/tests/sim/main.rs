//! The whole service, simulated: one seed is one history.

mod book;
mod check;
mod client;
mod dice;
mod explore;
mod journal;
mod process;
mod scene;
mod stores;

use std::collections::BTreeMap;
use std::sync::Arc;

use book::Service;
use check::Truth;
use journal::Journal;
use mipro_service::history::History;
use mipro_service::log::segment;
use mipro_service::offload::Offload;
use mipro_service::snapshot::archive::Archive;
use process::{Outside, audit};
use scene::lock;

/// What a history came to.
struct Report {
    seed: u64,
    hash: String,
    calls: usize,
    violations: Vec<String>,
    host_gone: bool,
}

/// Lives one history through.
fn history(seed: u64, print: bool) -> Report {
    let mut outside = Outside::new(seed, print);
    let mut dice = outside.scene.dice("history", &[]);
    for _ in 0..dice.between(1, 4) {
        let for_ms = dice.between(200, 2_500);
        outside.process(async |outside: &Outside, service: Service, journal: &Journal| {
            outside.under_load(service, journal, for_ms).await;
        });
    }
    outside.scene.calm_down();
    outside.process(async |outside: &Outside, service: Service, _: &Journal| {
        outside.to_the_end(&service).await;
    });
    let truth = outside.process(async |outside: &Outside, service: Service, journal: &Journal| {
        audit(&service, &lock(&outside.founded).clone()).await;
        truth(outside, journal).await
    });
    if let Some(truth) = truth {
        for wrong in check::check(&truth, &outside.book.made()) {
            outside.scene.violated(wrong);
        }
    }
    let (hash, violations) = (outside.scene.hash(), outside.scene.violations());
    Report { seed, hash, calls: outside.book.made().len(), violations, host_gone: outside.host_gone }
}

/// What the service holds in the end.
async fn truth(outside: &Outside, journal: &Journal) -> Truth {
    let (stores, offload) = (outside.stores(), Offload::Inline);
    let archive = Arc::new(Archive::new(stores.blobs.clone(), segment::visit_bytes, offload));
    let history = History::new(stores, journal.log.clone(), offload).with_archive(archive);
    let mut events = BTreeMap::new();
    let founded = lock(&outside.founded).clone();
    for system in founded {
        match history.events(outside.systems[system], 0, usize::MAX).await {
            Ok(found) => _ = events.insert(system, found),
            Err(_) if outside.host_gone => {}
            Err(error) => outside.scene.violated(format!("the history of system {system}: {error}")),
        }
    }
    let moves = lock(&outside.table.rows.moves).clone();
    let place = |row: &mipro_service::store::SystemRow| {
        outside.systems.iter().position(|system| *system == row.system_id)
    };
    let moves = moves.into_iter().filter_map(|(row, object)| Some((place(&row)?, row, object))).collect();
    Truth { events, moves, host_gone: outside.host_gone }
}

#[test]
fn one() {
    let seed = std::env::var("MIPRO_SIM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let count = std::env::var("MIPRO_SIM_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    let twice = std::env::var("TWICE").is_ok();
    let t = mipro_telemetry::clock::now();
    let mut bad = 0;
    for s in seed..seed + count {
        let a = history(s, std::env::var("P").is_ok());
        let same = !twice || a.hash == history(s, false).hash;
        if !same || !a.violations.is_empty() || count < 30 {
            bad += 1;
            println!(
                "{} {} {} gone {} calls {} {:#?}",
                a.seed, a.hash, same, a.host_gone, a.calls, a.violations
            );
        }
    }
    println!("{bad} of {count}: {:?}", t.elapsed());
}
