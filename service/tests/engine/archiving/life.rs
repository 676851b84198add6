//! A random life of a few systems: whatever happens, what is trimmed is in the stores.

use mipro_service::engine::EngineError;
use mipro_service::log::Segments as _;
use proptest::prelude::*;

use super::put;
use crate::segmented::{Live, SegmentedLog, World, ledger};

/// What happens in a random life of a few systems.
#[derive(Debug, Clone, Copy)]
enum Step {
    Work(usize),
    Snapshot(usize),
    Reload(usize),
    Seal,
    Turn,
    /// The host is gone; only what is in the stores is left.
    HostGone,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_usize).prop_map(Step::Work),
        3 => (0..3_usize).prop_map(Step::Snapshot),
        1 => (0..3_usize).prop_map(Step::Reload),
        3 => Just(Step::Seal),
        3 => Just(Step::Turn),
        1 => Just(Step::HostGone),
    ]
}

/// Every system is as it was in memory, its history is whole, and so it is from the snapshot before.
async fn all_is_there(world: &World, systems: &[Live], holed: &[bool]) {
    for (live, holed) in systems.iter().zip(holed) {
        let back = world.recover(live.id()).await.unwrap();
        assert_eq!(back.state, live.state);
        if *holed {
            let hole = world.history().events(live.id(), 0, 1_000).await;
            assert!(matches!(hole, Err(EngineError::Corrupt { .. })), "what is lost is never passed over");
            continue;
        }
        let mut pages = Vec::new();
        while pages.len() < live.history.len() {
            let since = pages.len() as u64;
            let page = world.history().events(live.id(), since, 7).await.unwrap();
            assert!(!page.is_empty() && page.len() <= 7);
            pages.extend(page);
        }
        assert_eq!(pages, live.history, "no holes, no doubles");
        let end = world.history().events(live.id(), live.state.version, 7).await.unwrap();
        assert_eq!(end, [], "and it ends there");

        let row = world.rig.stores().table.get(live.id(), &ledger()).await.unwrap().unwrap();
        if row.previous.is_none() {
            continue;
        }
        let key = row.state_ref.unwrap();
        let whole = world.rig.stores().blobs.get(&key, &ledger()).await.unwrap();
        put(world, &key, "damage").await;
        let back = world.recover(live.id()).await.unwrap();
        assert!(back.fell_back && back.state == live.state, "whatever was trimmed, the archive has it");
        put(world, &key, whole).await;
    }
}

async fn a_life(steps: Vec<Step>) {
    let mut world = World::new().await;
    let mut systems = [world.begin().await, world.begin().await, world.begin().await];
    let (mut archiver, mut named) = world.archiver();
    let mut holed = [false; 3];
    for step in steps {
        match step {
            Step::Work(i) => systems[i].work(&world.log, 1),
            Step::Snapshot(i) => {
                let live = &mut systems[i];
                let row = world.rig.stores().table.get(live.id(), &ledger()).await.unwrap().unwrap();
                if row.version < live.state.version {
                    live.snapshot(&world.writer).await.unwrap();
                }
            }
            Step::Reload(i) => {
                let back = world.recover(systems[i].id()).await.unwrap();
                assert_eq!(back.state, systems[i].state);
                systems[i].resume(&back);
            }
            Step::Seal => world.log.seal(),
            Step::Turn => {
                archiver.turn().await.unwrap();
                while named.try_recv().is_ok() {}
            }
            Step::HostGone => {
                // What neither a snapshot nor the archive has is lost; everything else is not.
                world.log = SegmentedLog::new();
                (archiver, named) = world.archiver();
                for (live, holed) in systems.iter_mut().zip(&mut holed) {
                    let (kept, archived) = left(&world, live).await;
                    *holed |= !archived;
                    let back = world.recover(live.id()).await.unwrap();
                    assert_eq!(back.state.version, kept, "all that had left the host");
                    live.resume(&back);
                }
            }
        }
    }
    all_is_there(&world, &systems, &holed).await;
}

/// The newest event of a system that is not on the host's disk alone, and whether all before it are archived.
async fn left(world: &World, live: &Live) -> (u64, bool) {
    let row = world.rig.stores().table.get(live.id(), &ledger()).await.unwrap().unwrap();
    let archived = world.archive().sources(live.id(), None, true).await.unwrap();
    let archived = archived.iter().map(|source| source.last_seq).max().unwrap_or(0);
    (row.version.max(archived), archived >= row.version)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_trimmed_that_is_needed(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(a_life(steps));
    }
}
