//! What travels through the proxy, both ways, and what stays.

use std::sync::Arc;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::rig::{Rig, Scripted, chat, system_path};

const ANSWER: &str = "{ \"id\":\"x\",  \"choices\":[],\"n\":1.50 }";

/// An LLM that answers every call the same.
pub(crate) async fn llm() -> MockServer {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(200)
        .set_body_raw(ANSWER, "application/json")
        .insert_header("x-request-id", "req-1")
        .insert_header("openai-processing-ms", "12")
        .insert_header("x-mock-plan", "plan")
        .insert_header("x-mipro-candidate-id", "forged")
        .insert_header("server-timing", "llm;dur=9");
    Mock::given(method("POST")).and(path("/v1/chat/completions")).respond_with(answer).mount(&server).await;
    server
}

#[tokio::test]
async fn the_answer_comes_back_unchanged_with_our_headers() {
    let llm = llm().await;
    let rig = Rig::open(&format!("{}/v1", llm.uri())).await;
    let system = rig.system().await;
    let response = rig.chat(&system, "r-1").await;
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("x-mipro-candidate-id").as_deref(), Some("baseline"));
    assert_eq!(header("x-mipro-rollout-id").as_deref(), Some("r-1"));
    assert_eq!(header("x-mipro-prompt"), None);
    for (name, value) in [("x-request-id", "req-1"), ("openai-processing-ms", "12"), ("x-mock-plan", "plan")]
    {
        assert_eq!(header(name).as_deref(), Some(value));
    }
    assert_eq!(header("content-type").as_deref(), Some("application/json"));
    assert_eq!(header("server-timing"), None, "off unless asked for, and the LLM's is not ours");
    assert_eq!(response.text().await.unwrap(), ANSWER, "byte for byte");
}

#[tokio::test]
async fn the_request_goes_out_as_it_came_but_for_what_is_ours() {
    let llm = llm().await;
    let rig = Rig::open(&format!("{}/v1", llm.uri())).await;
    let system = rig.system().await;
    let body = r#"{"z":1.50, "model":"m", "messages":[{"role":"system","content":"Pick one label."},{"role":"user","content":"Query: q"}], "big":1e999}"#;
    let url = format!("{}/api/mipro/v1/{system}/r1/v1/chat/completions?cid=r1", rig.url);
    let request = rig
        .http
        .post(url)
        .header("authorization", "Bearer sk-llm")
        .header("x-api-key", "task-app-key")
        .header("traceparent", "00-aa-bb-01")
        .header("x-trace-correlation-id", "r1")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("te", "trailers")
        .header("content-type", "text/plain")
        .body(body);
    assert_eq!(
        request.send().await.unwrap().status(),
        200,
        "the /v1/ form, the query, the wrong type are all fine"
    );
    let seen = &llm.received_requests().await.unwrap()[0];
    assert_eq!(
        std::str::from_utf8(&seen.body).unwrap(),
        body,
        "the baseline changes nothing: the same bytes"
    );
    assert_eq!(seen.url.query(), None);
    let header = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("authorization"), Some("Bearer sk-llm"));
    assert_eq!(header("traceparent"), Some("00-aa-bb-01"));
    assert_eq!(header("x-trace-correlation-id"), Some("r1"));
    assert_eq!(header("content-type"), Some("application/json"));
    for name in ["x-api-key", "x-hop", "te", "connection"] {
        assert_eq!(header(name), None, "{name}");
    }
    assert_eq!(header("host"), Some(llm.address().to_string().as_str()));
}

#[tokio::test]
async fn a_configured_key_stands_in_where_the_client_sent_none() {
    let llm = llm().await;
    let rig = Rig::with(|options| {
        options.upstream = None;
        let provider = mipro_service::config::ProviderOptions {
            base_url: format!("{}/v1", llm.uri()),
            api_key_env: None,
            api_key: Some(mipro_service::config::Secret::new("sk-ours")),
        };
        options.providers.insert("openai".into(), provider);
    })
    .await;
    let system = rig.system().await;
    assert_eq!(rig.chat(&system, "r1").await.status(), 200);
    let theirs = rig.http.post(rig.chat_url(&system, "r2")).bearer_auth("sk-theirs").json(&chat());
    assert_eq!(theirs.send().await.unwrap().status(), 200);
    let seen = llm.received_requests().await.unwrap();
    let bearers: Vec<_> = seen.iter().map(|r| r.headers["authorization"].to_str().unwrap()).collect();
    assert_eq!(bearers, ["Bearer sk-ours", "Bearer sk-theirs"]);
}

#[tokio::test]
async fn a_candidates_words_reach_the_llm_and_the_rollout_keeps_them() {
    let llm = llm().await;
    let rig = Rig::open(&format!("{}/v1", llm.uri())).await;
    let system = rig.system().await;
    let body = json!({"deltas": {"instruction_text": "CANDIDATE WORDS"}});
    let (_, made) = rig.post(&system_path(&system, "candidates"), &body).await;
    let candidate = made["candidate_id"].as_str().unwrap();
    let mut tried = false;
    for rollout in 0..40 {
        let rollout = format!("r{rollout}");
        let (first, again) = (rig.chat(&system, &rollout).await, rig.chat(&system, &rollout).await);
        let id = |response: &reqwest::Response| response.headers()["x-mipro-candidate-id"].clone();
        assert_eq!(id(&first), id(&again), "sticky");
        let sent = llm.received_requests().await.unwrap();
        for request in &sent[sent.len() - 2..] {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let mine = id(&first) == candidate;
            let expected = if mine { "CANDIDATE WORDS" } else { "Pick one label." };
            assert_eq!(body["messages"][0]["content"], expected);
            assert_eq!(
                body["messages"][1]["content"], "Query: where is my card",
                "the wildcard's text is kept"
            );
            assert_eq!(body["model"], "m");
            tried |= mine;
        }
    }
    assert!(tried, "in forty rollouts the second candidate is tried at least once");
}

#[tokio::test]
async fn messages_of_another_prompt_go_through_marked() {
    let llm = llm().await;
    let rig = Rig::open(&format!("{}/v1", llm.uri())).await;
    let system = rig.system().await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "something else"}]});
    let response = rig.http.post(rig.chat_url(&system, "r1")).json(&body).send().await.unwrap();
    assert_eq!(response.headers()["x-mipro-prompt"], "unmatched");
    assert_eq!(response.headers()["x-mipro-candidate-id"], "baseline");
    assert_eq!(llm.received_requests().await.unwrap()[0].body_json::<Value>().unwrap(), body);
}

#[tokio::test]
async fn the_llm_is_asked_while_the_gate_is_closed_and_answered_when_it_opens() {
    let llm = Scripted::start().await;
    let rig = Rig::open(&llm.base_url).await;
    let system = rig.system().await;
    rig.engine.set_durable(0);
    let chat = rig.chat(&system, "r1");
    tokio::pin!(chat);
    let mut asked = tokio::select! {
        asked = llm.next() => asked,
        response = &mut chat => panic!("answered {} before the LLM was asked", response.status()),
    };
    asked.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").await;
    asked.socket.shutdown_and_wait().await;
    assert!(
        chat.as_mut().now_or_never().is_none(),
        "the LLM has answered, the gate is closed: nothing leaves"
    );
    rig.engine.set_durable(1);
    let response = chat.await;
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (200, "{}"));
}

#[tokio::test]
async fn bad_requests_are_refused_in_the_openai_shape() {
    let llm = llm().await;
    let rig = Rig::open(&format!("{}/v1", llm.uri())).await;
    let system = rig.system().await;
    let mut seen = String::new();
    let long = "r".repeat(257);
    for (rollout, body) in [
        ("r1", "{\"messages\": ["),
        ("r1", "[]"),
        ("r1", "{\"model\":\"m\"}"),
        ("r1", "{\"messages\":\"hi\"}"),
        (long.as_str(), r#"{"messages":[{}]}"#),
        ("a%0Ab", r#"{"messages":[{}]}"#),
        ("a%C3%A9", r#"{"messages":[{}]}"#),
    ] {
        let response = rig.http.post(rig.chat_url(&system, rollout)).body(body).send().await.unwrap();
        let status = response.status().as_u16();
        let error = response.json::<Value>().await.unwrap()["error"].take();
        seen.push_str(&format!("{status} {} {} {}\n", error["code"], error["param"], error["message"]));
    }
    insta::assert_snapshot!(seen, @r#"
        400 "invalid_json" null "the body is not valid JSON: EOF while parsing a list at line 1 column 14"
        400 "invalid_type" null "the body must be a JSON object"
        400 "missing_field" "messages" "`messages` is missing"
        400 "invalid_type" "messages" "`messages` must be a list of messages with at least one in it"
        400 "invalid_value" "rollout_id" "`rollout_id` is longer than 256 bytes"
        400 "invalid_value" "rollout_id" "`rollout_id` must be made of visible ASCII characters"
        400 "invalid_value" "rollout_id" "`rollout_id` must be made of visible ASCII characters"
    "#);
    assert!(llm.received_requests().await.unwrap().is_empty(), "none of them reached the LLM");
}

#[tokio::test]
async fn server_timing_adds_up_where_it_is_on() {
    let llm = llm().await;
    let rig = Rig::with(|options| {
        options.upstream = Some(format!("{}/v1", llm.uri()));
        options.server_timing = true;
    })
    .await;
    let system = rig.system().await;
    let response = rig.chat(&system, "r1").await;
    let values: Vec<_> = response.headers().get_all("server-timing").iter().collect();
    assert_eq!(values.len(), 1, "the LLM's own is dropped: {values:?}");
    let metrics = mipro_telemetry::server_timing::parse(values[0].to_str().unwrap());
    let books = mipro_telemetry::server_timing::breakdown_from(&metrics).unwrap();
    assert_eq!(books.operation, mipro_telemetry::Operation::StartRollout);
    let sum: u64 = books.entries.iter().map(|entry| entry.exclusive_ns).sum();
    assert_eq!(sum + books.other_ns, books.total_ns);
    let stages: Vec<_> = books.entries.iter().map(|entry| entry.stage.name()).collect();
    for stage in ["prompt.render", "llm.connect", "llm.first_byte", "llm.body"] {
        assert!(stages.contains(&stage), "{stage} in {stages:?}");
    }
    let again = rig.chat(&system, "r2").await;
    let again = again.headers()["server-timing"].to_str().unwrap();
    assert!(!again.contains("llm.connect"), "a kept connection is not opened again: {again}");
}

#[tokio::test]
async fn many_rollouts_at_once_are_all_answered() {
    let llm = llm().await;
    let rig = Arc::new(Rig::open(&format!("{}/v1", llm.uri())).await);
    let system = rig.system().await;
    let mut calls = tokio::task::JoinSet::new();
    for rollout in 0..64 {
        let (rig, system) = (Arc::clone(&rig), system.clone());
        calls.spawn(async move { rig.chat(&system, &format!("r{rollout}")).await.status().as_u16() });
    }
    assert!(calls.join_all().await.iter().all(|status| *status == 200));
    let (_, state) = rig.get(&system_path(&system, "state")).await;
    assert_eq!(state["rollout_count"], 64);
}

trait ShutdownAndWait {
    async fn shutdown_and_wait(&mut self);
}

impl ShutdownAndWait for tokio::net::TcpStream {
    /// Ends our side and waits until the other has read all and ended its own.
    async fn shutdown_and_wait(&mut self) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        self.shutdown().await.unwrap();
        let _ = self.read(&mut [0; 16]).await;
    }
}
