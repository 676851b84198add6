//! The events of a system, wherever they lie.

use std::sync::Arc;

use mipro_service::engine::EngineError;
use mipro_service::history::{HistoryReader, PAGE_TIME_MAX};
use mipro_service::log::{Batch, EventLog as _, MemoryLog, Segments as _};
use mipro_service::offload::Offload;
use mipro_service::system::Recorded;
use uuid::Uuid;

use crate::segmented::{SegmentedLog, World, ledger};
use crate::support;

async fn page(world: &World, system: Uuid, since: u64, limit: usize) -> Vec<Recorded> {
    world.history().events(system, since, limit).await.unwrap()
}

#[tokio::test]
async fn pages_come_from_the_log_the_archive_and_an_old_document_without_holes() {
    let mut world = World::new().await;
    // An old document, by an engine that knew no log.
    let engine = world.rig.engine(&support::write_through());
    let new = support::new_system();
    support::create(&*engine, &new).await;
    for i in 0..4 {
        support::run(&*engine, new.system_id, support::report(&format!("old{i}"), 0.25)).await.unwrap();
    }
    drop(engine);
    let back = world.recovery().keeping_history();
    let back =
        back.recover(new.system_id, mipro_service::engine::Access::Capability, &ledger()).await.unwrap();
    let mut all: Vec<Recorded> = back.history.as_ref().unwrap().iter().cloned().collect();
    let documented = all.len();

    let mut live = world.begin().await;
    live.resume(&back);
    live.history.clear();
    for _ in 0..3 {
        live.work(&world.log, 2);
        live.snapshot(&world.writer).await.unwrap();
        world.log.seal();
    }
    let (mut archiver, _named) = world.archiver();
    archiver.turn().await.unwrap();
    assert!(world.log.rows().iter().all(|row| row.system != new.system_id), "all archived, none here");
    // Another host, another log.
    world.log = SegmentedLog::new();
    live.resume_keeping(&world.recover(new.system_id).await.unwrap());
    live.work(&world.log, 2);
    all.extend(live.history.iter().cloned());

    let whole = page(&world, new.system_id, 0, 10_000).await;
    assert_eq!(whole, all);
    for since in 0..=all.len() {
        for limit in [1, 3, 8] {
            let from = &all[since..all.len().min(since + limit)];
            assert_eq!(page(&world, new.system_id, since as u64, limit).await, from, "{since}, {limit}");
        }
    }
    assert!(documented > 8 && all.len() > documented + 20);
    assert_eq!(page(&world, new.system_id, all.len() as u64 + 5, 10).await, []);
    assert_eq!(page(&world, new.system_id, 0, 0).await, []);
    assert_eq!(world.history().events(Uuid::new_v4(), 0, 9).await, Err(EngineError::NotFound));
}

#[tokio::test]
async fn what_is_missing_is_named_and_never_passed_over() {
    let mut world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 2);
    live.snapshot(&world.writer).await.unwrap();
    let saved = live.state.version;
    // The host is gone before it archived anything.
    world.log = SegmentedLog::new();
    let lost = world.history().events(live.id(), 1, 100).await.unwrap_err().to_string();
    assert!(lost.contains(&format!("events 2 to {saved} are neither")), "{lost}");
    live.resume(&world.recover(live.id()).await.unwrap());
    live.work(&world.log, 1);
    let lost = world.history().events(live.id(), 1, 100).await.unwrap_err().to_string();
    assert!(lost.contains(&format!("events 2 to {saved} are neither")), "{lost}");
    let after = page(&world, live.id(), saved, 100).await;
    assert_eq!(after, live.history[usize::try_from(saved).unwrap()..], "what is there is given");
}

/// The route answers what is left, and says what is not.
#[tokio::test]
async fn what_a_lost_host_left_is_given_with_a_mark_where_it_begins() {
    let mut world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 1);
    world.log.seal();
    world.archiver().0.turn().await.unwrap();
    let archived = live.state.version;
    live.work(&world.log, 2);
    live.snapshot(&world.writer).await.unwrap();
    let saved = live.state.version;
    // The host is gone with what it had not archived; the next one has a snapshot that covers it.
    world.log = SegmentedLog::new();
    let left = async |world: &World, since, limit| {
        let page = world.history().page(live.state.system_id, since, limit, PAGE_TIME_MAX).await.unwrap();
        let seqs: Vec<u64> = page.events.iter().map(|event| event.seq).collect();
        (seqs, page.truncated_before)
    };
    assert_eq!(left(&world, 0, 100).await, ((1..=archived).collect(), None), "up to the hole");
    assert_eq!(left(&world, archived, 100).await, (vec![], Some(saved + 1)), "nothing follows yet");
    assert_eq!(left(&world, saved, 100).await, (vec![], None));

    let mut next = world.begin().await;
    next.resume_keeping(&world.recover(live.id()).await.unwrap());
    next.work(&world.log, 1);
    let newest = next.state.version;
    let behind: Vec<u64> = (saved + 1..=newest).collect();
    for since in archived..saved {
        assert_eq!(left(&world, since, 100).await, (behind.clone(), Some(saved + 1)), "{since}");
    }
    assert_eq!(left(&world, archived, 2).await, (vec![saved + 1, saved + 2], Some(saved + 1)));
    assert_eq!(left(&world, saved, 100).await, (behind.clone(), None), "from there on nothing is missing");
    // And once that is archived, too.
    next.snapshot(&world.writer).await.unwrap();
    world.log.seal();
    world.archiver().0.turn().await.unwrap();
    assert_eq!(left(&world, archived, 100).await, (behind, Some(saved + 1)));
}

#[tokio::test]
async fn what_was_decided_after_a_takeover_is_no_history() {
    let mut world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 1);
    live.snapshot(&world.writer).await.unwrap();
    let old = Arc::clone(&world.log);
    // A second host takes over where the snapshot is, and goes on.
    let mut zombie = world.begin().await;
    zombie.resume_keeping(&world.recover(live.id()).await.unwrap());
    (zombie.epoch, zombie.rollouts) = (1, 100);
    world.log = SegmentedLog::new();
    live.resume(&world.recover(live.id()).await.unwrap());
    live.work(&world.log, 2);
    live.snapshot(&world.writer).await.unwrap();
    world.log.seal();
    world.archiver().0.turn().await.unwrap();
    // Only then does the first one archive what it decided meanwhile.
    zombie.work(&old, 4);
    old.seal();
    let new = std::mem::replace(&mut world.log, old);
    let (mut archiver, _named) = world.archiver();
    archiver.turn().await.unwrap();
    world.log = new;
    live.work(&world.log, 1);
    assert_eq!(page(&world, live.id(), 0, 1_000).await, live.history);
    assert_eq!(world.recover(live.id()).await.unwrap().state, live.state);
}

#[tokio::test]
async fn a_log_in_memory_gives_what_it_has_and_forgets_what_was_dropped() {
    let world = World::new().await;
    let mut live = world.begin().await;
    live.work(&world.log, 2);
    let memory = Arc::new(MemoryLog::default());
    let append = |rows: Vec<crate::segmented::Row>| {
        for row in rows.into_iter().filter(|row| row.system == live.id()) {
            let (system, epoch, first_seq, count) = (row.system, row.epoch, row.first_seq, row.count);
            memory.append(&Batch { system, epoch, first_seq, count, payload: &row.payload }).unwrap();
        }
    };
    append(world.log.rows());
    let history = HistoryReader::new(world.rig.stores(), memory.clone(), Offload::Pool);
    assert_eq!(history.events(live.id(), 0, 100).await.unwrap(), live.history);
    // The state was dropped at event 6 and went on otherwise.
    let mut again: Vec<_> = world.log.rows().split_off(1);
    again.truncate(1);
    again[0].epoch = 2;
    let kept = usize::try_from(again[0].first_seq).unwrap() - 1 + again[0].count as usize;
    append(again);
    let now = history.events(live.id(), 0, 100).await.unwrap();
    assert_eq!(now, live.history[..kept], "what was dropped is gone");
}
