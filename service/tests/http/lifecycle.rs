//! The whole service with its own engines and stores: from start through a rollout to a stop, and up again.

use std::path::Path;

use mipro_service::app;
use mipro_service::config::{Flags, Options};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::rig::{PATIENCE, chain, chat, job, status_path, system_path};

struct Running {
    url: String,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), app::Error>>,
    http: reqwest::Client,
}

impl Running {
    async fn start(data_dir: &Path, upstream: &str, environment: &[(&str, &str)]) -> Self {
        let flags = Flags {
            listen: Some("127.0.0.1:0".into()),
            data_dir: Some(data_dir.into()),
            upstream: Some(upstream.into()),
            ..Flags::default()
        };
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let options = Options::load_with(&flags, &environment).unwrap();
        let shutdown = CancellationToken::new();
        let (ready, bound) = oneshot::channel();
        let served =
            tokio::spawn(app::run(options, |address| ready.send(address).unwrap(), shutdown.clone()));
        let Ok(address) = bound.await else { panic!("not started: {:?}", served.await) };
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { url: format!("http://{address}"), shutdown, served, http }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let response = self.http.post(format!("{}{path}", self.url)).json(body).send().await.unwrap();
        let (status, body) = (response.status(), response.json().await.unwrap());
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn state(&self, system: &str) -> Value {
        let url = format!("{}{}", self.url, system_path(system, "state"));
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        let served = tokio::time::timeout(PATIENCE, self.served).await.unwrap().unwrap();
        assert!(served.is_ok(), "{served:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_clean_stop() {
    let llm = crate::proxy::llm().await;
    let upstream = format!("{}/v1", llm.uri());
    for (engine, save, asked, durability) in [
        ("actor", "back", "", "disk"),
        ("actor", "back", "os", "os"),
        ("actor", "back", "memory", "memory"),
        ("cache", "back", "", "memory"),
        ("cache", "through", "", "stored"),
        ("blob", "back", "", "stored"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let environment = [("MIPRO_ENGINE", engine), ("MIPRO_CACHE_SAVE", save), ("MIPRO_DURABILITY", asked)];
        let first = Running::start(dir.path(), &upstream, &environment).await;
        let made = first.post("/api/prompt-learning/online/jobs", &job()).await;
        let proxy = made["metadata"]["mipro_proxy_url"].as_str().unwrap();
        let system = made["metadata"]["mipro_system_id"].as_str().unwrap().to_owned();
        assert_eq!(proxy, format!("{}/api/mipro/v1/{system}", first.url), "the bound address");
        let response =
            first.http.post(format!("{proxy}/r1/chat/completions")).json(&chat()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let report = json!({"rollout_id": "r1", "status": "done", "reward": 0.7});
        let answer = first.post(&status_path(&system), &report).await;
        assert_eq!(answer["durability"], durability, "{engine} {save}");
        first.stop().await;

        let second = Running::start(dir.path(), &upstream, &environment).await;
        let state = second.state(&system).await;
        assert_eq!(
            (&state["reward_count"], &state["best_score"]),
            (&json!(1), &json!(0.7)),
            "{engine} {save}: {state}"
        );
        assert_eq!(
            second.post(&status_path(&system), &report).await,
            answer,
            "{engine} {save}: repeating changes nothing"
        );
        second.stop().await;
    }
}

/// With another engine, or at a level without a log, systems would go back to what was last stored, and nobody would know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_would_not_be_read_refuses_the_start() {
    let dir = tempfile::tempdir().unwrap();
    Running::start(dir.path(), "http://127.0.0.1:9/v1", &[]).await.stop().await;
    for (variable, value, asked) in [
        ("MIPRO_ENGINE", "cache", "engine \"cache\""),
        ("MIPRO_ENGINE", "blob", "engine \"blob\""),
        ("MIPRO_DURABILITY", "memory", "durability \"memory\""),
    ] {
        let flags = Flags {
            listen: Some("127.0.0.1:0".into()),
            data_dir: Some(dir.path().into()),
            ..Flags::default()
        };
        let options = Options::load_with(&flags, &[(variable.to_owned(), value.to_owned())].into()).unwrap();
        let refused = app::run(options, |_| panic!("{value} must not serve"), CancellationToken::new());
        let message = chain(&tokio::time::timeout(PATIENCE, refused).await.unwrap().unwrap_err());
        assert!(message.contains(&format!("holds events that {asked} would not read")), "{message}");
        assert!(message.contains("move the log away"), "{message}");
    }
}

#[tokio::test]
async fn a_database_that_is_down_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let flags = Flags {
        listen: Some("127.0.0.1:0".into()),
        data_dir: Some(dir.path().into()),
        database: Some("postgres://mipro:hunter2@127.0.0.1:9/mipro".into()),
        ..Flags::default()
    };
    let options = Options::load_with(&flags, &Default::default()).unwrap();
    let refused = tokio::time::timeout(
        PATIENCE,
        app::run(options, |_| panic!("must not be ready"), Default::default()),
    );
    let message = chain(&refused.await.unwrap().unwrap_err());
    assert!(message.starts_with("can't start: ") && !message.contains("hunter2"), "{message}");
    assert!(message.contains("unavailable"), "{message}");
}

#[tokio::test]
async fn checking_a_configuration_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let flags = Flags {
        data_dir: Some(dir.path().join("not-made")),
        database: Some("postgres://mipro:hunter2@127.0.0.1:9/mipro".into()),
        ..Flags::default()
    };
    let options = Options::load_with(&flags, &Default::default()).unwrap();
    let lines = app::check(&options).unwrap().join("\n");
    let lines = lines.replace(&dir.path().display().to_string(), "…");
    insta::assert_snapshot!(lines, @r"
    listen      127.0.0.1:8090
    engine      actor
    durability  disk, the log in …/not-made/log
    database    postgres
    blobs       file
    upstream    each job's provider
    providers   google, groq, openai, openrouter
    auth        open: no API keys
    ");
    assert!(!dir.path().join("not-made").exists());
}
