//! The mock LLM over real sockets: every route, its errors, its faults, and that it repeats itself.

use std::time::Duration;

use crate::common::{client, data_lines, parsed, planned, start_llm};
use mipro_mock_llm::dataset::Dataset;
use mipro_mock_llm::faults::Faults;
use mipro_mock_llm::latency::Latency;
use mipro_mock_llm::llm::Options;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A known query and its right label.
fn known() -> (String, String) {
    let set = Dataset::builtin();
    let example = &set.train()[0];
    (example.text.clone(), set.label_of(example).to_owned())
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "banking77_classify",
            "parameters": {"type": "object", "properties": {"intent": {"type": "string"}}, "required": ["intent"]}}}])
}

fn asking(query: &str) -> Value {
    json!({
        "model": "gpt-4.1-nano",
        "messages": [{"role": "system", "content": "Answer with exactly one label, the closest meaning. Distinguish."},
                     {"role": "user", "content": format!("Customer query:\n{query}\n\nLabels to choose from:\n1. a")}],
        "tools": tools(),
        "tool_choice": {"type": "function", "function": {"name": "banking77_classify"}},
    })
}

async fn post(server: &crate::common::Server, path: &str, rollout: &str, body: &Value) -> reqwest::Response {
    let request = client().post(server.url(path)).header("x-trace-correlation-id", rollout).json(body);
    request.send().await.unwrap()
}

async fn chat(server: &crate::common::Server, rollout: &str, body: &Value) -> reqwest::Response {
    post(server, "/v1/chat/completions", rollout, body).await
}

fn faulty(faults: &str) -> Options {
    Options { faults: faults.parse::<Faults>().unwrap(), ..Options::default() }
}

#[tokio::test]
async fn a_forced_tool_is_called_with_a_label_and_the_plan_says_whether_it_is_right() {
    let server = start_llm(Options::default()).await;
    let (query, label) = known();
    let (mut right, mut wrong) = (0, 0);
    for rollout in 0..40 {
        let response = chat(&server, &format!("run-{rollout}"), &asking(&query)).await;
        assert_eq!(response.status(), 200);
        let correct = planned(&response, "correct").unwrap();
        let body: Value = response.json().await.unwrap();
        let choice = &body["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls");
        let call = &choice["message"]["tool_calls"][0];
        assert_eq!(call["function"]["name"], "banking77_classify");
        let intent =
            parsed(call["function"]["arguments"].as_str().unwrap())["intent"].as_str().unwrap().to_owned();
        assert_eq!(correct == "1", intent == label);
        assert!(Dataset::builtin().labels().contains(&intent));
        if intent == label { right += 1 } else { wrong += 1 }
    }
    assert!(right > 0 && wrong > 0, "{right} right, {wrong} wrong");
}

#[tokio::test]
async fn an_answer_has_every_field_clients_read() {
    let server = start_llm(Options::default()).await;
    let body: Value = chat(&server, "r-1", &asking(&known().0)).await.json().await.unwrap();
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(body["object"], "chat.completion");
    assert!(body["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(body["model"], "gpt-4.1-nano");
    let usage = &body["usage"];
    let of = |field: &str| usage[field].as_u64().unwrap();
    assert!(of("prompt_tokens") > 20 && of("completion_tokens") > 5);
    assert_eq!(of("total_tokens"), of("prompt_tokens") + of("completion_tokens"));
}

#[tokio::test]
async fn without_a_tool_the_label_is_the_content() {
    let server = start_llm(Options::default()).await;
    let (query, _) = known();
    let body = json!({"model": "m", "messages": [{"role": "user", "content": format!("What is the intent of: {query}")}]});
    let answer: Value = chat(&server, "r-1", &body).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(Dataset::builtin().labels().contains(&content), "{content}");
}

#[tokio::test]
async fn an_unknown_question_is_answered_without_a_verdict() {
    let server = start_llm(Options::default()).await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "Propose an instruction."}]});
    let response = chat(&server, "r-1", &body).await;
    assert_eq!(planned(&response, "fault").as_deref(), Some("none"));
    assert_eq!(planned(&response, "correct"), None);
    let answer: Value = response.json().await.unwrap();
    assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().contains("exactly one label"));
}

#[tokio::test]
async fn a_stream_carries_the_same_answer_in_several_chunks_and_ends_with_done() {
    let server = start_llm(Options::default()).await;
    let mut body = asking(&known().0);
    let whole: Value = chat(&server, "r-5", &body).await.json().await.unwrap();
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let response = chat(&server, "r-5", &body).await;
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    assert!(planned(&response, "total_us").is_some());
    let text = response.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"));
    let lines = data_lines(&text);
    assert_eq!(text.matches("\n\n").count(), lines.len(), "each event ends with a blank line");
    let chunks: Vec<Value> = lines[..lines.len() - 1].iter().map(|line| parsed(line)).collect();
    assert!(chunks.len() >= 5, "{} chunks", chunks.len());
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"])
    );
    let delta = |chunk: &Value| chunk["choices"][0]["delta"].clone();
    assert_eq!(delta(&chunks[0])["role"], "assistant");
    let arguments: String = chunks
        .iter()
        .filter_map(|chunk| {
            delta(chunk)["tool_calls"][0]["function"]["arguments"].as_str().map(ToOwned::to_owned)
        })
        .collect();
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(arguments, call["arguments"].as_str().unwrap());
    assert_eq!(delta(&chunks[0])["tool_calls"][0]["function"]["name"], call["name"]);
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "tool_calls");
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
}

#[tokio::test]
async fn a_plain_stream_spells_the_content() {
    let server = start_llm(Options::default()).await;
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": known().0}]});
    let whole: Value = chat(&server, "r-5", &body).await.json().await.unwrap();
    body["stream"] = json!(true);
    let text = chat(&server, "r-5", &body).await.text().await.unwrap();
    let lines = data_lines(&text);
    let content: String = lines[..lines.len() - 1]
        .iter()
        .filter_map(|line| parsed(line)["choices"][0]["delta"]["content"].as_str().map(ToOwned::to_owned))
        .collect();
    assert_eq!(content, whole["choices"][0]["message"]["content"].as_str().unwrap());
    assert!(!text.contains("\"usage\""), "usage was not asked for");
}

#[tokio::test]
async fn responses_are_answered_whole_and_streamed() {
    let server = start_llm(Options::default()).await;
    let (query, _) = known();
    for input in [json!(query), json!([{"role": "user", "content": [{"type": "input_text", "text": query}]}])]
    {
        let body = json!({"model": "gpt-4.1-mini", "instructions": "Exactly one label.", "input": input});
        let response = post(&server, "/v1/responses", "r-3", &body).await;
        assert!(planned(&response, "correct").is_some());
        let answer: Value = response.json().await.unwrap();
        assert_eq!((&answer["object"], &answer["status"]), (&json!("response"), &json!("completed")));
        assert_eq!(answer["output"][0]["content"][0]["type"], "output_text");
        let text = answer["output"][0]["content"][0]["text"].as_str().unwrap().to_owned();
        assert!(Dataset::builtin().labels().contains(&text));
        assert!(answer["usage"]["total_tokens"].as_u64().unwrap() > 5);
    }
    let body = json!({"model": "m", "input": "Write an instruction.", "stream": true});
    let stream = post(&server, "/v1/responses", "r-3", &body).await.text().await.unwrap();
    let events: Vec<Value> = data_lines(&stream).into_iter().map(parsed).collect();
    assert_eq!(events[0]["type"], "response.created");
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    let spelled: String = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .map(|event| event["delta"].as_str().unwrap())
        .collect();
    assert_eq!(spelled, last["response"]["output"][0]["content"][0]["text"].as_str().unwrap());
}

#[tokio::test]
async fn models_health_and_unknown_routes() {
    let server = start_llm(Options::default()).await;
    let models: Value = client().get(server.url("/v1/models")).send().await.unwrap().json().await.unwrap();
    assert_eq!(models["object"], "list");
    assert!(models["data"].as_array().unwrap().iter().any(|model| model["id"] == "gpt-4.1-nano"));
    assert_eq!(client().get(server.url("/health")).send().await.unwrap().status(), 200);
    let missing = client().get(server.url("/v2/none")).send().await.unwrap();
    assert_eq!(missing.status(), 404);
    let error: Value = missing.json().await.unwrap();
    assert_eq!(error["error"]["message"], "no such route: GET /v2/none");
    let wrong = client().get(server.url("/v1/chat/completions")).send().await.unwrap();
    assert_eq!(wrong.status(), 405);
    assert!(wrong.json::<Value>().await.unwrap()["error"]["message"].is_string());
}

#[tokio::test]
async fn bad_requests_get_the_openai_shape() {
    let server = start_llm(faulty("error=100%")).await;
    for (body, param) in [
        ("{not json", Value::Null),
        ("[]", Value::Null),
        ("{}", json!("model")),
        (r#"{"model": "m"}"#, json!("messages")),
        (r#"{"model": "m", "messages": [{"role": "user"}]}"#, json!("messages[0].content")),
    ] {
        let response = client().post(server.url("/v1/chat/completions")).body(body).send().await.unwrap();
        assert_eq!(response.status(), 400, "{body}");
        let error: Value = response.json().await.unwrap();
        let error = &error["error"];
        assert!(error["message"].is_string() && error.get("code").is_some(), "{error}");
        assert_eq!((&error["type"], &error["param"]), (&json!("invalid_request_error"), &param), "{body}");
    }
    let bad = post(&server, "/v1/responses", "r", &json!({"model": "m"})).await;
    assert_eq!(bad.json::<Value>().await.unwrap()["error"]["param"], "input");
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused() {
    let server = start_llm(Options::default()).await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(9 << 20)}]});
    // A refusal may close the connection before all is sent; then there is no answer to look at, and no memory taken.
    let request = client().post(server.url("/v1/chat/completions")).json(&body);
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), 413);
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["message"], "the body is larger than 8388608 bytes");
    }
    assert_eq!(client().get(server.url("/health")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_same_seed_repeats_delays_and_answers_and_another_does_not() {
    let plan = |seed| async move {
        let server = start_llm(Options { seed, ..Options::default() }).await;
        let mut answers = Vec::new();
        for rollout in 0..12 {
            let response = chat(&server, &format!("run-{rollout}"), &asking(&known().0)).await;
            let correct = planned(&response, "correct");
            answers.push((correct, response.json::<Value>().await.unwrap()["choices"].clone()));
        }
        let delays: Vec<_> = (0..12).map(|key| Latency::Seed.delay(seed, key)).collect();
        (answers, delays)
    };
    let (first, again, other) = (plan(5).await, plan(5).await, plan(6).await);
    assert_eq!(first.1, again.1);
    assert_ne!(first.1, other.1);
    let told = |answers: &[(Option<String>, Value)]| -> Vec<_> {
        answers
            .iter()
            .map(|(c, a)| (c.clone(), a[0]["message"]["tool_calls"][0]["function"].clone()))
            .collect()
    };
    assert_eq!(told(&first.0), told(&again.0));
    assert_ne!(told(&first.0), told(&other.0));
}

#[tokio::test]
async fn rollout_17_meets_the_same_plan_in_every_run_and_takes_at_least_that_long() {
    let options = Options { latency: Latency::Fixed(Duration::from_millis(40)), ..Options::default() };
    let server = start_llm(options).await;
    let begun = mipro_telemetry::clock::now();
    let first = chat(&server, "blob-17", &asking(&known().0)).await;
    let until_head = begun.elapsed();
    let header = first.headers()["x-mock-plan"].clone();
    first.bytes().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(40));
    assert!(until_head >= Duration::from_millis(30), "the head leaves with the first byte");
    let second = chat(&server, "parallel-17", &asking(&known().0)).await;
    assert_eq!(second.headers()["x-mock-plan"], header);
    assert!(header.to_str().unwrap().starts_with("total_us=40000;first_byte_us=30000;fault=none;correct="));
}

#[tokio::test]
async fn the_seeded_delay_is_announced_and_kept() {
    let server = start_llm(Options { latency: Latency::Seed, seed: 3, ..Options::default() }).await;
    let delay = Latency::Seed.delay(3, 8);
    let begun = mipro_telemetry::clock::now();
    let response = chat(&server, "r-8", &asking(&known().0)).await;
    assert_eq!(planned(&response, "total_us").unwrap(), delay.total_us.to_string());
    assert_eq!(planned(&response, "first_byte_us").unwrap(), delay.first_byte_us.to_string());
    response.bytes().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_micros(delay.total_us));
}

#[tokio::test]
async fn rate_limits_and_errors_are_answered_as_planned() {
    let limited = start_llm(faulty("rate-limit=100%")).await;
    let response = chat(&limited, "r-1", &asking("x")).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    assert_eq!(planned(&response, "fault").as_deref(), Some("rate-limit"));
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["error"]["code"], "rate_limit_exceeded");

    let broken = start_llm(faulty("error=100%")).await;
    let response = chat(&broken, "r-1", &asking("x")).await;
    assert_eq!(response.status(), 500);
    assert_eq!(planned(&response, "fault").as_deref(), Some("error"));
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["type"], "server_error");
}

#[tokio::test]
async fn a_cut_answer_starts_and_never_ends() {
    let server = start_llm(faulty("cut=100%")).await;
    let mut body = asking(&known().0);
    for stream in [false, true] {
        body["stream"] = json!(stream);
        let mut response = chat(&server, "r-1", &body).await;
        assert_eq!(response.status(), 200);
        assert_eq!(planned(&response, "fault").as_deref(), Some("cut"));
        let mut got = 0;
        let error = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => got += chunk.len(),
                Ok(None) => panic!("the answer ended after {got} bytes (stream: {stream})"),
                Err(error) => break error,
            }
        };
        assert!(got > 0, "nothing came before the cut: {error} (stream: {stream})");
    }
}

#[tokio::test]
async fn a_stalled_call_keeps_silent_until_its_time() {
    let server = start_llm(faulty("stall=100%:50ms")).await;
    let begun = mipro_telemetry::clock::now();
    let response = chat(&server, "r-1", &asking(&known().0)).await;
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(planned(&response, "first_byte_us").as_deref(), Some("50000"));
    assert_eq!(planned(&response, "fault").as_deref(), Some("stall"));

    let forever = start_llm(faulty("stall=100%")).await;
    let request = client().post(forever.url("/v1/chat/completions")).json(&asking("x"));
    let error = request.timeout(Duration::from_millis(200)).send().await.unwrap_err();
    assert!(error.is_timeout());
}

#[tokio::test]
async fn faults_come_in_the_seeded_shares() {
    let faults: Faults = "error=20%,rate-limit=10%".parse().unwrap();
    let server = start_llm(Options { faults, seed: 4, ..Options::default() }).await;
    for key in 0..60 {
        let status = chat(&server, &format!("r-{key}"), &asking("x")).await.status().as_u16();
        let expected = match faults.draw(4, key, 0).name() {
            "error" => 500,
            "rate-limit" => 429,
            _ => 200,
        };
        assert_eq!(status, expected, "call {key}");
    }
}

#[tokio::test]
async fn shutdown_finishes_the_call_under_way() {
    let options = Options { latency: Latency::Fixed(Duration::from_millis(300)), ..Options::default() };
    let server = start_llm(options).await;
    let url = server.url("/v1/chat/completions");
    // One raw connection, so that it is known when the request has left.
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let body = asking(&known().0).to_string();
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    // The head arrives at 225 ms: the call is under way.
    let mut got = vec![0; 12];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(got, b"HTTP/1.1 200");
    server.stop().await;
    stream.read_to_end(&mut got).await.unwrap();
    assert!(String::from_utf8(got).unwrap().contains("\"usage\""), "the body came whole");
    assert!(client().get(url).send().await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_taken_port_and_a_missing_dataset_are_told() {
    let server = start_llm(Options::default()).await;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let taken = Options { listen: server.address, ..Options::default() };
    let error = mipro_mock_llm::llm::run(taken, |_| {}, shutdown.clone()).await.unwrap_err();
    let text = error.to_string().replace(&server.address.to_string(), "ADDR");
    insta::assert_snapshot!(text, @"can't listen on ADDR (address in use); stop what uses the port, or choose another with --listen (port 0 takes any free one)");
    let dir = tempfile::tempdir().unwrap();
    let lost = Options { dataset: Some(dir.path().join("none")), ..Options::default() };
    let error = mipro_mock_llm::llm::run(lost, |_| {}, shutdown).await.unwrap_err();
    let text = error.to_string().replace(&dir.path().display().to_string(), "DIR");
    insta::assert_snapshot!(text, @"can't read DIR/none/train.csv: entity not found; a data set is a directory with train.csv and test.csv");
}

#[tokio::test]
async fn two_mocks_in_one_process_share_nothing() {
    let (slow, limited) = (start_llm(Options::default()).await, start_llm(faulty("rate-limit=100%")).await);
    assert_eq!(chat(&slow, "r-1", &asking("x")).await.status(), 200);
    assert_eq!(chat(&limited, "r-1", &asking("x")).await.status(), 429);
    assert_eq!(chat(&slow, "r-1", &asking("x")).await.status(), 200);
}
