//! Wire contract: health, jobs, and routes that come later.

use reqwest::Method;
use serde_json::{Value, json};

use super::common::*;

const JOBS: &str = "/api/prompt-learning/online/jobs";

#[tokio::test]
async fn health_needs_no_key_and_names_the_durability() {
    let world = World::new();
    let health = reqwest::get(format!("{}/health", world.service.url)).await.unwrap();
    assert_eq!(health.status(), 200);
    let body: Value = health.json().await.unwrap();
    assert_eq!(body["durability"], "memory");
    assert_eq!(reqwest::get(format!("{}/readyz", world.service.url)).await.unwrap().status(), 200);
    let stored = World::engine("blob");
    let body: Value =
        reqwest::get(format!("{}/health", stored.service.url)).await.unwrap().json().await.unwrap();
    assert_eq!(body["durability"], "stored");
}

#[tokio::test]
async fn a_job_is_made_with_200_and_has_succeeded_at_once() {
    let world = World::new();
    let (status, made) = world.client.post(JOBS, &job_body(&small_prompt(), "http://127.0.0.1:9")).await;
    assert_eq!(status, 200);
    let job_id = made["job_id"].as_str().unwrap();
    assert!(
        job_id.strip_prefix("pl_").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())),
        "{job_id}"
    );
    for query in [
        "",
        "?include_events=false&include_snapshot=false&include_metadata=true",
        "?include_events=False&include_metadata=True",
    ] {
        let (status, job) = world.client.get(&format!("{JOBS}/{job_id}{query}")).await;
        assert_eq!(status, 200, "{query}: {job}");
        assert_eq!(job["job_id"], job_id);
        assert_eq!(job["status"], "succeeded");
        assert!(job.get("best_score").is_some());
        let system = job["metadata"]["mipro_system_id"].as_str().unwrap();
        assert_eq!(uuid::Uuid::parse_str(system).unwrap().get_version_num(), 4, "unguessable");
        let expected = format!("{}/api/mipro/v1/{system}", world.service.url);
        assert_eq!(job["metadata"]["mipro_proxy_url"], expected);
    }
}

#[tokio::test]
async fn the_public_url_starts_proxy_urls() {
    let world = World::with("actor", &["--public-url", "https://prompts.example.com/"], "");
    let job = world.client.small_job().await;
    assert!(job.proxy_url.starts_with("https://prompts.example.com/api/mipro/v1/"), "{}", job.proxy_url);
}

#[tokio::test]
async fn what_a_job_names_may_be_absent_or_dead() {
    let world = World::new();
    let mut body = job_body(&small_prompt(), "http://127.0.0.1:9");
    let learning = body["config_body"]["prompt_learning"].as_object_mut().unwrap();
    learning.remove("task_app_url");
    learning.remove("task_app_id");
    learning["mipro"] = json!({"mode": "online", "proxy_models": null, "something_new": {"deep": [1]}});
    learning.insert("unknown".to_owned(), json!(["ignored"]));
    let (status, made) = world.client.post(JOBS, &body).await;
    assert_eq!(status, 200, "{made}");
}

#[tokio::test]
async fn a_system_that_exists_is_continued() {
    let world = World::new();
    let first = world.client.small_job().await;
    world
        .client
        .status(
            &first,
            json!({"rollout_id": "r", "status": "reward_done", "reward": 1.0, "candidate_id": "baseline"}),
        )
        .await;
    let mut body = job_body(&small_prompt(), "http://127.0.0.1:9");
    body["config_body"]["prompt_learning"]["mipro"]["system_id"] = json!(first.system_id);
    let again = world.client.create(&body).await;
    assert_eq!((&again.system_id, &again.proxy_url), (&first.system_id, &first.proxy_url));
    assert_eq!(world.client.state(&again).await["reward_count"], 1);
    let (status, refused) = world.client.as_key(OTHER_KEY).post(JOBS, &body).await;
    assert_eq!(status, 404, "another org's system is not there: {refused}");
}

#[tokio::test]
async fn unknown_jobs_and_other_orgs_jobs_are_not_found() {
    let world = World::new();
    let job = world.client.small_job().await;
    let (status, body) = world.client.as_key(OTHER_KEY).get(&format!("{JOBS}/{}", job.job_id)).await;
    assert_eq!(status, 404, "{body}");
    error_message(&body);
    for unknown in ["pl_9e9e9e9e9e9e4e9e8e9e9e9e9e9e9e9e", "pl_x", "nonsense"] {
        assert_eq!(world.client.get(&format!("{JOBS}/{unknown}")).await.0, 404, "{unknown}");
    }
}

#[tokio::test]
async fn wrong_types_in_a_job_are_named_by_their_path() {
    let world = World::new();
    let cases: [(&str, Value); 6] = [
        ("/config_body/prompt_learning/mipro/tpe", json!({"gamma": "high"})),
        ("/config_body/prompt_learning/mipro/online_rollouts_per_candidate", json!(-3)),
        ("/config_body/prompt_learning/initial_prompt/messages", json!("hello")),
        ("/config_body/prompt_learning/initial_prompt", json!(null)),
        ("/config_body/prompt_learning/mipro/mode", json!("sometimes")),
        ("/config_body/prompt_learning/mipro/tpe", json!({"gamma": 1.5})),
    ];
    for (pointer, value) in cases {
        let mut body = job_body(&small_prompt(), "http://127.0.0.1:9");
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = value.clone();
        let (status, answer) = world.client.post(JOBS, &body).await;
        assert_eq!(status, 400, "{pointer} = {value} → {answer}");
        let message = error_message(&answer);
        assert!(
            message.contains(name) || answer["error"]["param"].as_str().is_some_and(|p| p.contains(name)),
            "{message}"
        );
    }
}

#[tokio::test]
async fn what_comes_later_says_so() {
    let world = World::new();
    let mut offline = job_body(&small_prompt(), "http://127.0.0.1:9");
    offline["config_body"]["prompt_learning"]["mipro"]["mode"] = json!("offline");
    let (status, body) = world.client.post(JOBS, &offline).await;
    assert_eq!(status, 501, "{body}");
    assert!(error_message(&body).contains("offline"));
    for (method, path) in [
        (Method::POST, "/api/v1/online/sessions"),
        (Method::GET, "/api/v1/online/sessions/x"),
        (Method::PATCH, "/api/v1/online/sessions/x"),
        (Method::GET, "/api/v1/online/sessions/x/prompt"),
        (Method::POST, "/api/v1/online/sessions/x/reward"),
        (Method::GET, "/api/v1/online/sessions/x/events"),
        (Method::GET, "/api/systems/x/candidates?limit=100"),
        (Method::GET, "/api/systems/x/seed-evals?limit=100"),
    ] {
        let (status, body) = answer(world.client.request(method.clone(), path).json(&json!({}))).await;
        assert_eq!(status, 501, "{method} {path}: {body}");
        error_message(&body);
    }
}
