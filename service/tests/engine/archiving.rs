//! Sealed segments: archived, trimmed when covered, read back; never trimmed before.

mod life;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use mipro_service::engine::{Access, EngineError};
use mipro_service::history::HistoryReader;
use mipro_service::log::disk::RealDisk;
use mipro_service::log::segment::{self, SegmentLog, SegmentOptions};
use mipro_service::log::{Batch, EventLog as _, Level, Lsn, Segments as _};
use mipro_service::offload::Offload;
use mipro_service::recovery::Recovery;
use mipro_service::snapshot::archive::index::{self, ArchiveIndex};
use mipro_service::snapshot::archive::reader::{Epochs, Here};
use mipro_service::snapshot::archive::{Archive, ArchiveError, ArchiveOptions, Archiver};
use mipro_service::store::blobs::PutRule;
use mipro_telemetry::Stage;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::said::said_by;
use crate::segmented::{SegmentedLog, World, ledger, visit_bytes};
use crate::support::reaches;

async fn put(world: &World, key: &str, bytes: impl Into<Bytes>) {
    let blobs = world.rig.stores().blobs;
    blobs.put(key, bytes.into(), PutRule::Overwrite, Stage::S3Put, &ledger()).await.unwrap();
}

async fn archived(world: &World) -> Vec<String> {
    let keys = world.keys().await;
    keys.into_iter().filter(|key| key.starts_with("log/")).collect()
}

/// Waits for what nothing tells of.
async fn until(mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it takes far less");
}

#[tokio::test]
async fn a_segment_is_archived_whole_and_trimmed_once_every_snapshot_covers_it() {
    let world = World::new().await;
    let (mut one, mut two) = (world.begin().await, world.begin().await);
    one.work(&world.log, 2);
    two.work(&world.log, 1);
    world.log.seal();
    let raw = world.log.bytes(1).unwrap();
    one.snapshot(&world.writer).await.unwrap();
    let (mut archiver, mut named) = world.archiver();
    archiver.turn().await.unwrap();

    let id = world.log.log_id();
    let keys = [format!("log/{id}/{:020}.idx", 1), format!("log/{id}/{:020}.seg.zst", 1)];
    assert_eq!(archived(&world).await, keys);
    let blobs = world.rig.stores().blobs;
    let stored = blobs.get(&keys[1], &ledger()).await.unwrap();
    assert_eq!(zstd::bulk::decompress(&stored, raw.len()).unwrap(), raw);
    let index = ArchiveIndex::decode(&blobs.get(&keys[0], &ledger()).await.unwrap()).unwrap();
    let runs: Vec<_> = index.runs(two.id()).map(|run| (run.epoch, run.first_seq, run.last_seq)).collect();
    assert_eq!(runs, [(1, 1, two.state.version)]);
    assert_eq!(index.runs(Uuid::new_v4()).count(), 0);

    assert_eq!(named.try_recv(), Ok(two.id()), "who keeps it here is named");
    assert!(named.try_recv().is_err(), "and nobody else");
    assert_eq!(world.log.sealed_ids(), [1]);
    let figures = archiver.figures();
    assert_eq!((figures.archived, figures.trimmed, figures.pinned_oldest, figures.laggards), (1, 0, 1, 1));

    two.snapshot(&world.writer).await.unwrap();
    archiver.turn().await.unwrap();
    assert_eq!(world.log.sealed_ids(), Vec::<u64>::new());
    let figures = archiver.figures();
    assert_eq!((figures.archived, figures.trimmed, figures.pinned, figures.laggards), (1, 1, 0, 0));
    assert_eq!(archived(&world).await, keys, "nothing is put twice");
}

#[tokio::test]
async fn an_idle_system_pins_nothing_and_a_fresh_archiver_takes_up_where_the_last_one_was() {
    let world = World::new().await;
    let mut idle = world.begin().await;
    idle.work(&world.log, 1);
    idle.snapshot(&world.writer).await.unwrap();
    let mut busy = world.begin().await;
    for _ in 0..3 {
        busy.work(&world.log, 1);
        world.log.seal();
        world.archiver().0.turn().await.unwrap();
    }
    assert_eq!(world.log.sealed_ids(), [1, 2, 3], "they are kept for the busy one");
    let puts = world.objects().counts().1;
    busy.snapshot(&world.writer).await.unwrap();
    world.archiver().0.turn().await.unwrap();
    assert_eq!(world.objects().counts().1, puts + 1, "the snapshot alone");
    assert_eq!(world.log.sealed_ids(), Vec::<u64>::new());
}

#[tokio::test]
async fn nothing_is_trimmed_while_the_stores_are_down_or_the_snapshot_is_not_there_as_the_row_says() {
    let world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 1);
    live.snapshot(&world.writer).await.unwrap();
    world.log.seal();
    let (mut archiver, mut named) = world.archiver();
    world.objects().set_down(true);
    assert!(matches!(archiver.turn().await, Err(ArchiveError::Store(_))));
    world.objects().set_down(false);
    world.rig.table.down.store(true, Ordering::SeqCst);
    assert!(matches!(archiver.turn().await, Err(ArchiveError::Store(_))));
    world.rig.table.down.store(false, Ordering::SeqCst);
    assert_eq!(world.log.sealed_ids(), [1]);

    let row = world.rig.stores().table.get(live.id(), &ledger()).await.unwrap().unwrap();
    let key = row.state_ref.unwrap();
    let whole = world.rig.stores().blobs.get(&key, &ledger()).await.unwrap();
    put(&world, &key, whole.slice(1..)).await;
    archiver.turn().await.unwrap();
    world.rig.stores().blobs.delete(&key).await.unwrap();
    archiver.turn().await.unwrap();
    assert_eq!((world.log.sealed_ids(), archiver.figures().missing), (vec![1], 2));
    assert_eq!(named.try_recv(), Ok(live.id()));
    put(&world, &key, whole).await;
    archiver.turn().await.unwrap();
    assert_eq!(world.log.sealed_ids(), Vec::<u64>::new());
}

/// The index alone does not say that the segment can be read: the last copy is not trimmed on the strength of it.
#[tokio::test]
async fn an_archived_segment_whose_object_is_gone_is_stored_again() {
    let world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 1);
    world.log.seal();
    world.archiver().0.turn().await.unwrap();
    let keys = archived(&world).await;
    let [_, object] = keys.as_slice() else { panic!("{keys:?}") };
    world.rig.stores().blobs.delete(object).await.unwrap();
    world.archiver().0.turn().await.unwrap();
    assert_eq!(archived(&world).await, keys);
    live.snapshot(&world.writer).await.unwrap();
    world.archiver().0.turn().await.unwrap();
    assert_eq!(world.log.sealed_ids(), Vec::<u64>::new());
    assert_eq!(world.history().events(live.id(), 0, 1_000).await.unwrap(), live.history);
}

#[tokio::test]
async fn a_put_that_was_cut_off_is_taken_up_and_a_copied_log_is_kept_apart() {
    let world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 1);
    let copy = SegmentedLog::named(world.log.log_id());
    copy.tamper(|rows| *rows = world.log.rows());
    world.log.seal();
    let (mut archiver, _named) = world.archiver();
    archiver.turn().await.unwrap();
    let keys = archived(&world).await;
    world.rig.stores().blobs.delete(&keys[0]).await.unwrap();
    world.archiver().0.turn().await.unwrap();
    assert_eq!(archived(&world).await, keys, "the index is put, the segment was there");

    // Of the copied log: the same segment's number, other content.
    let (laggards, _named) = mpsc::channel(1);
    live.work(&copy, 1);
    copy.seal();
    let mut other =
        Archiver::new(copy.clone(), world.rig.stores(), world.options(), laggards.clone()).unwrap();
    let theirs = world.rig.stores().blobs.get(&keys[1], &ledger()).await.unwrap();
    other.turn().await.unwrap();
    assert_eq!(archived(&world).await.len(), 4, "both are there");
    assert_eq!(world.rig.stores().blobs.get(&keys[1], &ledger()).await.unwrap(), theirs);
    let mut again = Archiver::new(copy, world.rig.stores(), world.options(), laggards).unwrap();
    again.turn().await.unwrap();
    assert_eq!(archived(&world).await.len(), 4, "and found again");
}

#[tokio::test]
async fn a_damaged_archive_is_named_and_gives_nothing() {
    let world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 2);
    live.snapshot(&world.writer).await.unwrap();
    world.log.seal();
    world.archiver().0.turn().await.unwrap();
    assert_eq!(world.history().events(live.id(), 0, 100).await.unwrap(), live.history);
    for key in archived(&world).await.into_iter().filter(|key| key.ends_with(".zst")) {
        let whole = world.rig.stores().blobs.get(&key, &ledger()).await.unwrap();
        for at in [0, 20, 40, 100, whole.len() - 1] {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 1;
            put(&world, &key, bytes).await;
            let error = world.history().events(live.id(), 0, 100).await;
            match error {
                Err(EngineError::Corrupt { .. }) => {}
                // What no check sees of a zstd frame (a bit that says nothing) must not change its content.
                Ok(events) => assert_eq!(events, live.history),
                Err(other) => panic!("{other:?}"),
            }
        }
        put(&world, &key, whole).await;
    }
    for key in archived(&world).await.iter().filter(|key| key.ends_with(".zst")) {
        world.rig.stores().blobs.delete(key).await.unwrap();
    }
    let gone = world.history().events(live.id(), 0, 100).await.unwrap_err();
    assert!(gone.to_string().contains("not there"), "{gone}");
}

/// A host that is gone has left an index that can't be used: its system comes back all the same, and the others never notice.
#[tokio::test]
async fn an_index_that_is_damaged_or_missing_is_made_anew_from_its_segment() {
    let mut world = World::new().await;
    let (mut live, neighbour) = (world.begin().await, world.begin().await);
    live.work(&world.log, 2);
    world.log.seal();
    world.archiver().0.turn().await.unwrap();
    let keys = archived(&world).await;
    let (index, segment) = (&keys[0], &keys[1]);
    let blobs = world.rig.stores().blobs;
    let [whole, packed] =
        [blobs.get(index, &ledger()).await.unwrap(), blobs.get(segment, &ledger()).await.unwrap()];
    world.log = SegmentedLog::new();

    put(&world, index, "damage").await;
    assert_eq!(world.recover(live.id()).await.unwrap().state, live.state, "damaged");
    blobs.delete(index).await.unwrap();
    assert_eq!(world.recover(live.id()).await.unwrap().state, live.state, "missing");
    assert!(world.recover(neighbour.id()).await.is_ok());

    // The listing names it, and it is gone.
    put(&world, index, whole.clone()).await;
    let archive = world.archive();
    archive.sources(Uuid::nil(), None, false).await.unwrap();
    let known = archive.sources(live.id(), None, false).await.unwrap();
    let small = Archive::keeping(0, blobs.clone(), visit_bytes, Offload::Inline);
    small.sources(Uuid::nil(), None, false).await.unwrap();
    blobs.delete(index).await.unwrap();
    assert_eq!(small.sources(live.id(), None, false).await.unwrap(), known, "made anew");
    blobs.delete(segment).await.unwrap();
    assert_eq!(small.sources(live.id(), None, false).await.unwrap(), [], "both were removed by hand");

    // An index that is there and lies, and a segment that can't set it right: nothing is passed over in silence.
    put(&world, index, "damage").await;
    put(&world, segment, packed.slice(1..)).await;
    let both = world.archive().sources(live.id(), None, false).await;
    assert!(matches!(both, Err(ArchiveError::Damaged { .. })), "{both:?}");
    blobs.delete(index).await.unwrap();
    let never = world.archive().sources(live.id(), None, false).await.unwrap();
    assert_eq!(never, [], "a segment without index that can't be read never counted as archived");
}

/// A load asks for the segments of other logs only, and goes on from what it has listed.
#[tokio::test]
async fn a_load_lists_other_logs_once_a_minute_and_its_own_never() {
    let mut world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 1);
    world.log.seal();
    world.archiver().0.turn().await.unwrap();
    let own = Here::all_of(&*world.log);
    let archive = world.archive();
    let lists = || world.objects().lists.load(Ordering::SeqCst);
    let before = lists();
    for _ in 0..3 {
        assert_eq!(archive.sources(live.id(), own, false).await.unwrap(), []);
    }
    assert_eq!(lists() - before, 1, "which logs there are; none of their segments");
    let all = archive.sources(live.id(), None, false).await.unwrap();
    assert_eq!((all.len(), lists() - before), (1, 2));

    // Another host goes on; what is archived later is found by carrying on.
    let old = std::mem::replace(&mut world.log, SegmentedLog::new());
    live.work(&old, 1);
    old.seal();
    let (laggards, _named) = mpsc::channel(8);
    Archiver::new(old.clone(), world.rig.stores(), world.options(), laggards).unwrap().turn().await.unwrap();
    assert_eq!(archive.sources(live.id(), None, false).await.unwrap().len(), 1, "a minute is young enough");
    assert_eq!(archive.sources(live.id(), None, true).await.unwrap().len(), 2);
    world.objects().set_down(true);
    assert!(matches!(archive.sources(live.id(), None, true).await, Err(ArchiveError::Store(_))));
    assert_eq!(archive.sources(live.id(), None, false).await.unwrap().len(), 2, "the old listing does");
}

/// Many small segments are fetched some at a time, and what was fetched is given when the rest takes too long.
#[tokio::test(start_paused = true)]
async fn a_page_over_many_small_segments_is_fetched_side_by_side_and_cut_short_in_time() {
    let world = World::new().await;
    let mut live = world.begin().await;
    for _ in 0..40 {
        live.work(&world.log, 1);
        world.log.seal();
    }
    live.snapshot(&world.writer).await.unwrap();
    world.archiver().0.turn().await.unwrap();
    assert_eq!(world.log.rows().len(), 0);
    let id = live.id();
    world.history().events(id, 0, 1).await.unwrap();
    world.objects().slow_get(Duration::from_millis(100));
    let history = world.history();
    let begun = tokio::time::Instant::now();
    assert_eq!(history.events(id, 0, 1_000).await.unwrap(), live.history);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "one after the other they take 8 s: {:?}",
        begun.elapsed()
    );

    let page = history.page(id, 0, 1_000, Duration::from_millis(250)).await.unwrap();
    let short = page.events.len();
    assert!(short > 0 && short < live.history.len(), "{short} of {}", live.history.len());
    let mut pages = page.events;
    while pages.len() < live.history.len() {
        let since = pages.len() as u64;
        pages.extend(history.page(id, since, 1_000, Duration::from_millis(250)).await.unwrap().events);
    }
    assert_eq!(pages, live.history);
}

/// Who holds the log back is told once, without his id, and by figures.
#[tokio::test(start_paused = true)]
async fn a_system_that_can_not_be_saved_is_told_of_and_counted() {
    let world = World::new().await;
    let mut stuck = world.begin().await;
    stuck.work(&world.log, 1);
    world.log.seal();
    let (mut archiver, _named) = world.archiver();
    let said = said_by(async {
        for _ in 0..3 {
            archiver.turn().await.unwrap();
            tokio::time::advance(Duration::from_secs(200)).await;
        }
        archiver.turn().await.unwrap();
        let figures = archiver.figures();
        assert_eq!((figures.pinned, figures.pinned_oldest, figures.laggards), (1, 1, 1));
        assert_eq!(figures.pinned_oldest_ms, 600_000);
    })
    .await;
    let told: Vec<_> = said.lines().filter(|line| line.contains("keep the log from being trimmed")).collect();
    assert_eq!(told.len(), 1, "once: {said}");
    assert!(told[0].contains(&mipro_service::snapshot::hashed(&stuck.id().to_string())), "{said}");
    assert!(!said.contains(&stuck.id().to_string()), "ids are secrets");
    stuck.snapshot(&world.writer).await.unwrap();
    archiver.turn().await.unwrap();
    assert_eq!((archiver.figures().pinned, archiver.figures().pinned_oldest_ms), (0, 0));
}

#[tokio::test]
async fn in_the_background_it_archives_backs_off_trims_and_stops() {
    let world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 1);
    let mut options = ArchiveOptions { look_every: Duration::from_millis(5), ..world.options() };
    world.log.seal();
    options.backoff_first = Duration::from_millis(1);
    options.backoff_max = Duration::from_millis(4);
    let (laggards, mut named) = mpsc::channel(1);
    world.objects().set_down(true);
    let handle = Archiver::spawn(world.log.clone(), world.rig.stores(), options, laggards).unwrap();
    let failed = world.objects();
    until(|| handle.figures().failures >= 3).await;
    failed.set_down(false);
    assert_eq!(named.recv().await, Some(live.id()), "the engine is asked");
    live.snapshot(&world.writer).await.unwrap();
    handle.look();
    until(|| handle.figures().trimmed > 0).await;
    reaches(&world.rig.objects.puts, 4).await;
    handle.stop().await;
    assert_eq!(world.log.rows().len(), 0);
    let memory = Arc::new(mipro_service::log::MemoryLog::default());
    let (laggards, _named) = mpsc::channel(1);
    assert!(Archiver::spawn(memory, world.rig.stores(), options, laggards).is_none());
}

/// The same over the log of files.
#[tokio::test]
async fn the_log_of_files_is_archived_trimmed_and_read_back() {
    let home = tempfile::tempdir().unwrap();
    let world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 3);
    let options = SegmentOptions::at(home.path());
    let (log, _) = SegmentLog::open(options, Arc::new(RealDisk)).unwrap();
    let mut durable = log.reached(Level::Disk).unwrap();
    let append = |from: usize| {
        let rows = world.log.rows().split_off(from);
        let mut last = Lsn(0);
        for row in &rows {
            let (system, epoch, first_seq, count) = (row.system, row.epoch, row.first_seq, row.count);
            last = log.append(&Batch { system, epoch, first_seq, count, payload: &row.payload }).unwrap();
        }
        last
    };
    let last = append(0);
    durable.wait_for(|lsn| *lsn >= last).await.unwrap();
    let stores = world.rig.stores();
    let archive = Arc::new(Archive::new(stores.blobs.clone(), segment::visit_bytes, Offload::Pool));
    let recovery =
        Recovery::new(stores.clone(), log.clone(), Offload::Pool).with_archive(Arc::clone(&archive));
    let history = HistoryReader::new(stores.clone(), log.clone(), Offload::Pool).with_archive(archive);
    let back = recovery.recover(live.id(), Access::Capability, &ledger()).await.unwrap();
    assert_eq!(back.state, live.state);

    live.snapshot(&world.writer).await.unwrap();
    let (laggards, _named) = mpsc::channel(8);
    let options = ArchiveOptions::new(segment::visit_bytes);
    let mut archiver = Archiver::new(log.clone(), stores.clone(), options, laggards).unwrap();
    log.segments().unwrap().seal();
    until(|| !log.segments().unwrap().sealed().is_empty()).await;
    archiver.turn().await.unwrap();
    assert_eq!((archiver.figures().trimmed, log.segments().unwrap().sealed()), (1, vec![]));

    let rows = world.log.rows().len();
    live.work(&world.log, 2);
    let last = append(rows);
    durable.wait_for(|lsn| *lsn >= last).await.unwrap();
    assert_eq!(history.events(live.id(), 0, 1_000).await.unwrap(), live.history, "archive, then log");
    let row = stores.table.get(live.id(), &ledger()).await.unwrap().unwrap();
    put(&world, &row.state_ref.unwrap(), "damage").await;
    let back = recovery.recover(live.id(), Access::Capability, &ledger()).await.unwrap();
    assert!(back.fell_back && back.state == live.state, "the one before, archive, log");
}

#[test]
fn an_epoch_ends_where_a_higher_one_begins() {
    let mut epochs = Epochs::default();
    assert_eq!(epochs.last_of(1), u64::MAX);
    for (epoch, first_seq) in [(1, 1), (3, 90), (2, 80), (2, 70), (5, 60)] {
        epochs.saw(epoch, first_seq);
    }
    let ends = [1, 2, 3, 4, 5, 6].map(|epoch| epochs.last_of(epoch));
    assert_eq!(ends, [59, 59, 59, 59, u64::MAX, u64::MAX]);
}

/// What the indexes of all versions look like, for ever.
#[test]
fn the_golden_indexes_are_read_and_the_newest_is_written() {
    let version_1 = Bytes::from_static(include_bytes!("../golden/archive-index-v1.idx"));
    let golden = Bytes::from_static(include_bytes!("../golden/archive-index-v2.idx"));
    let about = index::About {
        log_id: Uuid::from_u128(7),
        segment: 42,
        suffix: 0xabcd,
        first_lsn: 1_000,
        last_lsn: 2_000,
        raw_bytes: 65_536,
        stored_bytes: 4_096,
        checksum: [9; 32],
    };
    let runs: BTreeMap<_, _> = (1..=5_u64)
        .flat_map(|n| {
            [(Uuid::from_u128(u128::from(n)), 1), (Uuid::from_u128(u128::from(n)), 2)].map(|key| (key, n))
        })
        .map(|((system, epoch), n)| ((system, epoch), (n * 10 * epoch, n * 10 * epoch + 3)))
        .collect();
    assert_eq!(index::encode(&about, &runs), golden);
    let index = ArchiveIndex::decode(&golden).unwrap();
    assert_eq!(index.about, about);
    let found: Vec<_> =
        index.runs(Uuid::from_u128(3)).map(|run| (run.epoch, run.first_seq, run.last_seq)).collect();
    assert_eq!(found, [(1, 30, 33), (2, 60, 63)]);
    assert_eq!(index.runs(Uuid::from_u128(6)).count() + index.runs(Uuid::nil()).count(), 0);
    let old = ArchiveIndex::decode(&version_1).unwrap();
    assert_eq!(old.about, about);
    assert!(old.runs(Uuid::from_u128(3)).eq(index.runs(Uuid::from_u128(3))));
    for whole in [golden, version_1] {
        for at in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 4;
            assert!(ArchiveIndex::decode(&bytes.into()).is_err(), "byte {at}");
            assert!(ArchiveIndex::decode(&whole.slice(..at)).is_err(), "{at} bytes");
        }
    }
}

#[tokio::test]
async fn the_fake_log_reads_its_own_bytes() {
    let world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 2);
    let mut direct = Vec::new();
    world
        .log
        .read(live.id(), 3, &mut |entry| {
            direct.push((entry.lsn, entry.batch.first_seq));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    world.log.seal();
    let mut packed = Vec::new();
    visit_bytes(&world.log.bytes(1).unwrap(), Some(live.id()), 3, &mut |entry| {
        packed.push((entry.lsn, entry.batch.first_seq));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(direct, packed);
}
