//! The ways out: each is taken, and afterwards a start works and loses what was said and nothing more.

use super::site::{Site, flip, id, refusal};
use crate::inspect::repair::{Lost, Plan, Repaired};
use crate::inspect::replay::state_hash;
use crate::system::State;

async fn repaired(site: &Site) -> (Plan, Repaired) {
    let inspector = site.inspector().await;
    let mut plan = inspector.plan().await.unwrap();
    let repaired = inspector.repair(&mut plan).await.unwrap();
    (plan, repaired)
}

/// Everything is whole, starts, and each state is the fold of the first events that its history had.
async fn all_is_well(site: &Site) {
    assert!(site.starts());
    let inspector = site.inspector().await;
    assert_eq!(inspector.verify_log().await.unwrap().1, []);
    for report in site.verify().await {
        assert_eq!(report.problems, [], "{}", report.system);
        let history = &site.lives[&report.system].history;
        let then = State::fold(&history[..usize::try_from(report.version).unwrap()]).unwrap();
        assert_eq!(report.state_hash, Some(state_hash(&then)));
    }
    assert!(inspector.plan().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_whole_needs_no_repair() {
    let site = Site::grown().await;
    let (plan, repaired) = repaired(&site).await;
    assert!(plan.is_empty() && !plan.loses());
    assert_eq!(repaired, Repaired::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_costs_its_system_what_builds_on_it_and_others_nothing() {
    let mut site = Site::grown().await;
    let segments = site.files(".seg");
    // Behind every snapshot, and not in the last segment.
    let path = &segments[segments.len() - 2];
    let before = std::fs::read(path).unwrap();
    flip(path, 64 + 64 + 3);
    let damaged = std::fs::read(path).unwrap();
    assert!(!site.starts());
    let (plan, repaired) = repaired(&site).await;
    assert!(plan.loses() && plan.systems.len() == 1, "{plan:?}");
    let hurt = &plan.systems[0];
    let (kept, whole) = (hurt.keeps_to.unwrap(), site.lives[&hurt.system].state.version);
    assert_eq!(hurt.lost, Some(Lost { first_seq: kept + 1, last_seq: whole }));
    assert_eq!((plan.lost_unknown, plan.lost_history), (0, 0), "{plan:?}");
    let aside = repaired.set_aside.unwrap();
    assert_eq!(
        std::fs::read(aside.join(path.file_name().unwrap())).unwrap(),
        damaged,
        "the old log is as it was"
    );
    assert_ne!(before, damaged);
    all_is_well(&site).await;
    let reports = site.verify().await;
    for report in reports.iter().filter(|report| report.system != hurt.system) {
        assert_eq!(report.version, site.lives[&report.system].state.version, "others lose nothing");
    }
    site.open().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_control_file_costs_nothing() {
    let site = Site::grown().await;
    std::fs::write(site.log_dir().join("control"), b"not a control file").unwrap();
    let (plan, repaired) = repaired(&site).await;
    assert!(!plan.loses() && plan.systems.is_empty(), "{plan:?}");
    assert_eq!(repaired.left_out, 0);
    all_is_well(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn states_that_are_all_damaged_are_folded_again_from_the_history() {
    let site = Site::grown().await;
    let row = site.row(1).await;
    for key in [row.state_ref.clone().unwrap(), row.previous.clone().unwrap().state_ref] {
        flip(&site.object(&key), 90);
    }
    assert!(site.verify().await[0].state_hash.is_none());
    let (plan, repaired) = repaired(&site).await;
    assert!(!plan.loses(), "{plan:?}");
    assert_eq!((plan.systems[0].system, plan.systems[0].new_snapshot), (id(1), true));
    assert_eq!(repaired.snapshots, 1);
    all_is_well(&site).await;
    assert_eq!(site.row(1).await.version, site.state(1).version);
    assert!(site.row(1).await.epoch > row.epoch, "the new state fences off who wrote the old one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_overtaken_gives_way_to_the_stored_state() {
    let mut site = Site::grown().await;
    let here = site.state(1).version;
    // Another host goes on from the stored state, under a higher epoch, and stores its own.
    let stored = usize::try_from(site.row(1).await.version).unwrap();
    site.epoch = 5;
    let life = site.lives.get_mut(&id(1)).unwrap();
    life.history.truncate(stored);
    life.state = State::fold(&life.history).unwrap();
    let mut elsewhere = life.state.clone();
    elsewhere.version += 1;
    life.state = elsewhere;
    site.snapshot(id(1)).await;
    let report = &site.verify().await[0];
    assert!(report.state_hash.is_none() && report.problems[0].means.contains("overtaken"), "{report:?}");
    let (plan, repaired) = repaired(&site).await;
    let kept = site.row(1).await.version;
    assert_eq!(plan.systems[0].lost, Some(Lost { first_seq: kept + 1, last_seq: here }));
    assert!(repaired.left_out > 0);
    assert!(site.starts());
    assert!(site.inspector().await.show(id(1)).await.is_ok());
}

/// Another host has claimed a system and left nothing else: whoever wants this one to go on loses nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_another_host_only_claimed_is_taken_back_whole() {
    let site = Site::grown().await;
    let (row, here) = (site.row(1).await, site.state(1).version);
    let (another, ledger) = (uuid::Uuid::from_u128(7), crate::inspect::ledger());
    assert!(site.stores.table.claim(id(1), row.mark(), row.epoch + 1, another, &ledger).await.unwrap());
    let report = &site.verify().await[0];
    assert!(report.state_hash.is_none() && report.problems[0].problem.contains("another host"), "{report:?}");
    let (plan, repaired) = repaired(&site).await;
    assert!(!plan.loses() && !plan.rebuilds_log, "{plan:?}");
    assert_eq!((plan.systems[0].system, plan.systems[0].new_snapshot, repaired.snapshots), (id(1), true, 1));
    all_is_well(&site).await;
    assert_eq!(site.row(1).await.version, here);
    assert!(site.row(1).await.epoch > row.epoch + 1, "and the other one is fenced off");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_while_a_service_runs() {
    let mut site = Site::grown().await;
    std::fs::write(site.log_dir().join("control.old"), b"").unwrap();
    site.open().unwrap();
    let inspector = site.inspector().await;
    let mut plan = inspector.plan().await.unwrap();
    assert!(refusal(inspector.repair(&mut plan).await).contains("stop it first"));
}
