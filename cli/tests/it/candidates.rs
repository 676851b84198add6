//! Wire contract: `POST …/candidates`, and what the LLM sees of them.

use std::sync::Arc;

use axum::extract::State;
use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::common::*;

/// An LLM that keeps what it was sent.
async fn keeper() -> (String, Arc<Mutex<Vec<Value>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = |State(seen): State<Arc<Mutex<Vec<Value>>>>, Json(body): Json<Value>| async move {
        seen.lock().await.push(body);
        Json(json!({"id": "x", "object": "chat.completion", "choices": [], "usage": {}}))
    };
    let app = Router::new().route("/v1/chat/completions", post(keep)).with_state(Arc::clone(&seen));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
}

/// Registers one candidate in a world whose LLM keeps what it sees, and asks until it is chosen.
async fn seen_with(candidate: Value) -> Vec<Value> {
    let (upstream, seen) = keeper().await;
    let world = World::with("actor", &["--upstream", &upstream], "");
    let job = world.client.small_job().await;
    let (status, added) = world.client.add(&job, candidate).await;
    assert_eq!(status, 200, "{added}");
    for index in 0..64 {
        let answer = world.client.ask(&job, &format!("r{index}")).await;
        let chosen = answer.headers()["x-mipro-candidate-id"].to_str().unwrap().to_owned();
        if added["candidate_id"] == chosen.as_str() {
            let last = seen.lock().await.last().cloned().unwrap();
            return last["messages"].as_array().unwrap().clone();
        }
        let report = json!({"rollout_id": format!("r{index}"), "status": "reward_done", "reward": 0.0});
        world.client.status(&job, report).await;
    }
    panic!("the candidate was never chosen in 64 rollouts")
}

fn texts(messages: &[Value]) -> Vec<(String, String)> {
    let text = |m: &Value, f: &str| m[f].as_str().unwrap().to_owned();
    messages.iter().map(|m| (text(m, "role"), text(m, "content"))).collect()
}

fn pair(role: &str, text: &str) -> (String, String) {
    (role.to_owned(), text.to_owned())
}

const USER: &str = "Question: why? Choices: a, b";

#[tokio::test]
async fn instruction_text_and_its_aliases_replace_the_system_message() {
    for field in ["instruction_text", "text", "content"] {
        let messages = seen_with(json!({"deltas": {field: "Answer in one word."}})).await;
        assert_eq!(texts(&messages), [pair("system", "Answer in one word."), pair("user", USER)], "{field}");
    }
}

#[tokio::test]
async fn messages_are_replaced_by_order_with_wildcards_filled_again() {
    let deltas = json!({"deltas": {"messages": [{"role": "user", "order": 1, "pattern": "Pick from {choices}: {query}"}]}});
    let messages = seen_with(deltas).await;
    assert_eq!(
        texts(&messages),
        [pair("system", "Say what is asked."), pair("user", "Pick from a, b: why?")]
    );
}

#[tokio::test]
async fn demos_stand_before_the_last_user_message() {
    let deltas = json!({"deltas": {"demos": [{"user": "when?", "assistant": "now"}]}});
    let messages = seen_with(deltas).await;
    let expected = [
        pair("system", "Say what is asked."),
        pair("user", "when?"),
        pair("assistant", "now"),
        pair("user", USER),
    ];
    assert_eq!(texts(&messages), expected);
}

#[tokio::test]
async fn text_replacements_as_clients_in_the_wild_send_them() {
    let candidate = json!({"deltas": {"transformation": {"text_replacements": [
        {"old_text": "what is asked", "new_text": "the answer", "apply_to_role": "system", "apply_to_order": 0}],
        "example_injections": []}}, "metadata": {"label": "shorter"}});
    assert_eq!(texts(&seen_with(candidate).await)[0], pair("system", "Say the answer."));
}

#[tokio::test]
async fn stage_payloads_carry_instructions_too() {
    let candidate = json!({"stage_payloads": {"main": {"stage_id": "main", "module_id": "m", "instruction_text": "From a stage.",
        "instruction_indices": [1], "instruction_lines": ["From a stage."], "demo_indices": [], "baseline_messages": []}}});
    assert_eq!(texts(&seen_with(candidate).await)[0], pair("system", "From a stage."));
}

#[tokio::test]
async fn the_same_deltas_are_the_same_candidate() {
    let world = World::new();
    let job = world.client.small_job().await;
    let deltas = json!({"deltas": {"instruction_text": "Once."}});
    let (_, first) = world.client.add(&job, deltas.clone()).await;
    let (status, second) = world.client.add(&job, deltas).await;
    assert_eq!(status, 200);
    assert_eq!(first, second, "the id, and no new version");
    let named = json!({"candidate_id": "mine", "deltas": {"instruction_text": "Two."}, "params": {"instruction": 3, "demos": 1}});
    let (_, added) = world.client.add(&job, named).await;
    assert_eq!(added["candidate_id"], "mine");
    assert!(added["version"].as_u64() > first["version"].as_u64());
    let state = world.client.state(&job).await;
    assert_eq!(state["candidates"]["mine"]["params"], json!({"instruction": 3, "demos": 1}));
    assert_eq!(state["candidates"]["mine"]["deltas"]["instruction_text"], "Two.");
    assert_eq!(state["candidates"].as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn a_candidate_of_nothing_or_of_nonsense_is_refused() {
    let world = World::new();
    let job = world.client.small_job().await;
    for body in [
        json!({}),
        json!({"deltas": "text"}),
        json!({"deltas": {"instruction_text": 7}}),
        json!({"stage_payloads": [1]}),
        json!({"deltas": {"instruction_text": "x"}, "params": {"instruction": -1}}),
    ] {
        let (status, answer) = world.client.add(&job, body.clone()).await;
        assert_eq!(status, 400, "{body} → {answer}");
        error_message(&answer);
    }
    assert_eq!(world.client.state(&job).await["candidates"].as_object().unwrap().len(), 1);
}
