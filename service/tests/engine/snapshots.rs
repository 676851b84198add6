//! Writing snapshots: what is there after each step, each failure, and each call that was dropped.

use std::sync::atomic::Ordering;

use mipro_service::engine::EngineError;
use mipro_service::snapshot::{self, Attempt, SaveError};
use mipro_service::store::SystemRow;
use mipro_service::store::blobs::PutRule;
use mipro_telemetry::{Operation, Stage};
use proptest::prelude::*;

use crate::segmented::{Live, World, ledger};
use crate::support::{Postgres, Rig, poll_times};

async fn row(world: &World, live: &Live) -> SystemRow {
    world.rig.stores().table.get(live.id(), &ledger()).await.unwrap().unwrap()
}

async fn moves_and_keeps(world: &World) {
    let mut live = world.begin().await;
    let founded = row(world, &live).await;
    assert_eq!((founded.version, founded.epoch, founded.previous), (live.state.version, 1, None));
    live.work(&world.log, 2);
    let written = live.snapshot(&world.writer).await.unwrap();
    let now = row(world, &live).await;
    assert_eq!((written.seq, Some(written.bytes)), (now.version, now.state_bytes));
    let key = snapshot::key(live.id(), 1, live.state.version, None);
    assert_eq!(now.state_ref.as_deref(), Some(&*key));
    let bytes = world.rig.stores().blobs.get(&key, &ledger()).await.unwrap();
    assert_eq!(
        now.state_checksum,
        Some(*blake3::hash(&bytes).as_bytes()),
        "the row's own checksum of the object"
    );
    assert_eq!(now.previous.unwrap().state_ref, founded.state_ref.unwrap());
    let mut other = live.state.clone();
    other.name = Some("other".to_owned());
    let again = world.writer.write_first(other, 1, None, &ledger()).await;
    assert_eq!(again.unwrap_err(), SaveError::Conflict, "there is a system of that id");
}

#[tokio::test]
async fn a_snapshot_is_put_then_the_row_names_it_and_the_one_before() {
    let world = World::new().await;
    moves_and_keeps(&world).await;
    let behind = world.rig.recorders.snapshot();
    for stage in [Stage::SnapshotEncode, Stage::SnapshotPut, Stage::PointerUpdate] {
        assert!(behind.stage(Operation::Background, stage, None).is_some(), "{stage} was not recorded");
    }
}

#[tokio::test]
async fn over_postgres_it_is_the_same() {
    let Some(postgres) = Postgres::start().await else { return };
    moves_and_keeps(&World::over(Rig::table(&postgres.options()).await)).await;
    postgres.stop().await;
}

#[tokio::test]
async fn a_put_whose_pointer_did_not_move_is_not_put_again() {
    let world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 1);
    world.rig.table.down.store(true, Ordering::SeqCst);
    let failed = live.snapshot(&world.writer).await.unwrap_err();
    assert!(matches!(failed, SaveError::Failed(EngineError::Unavailable { .. })), "{failed:?}");
    let puts = world.objects().counts().1;
    world.rig.table.down.store(false, Ordering::SeqCst);
    live.snapshot(&world.writer).await.unwrap();
    assert_eq!(world.objects().counts().1, puts, "the object was there");

    // Killed between put and pointer: nobody remembers the put, and its bytes tell that it is ours.
    live.work(&world.log, 1);
    world.rig.table.down.store(true, Ordering::SeqCst);
    live.snapshot(&world.writer).await.unwrap_err();
    world.rig.table.down.store(false, Ordering::SeqCst);
    let keys = world.keys().await;
    live.attempt = Attempt::default();
    live.snapshot(&world.writer).await.unwrap();
    assert_eq!(world.keys().await, keys, "no second object");
    assert_eq!(row(&world, &live).await.version, live.state.version);
}

#[tokio::test]
async fn a_dropped_write_leaves_the_row_where_it_was_or_moves_it() {
    let world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 1);
    world.objects().set_hold_puts(true);
    let before = row(&world, &live).await;
    {
        let mut attempt = Attempt::default();
        let write = world.writer.write(live.state.clone(), 1, &mut attempt);
        assert!(poll_times(write, 50).await.is_none(), "it waits for the put");
    }
    world.objects().set_hold_puts(false);
    assert_eq!(row(&world, &live).await, before);
    live.snapshot(&world.writer).await.unwrap();
}

#[tokio::test]
async fn another_processs_object_is_neither_overwritten_nor_taken_for_ours() {
    let world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 1);
    let key = snapshot::key(live.id(), 1, live.state.version, None);
    let blobs = world.rig.stores().blobs;
    blobs.put(&key, "theirs".into(), PutRule::Create, Stage::S3Put, &ledger()).await.unwrap();
    live.snapshot(&world.writer).await.unwrap();
    assert_eq!(blobs.get(&key, &ledger()).await.unwrap(), "theirs");
    assert_ne!(row(&world, &live).await.state_ref, Some(key));
    assert_eq!(world.recover(live.id()).await.unwrap().state, live.state);
}

#[tokio::test]
async fn a_pointer_that_moved_while_its_answer_was_lost_is_recognized() {
    let world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 1);
    world.rig.table.lose_answer.store(true, Ordering::SeqCst);
    live.snapshot(&world.writer).await.unwrap();
    assert_eq!(row(&world, &live).await.version, live.state.version);
}

#[tokio::test]
async fn a_lower_epoch_is_fenced_and_changes_nothing() {
    let world = World::new().await;
    let mut zombie = world.begin().await;
    let mut owner = world.begin().await;
    owner.resume(&world.recover(zombie.id()).await.unwrap());
    assert_eq!(owner.epoch, 2);
    owner.work(&world.log, 1);
    owner.snapshot(&world.writer).await.unwrap();
    let before = row(&world, &owner).await;
    zombie.work(&world.log, 5);
    assert!(zombie.state.version > owner.state.version, "only the epoch tells");
    assert_eq!(zombie.snapshot(&world.writer).await, Err(SaveError::Conflict));
    assert_eq!(row(&world, &owner).await, before);
}

#[tokio::test]
async fn older_snapshots_go_when_asked_and_the_two_that_the_row_names_stay() {
    let world = World::new().await;
    let writer = world.writer.clone().deleting(true);
    let mut live = world.begin().await;
    for _ in 0..4 {
        live.work(&world.log, 1);
        live.snapshot(&writer).await.unwrap();
    }
    let now = row(&world, &live).await;
    let mut named = vec![now.previous.unwrap().state_ref, now.state_ref.unwrap()];
    named.sort();
    assert_eq!(world.keys().await, named);

    live.resume(&world.recover(live.id()).await.unwrap());
    live.work(&world.log, 1);
    live.snapshot(&writer).await.unwrap();
    assert_eq!(world.keys().await.len(), 2, "also after a restart");
    live.snapshot(&writer).await.unwrap();
    assert_eq!(world.keys().await.len(), 2, "a second snapshot of the same state is the first one");
    live.work(&world.log, 1);
    live.snapshot(&world.writer).await.unwrap();
    assert_eq!(world.keys().await.len(), 3, "and nothing goes unasked");
}

/// What befalls a write.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Well,
    ObjectsDown,
    TableDown,
    AnswerLost,
    DroppedAfter(u32),
    Forgotten,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Well),
        1 => Just(Fate::ObjectsDown),
        1 => Just(Fate::TableDown),
        1 => Just(Fate::AnswerLost),
        2 => (0..60_u32).prop_map(Fate::DroppedAfter),
        1 => Just(Fate::Forgotten),
    ]
}

async fn whatever_befalls(fates: Vec<Fate>) {
    let world = World::new().await;
    let mut live = world.begin().await;
    let mut saved = live.state.version;
    for fate in fates {
        live.work(&world.log, 1);
        let (objects, table) = (&world.rig.objects, &world.rig.table);
        objects.set_down(matches!(fate, Fate::ObjectsDown));
        table.down.store(matches!(fate, Fate::TableDown), Ordering::SeqCst);
        table.lose_answer.store(matches!(fate, Fate::AnswerLost), Ordering::SeqCst);
        match fate {
            Fate::DroppedAfter(polls) => {
                let (mut attempt, state) = (std::mem::take(&mut live.attempt), live.state.clone());
                _ = poll_times(world.writer.write(state, live.epoch, &mut attempt), polls).await;
            }
            Fate::Forgotten => live.attempt = Attempt::default(),
            _ => {
                let result = live.snapshot(&world.writer).await;
                let well = matches!(fate, Fate::Well | Fate::AnswerLost);
                assert!(result.is_ok() || !well || result == Err(SaveError::Conflict), "{result:?}");
            }
        }
        objects.set_down(false);
        table.down.store(false, Ordering::SeqCst);
        table.lose_answer.store(false, Ordering::SeqCst);
        let now = row(&world, &live).await;
        assert!(now.version >= saved, "the pointer never goes back");
        saved = now.version;
        let named = [now.state_ref, now.previous.map(|previous| previous.state_ref)];
        for key in named.iter().flatten() {
            assert!(world.rig.stores().blobs.size(key).await.is_ok(), "the row names what is there");
        }
    }
    let recovered = world.recover(live.id()).await.unwrap();
    assert_eq!(recovered.state, live.state);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_befalls_a_write_the_row_names_an_object_that_is_there(
        fates in proptest::collection::vec(fate(), 1..8)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(whatever_befalls(fates));
    }
}
