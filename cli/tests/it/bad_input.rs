//! Whatever is sent or missing: a clear error, the right status or exit code, nothing lost, no hang, no panic.

use reqwest::Method;
use serde_json::json;

use super::common::*;

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn malformed_json_is_told_where() {
    let world = World::new();
    let job = world.client.small_job().await;
    let proxy = format!("/api/mipro/v1/{}/r1/chat/completions", job.system_id);
    let paths = [
        "/api/prompt-learning/online/jobs".to_owned(),
        Client::system_path(&job, "status"),
        Client::system_path(&job, "candidates"),
        proxy,
    ];
    for path in &paths {
        for body in ["", "{", "{\"a\": }", "[1, 2", "nul", "\u{0}", "{\"rollout_id\": \"\\ud800\"}"] {
            let request = world.client.request(Method::POST, path).header("content-type", "application/json");
            let (status, answer) = answer(request.body(body)).await;
            assert_eq!(status, 400, "{path} {body:?} → {answer}");
            error_message(&answer);
        }
        let (status, answer) =
            answer(world.client.request(Method::POST, path).json(&json!([1, "two"]))).await;
        assert_eq!(status, 400, "{path} takes an object: {answer}");
    }
}

#[tokio::test]
async fn a_fifty_megabyte_body_is_refused_and_the_service_goes_on() {
    let world = World::new();
    let job = world.client.small_job().await;
    let body = format!("{{\"rollout_id\": \"{}\"}}", "x".repeat(50 * MIB));
    let proxy = format!("/api/mipro/v1/{}/r1/chat/completions", job.system_id);
    for path in [
        "/api/prompt-learning/online/jobs".to_owned(),
        Client::system_path(&job, "status"),
        Client::system_path(&job, "candidates"),
        proxy,
    ] {
        let request = world
            .client
            .request(Method::POST, &path)
            .header("content-type", "application/json")
            .body(body.clone());
        // A server that stops reading may close before the client has read its answer.
        if let Ok(response) = request.send().await {
            assert_eq!(response.status(), 413, "{path}");
        }
    }
    assert_eq!(world.client.state(&job).await["rollout_count"], 0);
}

#[tokio::test]
async fn unknown_routes_and_methods_have_the_one_error_shape() {
    let world = World::new();
    let (status, body) = world.client.get("/api/nothing").await;
    assert_eq!(status, 404);
    error_message(&body);
    let (status, body) =
        answer(world.client.request(Method::DELETE, "/api/prompt-learning/online/jobs")).await;
    assert_eq!(status, 405);
    error_message(&body);
}

#[tokio::test]
async fn proxy_requests_without_messages_are_refused() {
    let world = World::new();
    let job = world.client.small_job().await;
    let path = format!("/api/mipro/v1/{}/r1/chat/completions", job.system_id);
    for body in [json!({}), json!({"messages": "hi"}), json!({"messages": [1]})] {
        let (status, answer) = world.client.post(&path, &body).await;
        assert_eq!(status, 400, "{body} → {answer}");
        assert!(error_message(&answer).contains("messages"), "{answer}");
    }
    let long = "r".repeat(5_000);
    let path = format!("/api/mipro/v1/{}/{long}/chat/completions", job.system_id);
    let (status, answer) = world.client.post(&path, &chat("a", "b")).await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(world.client.state(&job).await["rollout_count"], 0);
}

#[tokio::test]
async fn a_dead_upstream_is_a_gateway_error_and_the_rollout_can_be_closed_as_failed() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = dead.local_addr().unwrap();
    drop(dead);
    let world = World::with("actor", &["--upstream", &format!("http://{address}/v1")], "");
    let job = world.client.small_job().await;
    let answer = world.client.ask(&job, "r1").await;
    assert_eq!(answer.status(), 502);
    let body: serde_json::Value = answer.json().await.unwrap();
    error_message(&body);
    let (status, _) = world.client.status(&job, json!({"rollout_id": "r1", "status": "failed"})).await;
    assert_eq!(status, 200);
    // Through the task app: no reward of 0 that would be charged to the prompt.
    let job = world.job().await;
    let rollout = world.rollout(&job, "r2", 1).await;
    assert_ne!(rollout["success_status"], "success");
    assert!(rollout["status_detail"].as_str().is_some_and(|d| !d.is_empty()), "{rollout}");
    assert!(rollout["reward_info"]["outcome_reward"].is_null(), "{rollout}");
}

#[test]
fn a_missing_dataset_file_or_column_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    for command in [
        &["mock-llm", "--listen", "127.0.0.1:0", "--dataset", data][..],
        &["task-app", "--listen", "127.0.0.1:0", "--dataset", data],
        &["bench", "--dataset", data],
    ] {
        let (status, _, stderr) = run(command, &[]);
        assert_eq!(status.code(), Some(1), "{command:?}: {stderr}");
        assert!(stderr.contains("train.csv"), "{stderr}");
    }
    std::fs::write(dir.path().join("train.csv"), "text,label\nhello,x\n").unwrap();
    std::fs::write(dir.path().join("test.csv"), "text,category\nhello,x\n").unwrap();
    let (status, _, stderr) = run(&["task-app", "--listen", "127.0.0.1:0", "--dataset", data], &[]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("train.csv") && stderr.contains("category"), "{stderr}");
}

#[test]
fn a_configuration_that_is_wrong_is_told_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    let path = file.to_str().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    for (text, expected) in [
        ("engien = \"blob\"", "engien"),
        ("engine = \"fast\"", "actor"),
        ("[database]\nurl = \"mysql://h/d\"", "database.url"),
        ("[limits]\nbody_bytes_max = \"big\"", "body_bytes_max"),
        ("listen = \"nowhere\"", "nowhere"),
    ] {
        std::fs::write(&file, text).unwrap();
        let (status, stdout, stderr) =
            run(&["serve", "--config", path, "--data-dir", data, "--check-config"], &[]);
        assert_eq!((status.code(), stdout.as_str()), (Some(1), ""), "{text}: {stderr}");
        assert!(stderr.contains(expected), "{text}: {stderr}");
    }
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--durability"];
    for (level, engine) in
        [("postgres", "actor"), ("D3", "actor"), ("object", "actor"), ("disk", "blob"), ("os", "cache")]
    {
        let (status, _, stderr) = run(&[&serve[..], &[level, "--engine", engine]].concat(), &[]);
        assert_eq!(status.code(), Some(1), "never softened: {stderr}");
        assert!(stderr.contains("give"), "{level} {engine}: {stderr}");
    }
    let (status, stdout, stderr) = run(&[&serve[..], &["os", "--check-config"]].concat(), &[]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stdout.contains(&format!("durability  os, the log in {data}/log")), "{stdout}");
    std::fs::write(&file, "engine = \"cache\"\n").unwrap();
    let (status, _, stderr) = run(&["serve", "--config", path, "--data-dir", data, "--check-config"], &[]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let (status, _, stderr) = run(&["serve", "--config", "/nonexistent.toml"], &[]);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("/nonexistent.toml"), "{stderr}");
}

#[test]
fn usage_errors_exit_with_2() {
    for args in [
        &["bench", "--rungs", "fast"][..],
        &["serve", "--listen"],
        &["fly"],
        &["load"],
        &["bench", "--link", "db=fast"],
    ] {
        let (status, _, stderr) = run(args, &[]);
        assert_eq!(status.code(), Some(2), "{args:?}: {stderr}");
    }
}

#[test]
fn a_run_that_is_not_there_is_named() {
    let (status, _, stderr) = run(&["report", "no-such-run"], &[]);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("no-such-run"), "{stderr}");
}
