//! States dropped while they are being saved, unsaved events without end, and ids nobody has: what must not get mixed up,
//! pile up, or push others out.

use std::sync::atomic::Ordering;

use crate::support::*;
use futures_util::future::join_all;
use mipro_service::engine::{self, EngineError, EngineKind, EngineOptions};
use serde_json::Value;
use uuid::Uuid;

/// The state is dropped while version 1 of it is on its way to the store; that save then succeeds or fails.
async fn dropped_while_saved(save_succeeds: bool) {
    let rig = Rig::sqlite().await;
    let log = hand_log().open_wide();
    let mut options = options(EngineKind::Actor);
    options.actor.save_events_max = 1;
    let engine = engine::build_with_log(&options, rig.stores(), rig.recorders.clone(), log.clone());
    let new = new_system();
    create(&*engine, &new).await;

    rig.objects.set_hold_puts(true);
    run(&*engine, new.system_id, report("saving", 1.0)).await.unwrap();
    reaches(&rig.objects.held_puts, 1).await;
    log.panics.store(true, Ordering::SeqCst);
    run(&*engine, new.system_id, report("panics", 1.0)).await.unwrap_err();
    assert_eq!((engine.figures().poisoned, engine.figures().unsaved_events), (1, 0));

    let mut read = Box::pin(state(&*engine, new.system_id));
    let mut write = Box::pin(run(&*engine, new.system_id, report("after", 1.0)));
    let (gets, _) = rig.objects.counts();
    for _ in 0..50 {
        assert!(futures_util::poll!(&mut read).is_pending(), "the save decides what there is to read");
        assert!(futures_util::poll!(&mut write).is_pending(), "and what to write on");
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.objects.counts().0, gets, "nothing is loaded before the save has ended");

    if save_succeeds {
        rig.objects.set_hold_puts(false);
        let seen: Value = read.await;
        assert_eq!(seen["reward_count"], 1, "what was saved after all is there");
        write.await.unwrap();
    } else {
        rig.objects.set_down(true);
        rig.objects.set_hold_puts(false);
        reaches(&rig.objects.failed_puts, 1).await;
        drop(read);
        assert!(write.await.unwrap_err().is_retryable(), "the store is down for the load, too");
        rig.objects.set_down(false);
        run(&*engine, new.system_id, report("after", 1.0)).await.unwrap();
    }
    let kept = 1 + u64::from(save_succeeds);
    assert_eq!(rewards(&*engine, new.system_id).await, kept);
    engine.shutdown().await.unwrap();
    let figures = engine.figures();
    assert_eq!((figures.conflicts, figures.unsaved_events, figures.resident), (0, 0, 1), "{figures:?}");
    assert_eq!(rewards(&*rig.engine(&options), new.system_id).await, kept, "what was acknowledged is stored");
}

#[tokio::test]
async fn a_state_dropped_while_it_is_saved_is_read_anew_when_the_save_has_ended() {
    dropped_while_saved(true).await;
    dropped_while_saved(false).await;
}

#[tokio::test]
async fn a_stop_waits_for_the_save_of_a_dropped_state() {
    let rig = Rig::sqlite().await;
    let log = hand_log().open_wide();
    let mut options = options(EngineKind::Actor);
    options.actor.save_events_max = 1;
    let engine = engine::build_with_log(&options, rig.stores(), rig.recorders.clone(), log.clone());
    let new = new_system();
    create(&*engine, &new).await;
    rig.objects.set_hold_puts(true);
    run(&*engine, new.system_id, report("saving", 1.0)).await.unwrap();
    reaches(&rig.objects.held_puts, 1).await;
    log.panics.store(true, Ordering::SeqCst);
    run(&*engine, new.system_id, report("panics", 1.0)).await.unwrap_err();
    let mut stop = engine.shutdown();
    for _ in 0..50 {
        assert!(futures_util::poll!(&mut stop).is_pending());
        tokio::task::yield_now().await;
    }
    rig.objects.set_hold_puts(false);
    stop.await.unwrap();
    drop(engine);
    assert_eq!(rewards(&*rig.engine(&options), new.system_id).await, 1);
}

#[tokio::test]
async fn the_actor_saves_everything_when_much_is_unsaved() {
    let rig = Rig::sqlite().await;
    let mut options = options(EngineKind::Actor);
    options.actor.unsaved_events_max = 20;
    let engine = rig.engine(&options);
    let systems: Vec<_> = (0..4).map(|_| new_system()).collect();
    for new in &systems {
        create(&*engine, new).await;
    }
    let (_, puts) = rig.objects.counts();
    for new in &systems {
        run(&*engine, new.system_id, report("r", 1.0)).await.unwrap();
    }
    // None of them is old, big or unused; together they are more than half of what may be.
    reaches(&rig.objects.puts, puts + 4).await;
}

/// The engines that keep systems in memory, four of them and all in one place.
fn small() -> Vec<(&'static str, EngineOptions)> {
    let mut all = vec![
        ("write-through", write_through()),
        ("write-back", write_back()),
        ("actor", options(EngineKind::Actor)),
    ];
    for (_, options) in &mut all {
        options.cache.systems_max = 4;
        options.actor.systems_max = 4;
        options.actor.shards = 1;
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_nobody_has_push_nobody_out() {
    for (name, options) in small() {
        let rig = Rig::sqlite().await;
        let engine = rig.engine(&options);
        let systems: Vec<_> = (0..4).map(|_| new_system()).collect();
        for new in &systems {
            create(&*engine, new).await;
            assert_eq!(rewards(&*engine, new.system_id).await, 0);
        }
        let (gets, _) = rig.objects.counts();
        let strangers = (0..100).map(|_| run(&*engine, Uuid::new_v4(), start("r")));
        for answer in join_all(strangers).await {
            assert_eq!(answer.unwrap_err(), EngineError::NotFound, "{name}");
        }
        for new in &systems {
            assert_eq!(rewards(&*engine, new.system_id).await, 0);
        }
        assert_eq!(rig.objects.counts().0, gets, "{name}: all four stayed in memory");
        let figures = engine.figures();
        assert_eq!((figures.evictions, figures.resident), (0, 4), "{name}: {figures:?}");
    }
}

#[tokio::test]
async fn ids_whose_askers_went_away_take_no_place_for_long() {
    for (name, options) in small() {
        let rig = Rig::sqlite().await;
        let new = new_system();
        create(&*rig.engine(&options), &new).await;
        let engine = rig.engine(&options);
        for _ in 0..20 {
            drop(poll_times(run(&*engine, Uuid::new_v4(), start("r")), 1).await);
        }
        assert_eq!(rewards(&*engine, new.system_id).await, 0, "{name}");
        assert_eq!(rewards(&*engine, new.system_id).await, 0, "{name}");
    }
}
