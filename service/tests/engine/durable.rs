//! The actor over a log that keeps its events: what an answer promises, what a crash leaves, and what a dead store or a
//! full queue may not do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::*;
use futures_util::future::join_all;
use mipro_service::engine::error::LogTrouble;
use mipro_service::engine::{
    self, Access, Engine, EngineError, EngineKind, EngineOptions, Format, Question, UnrecordedStart,
};
use mipro_service::log::{EventLog, Level};
use mipro_service::system::{Command, Reply};
use mipro_telemetry::{Ledger, Operation};

/// Saves nothing by itself within a test.
fn lazy() -> EngineOptions {
    let mut options = options(EngineKind::Actor);
    options.actor.save_events_max = 1_000_000;
    options.actor.save_delay_max = Duration::from_secs(3_600);
    options
}

fn over(rig: &Rig, log: &Arc<HandLog>, options: &EngineOptions) -> Arc<dyn Engine> {
    let log = Arc::clone(log) as Arc<dyn EventLog>;
    engine::build_with_log(options, rig.stores(), rig.recorders.clone(), log)
}

fn is_duplicate(reply: &Reply) -> bool {
    matches!(reply, Reply::Status { duplicate: true, .. })
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash_whatever_was_saved() {
    for format in [Format::Binary, Format::Document] {
        for saved_after in [1_000_000, 2] {
            let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk).open_wide());
            let mut options = lazy();
            options.actor.format = format;
            options.actor.save_events_max = saved_after;
            let new = new_system();
            let first = over(&rig, &log, &options);
            create(&*first, &new).await;
            for i in 0..5 {
                run(&*first, new.system_id, start(&format!("p{i}"))).await.unwrap();
                run(&*first, new.system_id, finish(&format!("p{i}"), 0.5)).await.unwrap();
            }
            let everything = Question::Events { since_seq: 0, limit: 1_000 };
            let events = ask(&*first, new.system_id, everything.clone()).await.unwrap();
            let before = state(&*first, new.system_id).await;
            drop(first);

            let second = over(&rig, &log, &options);
            assert_eq!(state(&*second, new.system_id).await, before, "{format:?}");
            assert_eq!(ask(&*second, new.system_id, everything.clone()).await.unwrap(), events);
            let again = run(&*second, new.system_id, finish("p3", 0.5)).await.unwrap();
            assert!(is_duplicate(&again.reply), "{:?}", again.reply);
            run(&*second, new.system_id, report("after", 1.0)).await.unwrap();
            assert_eq!(rewards(&*second, new.system_id).await, 6);
            let epochs = log.epochs(new.system_id);
            assert!(epochs.is_sorted() && epochs.first() < epochs.last(), "a life, an epoch: {epochs:?}");
        }
    }
}

#[tokio::test]
async fn a_stored_state_of_either_format_is_read_by_the_other() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk).open_wide());
    let new = new_system();
    let mut made = false;
    for (round, format) in
        [Format::Document, Format::Binary, Format::Document, Format::Binary].into_iter().enumerate()
    {
        let mut options = lazy();
        options.actor.format = format;
        let engine = over(&rig, &log, &options);
        if !made {
            create(&*engine, &new).await;
            made = true;
        }
        run(&*engine, new.system_id, report(&format!("r{round}"), 1.0)).await.unwrap();
        let seen =
            ask(&*engine, new.system_id, Question::Events { since_seq: 0, limit: 1_000 }).await.unwrap();
        let version = state(&*engine, new.system_id).await["version"].as_u64().unwrap();
        assert_eq!(
            seen["items"].as_array().unwrap().len() as u64,
            version,
            "{format:?}: no event is missing"
        );
        engine.shutdown().await.unwrap();
        assert_eq!(engine.figures().unsaved_events, 0);
    }
    assert_eq!(rewards(&*over(&rig, &log, &lazy()), new.system_id).await, 4);
}

#[tokio::test]
async fn a_duplicate_and_a_read_wait_on_the_gate_of_what_they_show() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk));
    log.set_durable(1);
    let engine = over(&rig, &log, &lazy());
    let new = new_system();
    create(&*engine, &new).await;
    let mut write = Box::pin(run(&*engine, new.system_id, report("r", 1.0)));
    let mut duplicate = Box::pin(run(&*engine, new.system_id, report("r", 1.0)));
    let mut history = Box::pin(ask(&*engine, new.system_id, Question::Events { since_seq: 2, limit: 10 }));
    for _ in 0..50 {
        assert!(futures_util::poll!(&mut write).is_pending());
        assert!(futures_util::poll!(&mut duplicate).is_pending());
        assert!(futures_util::poll!(&mut history).is_pending());
        tokio::task::yield_now().await;
    }
    log.set_durable(2);
    assert!(!is_duplicate(&write.await.unwrap().reply));
    assert!(is_duplicate(&duplicate.await.unwrap().reply));
    assert!(!history.await.unwrap()["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_stronger_level_is_waited_for_when_it_is_asked_for() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Os).open_wide());
    let engine = over(&rig, &log, &lazy());
    assert_eq!(engine.durability(), Level::Os);
    let gives = [Level::Memory, Level::Os, Level::Disk, Level::Postgres].map(|level| engine.gives(level));
    assert_eq!(gives, [true, true, true, false]);
    let new = new_system();
    create(&*engine, &new).await;
    let ledger = Ledger::start(Operation::StatusReward);
    let executed = engine.execute(new.system_id, Access::Org(ORG), report("r", 1.0), &ledger).await.unwrap();
    let seen = executed.gate.seen().unwrap();
    assert_eq!((seen.epoch, seen.seq > 2), (1, true), "{seen:?}");
    executed.gate.clone().wait(&ledger).await.unwrap();
    let strong = executed.gate.raised(Level::Disk).unwrap();
    assert_eq!(log.hurried.load(Ordering::SeqCst), 1, "the log is told that somebody waits");
    let mut waiting = Box::pin(strong.wait(&ledger));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    log.stronger.send_replace(mipro_service::log::Lsn(2));
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_log_that_stops_acknowledges_nothing_and_the_best_known_is_still_told() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk));
    log.set_durable(u64::MAX);
    let engine = over(&rig, &log, &lazy());
    let new = new_system();
    create(&*engine, &new).await;
    run(&*engine, new.system_id, candidate("Be terse.")).await.unwrap();
    for i in 0..4 {
        run(&*engine, new.system_id, start(&format!("r{i}"))).await.unwrap();
        run(&*engine, new.system_id, finish(&format!("r{i}"), 1.0)).await.unwrap();
    }
    let best = state(&*engine, new.system_id).await["best_candidate_id"].as_str().unwrap().to_owned();
    let mut failed = engine.log_failed();
    assert!(futures_util::poll!(&mut failed).is_pending());
    log.set_durable(log.appended.load(Ordering::SeqCst));
    let mut held = Box::pin(run(&*engine, new.system_id, report("held", 1.0)));
    for _ in 0..20 {
        assert!(futures_util::poll!(&mut held).is_pending());
        tokio::task::yield_now().await;
    }
    log.stop();
    let stopped = EngineError::Log(LogTrouble::Stopped);
    assert_eq!(held.await.unwrap_err(), stopped);
    failed.await;
    assert_eq!(run(&*engine, new.system_id, report("late", 1.0)).await.unwrap_err(), stopped);
    let ledger = Ledger::start(Operation::CreateJob);
    assert_eq!(engine.create(new_system(), &ledger).await.unwrap_err(), stopped);
    let Command::StartRollout { rollout_id, messages } = start("unrecorded") else { panic!() };
    let unrecorded = UnrecordedStart { rollout_id, messages };
    let reply = engine.best_known(new.system_id, Access::Capability, unrecorded, &ledger).await.unwrap();
    assert_eq!((reply.candidate_id, reply.matched, reply.sticky), (best, true, false));
    assert!(engine.figures().log.closed);
}

#[tokio::test]
async fn new_rollouts_are_refused_before_rewards_when_the_log_falls_behind() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk).open_wide());
    let engine = over(&rig, &log, &lazy());
    let new = new_system();
    create(&*engine, &new).await;
    run(&*engine, new.system_id, start("r")).await.unwrap();
    let behind = EngineError::Log(LogTrouble::Behind);
    log.queued_bytes_max.store(1_000_000, Ordering::SeqCst);
    log.queued_bytes.store(800_000, Ordering::SeqCst);
    assert_eq!(run(&*engine, new.system_id, start("s")).await.unwrap_err(), behind);
    assert_eq!(run(&*engine, new.system_id, candidate("x")).await.unwrap_err(), behind);
    run(&*engine, new.system_id, finish("r", 1.0)).await.unwrap();
    log.queued_bytes.store(950_000, Ordering::SeqCst);
    assert_eq!(run(&*engine, new.system_id, report("t", 1.0)).await.unwrap_err(), behind);
    assert_eq!(rewards(&*engine, new.system_id).await, 1, "reads go on");
    log.queued_bytes.store(0, Ordering::SeqCst);
    run(&*engine, new.system_id, report("t", 1.0)).await.unwrap();
    assert_eq!(engine.figures().pressed, 3);
}

#[tokio::test]
async fn one_system_may_not_fill_the_logs_queue() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk));
    log.set_durable(2);
    let engine = over(&rig, &log, &lazy());
    let (hot, quiet) = (new_system(), new_system());
    create(&*engine, &hot).await;
    create(&*engine, &quiet).await;
    log.queued_bytes_max.store(4_000, Ordering::SeqCst);
    let ledger = Ledger::start(Operation::StatusReward);
    let mut refused = None;
    for i in 0..200 {
        let command = report(&format!("r{i}"), 1.0);
        if let Err(error) = engine.execute(hot.system_id, Access::Org(ORG), command, &ledger).await {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(EngineError::TooMuch { .. })), "{refused:?}");
    engine.execute(quiet.system_id, Access::Org(ORG), report("r", 1.0), &ledger).await.unwrap();
    log.set_durable(u64::MAX);
    run(&*engine, hot.system_id, report("after", 1.0)).await.unwrap();
}

#[tokio::test]
async fn a_dead_object_store_stops_no_answer_and_pins_no_memory() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk).open_wide());
    let mut options = lazy();
    options.actor.save_events_max = 4;
    options.actor.unsaved_events_max = 10;
    options.actor.idle_max = Duration::from_millis(500);
    let engine = over(&rig, &log, &options);
    let systems = [new_system(), new_system()];
    for new in &systems {
        create(&*engine, new).await;
    }
    rig.objects.set_down(true);
    for new in &systems {
        for i in 0..20 {
            run(&*engine, new.system_id, report(&format!("r{i}"), 1.0)).await.unwrap();
        }
    }
    reaches(&rig.objects.failed_puts, 1).await;
    let emptied = async {
        while engine.figures().resident > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), emptied).await.expect("what the log has may leave memory");
    rig.objects.set_down(false);
    for new in &systems {
        assert_eq!(rewards(&*engine, new.system_id).await, 20);
        run(&*engine, new.system_id, report("more", 1.0)).await.unwrap();
    }
    let caught_up = async {
        while engine.figures().unsaved_events > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), caught_up).await.expect("snapshots catch up");
}

#[tokio::test]
async fn a_stop_that_cannot_store_states_loses_nothing_and_says_no_error() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk).open_wide());
    let engine = over(&rig, &log, &lazy());
    let new = new_system();
    create(&*engine, &new).await;
    run(&*engine, new.system_id, report("r", 1.0)).await.unwrap();
    rig.objects.set_down(true);
    engine.shutdown().await.unwrap();
    assert!(engine.figures().unsaved_events > 0);
    rig.objects.set_down(false);
    assert_eq!(rewards(&*over(&rig, &log, &lazy()), new.system_id).await, 1);
}

#[tokio::test]
async fn a_stop_waits_until_the_log_has_what_was_taken() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk));
    log.set_durable(1);
    let engine = over(&rig, &log, &lazy());
    let new = new_system();
    create(&*engine, &new).await;
    let mut held = Box::pin(run(&*engine, new.system_id, report("r", 1.0)));
    assert!(poll_times(&mut held, 20).await.is_none());
    let mut stop = engine.shutdown();
    assert!(poll_times(&mut stop, 50).await.is_none(), "an answer is held");
    log.set_durable(2);
    held.await.unwrap();
    stop.await.unwrap();
}

#[tokio::test]
async fn a_stored_state_is_never_ahead_of_the_log() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk));
    log.set_durable(1);
    let mut options = lazy();
    options.actor.save_events_max = 1;
    let engine = over(&rig, &log, &options);
    let new = new_system();
    create(&*engine, &new).await;
    let (_, puts) = rig.objects.counts();
    let mut held = Box::pin(run(&*engine, new.system_id, report("r", 1.0)));
    assert!(poll_times(&mut held, 100).await.is_none());
    assert_eq!(
        rig.objects.counts().1,
        puts,
        "a crash now must not leave a state that the log knows nothing of"
    );
    log.set_durable(2);
    held.await.unwrap();
    reaches(&rig.objects.puts, puts + 1).await;
}

/// At `os` an answer leaves with the write. A stored state waits for the disk: the machine may take what was only written.
#[tokio::test]
async fn at_os_a_stored_state_waits_for_the_disk() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Os).open_wide());
    let mut options = lazy();
    options.actor.save_events_max = 1;
    let engine = over(&rig, &log, &options);
    let new = new_system();
    create(&*engine, &new).await;
    let (_, puts) = rig.objects.counts();
    run(&*engine, new.system_id, report("r", 1.0)).await.unwrap();
    let hurried = async {
        while log.hurried.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    hurried.await;
    assert!(poll_times(std::future::pending::<()>(), 100).await.is_none());
    assert_eq!(rig.objects.counts().1, puts, "acknowledged, and not yet stored");
    log.stronger.send_replace(mipro_service::log::Lsn(u64::MAX));
    reaches(&rig.objects.puts, puts + 1).await;
}

#[tokio::test]
async fn a_panic_after_the_append_is_replayed_under_a_new_epoch() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk));
    log.set_durable(1);
    let engine = over(&rig, &log, &lazy());
    let new = new_system();
    create(&*engine, &new).await;
    log.panics.store(true, Ordering::SeqCst);
    let error = run(&*engine, new.system_id, report("r", 1.0)).await.unwrap_err();
    assert!(matches!(error, EngineError::Internal { .. }), "{error:?}");
    assert_eq!(engine.figures().poisoned, 1);
    let mut again = Box::pin(run(&*engine, new.system_id, report("r", 1.0)));
    assert!(poll_times(&mut again, 100).await.is_none(), "what is not durable can't be replayed yet");
    log.set_durable(2);
    assert!(is_duplicate(&again.await.unwrap().reply), "it was in the log");
    log.set_durable(u64::MAX);
    run(&*engine, new.system_id, report("next", 1.0)).await.unwrap();
    assert_eq!(log.epochs(new.system_id), [1, 1, 2]);
    assert_eq!(rewards(&*engine, new.system_id).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn eviction_under_pressure_and_a_crash_lose_nothing() {
    for store_flaps in [false, true] {
        let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk).open_wide());
        let mut options = lazy();
        options.actor.systems_max = 4;
        options.actor.shards = 2;
        options.actor.save_events_max = 5;
        let engine = over(&rig, &log, &options);
        let systems: Vec<_> = (0..24).map(|_| new_system()).collect();
        for new in &systems {
            create(&*engine, new).await;
        }
        let drive = systems.iter().enumerate().map(|(turn, new)| {
            let (engine, rig) = (engine.clone(), &rig);
            async move {
                for i in 0..6 {
                    if store_flaps && turn == 0 {
                        rig.objects.set_down(i % 2 == 0);
                    }
                    retried(&*engine, new.system_id, &format!("r{i}")).await;
                    tokio::task::yield_now().await;
                }
                rig.objects.set_down(false);
            }
        });
        join_all(drive).await;
        let figures = engine.figures();
        assert!(figures.resident <= 8 && figures.evictions >= 16, "{figures:?}");
        assert_eq!((figures.conflicts, figures.poisoned), (0, 0), "{figures:?}");
        drop(engine);
        let engine = over(&rig, &log, &options);
        for new in &systems {
            assert_eq!(rewards(&*engine, new.system_id).await, 6, "flapping: {store_flaps}");
        }
    }
}

/// As a client does: a 503 is tried again.
async fn retried(engine: &dyn Engine, system: uuid::Uuid, rollout: &str) {
    for _ in 0..2_000 {
        match run(engine, system, report(rollout, 1.0)).await {
            Ok(_) => return,
            Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("no room for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn systems_that_hold_the_log_back_are_saved_and_the_log_is_trimmed() {
    let rig = Rig::sqlite().await;
    let mut options = lazy();
    options.actor.archive_every = Duration::from_millis(20);
    options.actor.systems_max = 4;
    options.actor.tail_ratio = u64::MAX;
    let (new, idle) = (new_system(), new_system());
    {
        let engine = rig.engine_at(&options, Level::Disk);
        create(&*engine, &new).await;
        create(&*engine, &idle).await;
        run(&*engine, idle.system_id, report("early", 1.0)).await.unwrap();
    }
    // Nobody asks for the idle system again: it is loaded and saved because a segment can't go before.
    let engine = rig.engine_at(&options, Level::Disk);
    let filled = async {
        let mut turn = 0;
        while engine.figures().log.trimmed == 0 {
            let calls = (0..50).map(|i| {
                let (engine, id) = (engine.clone(), format!("{turn}-{i}-{}", "x".repeat(180)));
                async move { run(&*engine, new.system_id, report(&id, 1.0)).await.map(drop) }
            });
            for result in join_all(calls).await {
                result.unwrap();
            }
            turn += 1;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), filled).await.expect("a segment is archived and trimmed");
    let row =
        rig.stores().table.get(idle.system_id, &Ledger::start(Operation::Unknown)).await.unwrap().unwrap();
    assert!(row.version > 2, "the idle system was saved: {row:?}");
    assert_eq!(rewards(&*engine, idle.system_id).await, 1);
    let first = ask(&*engine, idle.system_id, Question::Events { since_seq: 0, limit: 10 }).await.unwrap();
    assert_eq!(first["items"][0]["seq"], 1, "its history is in the archive");
}

#[tokio::test]
async fn a_new_system_is_refused_while_the_log_is_behind() {
    let (rig, log) = (Rig::sqlite().await, HandLog::at(Level::Disk).open_wide());
    let engine = over(&rig, &log, &lazy());
    log.queued_bytes_max.store(100, Ordering::SeqCst);
    log.queued_bytes.store(80, Ordering::SeqCst);
    let ledger = Ledger::start(Operation::CreateJob);
    let refused = engine.create(new_system(), &ledger).await.unwrap_err();
    assert_eq!(refused, EngineError::Log(LogTrouble::Behind));
    assert_eq!(rig.objects.counts().1, 0, "nothing was stored for it");
    log.queued_bytes.store(79, Ordering::SeqCst);
    create(&*engine, &new_system()).await;
}
