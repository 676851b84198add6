//! A running service, and what tests ask of it.

use std::sync::Arc;
use std::time::Duration;

use mipro_service::app::{self, Error};
use mipro_service::auth::Keyring;
use mipro_service::config::{Options, Secret};
use mipro_telemetry::Recorders;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake::FakeEngine;

/// Nothing a test waits for takes this long, unless it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const ALICE: &str = "alice-key-0001";
pub(crate) const BOB: &str = "bob-key-0002";

pub(crate) struct Rig {
    pub(crate) url: String,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) http: reqwest::Client,
    pub(crate) served: JoinHandle<Result<(), Error>>,
}

impl Rig {
    /// Without keys, and with an LLM at `upstream` (its base URL, `/v1` included).
    pub(crate) async fn open(upstream: &str) -> Self {
        Self::with(|options| options.upstream = Some(upstream.to_owned())).await
    }

    /// With a key for each of two orgs.
    pub(crate) async fn keyed(change: impl FnOnce(&mut Options)) -> Self {
        Self::with(|options| {
            let keys = format!(
                "{ALICE}:00000000-0000-4000-8000-00000000000a,{BOB}:00000000-0000-4000-8000-00000000000b"
            );
            options.auth.keys = Some(Secret::new(keys));
            change(options);
        })
        .await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options { shutdown_deadline_ms: 1_500, ..Options::default() };
        options.upstream = Some("http://127.0.0.1:9/v1".to_owned());
        change(&mut options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let engine = Arc::new(FakeEngine::new());
        let shutdown = CancellationToken::new();
        let (ready, bound) = oneshot::channel();
        let keys = Keyring::load(&options.auth).unwrap();
        let served = app::serve(
            options,
            keys,
            Arc::clone(&engine) as _,
            Recorders::new(),
            listener,
            |address| ready.send(address).unwrap(),
            shutdown.clone(),
        );
        let served = tokio::spawn(served);
        let url = format!("http://{}", bound.await.unwrap());
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { url, engine, shutdown, http, served }
    }

    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Sends a request with a key and gives status and JSON.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: Option<&str>,
    ) -> (StatusCode, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(key);
        if let Some(body) = body {
            request = request.body(body.to_owned());
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        let json = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} with no JSON: {text:?}"));
        (status, json)
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, ALICE, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, ALICE, Some(&body.to_string())).await
    }

    /// Makes a system as Alice.
    pub(crate) async fn system(&self) -> String {
        let (status, job) = self.post("/api/prompt-learning/online/jobs", &job()).await;
        assert_eq!(status, 200, "{job}");
        job["metadata"]["mipro_system_id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn chat_url(&self, system: &str, rollout: &str) -> String {
        format!("{}/api/mipro/v1/{system}/{rollout}/chat/completions", self.url)
    }

    /// A chat completion as the task app sends it.
    pub(crate) async fn chat(&self, system: &str, rollout: &str) -> reqwest::Response {
        self.http.post(self.chat_url(system, rollout)).json(&chat()).send().await.unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.served.abort();
    }
}

pub(crate) fn status_path(system: &str) -> String {
    system_path(system, "status")
}

pub(crate) fn system_path(system: &str, route: &str) -> String {
    format!("/api/prompt-learning/online/mipro/systems/{system}/{route}")
}

pub(crate) fn job() -> Value {
    json!({"algorithm": "mipro", "config_body": {"prompt_learning": {
        "algorithm": "mipro", "task_app_id": "banking77", "task_app_url": "http://localhost:1",
        "initial_prompt": {"id": "p", "name": "P", "messages": [
            {"role": "system", "order": 0, "pattern": "Pick one label."},
            {"role": "user", "order": 1, "pattern": "Query: {query}"}],
            "wildcards": {"query": "REQUIRED"}},
        "policy": {"model": "gpt-4.1-nano", "provider": "openai"},
        "mipro": {"mode": "online"}}}})
}

pub(crate) fn chat() -> Value {
    json!({"model": "m", "messages": [
        {"role": "system", "content": "Pick one label."},
        {"role": "user", "content": "Query: where is my card"}]})
}

/// An LLM that does nothing but what the test says: each connection's request is read and handed over with its socket.
pub(crate) struct Scripted {
    pub(crate) base_url: String,
    listener: TcpListener,
}

/// A request that the scripted LLM has read, and the socket to answer on.
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) socket: TcpStream,
}

impl Scripted {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        Self { base_url, listener }
    }

    pub(crate) async fn next(&self) -> Asked {
        let (mut socket, _) = tokio::time::timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        let (head, body) = read_message(&mut socket).await;
        Asked { head, body, socket }
    }
}

impl Asked {
    pub(crate) async fn write(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
        self.socket.flush().await.unwrap();
    }

    /// Begins an event stream.
    pub(crate) async fn begin_stream(&mut self) {
        self.write(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await;
    }

    pub(crate) async fn chunk(&mut self, text: &str) {
        self.write(&format!("{:x}\r\n{text}\r\n", text.len())).await;
    }
}

/// Reads one HTTP/1 message with a `content-length` (or none).
pub(crate) async fn read_message(socket: &mut TcpStream) -> (String, String) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(seen[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            if seen.len() >= end + 4 + length.unwrap_or(0) {
                return (head, String::from_utf8(seen[end + 4..].to_vec()).unwrap());
            }
        }
        let count = tokio::time::timeout(PATIENCE, socket.read(&mut buffer)).await.unwrap().unwrap();
        assert!(count > 0, "the connection ended after {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
}

/// An error and its causes, as the command line tells them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
