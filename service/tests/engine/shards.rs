//! A shard that panics where nothing catches it, and what `/readyz` asks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::*;
use mipro_service::engine::error::LogTrouble;
use mipro_service::engine::{self, Engine, EngineError, EngineKind};
use mipro_service::log::{EventLog, Level};

fn over(rig: &Rig, log: &Arc<HandLog>) -> Arc<dyn Engine> {
    let mut options = options(EngineKind::Actor);
    options.actor.shards = 1;
    let log = Arc::clone(log) as Arc<dyn EventLog>;
    engine::build_with_log(&options, rig.stores(), rig.recorders.clone(), log)
}

#[tokio::test]
async fn a_shard_that_panics_begins_anew_and_loses_nothing_the_log_has() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk).open_wide());
    let engine = over(&rig, &log);
    let (new, neighbour) = (new_system(), new_system());
    for system in [&new, &neighbour] {
        create(&*engine, system).await;
        run(&*engine, system.system_id, report("r0", 1.0)).await.unwrap();
    }
    log.panics_when_asked.store(true, Ordering::SeqCst);
    let answer = run(&*engine, new.system_id, report("r1", 1.0)).await.unwrap_err();
    assert!(matches!(answer, EngineError::Internal { .. }), "{answer:?}");
    for system in [&new, &neighbour] {
        run(&*engine, system.system_id, report("r2", 1.0)).await.unwrap();
        assert_eq!(rewards(&*engine, system.system_id).await, 2);
        let epochs = log.epochs(system.system_id);
        assert!(epochs.is_sorted() && epochs.first() < epochs.last(), "a new stay: {epochs:?}");
    }
    let figures = engine.figures();
    assert_eq!((figures.shard_restarts, figures.resident), (1, 2), "{figures:?}");
    engine.ready().await.unwrap();
    engine.shutdown().await.unwrap();
    assert_eq!(engine.figures().unsaved_events, 0);
}

/// What was appended and is not durable must not be numbered anew.
#[tokio::test]
async fn a_shard_begins_anew_only_when_what_was_appended_is_durable() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk));
    log.set_durable(1);
    let engine = over(&rig, &log);
    let new = new_system();
    create(&*engine, &new).await;
    let mut held = Box::pin(run(&*engine, new.system_id, report("held", 1.0)));
    assert!(poll_times(held.as_mut(), 20).await.is_none());
    log.panics_when_asked.store(true, Ordering::SeqCst);
    run(&*engine, new.system_id, report("panics", 1.0)).await.unwrap_err();
    let mut read = Box::pin(rewards(&*engine, new.system_id));
    assert!(poll_times(read.as_mut(), 100).await.is_none(), "it waits");
    log.set_durable(2);
    held.await.unwrap();
    assert_eq!(read.await, 1);
}

#[tokio::test]
async fn a_log_without_room_or_that_has_stopped_is_not_ready() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk).open_wide());
    let engine = over(&rig, &log);
    engine.ready().await.unwrap();
    log.full.store(true, Ordering::SeqCst);
    assert_eq!(engine.ready().await.unwrap_err(), EngineError::Log(LogTrouble::Full));
    assert!(engine.figures().log.full);
    log.full.store(false, Ordering::SeqCst);
    engine.ready().await.unwrap();
    log.stop();
    assert_eq!(engine.ready().await.unwrap_err(), EngineError::Log(LogTrouble::Stopped));
}
