//! Neither keys nor proxy URLs reach a log, an error or a metric.

use serde_json::json;

use super::common::*;

/// The metrics, which want a key where there are keys.
async fn metrics(world: &World) -> String {
    let bare = reqwest::get(format!("{}/metrics", world.service.url)).await.unwrap();
    assert_eq!(bare.status(), 401);
    let request = world.client.request(reqwest::Method::GET, "/metrics");
    request.send().await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_keys_nor_capabilities_reach_logs_or_metrics() {
    for (engine, config) in [("actor", ""), ("cache", WRITE_THROUGH), ("blob", "")] {
        let mut world = World::with(engine, &[], config);
        let job = world.client.small_job().await;
        world.client.ask(&job, "r1").await;
        world.client.status(&job, json!({"rollout_id": "r1", "status": "reward", "reward": 2.0})).await;
        world.client.status(&job, json!({"rollout_id": "r1", "status": "reward", "reward": 3.0})).await;
        world.client.as_key(OTHER_KEY).status(&job, json!({"rollout_id": "r1", "status": "done"})).await;
        world.client.as_key("a-wrong-key").status(&job, json!({"rollout_id": "r1", "status": "done"})).await;
        let path = format!("/api/mipro/v1/{}/r1/chat/completions", job.system_id);
        let (_, refused) = world.client.post(&path, &json!({})).await;
        let metrics = metrics(&world).await;
        let service =
            std::mem::replace(&mut world.service, Role::start(&["task-app", "--listen", "127.0.0.1:0"], &[]));
        let (_, _, stderr) = service.stop();
        let simple = job.system_id.replace('-', "");
        for secret in [KEY, OTHER_KEY, "a-wrong-key", &job.system_id, &simple] {
            for (place, text) in
                [("the log", &stderr), ("the metrics", &metrics), ("an error", &refused.to_string())]
            {
                assert!(!text.contains(secret), "{engine}: {secret} stands in {place}:\n{text}");
            }
        }
    }
}

#[tokio::test]
async fn metrics_tell_operations_and_stages_with_bounded_labels() {
    let world = World::engine("blob");
    let job = world.client.small_job().await;
    for index in 0..3 {
        world.client.ask(&job, &format!("r{index}")).await;
    }
    let metrics = metrics(&world).await;
    assert!(
        metrics.contains("mipro_stage_seconds") && metrics.contains("operation=\"start_rollout\""),
        "{metrics}"
    );
    assert!(metrics.contains("stage=\"s3.put\"") && metrics.contains("# TYPE"), "{metrics}");
    assert!(!metrics.contains("r1"), "rollout ids are no labels");
}
