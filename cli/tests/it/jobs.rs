//! Wire contract: health, jobs, and routes that come later.

use reqwest::Method;
use serde_json::{Value, json};

use super::common::*;
use super::upstream::Keeper;

const JOBS: &str = "/api/prompt-learning/online/jobs";

#[tokio::test]
async fn health_needs_no_key_and_names_the_durability() {
    let world = World::new();
    let health = reqwest::get(format!("{}/health", world.service.url)).await.unwrap();
    assert_eq!(health.status(), 200);
    let body: Value = health.json().await.unwrap();
    assert_eq!(body["durability"], "disk");
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

/// A job with every field that the contract names, and something in it.
fn full_job() -> Value {
    json!({"algorithm": "mipro", "config_body": {"prompt_learning": {
        "algorithm": "mipro", "task_app_id": "banking77", "task_app_url": "http://127.0.0.1:9", "task_app_api_key": "k",
        "initial_prompt": small_prompt(),
        "policy": {"model": "gpt-4.1-nano", "provider": "openai", "inference_mode": "synth_hosted",
                   "temperature": 0.0, "max_completion_tokens": 256},
        "env_config": {"split": "train"},
        "mipro": {
            "mode": "online", "system_name": "a name",
            "bootstrap_train_seeds": [0, 1, 2], "val_seeds": [50, 51], "reference_pool": [0, 1], "online_pool": [0, 1, 2],
            "online_proposer_mode": "inline", "online_proposer_min_rollouts": 20, "online_proposer_max_candidates": 50,
            "online_rollouts_per_candidate": 10,
            "proxy_models": {"hi_provider": "a", "hi_model": "b", "lo_provider": "c", "lo_model": "d"},
            "tpe": {"gamma": 0.25, "n_candidates": 24, "n_startup_trials": 10, "epsilon": 0.25, "alpha": 1.0},
            "online_snapshot_max_events": 500, "online_snapshot_max_seconds": 30, "online_recent_event_window": 200,
            "proposer": {"mode": "instruction_only", "model": "gpt-4.1-mini", "provider": "openai",
                         "inference_url": "http://127.0.0.1:9/v1/responses", "temperature": 0.7, "max_tokens": 512,
                         "generate_at_iterations": [0, 1, 2], "instructions_per_batch": 2}}}}})
}

/// Paths of all fields of objects in `value`, lists included.
fn fields(value: &Value, path: &str, out: &mut Vec<String>) {
    let mut step = |name: &str, inner: &Value, is_field: bool| {
        let path = format!("{path}/{name}");
        fields(inner, &path, out);
        if is_field {
            out.push(path);
        }
    };
    for (name, inner) in value.as_object().into_iter().flatten() {
        step(name, inner, true);
    }
    for (place, inner) in value.as_array().into_iter().flatten().enumerate() {
        step(&place.to_string(), inner, false);
    }
}

/// Without these there is no prompt to optimize.
fn is_needed(path: &str) -> bool {
    let messages = "/config_body/prompt_learning/initial_prompt/messages";
    messages.starts_with(path) || (path.starts_with(messages) && !path.ends_with("/order"))
}

#[tokio::test]
async fn every_field_but_the_prompt_may_be_absent_or_null() {
    let world = World::new();
    let full = full_job();
    let mut paths = Vec::new();
    fields(&full, "", &mut paths);
    assert!(paths.len() > 50, "{paths:?}");
    for path in paths {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let mut absent = full.clone();
        absent.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        let mut null = full.clone();
        *null.pointer_mut(&path).unwrap() = Value::Null;
        for body in [absent, null] {
            let (status, answer) = world.client.post(JOBS, &body).await;
            if is_needed(&path) {
                assert_eq!(status, 400, "{path}: {answer}");
                assert!(error_message(&answer).contains(name), "{path}: {answer}");
            } else {
                assert_eq!(status, 200, "{path}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn unknown_fields_are_ignored_wherever_they_stand() {
    let world = World::new();
    let full = full_job();
    let mut paths = Vec::new();
    fields(&full, "", &mut paths);
    paths.extend(["".to_owned(), "/config_body/prompt_learning/initial_prompt/messages/0".to_owned()]);
    let mut tried = 0;
    for path in paths {
        let mut body = full.clone();
        let Some(object) = body.pointer_mut(&path).and_then(Value::as_object_mut) else { continue };
        object.insert("something_new".to_owned(), json!({"deep": [1, null]}));
        let (status, answer) = world.client.post(JOBS, &body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        tried += 1;
    }
    assert!(tried > 9, "only {tried} objects");
}

#[tokio::test]
async fn fields_of_the_wrong_type_are_named_also_where_they_change_nothing() {
    let world = World::new();
    let learning = "/config_body/prompt_learning";
    for (path, wrong) in [
        ("/task_app_url", json!(7)),
        ("/task_app_api_key", json!(["k"])),
        ("/env_config", json!("train")),
        ("/policy/model", json!(4.1)),
        ("/policy/temperature", json!("cold")),
        ("/policy/max_completion_tokens", json!(-1)),
        ("/mipro/bootstrap_train_seeds", json!("0,1")),
        ("/mipro/val_seeds", json!(["x"])),
        ("/mipro/online_proposer_min_rollouts", json!("20")),
        ("/mipro/online_snapshot_max_events", json!(1.5)),
        ("/mipro/proxy_models", json!("hi")),
        ("/mipro/proxy_models/hi_model", json!(1)),
        ("/mipro/proposer/inference_url", json!(false)),
        ("/mipro/proposer/generate_at_iterations", json!(3)),
        ("/mipro/system_name", json!({})),
    ] {
        let mut body = full_job();
        *body.pointer_mut(&format!("{learning}{path}")).unwrap() = wrong.clone();
        let (status, answer) = world.client.post(JOBS, &body).await;
        assert_eq!(status, 400, "{path} = {wrong}: {answer}");
        let param = answer["error"]["param"].as_str().unwrap().to_owned();
        assert!(param.starts_with(&format!("{learning}{path}")[1..].replace('/', ".")), "{path}: {param}");
        assert!(error_message(&answer).contains(&param), "{answer}");
    }
}

#[tokio::test]
async fn the_best_score_follows_the_rewards() {
    let world = World::new();
    let job = world.client.small_job().await;
    let path = format!("{JOBS}/{}", job.job_id);
    assert_eq!(world.client.get(&path).await.1["best_score"], json!(null), "none yet, and no 0 made up");
    for (index, (reward, expected)) in [(0.5, 0.5), (1.0, 0.75), (0.0, 0.5)].into_iter().enumerate() {
        let report = json!({"rollout_id": format!("r{index}"), "status": "reward_done", "reward": reward, "candidate_id": "baseline"});
        assert_eq!(world.client.status(&job, report).await.0, 200);
        let (_, shown) = world.client.get(&path).await;
        assert_eq!((&shown["best_score"], &shown["status"]), (&json!(expected), &json!("succeeded")));
        assert_eq!(world.client.state(&job).await["best_score"], shown["best_score"]);
    }
}

#[tokio::test]
async fn events_snapshot_and_metadata_come_as_asked_for() {
    let world = World::new();
    let job = world.client.small_job().await;
    let get = async |query: &str| world.client.get(&format!("{JOBS}/{}{query}", job.job_id)).await;
    let (_, bare) = get("").await;
    assert_eq!((bare.get("events"), bare.get("snapshot")), (None, None));
    assert!(bare["metadata"].is_object(), "there unless declined");
    let (_, all) = get("?include_events=True&include_snapshot=true&include_metadata=False").await;
    assert_eq!(all["events"][0]["seq"], 1);
    assert_eq!(all["snapshot"]["system_id"], job.system_id);
    assert_eq!(all.get("metadata"), None);
    let (status, refused) = get("?include_events=maybe").await;
    assert_eq!(status, 400);
    assert!(error_message(&refused).contains("include_events"));
    assert_eq!(get("?unknown=1&include_events=FALSE").await.0, 200);
}

#[tokio::test]
async fn what_continues_an_unknown_system_is_not_found_and_makes_none() {
    let world = World::new();
    for id in ["9e9e9e9e-9e9e-4e9e-8e9e-9e9e9e9e9e9e", "nonsense"] {
        let mut body = full_job();
        body["config_body"]["prompt_learning"]["mipro"]["system_id"] = json!(id);
        let (status, refused) = world.client.post(JOBS, &body).await;
        assert_eq!(status, 404, "{refused}");
        error_message(&refused);
    }
}

#[tokio::test]
async fn two_jobs_are_two_systems() {
    let world = World::new();
    let (first, second) = (world.client.small_job().await, world.client.small_job().await);
    assert_ne!((&first.job_id, &first.system_id), (&second.job_id, &second.system_id));
    world.client.ask(&first, "r1").await;
    assert_eq!(world.client.state(&second).await["rollout_count"], 0);
    assert_eq!(world.client.state(&first).await["rollout_count"], 1);
}

#[tokio::test]
async fn an_online_job_calls_neither_its_task_app_nor_its_proposer_when_it_is_made() {
    let world = World::new();
    let named = Keeper::new().await;
    let mut body = full_job();
    let learning = &mut body["config_body"]["prompt_learning"];
    learning["task_app_url"] = json!(named.url);
    learning["mipro"]["proposer"]["inference_url"] = json!(format!("{}/responses", named.url));
    let job = world.client.create(&body).await;
    assert_eq!(world.client.ask(&job, "r1").await.status(), 200);
    let report = json!({"rollout_id": "r1", "status": "reward_done", "reward": 1.0});
    assert_eq!(world.client.status(&job, report).await.0, 200);
    assert_eq!(named.seen().len(), 0);
}
