//! What an answer promises and says about it, and what happens when the log can't keep the promise.

use reqwest::Method;
use serde_json::{Value, json};

use mipro_service::config::OnLogFailure;
use mipro_service::durability::Level;

use crate::rig::{ALICE, PATIENCE, Rig, Scripted, chain, chat, status_path, system_path};

fn report(rollout: &str) -> Value {
    json!({"rollout_id": rollout, "status": "reward_done", "reward": 1.0, "candidate_id": "baseline"})
}

/// Status, the header and the body of a status call that asks for `level`.
async fn tell(rig: &Rig, system: &str, level: Option<&str>) -> (u16, Option<String>, Value) {
    let mut request = rig.http.post(format!("{}{}", rig.url, status_path(system))).bearer_auth(ALICE);
    if let Some(level) = level {
        request = request.header("Mipro-Durability", level);
    }
    let response = request.json(&report("r")).send().await.unwrap();
    let header = response.headers().get("mipro-durability").map(|v| v.to_str().unwrap().to_owned());
    (response.status().as_u16(), header, response.json().await.unwrap())
}

#[tokio::test]
async fn every_answer_names_its_promise() {
    let rig = Rig::with(|_| {}).await;
    rig.engine.set_level(Level::Disk);
    let system = rig.system().await;
    let (status, header, body) = tell(&rig, &system, None).await;
    let version = body["version"].as_u64().unwrap();
    assert_eq!((status, body["durability"].as_str()), (200, Some("disk")));
    assert_eq!(header.unwrap(), format!("disk; seq={version}; epoch=3"));
    for route in ["state", "events"] {
        let url = format!("{}{}", rig.url, system_path(&system, route));
        let response = rig.http.request(Method::GET, url).bearer_auth(ALICE).send().await.unwrap();
        assert_eq!(
            response.headers()["mipro-durability"],
            format!("disk; seq={version}; epoch=3"),
            "{route}"
        );
    }
    let (_, health) = rig.get("/health").await;
    assert_eq!(health["durability"], "disk");
}

#[tokio::test]
async fn a_level_may_be_raised_and_never_lowered_and_what_cant_be_given_is_412() {
    let rig = Rig::with(|_| {}).await;
    rig.engine.set_level(Level::Os);
    let system = rig.system().await;
    for (asked, given) in [("memory", "os"), ("D1", "os"), ("disk", "disk"), ("d2", "disk")] {
        let (status, header, body) = tell(&rig, &system, Some(asked)).await;
        assert_eq!((status, body["durability"].as_str()), (200, Some(given)), "{asked}: {body}");
        assert!(header.unwrap().starts_with(&format!("{given}; seq=")), "{asked}");
    }
    let (_, before) = rig.get(&system_path(&system, "state")).await;
    for level in ["postgres", "object"] {
        let (status, header, body) = tell(&rig, &system, Some(level)).await;
        assert_eq!((status, header), (412, None), "{body}");
        assert_eq!(body["error"]["code"], "durability_unavailable");
        assert!(body["error"]["message"].as_str().unwrap().contains("`os`"), "{body}");
    }
    let (status, _, body) = tell(&rig, &system, Some("eternal")).await;
    assert_eq!((status, body["error"]["param"].as_str()), (400, Some("Mipro-Durability")));
    assert_eq!(rig.get(&system_path(&system, "state")).await.1, before, "a refused call did nothing");
}

#[tokio::test]
async fn refusing_a_failed_log_ends_the_service_with_an_error() {
    let llm = Scripted::start().await;
    let mut rig = Rig::open(&llm.base_url).await;
    let system = rig.system().await;
    rig.engine.set_durable(0);
    let held = tokio::spawn(rig.http.post(rig.chat_url(&system, "r1")).json(&chat()).send());
    let asked = llm.next().await;
    rig.engine.stop_log();
    assert_eq!(held.await.unwrap().unwrap().status(), 503, "what was held is refused");
    drop(asked);
    let served = tokio::time::timeout(PATIENCE, &mut rig.served).await.unwrap().unwrap();
    let told = chain(&served.unwrap_err());
    assert!(told.starts_with("the event log has stopped"), "{told}");
}

#[tokio::test]
async fn serving_unrecorded_lets_the_llm_answer_and_says_so() {
    let llm = crate::proxy::llm().await;
    let rig = Rig::with(|options| {
        options.upstream = Some(format!("{}/v1", llm.uri()));
        options.on_log_failure = OnLogFailure::ServeUnrecorded;
    })
    .await;
    let system = rig.system().await;
    let recorded = rig.chat(&system, "r0").await;
    assert!(!recorded.headers().contains_key("x-mipro-unrecorded"));
    // The start was taken, and its gate fails.
    rig.engine.set_durable(0);
    rig.engine.set_gate_limit_ms(20);
    // The start is refused.
    for rollout in ["r1", "r2"] {
        let response = rig.chat(&system, rollout).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-mipro-unrecorded"], "log");
        assert_eq!(response.headers()["x-mipro-candidate-id"], "baseline");
        assert!(!response.headers().contains_key("mipro-durability"), "nothing is promised");
        assert!(response.text().await.unwrap().contains("choices"));
        if rollout == "r1" {
            rig.engine.stop_log();
        }
    }
    let (status, body) = rig.post(&status_path(&system), &report("r2")).await;
    assert_eq!(status, 503, "{body}");
    let (status, _) = rig.get("/health").await;
    assert_eq!(status, 200, "the process stays");
    let (status, ready) = rig.get("/readyz").await;
    assert_eq!((status.as_u16(), &ready["status"]), (200, &json!("ready")), "it wants the proxy's traffic");
    assert!(ready["degraded"][0].as_str().unwrap().contains("the event log has stopped"), "{ready}");
    let page = rig.http.get(format!("{}/metrics", rig.url)).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("\nmipro_unrecorded_answers_total 2\n"), "{page}");
}

/// Who names a level wants that promise: an answer that promises nothing is not for it.
#[tokio::test]
async fn whoever_names_a_level_is_never_served_unrecorded() {
    let llm = crate::proxy::llm().await;
    let rig = Rig::with(|options| {
        options.upstream = Some(format!("{}/v1", llm.uri()));
        options.on_log_failure = OnLogFailure::ServeUnrecorded;
    })
    .await;
    rig.engine.set_level(Level::Disk);
    let system = rig.system().await;
    rig.engine.set_durable(0);
    rig.engine.set_gate_limit_ms(20);
    // The start was taken and its gate fails; then the start is refused.
    for stopped in [false, true] {
        for (level, status) in [(Some("disk"), 503), (Some("memory"), 503), (None, 200)] {
            let mut request = rig.http.post(rig.chat_url(&system, "r")).json(&chat());
            if let Some(level) = level {
                request = request.header("Mipro-Durability", level);
            }
            let response = request.send().await.unwrap();
            let unrecorded = response.headers().contains_key("x-mipro-unrecorded");
            let told = (response.status().as_u16(), unrecorded);
            assert_eq!(told, (status, level.is_none()), "{level:?}, stopped: {stopped}");
        }
        if !stopped {
            rig.engine.stop_log();
        }
    }
}

#[tokio::test]
async fn retries_are_spread() {
    let rig = Rig::with(|_| {}).await;
    let system = rig.system().await;
    rig.engine.down.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let url = format!("{}{}", rig.url, status_path(&system));
        let response = rig.http.post(url).bearer_auth(ALICE).json(&report("r")).send().await.unwrap();
        seen.insert(response.headers()["retry-after"].to_str().unwrap().to_owned());
    }
    let seen: Vec<_> = seen.into_iter().collect();
    assert_eq!(seen, ["1", "2", "3"]);
}
