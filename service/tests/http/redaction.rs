//! No key and no capability ever reaches the log, whatever happens.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::fake::PANICS;
use crate::rig::{ALICE, BOB, Rig, Scripted, chat, status_path, system_path};

/// Writes down everything that anybody logs, at every level, spans among it.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

impl Visit for Everything {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0.lock().unwrap(), " {field}={value:?}");
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let _ = write!(self.0.lock().unwrap(), "\nspan {}", span.metadata().name());
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let _ =
            write!(self.0.lock().unwrap(), "\n{} {}", event.metadata().level(), event.metadata().target());
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn nothing_secret_is_logged() {
    let log = Everything::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let llm = Scripted::start().await;
    let rig = Rig::keyed(|options| {
        options.upstream = Some(llm.base_url.clone());
        options.auth.upstream_api_key = Some(mipro_service::config::Secret::new("sk-configured-0003"));
        options.limits.upstream_idle_timeout_ms = 200;
    })
    .await;
    let system = rig.system().await;
    // A good call, a broken one, a silent one, a panic; each with a Bearer meant for the LLM but the first.
    for (rollout, answer) in
        [("good", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), ("broken", "nonsense\r\n\r\n")]
    {
        let play = async { llm.next().await.write(answer).await };
        let (response, ()) = tokio::join!(rig.chat(&system, rollout), play);
        assert!(response.status() == 200 || response.status() == 502);
    }
    let silent =
        rig.http.post(rig.chat_url(&system, "silent")).bearer_auth("sk-client-0004").json(&chat()).send();
    let (silent, asked) = tokio::join!(silent, llm.next());
    assert_eq!(silent.unwrap().status(), 504);
    drop(asked);
    assert_eq!(rig.chat(&system, PANICS).await.status(), 500);
    // Refusals, foreign keys, wrong keys, a store that is down.
    rig.call(Method::GET, &system_path(&system, "state"), BOB, None).await;
    rig.call(Method::GET, &system_path(&system, "state"), "wrong-key-0005", None).await;
    rig.post(&status_path(&system), &json!({"rollout_id": "good", "status": "reward", "reward": 1})).await;
    rig.get(&format!("/api/prompt-learning/online/jobs/pl_{}", system.replace('-', ""))).await;
    rig.get(&format!("/api/mipro/v1/{system}/good/nowhere")).await;
    rig.engine.down.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        rig.post(&status_path(&system), &json!({"rollout_id": "good", "status": "done"})).await.0,
        503
    );

    let log = log.0.lock().unwrap().clone();
    let ours: Vec<_> = log.lines().filter(|line| line.contains("mipro_service")).collect();
    assert!(
        ours.iter().any(|line| line.contains("/api/mipro/v1/{system_id}/{rollout_id}/chat/completions")),
        "{ours:#?}"
    );
    assert!(ours.iter().any(|line| line.contains("status=503")), "{ours:#?}");
    let simple = system.replace('-', "");
    for secret in [ALICE, BOB, "wrong-key-0005", "sk-configured-0003", "sk-client-0004", &system, &simple] {
        let told: Vec<_> = log.lines().filter(|line| line.contains(secret)).collect();
        assert!(told.is_empty(), "a secret was logged: {told:#?}");
    }
}
