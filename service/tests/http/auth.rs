//! Keys and orgs: who may see what.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::rig::{ALICE, BOB, Rig, chat, status_path, system_path};

/// Every route of one system.
fn routes(system: &str) -> Vec<(Method, String, Option<String>)> {
    let job = format!("/api/prompt-learning/online/jobs/pl_{}", system.replace('-', ""));
    let status = json!({"rollout_id": "r", "status": "reward_done", "reward": 1, "candidate_id": "baseline"});
    vec![
        (Method::GET, job.clone(), None),
        (Method::GET, format!("{job}?include_events=true&include_snapshot=true"), None),
        (Method::POST, status_path(system), Some(status.to_string())),
        (Method::POST, system_path(system, "candidates"), Some(json!({"deltas": {"text": "x"}}).to_string())),
        (Method::GET, system_path(system, "state"), None),
        (Method::GET, system_path(system, "events"), None),
    ]
}

#[tokio::test]
async fn no_key_or_a_wrong_one_is_401_before_anything_else() {
    let rig = Rig::keyed(|_| {}).await;
    let system = rig.system().await;
    let mut routes = routes(&system);
    routes.push((Method::POST, "/api/prompt-learning/online/jobs".into(), Some("not json".into())));
    routes.push((Method::GET, "/api/v1/online/sessions/x".into(), None));
    routes.push((Method::GET, "/metrics".into(), None));
    for (method, path, body) in routes {
        for header in [None, Some("Bearer wrong"), Some("Basic abc"), Some("Bearer")] {
            let mut request = rig.http.request(method.clone(), format!("{}{path}", rig.url));
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let response = request.body(body.clone().unwrap_or_default()).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path} with {header:?}");
            let error: serde_json::Value = response.json().await.unwrap();
            assert_eq!(error["error"]["code"], "invalid_api_key");
        }
    }
    for path in ["/health", "/readyz"] {
        assert_eq!(
            rig.http.get(format!("{}{path}", rig.url)).send().await.unwrap().status(),
            200,
            "{path} is open"
        );
    }
}

#[tokio::test]
async fn another_orgs_system_is_not_there_on_any_route() {
    let rig = Rig::keyed(|_| {}).await;
    let system = rig.system().await;
    for (method, path, body) in routes(&system) {
        let (status, answer) = rig.call(method.clone(), &path, BOB, body.as_deref()).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path} gave {answer}");
        let (status, _) = rig.call(method, &path, ALICE, body.as_deref()).await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn without_keys_every_bearer_is_the_same_org() {
    let rig = Rig::open("http://127.0.0.1:9/v1").await;
    let system = rig.system().await;
    let (status, _) = rig.call(Method::GET, &system_path(&system, "state"), "anything", None).await;
    assert_eq!(status, 200);
    let bare = rig.http.get(format!("{}{}", rig.url, system_path(&system, "state"))).send().await.unwrap();
    assert_eq!(bare.status(), 200);
}

#[tokio::test]
async fn the_proxy_is_open_to_whoever_knows_its_url() {
    let llm = crate::proxy::llm().await;
    let rig = Rig::keyed(|options| options.upstream = Some(format!("{}/v1", llm.uri()))).await;
    let system = rig.system().await;
    assert_eq!(rig.chat(&system, "r1").await.status(), 200);
}

#[tokio::test]
async fn a_required_key_opens_the_proxy_and_stays_here() {
    let llm = crate::proxy::llm().await;
    let rig = Rig::keyed(|options| {
        options.upstream = Some(format!("{}/v1", llm.uri()));
        options.proxy_auth = mipro_service::config::ProxyAuth::Required;
    })
    .await;
    let system = rig.system().await;
    let send = |headers: Vec<(&'static str, String)>| {
        let mut request = rig.http.post(rig.chat_url(&system, "r1")).json(&chat());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(send(vec![]).await, 401);
    assert_eq!(send(vec![("authorization", "Bearer sk-llm".into())]).await, 401);
    assert_eq!(send(vec![("x-api-key", ALICE.into()), ("authorization", "Bearer sk-llm".into())]).await, 200);
    assert_eq!(send(vec![("authorization", format!("Bearer {ALICE}"))]).await, 200);
    assert_eq!(send(vec![("x-api-key", BOB.into())]).await, 404, "another org's system is not there");
    assert_eq!(send(vec![("authorization", format!("Bearer {BOB}"))]).await, 404);
    let seen = llm.received_requests().await.unwrap();
    let bearers: Vec<_> =
        seen.iter().map(|r| r.headers.get("authorization").map(|v| v.to_str().unwrap())).collect();
    assert_eq!(bearers, [Some("Bearer sk-llm"), None], "our own key never leaves");
    assert!(seen.iter().all(|r| !r.headers.contains_key("x-api-key")));
    let bad_body = rig.http.post(rig.chat_url(&system, "r1")).body("{").send().await.unwrap();
    assert_eq!(bad_body.status(), 401, "the key comes first");
}
