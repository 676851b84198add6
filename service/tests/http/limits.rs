//! Bounds: bodies, heads, connections, time; and panics.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fake::PANICS;
use crate::rig::{ALICE, PATIENCE, Rig, Scripted, chat, read_message, status_path, system_path};

#[tokio::test]
async fn fifty_megabytes_are_413_on_every_route_that_takes_a_body() {
    let rig = Rig::open("http://127.0.0.1:9/v1").await;
    let system = rig.system().await;
    let huge = " ".repeat(50_000_000);
    let chat = format!("/api/mipro/v1/{system}/r1/chat/completions");
    for path in [
        "/api/prompt-learning/online/jobs",
        &status_path(&system),
        &system_path(&system, "candidates"),
        chat.as_str(),
    ] {
        let (status, body) = rig.call(Method::POST, path, ALICE, Some(&huge)).await;
        assert_eq!((status.as_u16(), &body["error"]["code"]), (413, &json!("body_too_large")), "{path}");
    }
    insta::assert_snapshot!(
        rig.call(Method::POST, &chat, ALICE, Some(&huge)).await.1["error"]["message"].as_str().unwrap(),
        @"the body is larger than 8388608 bytes"
    );
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_too() {
    let rig = Rig::with(|options| options.limits.body_bytes_max = 1_000).await;
    let system = rig.system().await;
    let chunks = futures_util::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>("x".repeat(100))));
    let url = format!("{}{}", rig.url, status_path(&system));
    let response = rig.http.post(url).body(reqwest::Body::wrap_stream(chunks)).send().await.unwrap();
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn a_client_that_asks_first_need_not_send_what_is_too_large() {
    let rig = Rig::with(|options| options.limits.body_bytes_max = 1_000).await;
    let mut client = TcpStream::connect(rig.address()).await.unwrap();
    let head = "POST /api/prompt-learning/online/jobs HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2000\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let (head, _) = read_message(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let rig = Rig::with(|options| options.limits.header_bytes_max = 8 << 10).await;
    let response =
        rig.http.get(format!("{}/health", rig.url)).header("x-big", "x".repeat(20_000)).send().await.unwrap();
    assert_eq!(response.status(), 431);
    assert_eq!(rig.get("/health").await.0, 200);
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_let_go() {
    let rig = Rig::with(|options| options.limits.header_timeout_ms = 100).await;
    let mut client = TcpStream::connect(rig.address()).await.unwrap();
    client.write_all(b"GET /health HTTP/1.1\r\nx-slow: ").await.unwrap();
    let mut seen = String::new();
    tokio::time::timeout(PATIENCE, client.read_to_string(&mut seen)).await.unwrap().unwrap();
    assert!(!seen.contains(" 200 "), "{seen}");
}

#[tokio::test]
async fn a_client_that_never_shows_which_protocol_it_speaks_is_let_go() {
    let rig = Rig::with(|options| options.limits.header_timeout_ms = 100).await;
    for said in ["", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = TcpStream::connect(rig.address()).await.unwrap();
        client.write_all(said.as_bytes()).await.unwrap();
        let ended = tokio::time::timeout(PATIENCE, client.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "still open after {said:?}");
    }
}

#[tokio::test]
async fn a_connection_in_use_outlives_the_wait_for_its_first_request() {
    let llm = Scripted::start().await;
    let rig = Rig::with(|options| {
        options.upstream = Some(llm.base_url.clone());
        options.limits.header_timeout_ms = 50;
    })
    .await;
    let system = rig.system().await;
    let answer = async {
        let mut asked = llm.next().await;
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        asked.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        asked
    };
    let (response, _asked) = tokio::join!(rig.chat(&system, "r1"), answer);
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_client_that_never_reads_its_stream_is_let_go_and_the_llm_with_it() {
    let llm = Scripted::start().await;
    let rig = Rig::with(|options| {
        options.upstream = Some(llm.base_url.clone());
        options.limits.write_timeout_ms = 100;
    })
    .await;
    let system = rig.system().await;
    let mut client = TcpStream::connect(rig.address()).await.unwrap();
    let body = chat().to_string();
    let head = format!(
        "POST /api/mipro/v1/{system}/r1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut asked = llm.next().await;
    asked.begin_stream().await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    // Buffers fill up, then nothing moves, until the service lets go of both.
    let flood = async { while asked.socket.write_all(chunk.as_bytes()).await.is_ok() {} };
    assert!(tokio::time::timeout(PATIENCE, flood).await.is_ok(), "the LLM is still held");
}

#[tokio::test]
async fn a_candidate_that_blows_a_request_up_is_refused_and_named() {
    let llm = Scripted::start().await;
    let rig = Rig::with(|options| {
        options.upstream = Some(llm.base_url.clone());
        options.limits.body_bytes_max = 7_500;
    })
    .await;
    let system = rig.system().await;
    let bomb = json!({"deltas": {"text": "{query}".repeat(1_000)}});
    let (_, added) = rig.post(&system_path(&system, "candidates"), &bomb).await;
    // Two candidates are tried in turn, so the second one's turn comes.
    for rollout in ["r1", "r2"] {
        let response = tokio::select! {
            response = rig.chat(&system, rollout) => response,
            mut asked = llm.next() => {
                asked.write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}").await;
                continue;
            }
        };
        assert_eq!(response.headers()["x-mipro-candidate-id"], added["candidate_id"].as_str().unwrap());
        assert_eq!(response.status(), 413);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "prompt_too_large");
        return;
    }
    panic!("the candidate was never tried");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let rig = Rig::with(|options| options.limits.connections_max = 1).await;
    let ask = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = TcpStream::connect(rig.address()).await.unwrap();
    first.write_all(ask).await.unwrap();
    assert!(read_message(&mut first).await.0.contains(" 200 "));
    let mut second = TcpStream::connect(rig.address()).await.unwrap();
    second.write_all(ask).await.unwrap();
    // The first is still served while the second waits.
    first.write_all(ask).await.unwrap();
    assert!(read_message(&mut first).await.0.contains(" 200 "));
    let mut byte = [0];
    assert!(second.try_read(&mut byte).is_err(), "nothing can have come yet");
    drop(first);
    assert!(read_message(&mut second).await.0.contains(" 200 "));
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_504() {
    let llm = Scripted::start().await;
    let rig = Rig::with(|options| {
        options.upstream = Some(llm.base_url.clone());
        options.limits.request_timeout_ms = 150;
    })
    .await;
    let system = rig.system().await;
    let (response, asked) = tokio::join!(rig.chat(&system, "r1"), llm.next());
    assert_eq!(response.status(), 504);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "request_timeout");
    drop(asked);
}

#[tokio::test]
async fn a_panic_is_500_and_the_next_request_is_served() {
    let rig = Rig::open("http://127.0.0.1:9/v1").await;
    let system = rig.system().await;
    let response = rig.chat(&system, PANICS).await;
    assert_eq!(response.status(), 500);
    let body: Value = response.json().await.unwrap();
    assert_eq!(
        body["error"],
        json!({"message": "internal error", "type": "server_error", "param": null, "code": "internal_error"})
    );
    assert_eq!(rig.get(&system_path(&system, "state")).await.0, 200);
    let page = rig.http.get(format!("{}/metrics", rig.url)).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("mipro_panics_total 1"));
}
