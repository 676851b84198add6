//! An LLM that is dead, slow, wrong or talkative.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::rig::{Rig, Scripted, job};

/// Status, code, type and message, and our headers' presence.
async fn told(response: reqwest::Response) -> String {
    let (status, ours) =
        (response.status().as_u16(), response.headers().contains_key("x-mipro-candidate-id"));
    let body: Value = response.json().await.unwrap();
    let error = &body["error"];
    format!("{status} {} {} ours={ours}: {}", error["type"], error["code"], error["message"])
}

async fn answering(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(answer).mount(&server).await;
    server
}

#[tokio::test]
async fn a_dead_llm_is_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let rig = Rig::open(&url).await;
    let system = rig.system().await;
    let told = told(rig.chat(&system, "r1").await).await;
    insta::assert_snapshot!(told, @r#"502 "upstream_error" "upstream_unreachable" ours=true: "the LLM of provider `upstream` can't be reached: Connection refused (os error 111)""#);
    assert!(!told.contains("127.0.0.1"), "addresses are the operator's business");
}

#[tokio::test]
async fn an_unknown_name_is_502() {
    let rig = Rig::open("http://no-such-host.invalid/v1").await;
    let system = rig.system().await;
    let told = told(rig.chat(&system, "r1").await).await;
    assert!(told.starts_with("502 \"upstream_error\" \"upstream_unreachable\""), "{told}");
}

#[tokio::test]
async fn a_silent_llm_is_504() {
    let slow = answering(ResponseTemplate::new(200).set_delay(Duration::from_secs(60))).await;
    let rig = Rig::with(|options| {
        options.upstream = Some(format!("{}/v1", slow.uri()));
        options.limits.upstream_idle_timeout_ms = 100;
    })
    .await;
    let system = rig.system().await;
    insta::assert_snapshot!(told(rig.chat(&system, "r1").await).await, @r#"504 "upstream_error" "upstream_timeout" ours=true: "the LLM of provider `upstream` did not answer within 100 ms""#);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_502() {
    let llm = Scripted::start().await;
    let rig = Rig::open(&llm.base_url).await;
    let system = rig.system().await;
    let play = async {
        let mut asked = llm.next().await;
        asked
            .write(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"half\":",
            )
            .await;
    };
    let (response, ()) = tokio::join!(rig.chat(&system, "r1"), play);
    let told = told(response).await;
    assert!(told.starts_with("502 \"upstream_error\" \"upstream_broken\" ours=true"), "{told}");
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_502() {
    let llm = Scripted::start().await;
    let rig = Rig::open(&llm.base_url).await;
    let system = rig.system().await;
    for (rollout, answer) in [
        ("r1", "SSH-2.0-nope\r\n\r\n"),
        ("r2", "HTTP/1.1 101 Switching Protocols\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\n"),
        ("r3", ""),
    ] {
        let play = async { llm.next().await.write(answer).await };
        let (response, ()) = tokio::join!(rig.chat(&system, rollout), play);
        let told = told(response).await;
        // Not "unreachable": it had the request, and may have charged for it.
        assert!(told.starts_with("502 \"upstream_error\" \"upstream_broken\" ours=true"), "{told}");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_502() {
    let llm = answering(ResponseTemplate::new(200).set_body_raw("x".repeat(5_000), "application/json")).await;
    let rig = Rig::with(|options| {
        options.upstream = Some(format!("{}/v1", llm.uri()));
        options.limits.upstream_body_bytes_max = 4_999;
    })
    .await;
    let system = rig.system().await;
    insta::assert_snapshot!(told(rig.chat(&system, "r1").await).await, @r#"502 "upstream_error" "upstream_too_large" ours=true: "the answer of provider `upstream` is larger than 4999 bytes""#);
}

#[tokio::test]
async fn the_llms_own_errors_pass_unchanged() {
    for (status, body, kind) in [
        (429, r#"{"error":{"message":"slow down","type":"rate"}}"#, "application/json"),
        (500, "<html>oops</html>", "text/html"),
        (401, "{}", "application/json; charset=utf-8"),
        (302, "", "text/plain"),
    ] {
        let answer = ResponseTemplate::new(status)
            .set_body_raw(body, kind)
            .insert_header("retry-after", "7")
            .insert_header("location", "http://elsewhere.invalid/");
        let llm = answering(answer).await;
        let rig = Rig::open(&format!("{}/v1", llm.uri())).await;
        let system = rig.system().await;
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let request = client.post(rig.chat_url(&system, "r1")).json(&crate::rig::chat());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!((header("retry-after").as_str(), header("content-type").as_str()), ("7", kind));
        assert_eq!(header("x-mipro-candidate-id"), "baseline");
        assert_eq!(response.text().await.unwrap(), body);
        assert_eq!(
            llm.received_requests().await.unwrap().len(),
            1,
            "nothing is retried, no redirect followed"
        );
    }
}

#[tokio::test]
async fn a_provider_nobody_configured_is_502() {
    let rig = Rig::with(|options| {
        options.upstream = None;
        options.providers = mipro_service::config::ProviderOptions::known();
    })
    .await;
    let mut body = job();
    body["config_body"]["prompt_learning"]["policy"]["provider"] = json!("acme");
    let (_, made) = rig.post("/api/prompt-learning/online/jobs", &body).await;
    let system = made["metadata"]["mipro_system_id"].as_str().unwrap();
    insta::assert_snapshot!(told(rig.chat(system, "r1").await).await, @r#"502 "upstream_error" "unknown_provider" ours=true: "the job's provider `acme` is not configured here; known: google, groq, openai, openrouter""#);
}
