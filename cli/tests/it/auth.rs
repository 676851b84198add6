//! API keys: who may ask, and whose systems they see.

use reqwest::Method;
use serde_json::json;

use super::common::*;

#[tokio::test]
async fn every_route_but_health_and_the_proxy_wants_a_key() {
    let world = World::new();
    let job = world.client.small_job().await;
    let routes = [
        (Method::POST, "/api/prompt-learning/online/jobs".to_owned()),
        (Method::GET, format!("/api/prompt-learning/online/jobs/{}", job.job_id)),
        (Method::POST, Client::system_path(&job, "status")),
        (Method::POST, Client::system_path(&job, "candidates")),
        (Method::GET, Client::system_path(&job, "state")),
        (Method::GET, Client::system_path(&job, "events")),
    ];
    for (method, path) in routes {
        let url = format!("{}{path}", world.service.url);
        let bare = || world.client.http.request(method.clone(), &url).json(&json!({}));
        for (what, request) in [
            ("none", bare()),
            ("wrong", bare().bearer_auth("wrong")),
            ("prefix", bare().bearer_auth(&KEY[..KEY.len() - 1])),
            ("basic", bare().basic_auth("u", Some(KEY))),
        ] {
            let (status, body) = answer(request).await;
            assert_eq!(status, 401, "{what} key on {method} {path}: {body}");
            error_message(&body);
        }
    }
}

#[tokio::test]
async fn other_orgs_see_nothing_on_any_route() {
    let world = World::new();
    let job = world.client.small_job().await;
    let other = world.client.as_key(OTHER_KEY);
    assert_eq!(other.get(&format!("/api/prompt-learning/online/jobs/{}", job.job_id)).await.0, 404);
    assert_eq!(other.get(&Client::system_path(&job, "state")).await.0, 404);
    assert_eq!(other.get(&Client::system_path(&job, "events")).await.0, 404);
    assert_eq!(other.add(&job, json!({"deltas": {"instruction_text": "x"}})).await.0, 404);
    let report =
        json!({"rollout_id": "r", "status": "reward_done", "reward": 1.0, "candidate_id": "baseline"});
    assert_eq!(other.status(&job, report).await.0, 404);
    let state = world.client.state(&job).await;
    assert_eq!(
        (state["reward_count"].as_u64(), state["candidates"].as_object().map(serde_json::Map::len)),
        (Some(0), Some(1))
    );
}

#[tokio::test]
async fn keys_come_from_a_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, data) = (dir.path().join("keys"), dir.path().join("data"));
    std::fs::write(&keys, format!("# who may\nfile-key:{ORG}\n\n")).unwrap();
    let service = Role::start(
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            data.to_str().unwrap(),
            "--api-keys",
            keys.to_str().unwrap(),
        ],
        &[],
    );
    let client = Client::new(&service.url, "file-key");
    let job = client.small_job().await;
    assert_eq!(client.get(&Client::system_path(&job, "state")).await.0, 200);
    assert_eq!(client.as_key("other").get(&Client::system_path(&job, "state")).await.0, 401);
}
