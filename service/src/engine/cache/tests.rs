use std::sync::Arc;
use std::time::Duration;

use mipro_telemetry::{Ledger, Operation, Recorders};
use object_store::memory::InMemory;
use serde_json::Value;
use uuid::Uuid;

use super::super::{Access, EngineKind, EngineOptions, Question};
use super::*;
use crate::clock::Contexts;
use crate::store::{self, Blobs, Stores, TableOptions};
use crate::system::{Status, StatusReport, SystemSpec};

const ACCESS: Access = Access::Capability;

fn ledger() -> Ledger {
    Ledger::start(Operation::Unknown)
}

/// Without a flusher: the test saves.
async fn shared() -> Arc<Shared> {
    let table = store::open_table(&TableOptions::default()).await.unwrap();
    let blobs = Blobs::over(Arc::new(InMemory::new()), Duration::from_secs(5));
    let options = EngineOptions::new(EngineKind::Cache, Contexts::frozen(7, 1_700_000_000_000_000));
    Arc::new(Shared {
        keeper: Keeper::new(Stores { table, blobs }, Recorders::new(), options.offload),
        contexts: options.contexts.clone(),
        options: options.cache,
        slots: Slots::new(options.cache.systems_max),
        schedule: Schedule::default(),
        room: Notify::new(),
        draining: AtomicBool::new(false),
    })
}

async fn new_system(shared: &Arc<Shared>) -> SystemId {
    let system_id = Uuid::new_v4();
    let spec = SystemSpec { model: "m".to_owned(), ..SystemSpec::default() };
    let new = NewSystem { system_id, org_id: Uuid::from_u128(0xa), name: None, spec };
    shared.create(&new, &ledger()).await.unwrap();
    system_id
}

fn report(rollout: &str) -> Command {
    Command::Report(StatusReport {
        rollout_id: rollout.to_owned(),
        status: Status::RewardDone,
        reward: Some(1.0),
        candidate_id: Some("baseline".to_owned()),
    })
}

async fn rewards(shared: &Arc<Shared>, system: SystemId) -> Value {
    let (_slot, content) = shared.hold(system, ACCESS, &ledger()).await.unwrap();
    content.held().unwrap().document.answer(&Question::State)["reward_count"].clone()
}

/// What a panic in a command does.
async fn poison(shared: &Shared, system: SystemId) {
    let (_slot, mut content) = shared.hold(system, ACCESS, &ledger()).await.unwrap();
    let held = content.take().unwrap();
    shared.poisoned(&held);
}

fn unsaved(shared: &Shared) -> u64 {
    shared.keeper.counters.read().unsaved_events
}

#[tokio::test]
async fn a_state_dropped_while_it_is_saved_is_read_anew_when_the_save_has_ended() {
    let shared = shared().await;
    let system = new_system(&shared).await;
    shared.run(system, ACCESS, &report("saving"), &ledger()).await.unwrap();
    let slot = shared.slots.find(system).unwrap();

    // As the flusher does it, with the drop in between.
    let mut attempt = slot.save_turn().await;
    let document = slot.lock().await.held().unwrap().document.clone();
    let version = document.state.version;
    poison(&shared, system).await;
    assert_eq!(unsaved(&shared), 0);
    let mut write = Box::pin(async { shared.run(system, ACCESS, &report("after"), &ledger()).await });
    for _ in 0..20 {
        assert!(futures_util::poll!(&mut write).is_pending(), "nothing is loaded before the save has ended");
        tokio::task::yield_now().await;
    }
    let result = shared.keeper.save_behind(document, &mut attempt).await;
    assert_eq!(result, Ok(()));
    flusher::settle(&shared, &slot, version, result).await;
    drop(attempt);

    write.await.unwrap();
    assert_eq!(rewards(&shared, system).await, 2, "what was saved after all is there");
    assert!(unsaved(&shared) > 0, "and only what came after is unsaved");
    flusher::save(&shared, &slot).await;
    assert_eq!((unsaved(&shared), shared.keeper.counters.read().conflicts), (0, 0));
}

/// The key that a failed save left must not be taken for that of another history of the same length.
#[tokio::test]
async fn a_state_read_anew_forgets_the_half_done_save_of_the_one_before() {
    let shared = shared().await;
    let system = new_system(&shared).await;
    let slot = shared.slots.find(system).unwrap();
    let mut attempt = slot.save_turn().await;
    attempt.written = Some((99, "systems/another".to_owned(), 1));
    drop(attempt);
    poison(&shared, system).await;
    assert_eq!(rewards(&shared, system).await, 0);
    assert_eq!(slot.save_turn().await.written, None);
}

#[tokio::test]
async fn a_dropped_state_keeps_its_slot_until_its_save_has_ended() {
    let mut shared = shared().await;
    Arc::get_mut(&mut shared).unwrap().slots = Slots::new(1);
    let system = new_system(&shared).await;
    let slot = shared.slots.find(system).unwrap();
    let turn = slot.save_turn().await;
    poison(&shared, system).await;
    new_system(&shared).await;
    let kept = shared.slots.find(system).unwrap();
    assert!(Arc::ptr_eq(&slot, &kept), "a fresh slot would load beside the save");
    drop(turn);
    new_system(&shared).await;
    assert!(shared.slots.find(system).is_none(), "then it may go");
}
