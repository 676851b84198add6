//! Event streams through the proxy: chunk by chunk, broken when broken, ended when the client leaves.

use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::{Asked, PATIENCE, Rig, Scripted, chat};

/// Sends a streaming request and plays the LLM's side up to the head of its answer.
async fn begin(rig: &Rig, llm: &Scripted, system: &str) -> (reqwest::Response, Asked) {
    let request = rig.http.post(rig.chat_url(system, "r1")).json(&chat()).send();
    let play = async {
        let mut asked = llm.next().await;
        asked.begin_stream().await;
        asked
    };
    let (response, asked) = tokio::join!(request, play);
    (response.unwrap(), asked)
}

#[tokio::test]
async fn each_chunk_arrives_before_the_next_is_sent() {
    let llm = Scripted::start().await;
    let rig = Rig::open(&llm.base_url).await;
    let system = rig.system().await;
    let (mut response, mut asked) = begin(&rig, &llm, &system).await;
    assert!(asked.body.contains("where is my card"), "{} {}", asked.head, asked.body);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-mipro-candidate-id"], "baseline");
    for text in ["data: {\"a\":1}\n\n", "data: {\"b\"", ":2}\n\n", "data: [DONE]\n\n"] {
        asked.chunk(text).await;
        // Nothing follows until this has come through: whatever buffers would hang here.
        assert_eq!(response.chunk().await.unwrap().unwrap(), text);
    }
    asked.write("0\r\n\r\n").await;
    assert_eq!(response.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_stream_cut_by_the_llm_is_cut_for_the_client() {
    let llm = Scripted::start().await;
    let rig = Rig::open(&llm.base_url).await;
    let system = rig.system().await;
    let (mut response, mut asked) = begin(&rig, &llm, &system).await;
    asked.chunk("data: {}\n\n").await;
    assert!(response.chunk().await.unwrap().is_some());
    drop(asked);
    assert!(response.chunk().await.is_err(), "half an answer must not look like a whole one");
}

#[tokio::test]
async fn a_silent_stream_is_cut() {
    let llm = Scripted::start().await;
    let rig = Rig::with(|options| {
        options.upstream = Some(llm.base_url.clone());
        options.limits.upstream_idle_timeout_ms = 150;
    })
    .await;
    let system = rig.system().await;
    let (mut response, asked) = begin(&rig, &llm, &system).await;
    assert!(response.chunk().await.is_err());
    drop(asked);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_llms_call() {
    let llm = Scripted::start().await;
    let rig = Rig::open(&llm.base_url).await;
    let system = rig.system().await;
    let (mut response, mut asked) = begin(&rig, &llm, &system).await;
    asked.chunk("data: {}\n\n").await;
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    let ended = tokio::time::timeout(PATIENCE, asked.socket.read(&mut [0; 16])).await;
    assert!(matches!(ended.unwrap(), Ok(0) | Err(_)), "the connection to the LLM must be closed");
    // The books of the call are closed as the client's leaving, and its body as cancelled.
    let cancelled =
        "mipro_stage_cancelled_total{operation=\"start_rollout\",stage=\"llm.body\",phase=\"\"} 1";
    let left = "mipro_requests_total{operation=\"start_rollout\",status=\"499\"} 1";
    let seen = tokio::time::timeout(PATIENCE, async {
        loop {
            let page =
                rig.http.get(format!("{}/metrics", rig.url)).send().await.unwrap().text().await.unwrap();
            if page.contains(cancelled) && page.contains(left) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(seen.await.is_ok(), "not recorded as cancelled");
}

#[tokio::test]
async fn the_books_of_a_stream_come_as_its_trailer() {
    let llm = Scripted::start().await;
    let rig = Rig::with(|options| {
        options.upstream = Some(llm.base_url.clone());
        options.server_timing = true;
    })
    .await;
    let system = rig.system().await;
    let mut client = TcpStream::connect(rig.address()).await.unwrap();
    let body = chat().to_string();
    let head = format!(
        "POST /api/mipro/v1/{system}/r1/chat/completions HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut asked = llm.next().await;
    asked.begin_stream().await;
    asked.chunk("data: [DONE]\n\n").await;
    asked.write("0\r\n\r\n").await;
    let mut seen = String::new();
    tokio::time::timeout(PATIENCE, client.read_to_string(&mut seen)).await.unwrap().unwrap();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("trailer: server-timing") && !head.contains("server-timing: "), "{head}");
    let trailer = body.split("\r\n0\r\n").nth(1).unwrap_or_else(|| panic!("no last chunk in {body:?}"));
    let value =
        trailer.trim().strip_prefix("server-timing: ").unwrap_or_else(|| panic!("no trailer in {body:?}"));
    let metrics = mipro_telemetry::server_timing::parse(value);
    let books = mipro_telemetry::server_timing::breakdown_from(&metrics).unwrap();
    assert!(
        books.entries.iter().any(|entry| entry.stage.name() == "llm.body" && entry.bytes == 14),
        "{value}"
    );
}

#[tokio::test]
async fn a_stream_through_a_kept_connection_leaves_it_usable() {
    let llm = Scripted::start().await;
    let rig = Rig::open(&llm.base_url).await;
    let system = rig.system().await;
    for _ in 0..2 {
        let (response, mut asked) = begin(&rig, &llm, &system).await;
        asked.chunk("data: [DONE]\n\n").await;
        asked.write("0\r\n\r\n").await;
        asked.socket.shutdown().await.unwrap();
        let whole = http::Response::<reqwest::Body>::from(response).into_body().collect().await.unwrap();
        assert_eq!(whole.to_bytes(), "data: [DONE]\n\n");
    }
}
