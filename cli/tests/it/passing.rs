//! Wire contract: what the proxy passes on, both ways, and what it leaves as it is.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::common::*;
use super::upstream::*;

async fn behind(upstream: &str) -> (World, Job) {
    let world = World::with("actor", &["--upstream", upstream], "");
    let job = world.client.small_job().await;
    (world, job)
}

async fn send(world: &World, job: &Job, rollout: &str, body: &str) -> reqwest::Response {
    let url = format!("{}/{rollout}/chat/completions", job.proxy_url);
    let request = world.client.http.post(url).header("content-type", "application/json");
    request.body(body.to_owned()).send().await.unwrap()
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// Reports rewards until the baseline is the worse choice, then asks until a rollout gets the candidate.
async fn send_until_chosen(world: &World, job: &Job, candidate: &str, body: &str) {
    for index in 0..64 {
        let answer = send(world, job, &format!("r{index}"), body).await;
        if header(&answer, "x-mipro-candidate-id") == candidate {
            return;
        }
        let report = json!({"rollout_id": format!("r{index}"), "status": "reward_done", "reward": 0.0});
        world.client.status(job, report).await;
    }
    panic!("the candidate was never chosen in 64 rollouts")
}

const ODD: &str = r#"{"z":1.50, "seed":12345678901234567890, "model":"m", "messages":[{"role":"system","content":"Say what is asked."},{"role":"user","content":"Question: why? Choices: a"}],"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"tool_choice":{"type":"function","function":{"name":"f"}},"of_no_standard":{"b":[1e2,null],"a":0.10}}"#;

#[tokio::test]
async fn a_baseline_request_reaches_the_llm_byte_for_byte() {
    let llm = Keeper::new().await;
    let (world, job) = behind(&llm.url).await;
    assert_eq!(send(&world, &job, "r1", ODD).await.status(), 200);
    let seen = llm.last();
    assert_eq!((seen.text(), seen.uri.path()), (ODD, "/v1/chat/completions"));
}

#[tokio::test]
async fn an_unmatched_request_reaches_the_llm_byte_for_byte_and_is_marked() {
    let llm = Keeper::new().await;
    let (world, job) = behind(&llm.url).await;
    world.client.add(&job, json!({"deltas": {"instruction_text": "Other."}})).await;
    let body = ODD.replace("Say what is asked.", "Say  what is asked.");
    let answer = send(&world, &job, "odd", &body).await;
    assert_eq!(
        (header(&answer, "x-mipro-prompt"), header(&answer, "x-mipro-candidate-id")),
        ("unmatched", "baseline")
    );
    assert_eq!(llm.last().text(), body);
}

#[tokio::test]
async fn a_rollout_that_began_unmatched_stays_with_baseline_when_the_prompt_matches_later() {
    let llm = Keeper::new().await;
    let (world, job) = behind(&llm.url).await;
    for index in 0..8 {
        world.client.add(&job, json!({"deltas": {"instruction_text": format!("Variant {index}.")}})).await;
    }
    for index in 0..8 {
        let rollout = format!("r{index}");
        send(&world, &job, &rollout, &chat("Of another prompt.", "Hello.").to_string()).await;
        let answer = send(&world, &job, &rollout, ODD).await;
        assert_eq!(header(&answer, "x-mipro-candidate-id"), "baseline");
        assert_eq!(llm.last().text(), ODD);
    }
    assert_eq!(world.client.state(&job).await["rollout_count"], 8, "asked twice, counted once");
}

#[tokio::test]
async fn a_rewritten_request_keeps_all_but_its_messages_byte_for_byte() {
    let llm = Keeper::new().await;
    let (world, job) = behind(&llm.url).await;
    let added = world.client.add(&job, json!({"deltas": {"instruction_text": "Anew."}})).await.1;
    send_until_chosen(&world, &job, added["candidate_id"].as_str().unwrap(), ODD).await;
    let seen = llm.last();
    assert_eq!(seen.messages()[0], ("system".to_owned(), "Anew.".to_owned()));
    for kept in [
        r#""z":1.50"#,
        r#""seed":12345678901234567890"#,
        r#"{"role":"user","content":"Question: why? Choices: a"}"#,
        r#""tools":[{"type":"function","function":{"name":"f","parameters":{}}}]"#,
        r#""tool_choice":{"type":"function","function":{"name":"f"}}"#,
        r#""of_no_standard":{"b":[1e2,null],"a":0.10}"#,
    ] {
        assert!(seen.text().contains(kept), "no {kept} in {}", seen.text());
    }
}

#[tokio::test]
async fn later_turns_follow_the_rewritten_prompt_as_they_came() {
    let llm = Keeper::new().await;
    let (world, job) = behind(&llm.url).await;
    let added = world.client.add(&job, json!({"deltas": {"instruction_text": "Anew."}})).await.1;
    let turns = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c1","content":"Say what is asked."}"#;
    let body = ODD.replace("Choices: a\"}]", &format!("Choices: a\"}},{turns}]"));
    send_until_chosen(&world, &job, added["candidate_id"].as_str().unwrap(), &body).await;
    let seen = llm.last();
    assert!(seen.text().contains(turns), "{}", seen.text());
    let messages = seen.json()["messages"].as_array().unwrap().clone();
    assert_eq!((messages.len(), &messages[0]["content"]), (4, &json!("Anew.")));
}

#[tokio::test]
async fn the_second_turn_of_a_rollout_has_the_candidate_of_the_first() {
    let llm = Keeper::new().await;
    let (world, job) = behind(&llm.url).await;
    let added = world.client.add(&job, json!({"deltas": {"instruction_text": "Anew."}})).await.1;
    let candidate = added["candidate_id"].as_str().unwrap();
    for index in 0..6 {
        let rollout = format!("m{index}");
        let first = send(&world, &job, &rollout, ODD).await;
        let first = header(&first, "x-mipro-candidate-id").to_owned();
        let longer = ODD.replace("Choices: a\"}]", "Choices: a\"},{\"role\":\"user\",\"content\":\"and?\"}]");
        let second = send(&world, &job, &rollout, &longer).await;
        assert_eq!(header(&second, "x-mipro-candidate-id"), first);
        let system = &llm.last().messages()[0].1;
        assert_eq!(system, if first == candidate { "Anew." } else { "Say what is asked." });
    }
}

#[tokio::test]
async fn a_bearer_meant_for_the_llm_is_passed_on() {
    let llm = Keeper::new().await;
    let (world, job) = behind(&llm.url).await;
    let url = format!("{}/r1/chat/completions", job.proxy_url);
    let post = || world.client.http.post(&url).body(ODD);
    post().bearer_auth("sk-meant-for-the-llm").header("traceparent", "00-aa-bb-01").send().await.unwrap();
    assert_eq!(llm.last().header("authorization"), Some("Bearer sk-meant-for-the-llm"));
    assert_eq!(llm.last().header("traceparent"), Some("00-aa-bb-01"));
    post().header("x-api-key", "task-app-key").send().await.unwrap();
    assert_eq!(llm.last().header("authorization"), None, "none is made up");
    let answer = post().bearer_auth(KEY).send().await.unwrap();
    assert_eq!(answer.status(), 200, "a key of the service's is not judged either");
    assert_eq!(llm.seen().len(), 3);
}

#[tokio::test]
async fn where_the_proxy_asks_for_a_key_that_key_stays_here() {
    let llm = Keeper::new().await;
    let world = World::with("actor", &["--upstream", &llm.url], "proxy_auth = \"required\"\n");
    let job = world.client.small_job().await;
    let url = format!("{}/r1/chat/completions", job.proxy_url);
    let post = || world.client.http.post(&url).body(ODD);
    assert_eq!(post().bearer_auth(KEY).send().await.unwrap().status(), 200);
    assert_eq!(llm.last().header("authorization"), None);
    let both = post().header("x-api-key", KEY).bearer_auth("sk-meant-for-the-llm");
    assert_eq!(both.send().await.unwrap().status(), 200);
    assert_eq!(llm.last().header("authorization"), Some("Bearer sk-meant-for-the-llm"));
    assert_eq!(llm.last().header("x-api-key"), None);
    assert_eq!(post().bearer_auth("sk-meant-for-the-llm").send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn the_llms_errors_come_back_unchanged_with_our_headers() {
    let body = "{ \"error\":{\"message\":\"slow down\",\"type\":\"requests\",\"param\":null,\"code\":\"rate_limit_exceeded\"} }\n";
    for (status, text) in [(429, body), (500, "oh no"), (400, body), (503, "")] {
        let llm = Keeper::answering(
            status,
            &[("retry-after", "7"), ("content-type", "application/x-odd"), ("x-request-id", "req_1")],
            text,
        )
        .await;
        let (world, job) = behind(&llm.url).await;
        let answer = send(&world, &job, "r1", ODD).await;
        assert_eq!(answer.status(), status);
        for (name, value) in [
            ("retry-after", "7"),
            ("content-type", "application/x-odd"),
            ("x-request-id", "req_1"),
            ("x-mipro-candidate-id", "baseline"),
            ("x-mipro-rollout-id", "r1"),
        ] {
            assert_eq!(header(&answer, name), value, "{status}: {name}");
        }
        assert_eq!(answer.text().await.unwrap(), text);
        assert_eq!(llm.seen().len(), 1, "{status}: one rollout is one call, nothing is retried");
    }
}

#[tokio::test]
async fn the_llms_answer_comes_back_byte_for_byte() {
    let text = "{\"b\": 1.0,\n \"a\":[ 1e3 ],\"choices\":[]}";
    let llm = Keeper::answering(201, &[("content-type", "application/json")], text).await;
    let (world, job) = behind(&llm.url).await;
    let answer = send(&world, &job, "r1", ODD).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.text().await.unwrap(), text);
}

#[tokio::test]
async fn an_llm_that_is_not_there_is_told_with_the_candidate_it_was_asked_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let (world, job) = behind(&dead).await;
    let answer = send(&world, &job, "r1", ODD).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(
        (header(&answer, "x-mipro-candidate-id"), header(&answer, "x-mipro-rollout-id")),
        ("baseline", "r1")
    );
    error_message(&answer.json::<Value>().await.unwrap());
}

#[tokio::test]
async fn each_chunk_of_a_stream_arrives_before_the_next_is_sent() {
    let llm = Streamer::new().await;
    let (world, job) = behind(&llm.url).await;
    let mut body = chat("Say what is asked.", "Question: why? Choices: a");
    body["stream"] = json!(true);
    let body = body.to_string();
    let (answer, stream) = tokio::join!(send(&world, &job, "s1", &body), async {
        let mut stream = llm.begin().await;
        stream.send("data: {\"n\": 0}\n\n").await;
        stream
    });
    let (mut answer, mut stream) = (answer, stream);
    assert_eq!(header(&answer, "x-mipro-rollout-id"), "s1");
    let mut got = String::new();
    for n in 0..3 {
        let expected = format!("data: {{\"n\": {n}}}\n\n");
        got.clear();
        while got.len() < expected.len() {
            let chunk = answer.chunk().await.unwrap().expect("the stream goes on");
            got.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        assert_eq!(got, expected);
        stream.send(&format!("data: {{\"n\": {}}}\n\n", n + 1)).await;
    }
    stream.send("data: [DONE]\n\n").await;
    stream.end().await;
    assert_eq!(answer.text().await.unwrap(), "data: {\"n\": 3}\n\ndata: [DONE]\n\n");
}

/// A streamed completion as it comes over the wire, chunk marks, trailers and all.
async fn raw_stream(world: &World, job: &Job, te: &str) -> String {
    let mut body = chat("Say what is asked.", "Question: why? Choices: a");
    body["stream"] = json!(true);
    let body = body.to_string();
    let path = format!("/api/mipro/v1/{}/s1/chat/completions", job.system_id);
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: h\r\n{te}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(world.service.url.strip_prefix("http://").unwrap()).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn the_stages_of_a_stream_come_as_its_trailer_to_who_reads_trailers() {
    let world = World::with("actor", &["--server-timing"], "");
    let job = world.client.small_job().await;
    let told = raw_stream(&world, &job, "te: trailers\r\n").await;
    let (stream, end) = told.rsplit_once("\r\n0\r\n").expect("a chunked body");
    assert!(stream.contains("data: [DONE]"), "{told}");
    let (name, value) = end.trim().split_once(": ").expect("a trailer");
    assert_eq!(name.to_lowercase(), "server-timing");
    let metrics = mipro_telemetry::server_timing::parse(value);
    let names: Vec<_> = metrics.iter().map(|metric| metric.name.clone()).collect();
    for stage in ["llm.first_byte", "other", "total"] {
        assert!(names.iter().any(|name| name == stage), "no {stage} in {names:?}");
    }
    let untold = raw_stream(&world, &job, "").await;
    assert!(untold.contains("data: [DONE]"), "{untold}");
    assert!(!untold.to_lowercase().contains("server-timing"), "{untold}");
}
