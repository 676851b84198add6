//! LLMs of the tests' own: one that keeps what it was sent and answers as told, and one that streams on command.

use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::{Router, routing::any};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Role and content of each message.
    pub(crate) fn messages(&self) -> Vec<(String, String)> {
        let text = |m: &Value, name: &str| m[name].as_str().unwrap().to_owned();
        let messages = self.json()["messages"].as_array().unwrap().clone();
        messages.iter().map(|m| (text(m, "role"), text(m, "content"))).collect()
    }
}

/// What it answers everything with.
struct Told {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    seen: Mutex<Vec<Seen>>,
}

/// An LLM that keeps what it was sent.
pub(crate) struct Keeper {
    /// Ends in `/v1`.
    pub(crate) url: String,
    told: Arc<Told>,
}

/// A completion that calls a tool with this intent.
pub(crate) fn classified(intent: &str) -> Value {
    let call = json!({"id": "c", "type": "function", "function": {"name": "banking77_classify",
        "arguments": json!({"intent": intent}).to_string()}});
    json!({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "usage": {},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": null, "tool_calls": [call]}}]})
}

impl Keeper {
    pub(crate) async fn new() -> Self {
        Self::answering(200, &[], &classified("card_arrival").to_string()).await
    }

    pub(crate) async fn answering(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Self {
        let (body, headers) = (body.to_owned(), headers.to_vec());
        let told = Arc::new(Told { status, headers, body, seen: Mutex::new(Vec::new()) });
        let answer = |State(told): State<Arc<Told>>, uri: Uri, headers: HeaderMap, body: Bytes| async move {
            told.seen.lock().unwrap().push(Seen { uri, headers, body });
            let mut response = Response::builder().status(told.status);
            for (name, value) in &told.headers {
                response = response.header(*name, *value);
            }
            response.body(Body::from(told.body.clone())).unwrap()
        };
        let app = Router::new().fallback(any(answer)).with_state(Arc::clone(&told));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, told }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.told.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("the LLM was called")
    }
}

/// An LLM that streams what the test says, when it says so.
pub(crate) struct Streamer {
    listener: TcpListener,
    /// Ends in `/v1`.
    pub(crate) url: String,
}

impl Streamer {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        Self { listener, url }
    }

    /// Takes one call and sends the head of a stream.
    pub(crate) async fn begin(&self) -> OpenStream {
        let (mut socket, _) = self.listener.accept().await.unwrap();
        let mut got = Vec::new();
        while !is_whole(&got) {
            assert_ne!(socket.read_buf(&mut got).await.unwrap(), 0, "the call broke off");
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        OpenStream { socket }
    }
}

/// Whether a request's head and its announced body are there.
fn is_whole(got: &[u8]) -> bool {
    let text = String::from_utf8_lossy(got).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

pub(crate) struct OpenStream {
    socket: TcpStream,
}

impl OpenStream {
    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.unwrap();
    }

    pub(crate) async fn end(mut self) {
        self.socket.write_all(b"0\r\n\r\n").await.unwrap();
    }
}
