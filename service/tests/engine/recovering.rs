//! How systems come back: the newest snapshot, the one before it, the tail; and what is refused.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use mipro_service::engine::{Access, EngineError};
use mipro_service::log::{
    AppendError, Batch, Entry, EventLog, Health, Level, Lsn, MemoryLog, ReadError, Segments,
};
use mipro_service::offload::Offload;
use mipro_service::recovery::Recovery;
use mipro_service::store::blobs::PutRule;
use mipro_telemetry::Stage;

use crate::segmented::{Live, SegmentedLog, World, ledger};
use crate::support::{self, ORG, STRANGER, finish, start};

/// A system with two snapshots and a tail behind each.
async fn with_two(world: &World) -> Live {
    let mut live = world.begin().await;
    live.work(&world.log, 3);
    live.snapshot(&world.writer).await.unwrap();
    live.work(&world.log, 2);
    live
}

async fn named(world: &World, live: &Live) -> (String, String) {
    let row = world.rig.stores().table.get(live.id(), &ledger()).await.unwrap().unwrap();
    (row.state_ref.unwrap(), row.previous.unwrap().state_ref)
}

async fn overwrite(world: &World, key: &str, bytes: impl Into<Bytes>) {
    let blobs = world.rig.stores().blobs;
    blobs.put(key, bytes.into(), PutRule::Overwrite, Stage::S3Put, &ledger()).await.unwrap();
}

fn problem(error: &EngineError) -> String {
    assert!(matches!(error, EngineError::Corrupt { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn snapshot_and_tail_make_the_state_that_was_and_a_higher_epoch() {
    let world = World::new().await;
    let mut live = with_two(&world).await;
    let back = world.recover(live.id()).await.unwrap();
    assert_eq!(back.state, live.state);
    assert_eq!((back.epoch, back.fell_back), (2, false));
    assert_eq!(back.snapshot_seq + back.tail_events, live.state.version);
    assert!(back.tail_events > 0 && back.tail_bytes > 0 && back.snapshot_bytes > 0);

    // The tail alone has the second epoch, then the snapshot has it.
    live.resume(&back);
    live.work(&world.log, 1);
    assert_eq!(world.recover(live.id()).await.unwrap().epoch, 3);
    live.snapshot(&world.writer).await.unwrap();
    let back = world.recover(live.id()).await.unwrap();
    assert_eq!((back.epoch, back.tail_events, back.state == live.state), (3, 0, true));
}

#[tokio::test]
async fn strangers_and_unknown_ids_cost_a_row_and_no_object() {
    let world = World::new().await;
    let live = world.begin().await;
    let recovery = world.recovery();
    let gets = world.objects().counts().0;
    for (system, org) in [(live.id(), STRANGER), (uuid::Uuid::new_v4(), ORG)] {
        let refused = recovery.recover(system, Access::Org(org), &ledger()).await.unwrap_err();
        assert_eq!(refused, EngineError::NotFound);
    }
    assert_eq!(world.objects().counts().0, gets);
    assert!(recovery.recover(live.id(), Access::Capability, &ledger()).await.is_ok());
}

#[tokio::test]
async fn a_damaged_newest_snapshot_is_passed_over_for_the_one_before_and_a_longer_tail() {
    let world = World::new().await;
    let live = with_two(&world).await;
    let (newest, previous) = named(&world, &live).await;
    let blobs = world.rig.stores().blobs;
    let whole = blobs.get(&newest, &ledger()).await.unwrap();
    let older = blobs.get(&previous, &ledger()).await.unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x10;
        Bytes::from(bytes)
    };
    let length = whole.len();
    let mut damages: Vec<Bytes> = (0..length).step_by(length / 40).chain(0..64).map(flipped).collect();
    damages.extend([length - 33, length - 32, length - 1].map(flipped));
    damages.extend([0, 1, 63, 64, length - 1].map(|to| whole.slice(..to)));
    damages.push([&whole[..], b"more"].concat().into());
    damages.push(older);
    for damage in damages {
        overwrite(&world, &newest, damage).await;
        let back = world.recover(live.id()).await.unwrap();
        assert!(back.fell_back && back.state == live.state);
        assert_eq!(back.snapshot_seq, 2, "what it was founded with");
    }
    blobs.delete(&newest).await.unwrap();
    assert!(world.recover(live.id()).await.unwrap().fell_back, "what is not there is damaged, too");
    overwrite(&world, &newest, whole).await;
    assert!(!world.recover(live.id()).await.unwrap().fell_back);
}

#[tokio::test]
async fn what_neither_snapshot_can_give_is_an_error_and_so_is_a_store_that_is_down() {
    let world = World::new().await;
    let live = with_two(&world).await;
    let (newest, previous) = named(&world, &live).await;
    world.objects().set_down(true);
    let down = world.recover(live.id()).await.unwrap_err();
    assert!(down.is_retryable(), "a store that is down says nothing about what it holds: {down}");
    world.objects().set_down(false);
    overwrite(&world, &newest, "damage").await;
    assert!(world.recover(live.id()).await.is_ok());
    let rows = world.log.rows();
    world.log.tamper(|rows| rows.retain(|row| row.first_seq <= 2));
    let short = problem(&world.recover(live.id()).await.unwrap_err());
    assert!(short.contains("don't reach it"), "never behind what was saved: {short}");
    world.log.tamper(|open| *open = rows);
    overwrite(&world, &previous, "damage").await;
    let both = problem(&world.recover(live.id()).await.unwrap_err());
    assert!(both.contains("and the one before it"), "{both}");
    let id = live.id().to_string();
    assert!(!both.contains(&id) && !short.contains(&id), "ids are secrets");
}

#[tokio::test]
async fn gaps_and_falling_epochs_in_the_tail_are_refused() {
    let world = World::new().await;
    let mut live = with_two(&world).await;
    live.resume(&world.recover(live.id()).await.unwrap());
    live.work(&world.log, 2);
    let whole = world.log.rows();
    let tail = whole.iter().filter(|row| row.first_seq > 11).count();
    assert!(tail >= 4, "two of each epoch");
    let of_last = |n: usize| whole.len() - n;

    world.log.tamper(|rows| drop(rows.remove(of_last(3))));
    let gap = problem(&world.recover(live.id()).await.unwrap_err());
    assert!(gap.contains("are missing in the log"), "{gap}");

    world.log.tamper(|rows| {
        rows.clone_from(&whole);
        rows.last_mut().unwrap().epoch = 1;
    });
    let fell = problem(&world.recover(live.id()).await.unwrap_err());
    assert!(fell.contains("two writers"), "{fell}");

    world.log.tamper(|rows| {
        rows.clone_from(&whole);
        rows[of_last(1)].payload.truncate(5);
    });
    let unreadable = problem(&world.recover(live.id()).await.unwrap_err());
    assert!(unreadable.contains("can't be read"), "{unreadable}");

    world.log.tamper(|rows| rows.clone_from(&whole));
    assert_eq!(world.recover(live.id()).await.unwrap().state, live.state);
}

#[tokio::test]
async fn a_log_that_another_host_has_overtaken_is_refused_with_what_to_do() {
    let mut world = World::new().await;
    let mut live = with_two(&world).await;
    let ours = Arc::clone(&world.log);
    world.log = SegmentedLog::new();
    live.resume(&world.recover(live.id()).await.unwrap());
    live.work(&world.log, 1);
    live.snapshot(&world.writer).await.unwrap();
    world.log = ours;
    // The host that was gone comes back with a log that goes on beyond what the other one saved.
    world.log.tamper(|rows| {
        let mut late = rows.last().unwrap().clone();
        late.first_seq = live.state.version + 1;
        rows.push(late);
    });
    let behind = problem(&world.recover(live.id()).await.unwrap_err());
    assert!(behind.contains("another host has taken this system over"), "{behind}");
    assert!(behind.contains("Other systems are not concerned"), "{behind}");
}

#[tokio::test]
async fn what_the_snapshot_covers_is_skipped_also_in_the_middle_of_a_batch() {
    let world = World::new().await;
    let mut live = world.begin().await;
    let mut states = Vec::new();
    live.run(&world.log, &start("a"));
    let first = live.state.version + 1;
    let before = live.state.clone();
    live.run(&world.log, &finish("a", 0.5));
    for event in live.history.iter().filter(|event| event.seq >= first) {
        let mut state = states.last().unwrap_or(&before).clone();
        mipro_service::system::apply(&mut state, event, &mut mipro_service::system::NoProbe);
        states.push(state);
    }
    assert!(states.len() >= 3, "a batch that can be straddled");
    let middle = states[0].clone();
    world.writer.write(middle, 1, &mut live.attempt).await.unwrap();
    let back = world.recover(live.id()).await.unwrap();
    assert_eq!((back.snapshot_seq, back.state), (first, live.state.clone()));
}

#[tokio::test]
async fn an_old_document_is_read_too_and_its_history_when_asked() {
    let world = World::new().await;
    let options = support::write_through();
    let engine = world.rig.engine(&options);
    let new = support::new_system();
    support::create(&*engine, &new).await;
    support::run(&*engine, new.system_id, support::report("old", 0.25)).await.unwrap();
    let events = support::ask(&*engine, new.system_id, mipro_service::engine::Question::State).await.unwrap();
    drop(engine);
    let back = world.recover(new.system_id).await.unwrap();
    assert_eq!(back.state.version, events["version"].as_u64().unwrap());
    assert_eq!((back.epoch, back.history.is_none()), (1, true));
    let recovery = world.recovery().keeping_history();
    let kept = recovery.recover(new.system_id, Access::Capability, &ledger()).await.unwrap();
    assert_eq!(kept.history.unwrap().len() as u64, kept.state.version);

    // Snapshots follow, and the document is what can be fallen back to.
    let mut live = world.begin().await;
    live.resume(&back);
    live.history.clear();
    live.work(&world.log, 2);
    live.snapshot(&world.writer.clone().deleting(true)).await.unwrap();
    let (newest, previous) = named(&world, &live).await;
    assert!(previous.ends_with(".json"));
    overwrite(&world, &newest, "damage").await;
    let back = world.recover(new.system_id).await.unwrap();
    assert!(back.fell_back && back.state == live.state);
}

#[tokio::test]
async fn a_log_in_memory_is_no_tail() {
    let world = World::new().await;
    let live = with_two(&world).await;
    let memory = MemoryLog::default();
    for row in world.log.rows() {
        let (system, first_seq, payload) = (row.system, row.first_seq, &row.payload);
        let batch = Batch { system, epoch: 1, first_seq, count: row.count, payload };
        memory.append(&batch).unwrap();
    }
    let recovery = Recovery::new(world.rig.stores(), Arc::new(memory), Offload::Pool);
    let back = recovery.recover(live.id(), Access::Capability, &ledger()).await.unwrap();
    assert_eq!((back.tail_events, back.state.version), (0, back.snapshot_seq));
}

#[tokio::test]
async fn after_falling_back_nothing_is_due_and_what_it_fell_back_to_is_kept() {
    let world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 3);
    live.snapshot(&world.writer).await.unwrap();
    let (newest, previous) = named(&world, &live).await;
    overwrite(&world, &newest, "damage").await;
    let back = world.recover(live.id()).await.unwrap();
    assert!(back.fell_back && back.tail_events > 0);
    assert_eq!(
        back.unsaved_events, 0,
        "a save of the version that the row has would be taken for a conflict"
    );
    live.resume_keeping(&back);
    live.work(&world.log, 1);
    let deleting = world.writer.clone().deleting(true);
    live.snapshot(&deleting).await.unwrap();
    let keys = world.keys().await;
    assert!(keys.contains(&previous), "the only older snapshot that is whole: {keys:?}");
    let back = world.recover(live.id()).await.unwrap();
    assert!(!back.fell_back && back.state == live.state);
}

#[tokio::test]
async fn what_was_trimmed_here_is_found_in_the_archive_when_the_newest_snapshot_is_damaged() {
    let world = World::new().await;
    let mut live = with_two(&world).await;
    live.snapshot(&world.writer).await.unwrap();
    world.log.seal();
    let (mut archiver, _named) = world.archiver();
    archiver.turn().await.unwrap();
    assert_eq!(world.log.rows().len(), 0, "everything is covered");
    let (newest, _) = named(&world, &live).await;
    overwrite(&world, &newest, "damage").await;
    let back = world.recover(live.id()).await.unwrap();
    assert!(back.fell_back && back.state == live.state);
    let alone = Recovery::new(world.rig.stores(), world.log.clone(), Offload::Inline);
    let short = alone.recover(live.id(), Access::Capability, &ledger()).await.unwrap_err();
    assert!(problem(&short).contains("don't reach it"), "without the archive it is lost");
}

#[tokio::test]
async fn what_a_host_archived_before_it_was_gone_is_found_elsewhere() {
    let mut world = World::new().await;
    let mut live = with_two(&world).await;
    world.log.seal();
    let (mut archiver, _named) = world.archiver();
    archiver.turn().await.unwrap();
    let archived = live.state.clone();
    live.work(&world.log, 1);
    world.log = SegmentedLog::new();
    let back = world.recover(live.id()).await.unwrap();
    assert_eq!(back.state, archived, "all but what was only on its disk");
    live.resume(&back);
    live.work(&world.log, 2);
    let again = world.recover(live.id()).await.unwrap();
    assert_eq!(
        (again.state, again.epoch),
        (live.state.clone(), back.epoch + 1),
        "archive, then the log here"
    );
}

/// A log that is trimmed between two looks at it.
#[derive(Debug)]
struct TrimmedMeanwhile {
    log: Arc<SegmentedLog>,
    reads_left: AtomicU64,
}

impl EventLog for TrimmedMeanwhile {
    fn append(&self, batch: &Batch<'_>) -> Result<Lsn, AppendError> {
        self.log.append(batch)
    }

    fn level(&self) -> Level {
        self.log.level()
    }

    fn reached(&self, level: Level) -> Option<tokio::sync::watch::Receiver<Lsn>> {
        self.log.reached(level)
    }

    fn health(&self) -> Health {
        self.log.health()
    }

    fn read(
        &self,
        system: uuid::Uuid,
        after_seq: u64,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        if self.reads_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            == Ok(1)
        {
            self.log.trim(1)?;
        }
        self.log.read(system, after_seq, visit)
    }

    fn segments(&self) -> Option<&dyn Segments> {
        self.log.segments()
    }
}

#[tokio::test]
async fn a_fallback_that_the_trimmer_overtakes_begins_again_at_the_pointer() {
    let world = World::new().await;
    let mut live = with_two(&world).await;
    world.log.seal();
    live.work(&world.log, 1);
    let (newest, _) = named(&world, &live).await;
    overwrite(&world, &newest, "damage").await;
    // Archived, and kept here for the damaged one; trimmed when the log is read the second time, to be folded.
    let (mut archiver, _named) = world.archiver();
    archiver.turn().await.unwrap();
    assert_eq!(world.log.sealed_ids(), [1]);
    let log = Arc::new(TrimmedMeanwhile { log: world.log.clone(), reads_left: AtomicU64::new(2) });
    let recovery = Recovery::new(world.rig.stores(), log, Offload::Inline).with_archive(world.archive());
    let back = recovery.recover(live.id(), Access::Capability, &ledger()).await.unwrap();
    assert_eq!(world.log.sealed_ids(), Vec::<u64>::new());
    assert!(back.fell_back && back.state == live.state);
    // What is really gone is told after the second try.
    let keys = world.keys().await;
    for key in keys.iter().filter(|key| key.starts_with("log/")) {
        world.rig.stores().blobs.delete(key).await.unwrap();
    }
    let gone = problem(&world.recover(live.id()).await.unwrap_err());
    assert!(gone.contains("missing in the log"), "{gone}");
}
