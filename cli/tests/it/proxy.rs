//! Wire contract: the proxy.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};

use super::common::*;

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |v| v.to_str().unwrap())
}

#[tokio::test]
async fn no_credentials_are_needed_and_foreign_ones_are_not_judged() {
    let world = World::new();
    let job = world.client.small_job().await;
    let url = format!("{}/r1/chat/completions", job.proxy_url);
    let body = chat("Say what is asked.", "Question: why? Choices: a");
    let http = reqwest::Client::new();
    for request in [
        http.post(&url),
        http.post(&url).header("x-api-key", "whatever"),
        http.post(&url).header(AUTHORIZATION, "Bearer sk-meant-for-the-llm"),
    ] {
        assert_eq!(request.json(&body).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn the_answer_is_the_llms_with_our_headers_added() {
    let world = World::new();
    let job = world.client.small_job().await;
    let answer = world.client.ask(&job, "r1").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "x-mipro-candidate-id"), "baseline");
    assert_eq!(header(&answer, "x-mipro-rollout-id"), "r1");
    assert_eq!(header(&answer, "x-mipro-prompt"), "", "a matched prompt is not marked");
    assert_eq!(header(&answer, "server-timing"), "", "off unless asked for");
    assert!(!header(&answer, "x-mock-plan").is_empty(), "the LLM's own headers pass");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["object"], "chat.completion");
    assert!(body["usage"]["total_tokens"].as_u64() > Some(0));
}

#[tokio::test]
async fn both_paths_lead_to_the_same_rollout() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.ask(&job, "r1").await;
    let body = chat("Say what is asked.", "Question: why? Choices: a");
    let url = format!("{}/r1/v1/chat/completions?cid=other", job.proxy_url);
    let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "x-mipro-rollout-id"), "r1");
    assert_eq!(world.client.state(&job).await["rollout_count"], 1, "one rollout, asked twice");
}

#[tokio::test]
async fn a_rollout_keeps_its_candidate() {
    let world = World::new();
    let job = world.client.small_job().await;
    for index in 0..6 {
        let deltas = json!({"deltas": {"instruction_text": format!("Variant {index}.")}});
        assert_eq!(world.client.add(&job, deltas).await.0, 200);
    }
    for index in 0..12 {
        let rollout = format!("r{index}");
        let first = header(&world.client.ask(&job, &rollout).await, "x-mipro-candidate-id").to_owned();
        for _ in 0..3 {
            assert_eq!(header(&world.client.ask(&job, &rollout).await, "x-mipro-candidate-id"), first);
        }
    }
}

#[tokio::test]
async fn a_request_that_is_not_the_baseline_prompt_passes_unchanged_and_sticks_to_baseline() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.add(&job, json!({"deltas": {"instruction_text": "Other."}})).await;
    let url = format!("{}/odd/chat/completions", job.proxy_url);
    for _ in 0..2 {
        let body = chat("Something else.", "Hello.");
        let answer = world.client.http.post(&url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "x-mipro-prompt"), "unmatched");
        assert_eq!(header(&answer, "x-mipro-candidate-id"), "baseline");
    }
    let (status, body) =
        world.client.status(&job, json!({"rollout_id": "odd", "status": "reward_done", "reward": 1.0})).await;
    assert_eq!((status.as_u16(), body["candidate_id"].as_str()), (200, Some("baseline")));
}

#[tokio::test]
async fn streams_pass_chunk_by_chunk_to_their_end_mark() {
    let world = World::new();
    let job = world.client.small_job().await;
    let mut body = chat("Say what is asked.", "Question: why? Choices: a");
    body["stream"] = json!(true);
    let url = format!("{}/s1/chat/completions", job.proxy_url);
    let answer = world.client.http.post(url).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(header(&answer, CONTENT_TYPE.as_str()).starts_with("text/event-stream"));
    assert_eq!(header(&answer, "x-mipro-candidate-id"), "baseline");
    let text = answer.text().await.unwrap();
    assert!(text.matches("data: ").count() > 2, "{text}");
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
}

#[tokio::test]
async fn unknown_systems_are_not_found_in_the_openai_shape() {
    let world = World::new();
    let job = world.client.small_job().await;
    for system in ["9e9e9e9e-9e9e-4e9e-8e9e-9e9e9e9e9e9e", "nonsense"] {
        let url = job.proxy_url.replace(&job.system_id, system);
        let body = chat("Say what is asked.", "Question: why? Choices: a");
        let request = world.client.http.post(format!("{url}/r1/chat/completions")).json(&body);
        let (status, body) = answer(request).await;
        assert_eq!(status, 404, "{body}");
        error_message(&body);
    }
}

#[tokio::test]
async fn an_operator_can_ask_for_a_key_on_the_proxy_too() {
    let world = World::with("actor", &[], "proxy_auth = \"required\"\n");
    let job = world.client.small_job().await;
    let url = format!("{}/r1/chat/completions", job.proxy_url);
    let body = chat("Say what is asked.", "Question: why? Choices: a");
    let (status, refused) = answer(world.client.http.post(&url).json(&body)).await;
    assert_eq!(status, 401, "{refused}");
    error_message(&refused);
    let (status, _) = answer(world.client.http.post(&url).bearer_auth(KEY).json(&body)).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn stages_are_told_where_they_are_asked_for_and_add_up() {
    let world = World::with("blob", &["--server-timing"], "");
    let job = world.client.small_job().await;
    let answer = world.client.ask(&job, "r1").await;
    let metrics = mipro_telemetry::server_timing::parse(header(&answer, "server-timing"));
    let duration = |name: &str| {
        metrics
            .iter()
            .filter(|m| m.name == name)
            .map(mipro_telemetry::server_timing::Metric::dur_ms)
            .sum::<f64>()
    };
    let stages: f64 = metrics
        .iter()
        .filter(|m| m.name != "total")
        .map(mipro_telemetry::server_timing::Metric::dur_ms)
        .sum();
    assert!((stages - duration("total")).abs() < 0.002, "{stages} ≠ {}", duration("total"));
    for stage in [
        "db.query",
        "s3.get",
        "s3.put",
        "state.encode",
        "state.decode",
        "policy.suggest",
        "prompt.render",
        "llm.first_byte",
        "other",
    ] {
        assert!(metrics.iter().any(|m| m.name == stage), "no {stage} in {metrics:?}");
    }
}
