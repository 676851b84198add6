//! Many callers at once on one system.

use serde_json::json;
use tokio::task::JoinSet;

use super::common::*;

const CALLS: usize = 1_000;

async fn acknowledged(client: &Client, job: &Job) -> u64 {
    let mut running = JoinSet::new();
    for index in 0..CALLS {
        let (client, job) = (client.clone(), job.clone());
        running.spawn(async move {
            let report = json!({"rollout_id": format!("r{index}"), "status": "reward_done", "reward": 1.0, "candidate_id": "baseline"});
            client.status(&job, report).await.0.as_u16()
        });
    }
    running.join_all().await.into_iter().map(|code| u64::from(code == 200)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_status_calls_lose_no_reward_on_actor_and_cache() {
    for (engine, config) in [("actor", ""), ("cache", "")] {
        let mut world = World::with(engine, &[], config);
        let job = world.client.small_job().await;
        let acknowledged = acknowledged(&world.client, &job).await;
        assert_eq!(acknowledged, CALLS as u64, "{engine} {config}");
        assert_eq!(world.client.state(&job).await["reward_count"], acknowledged, "{engine} {config}");
        world.bounce();
        assert_eq!(
            world.client.state(&job).await["reward_count"],
            acknowledged,
            "{engine} {config}: after a stop"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn write_through_loses_none_of_what_it_acknowledged_even_when_killed() {
    let mut world = World::with("cache", &[], WRITE_THROUGH);
    let job = world.client.small_job().await;
    let acknowledged = acknowledged(&world.client, &job).await;
    assert!(acknowledged > 0);
    world.service.child.kill().unwrap();
    world.service.child.wait().unwrap();
    world.restart();
    assert_eq!(world.client.state(&job).await["reward_count"], acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_call_a_hundred_times_at_once_counts_once() {
    for engine in ["actor", "cache"] {
        let world = World::engine(engine);
        let job = world.client.small_job().await;
        let mut running = JoinSet::new();
        for _ in 0..100 {
            let (client, job) = (world.client.clone(), job.clone());
            let report = json!({"rollout_id": "same", "status": "reward_done", "reward": 0.5, "candidate_id": "baseline"});
            running.spawn(async move { client.status(&job, report).await.0.as_u16() });
        }
        assert!(running.join_all().await.into_iter().all(|code| code == 200), "{engine}");
        assert_eq!(world.client.state(&job).await["reward_count"], 1, "{engine}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_rollout_asked_for_many_times_at_once_has_one_candidate() {
    let world = World::new();
    let job = world.client.small_job().await;
    for index in 0..4 {
        world.client.add(&job, json!({"deltas": {"instruction_text": format!("Variant {index}.")}})).await;
    }
    let mut running = JoinSet::new();
    for _ in 0..50 {
        let (client, job) = (world.client.clone(), job.clone());
        running.spawn(async move {
            client.ask(&job, "same").await.headers()["x-mipro-candidate-id"].to_str().unwrap().to_owned()
        });
    }
    let mut chosen = running.join_all().await;
    chosen.dedup();
    assert_eq!(chosen.len(), 1, "{chosen:?}");
    assert_eq!(world.client.state(&job).await["rollout_count"], 1);
}
