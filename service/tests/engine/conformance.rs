//! What every engine promises, over every database there is.

use crate::support::*;
use mipro_service::engine::{Access, EngineError, EngineKind, Question};
use mipro_service::store::TableOptions;
use mipro_service::system::{Refusal, Reply};
use mipro_telemetry::{Ledger, Operation};
use serde_json::{Value, json};

/// What a client does, in order: candidates, rollouts, rewards, repetitions, and things that are refused.
async fn script(engine: &dyn mipro_service::engine::Engine, system: uuid::Uuid) {
    for text in ["Be terse.", "Think first.", "Be terse."] {
        run(engine, system, candidate(text)).await.unwrap();
    }
    for i in 0..20 {
        let rollout = format!("r{i}");
        run(engine, system, start(&rollout)).await.unwrap();
        let reward = f64::from(i % 3) / 2.0;
        run(engine, system, finish(&rollout, reward)).await.unwrap();
        let again = run(engine, system, finish(&rollout, reward)).await.unwrap();
        assert!(matches!(again.reply, Reply::Status { duplicate: true, .. }), "{:?}", again.reply);
    }
    let differs = run(engine, system, finish("r0", 0.7)).await.unwrap_err();
    assert!(matches!(differs, EngineError::Refused(Refusal::RewardConflict { .. })), "{differs:?}");
    let unknown = run(engine, system, finish("nobody", 1.0)).await.unwrap_err();
    assert!(matches!(unknown, EngineError::Refused(Refusal::UnknownRollout(_))), "{unknown:?}");
}

async fn same_commands_same_state(rigs: &[Rig]) {
    for rig in rigs {
        let mut seen: Option<(Value, Value)> = None;
        for (name, options, level) in all_ways() {
            let engine = rig.engine_at(&options, level);
            let new = new_system();
            create(&*engine, &new).await;
            script(&*engine, new.system_id).await;
            let mut now = state(&*engine, new.system_id).await;
            now["system_id"] = Value::Null;
            let everything = Question::Events { since_seq: 1, limit: 10_000 };
            let events = ask(&*engine, new.system_id, everything).await.unwrap();
            assert_eq!(now["reward_count"], 20, "{name}");
            assert_eq!(
                now["candidates"].as_object().unwrap().len(),
                3,
                "{name}: the repeated deltas made no fourth"
            );
            let seen = seen.get_or_insert_with(|| (now.clone(), events.clone()));
            assert_eq!(now, seen.0, "{name}");
            assert_eq!(events, seen.1, "{name}");
        }
    }
}

async fn clean_stop_keeps_everything(rigs: &[Rig]) {
    for rig in rigs {
        for (name, options, level) in all_ways() {
            let new = new_system();
            let engine = rig.engine_at(&options, level);
            create(&*engine, &new).await;
            script(&*engine, new.system_id).await;
            let before = state(&*engine, new.system_id).await;
            engine.shutdown().await.unwrap();
            engine.shutdown().await.unwrap();
            assert_eq!(engine.figures().unsaved_events, 0, "{name}");
            if options.kind != EngineKind::Blob {
                let late = run(&*engine, new.system_id, report("late", 1.0)).await.unwrap_err();
                assert_eq!(late, EngineError::Draining, "{name}");
                let ledger = Ledger::start(Operation::CreateJob);
                let late = engine.create(new_system(), &ledger).await.unwrap_err();
                assert_eq!(late, EngineError::Draining, "{name}");
            }
            drop(engine);
            let engine = rig.engine_at(&options, level);
            assert_eq!(state(&*engine, new.system_id).await, before, "{name}");
            run(&*engine, new.system_id, report("after", 1.0)).await.unwrap();
            assert_eq!(rewards(&*engine, new.system_id).await, 21, "{name}");
            engine.shutdown().await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_same_commands_give_the_same_state_and_events_on_every_engine() {
    same_commands_same_state(&[Rig::sqlite().await]).await;
}

#[tokio::test]
async fn a_clean_stop_keeps_everything_and_refuses_what_comes_after() {
    clean_stop_keeps_everything(&[Rig::sqlite().await]).await;
}

#[tokio::test]
async fn over_postgres_pooled_or_not_it_is_the_same() {
    let Some(postgres) = Postgres::start().await else { return };
    let fresh = TableOptions { pool: false, ..postgres.options() };
    let rigs = [Rig::table(&postgres.options()).await, Rig::table(&fresh).await];
    same_commands_same_state(&rigs).await;
    clean_stop_keeps_everything(&rigs).await;
    drop(rigs);
    postgres.stop().await;
}

#[tokio::test]
async fn a_new_system_survives_a_crash_on_every_engine() {
    let rig = Rig::sqlite().await;
    for (name, options, level) in all_ways() {
        let new = new_system();
        let engine = rig.engine_at(&options, level);
        create(&*engine, &new).await;
        drop(engine);
        let engine = rig.engine_at(&options, level);
        let summary = ask(&*engine, new.system_id, Question::Summary).await.unwrap();
        assert_eq!(summary["status"], "active", "{name}");
    }
}

#[tokio::test]
async fn an_id_can_be_used_once() {
    let rig = Rig::sqlite().await;
    for (name, options, level) in all_ways() {
        let new = new_system();
        let engine = rig.engine_at(&options, level);
        create(&*engine, &new).await;
        run(&*engine, new.system_id, report("r", 1.0)).await.unwrap();
        let ledger = Ledger::start(Operation::CreateJob);
        engine.shutdown().await.unwrap();
        let engine = rig.engine_at(&options, level);
        let again = engine.create(new.clone(), &ledger).await.unwrap_err();
        assert_eq!(again, EngineError::AlreadyExists, "{name}");
        assert_eq!(rewards(&*engine, new.system_id).await, 1, "{name}: and nothing was overwritten");
    }
}

#[tokio::test]
async fn a_foreign_org_sees_nothing_whether_the_system_is_in_memory_or_not() {
    let rig = Rig::sqlite().await;
    for (name, options, level) in all_ways() {
        let engine = rig.engine_at(&options, level);
        let new = new_system();
        create(&*engine, &new).await;
        for round in ["in memory", "not in memory"] {
            let engine = if round == "in memory" { engine.clone() } else { rig.engine_at(&options, level) };
            let ledger = Ledger::start(Operation::Unknown);
            let access = Access::Org(STRANGER);
            let run = engine.execute(new.system_id, access, report("x", 1.0), &ledger).await.unwrap_err();
            assert_eq!(run, EngineError::NotFound, "{name}, {round}");
            let look = engine.inspect(new.system_id, access, Question::State, &ledger).await.unwrap_err();
            assert_eq!(look, EngineError::NotFound, "{name}, {round}");
            let holder = engine.execute(new.system_id, Access::Capability, start("r"), &ledger).await;
            assert!(holder.is_ok(), "{name}, {round}: the URL's holder may: {holder:?}");
        }
        let nobody = run(&*engine, uuid::Uuid::new_v4(), report("x", 1.0)).await.unwrap_err();
        assert_eq!(nobody, EngineError::NotFound, "{name}");
    }
}

#[tokio::test]
async fn events_come_in_pages() {
    let rig = Rig::sqlite().await;
    for (name, options, level) in all_ways() {
        let engine = rig.engine_at(&options, level);
        let new = new_system();
        create(&*engine, &new).await;
        for i in 0..200 {
            run(&*engine, new.system_id, report(&format!("r{i}"), 1.0)).await.unwrap();
        }
        let mut seqs = Vec::new();
        let mut since_seq = 0;
        loop {
            let page = ask(&*engine, new.system_id, Question::Events { since_seq, limit: 97 }).await.unwrap();
            let items = page["items"].as_array().unwrap();
            if items.is_empty() {
                break;
            }
            seqs.extend(items.iter().map(|item| item["seq"].as_u64().unwrap()));
            since_seq = page["next_seq"].as_u64().unwrap();
        }
        let version = state(&*engine, new.system_id).await["version"].as_u64().unwrap();
        assert_eq!(seqs, (1..=version).collect::<Vec<_>>(), "{name}");
    }
}

#[tokio::test]
async fn readiness_says_what_is_down() {
    let rig = Rig::sqlite().await;
    for (name, options, level) in all_ways() {
        let engine = rig.engine_at(&options, level);
        engine.ready().await.unwrap();
        rig.objects.set_down(true);
        let down = engine.ready().await.unwrap_err();
        assert_eq!(down.to_string(), "the object store is unavailable; try again", "{name}");
        rig.objects.set_down(false);
        rig.table.down.store(true, std::sync::atomic::Ordering::SeqCst);
        let down = engine.ready().await.unwrap_err();
        assert_eq!(down.to_string(), "the database (flaky) is unavailable; try again", "{name}");
        rig.table.down.store(false, std::sync::atomic::Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_damaged_object_is_named_by_its_hash_and_never_by_its_key() {
    let rig = Rig::sqlite().await;
    for (name, options) in all_engines() {
        let new = new_system();
        create(&*rig.engine(&options), &new).await;
        let ledger = Ledger::start(Operation::Unknown);
        let row = rig.stores().table.get(new.system_id, &ledger).await.unwrap().unwrap();
        let key = row.state_ref.unwrap();
        let put = |bytes: Vec<u8>| {
            let stores = rig.stores();
            let (key, ledger) = (key.clone(), ledger.clone());
            async move {
                let rule = mipro_service::store::blobs::PutRule::Overwrite;
                stores
                    .blobs
                    .put(&key, bytes.into(), rule, mipro_telemetry::Stage::S3Put, &ledger)
                    .await
                    .unwrap();
            }
        };
        let good = rig.stores().blobs.get(&key, &ledger).await.unwrap();
        let newer = String::from_utf8(good.to_vec()).unwrap().replacen("\"schema\":2", "\"schema\":3", 1);
        let cut = good[..good.len() / 2].to_vec();
        let other = json!({ "schema": 1 }).to_string().into_bytes();
        for (bytes, says) in
            [(cut, "no valid document"), (newer.into_bytes(), "schema 3"), (other, "no valid document")]
        {
            put(bytes).await;
            let error = run(&*rig.engine(&options), new.system_id, report("x", 1.0)).await.unwrap_err();
            assert!(matches!(error, EngineError::Corrupt { .. }), "{name}: {error:?}");
            let text = format!("{error} {error:?}");
            assert!(text.contains(says), "{name}: {text}");
            assert!(!text.contains(&new.system_id.to_string()), "{name}: {text}");
        }
        put(good.to_vec()).await;
        assert_eq!(rewards(&*rig.engine(&options), new.system_id).await, 0, "{name}: mended, it works again");
    }
}
