//! The task app over real sockets, against the mock LLM and against hand-made answers.

use crate::common::{Server, client, start_llm, start_task_app};
use mipro_mock_llm::accuracy::Accuracy;
use mipro_mock_llm::dataset::Dataset;
use mipro_mock_llm::task_app::{Options, example_prompts};
use mipro_mock_llm::{Secret, llm};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

fn rollout_body(inference_url: &str, seed: u64) -> Value {
    json!({
        "trace_correlation_id": format!("run-{seed}"),
        "env": {"seed": seed, "config": {"seed": seed, "split": "train"}},
        "policy": {"config": {"model": "gpt-4.1-nano", "inference_url": inference_url, "temperature": 0.0}},
    })
}

async fn rollout(app: &Server, body: &Value) -> reqwest::Response {
    client().post(app.url("/rollout")).json(body).send().await.unwrap()
}

async fn answered(app: &Server, body: &Value) -> Value {
    let response = rollout(app, body).await;
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

/// An LLM that answers one request with these bytes and hands the request over.
async fn canned(answer: String) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/sys/run-1/chat/completions", listener.local_addr().unwrap());
    let request = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let n = stream.read(&mut buffer).await.unwrap();
            got.extend_from_slice(&buffer[..n]);
            let text = String::from_utf8_lossy(&got).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if n == 0 || body.len() >= length.unwrap_or(0) {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    return text;
                }
            }
        }
    });
    (url, request)
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn completion(arguments: &str) -> String {
    let call = json!({"id": "c", "type": "function", "function": {"name": "banking77_classify", "arguments": arguments}});
    json!({"choices": [{"message": {"role": "assistant", "content": null, "tool_calls": [call]}}]})
        .to_string()
}

#[tokio::test]
async fn a_rollout_has_the_shape_and_the_score_of_the_contract() {
    let (llm, app) = (start_llm(llm::Options::default()).await, start_task_app(Options::default()).await);
    let set = Dataset::builtin();
    for seed in [0, 7, 231 + 7] {
        let response = rollout(&app, &rollout_body(&llm.url("/v1"), seed)).await;
        assert_eq!(response.status(), 200);
        let plan = response.headers()["x-mock-plan"].to_str().unwrap().to_owned();
        let body: Value = response.json().await.unwrap();
        let reward = body["reward_info"]["outcome_reward"].as_f64().unwrap();
        assert_eq!(reward == 1.0, plan.ends_with("correct=1"), "{plan}");
        assert_eq!(body["reward_info"]["outcome_objectives"]["reward"], reward);
        assert!(body["reward_info"]["outcome_objectives"]["latency_ms"].as_f64().unwrap() > 0.0);
        assert!(body["reward_info"]["details"]["latency_ms"].as_f64().unwrap() > 0.0);
        assert_eq!(body["reward_info"]["instance_objectives"][0]["reward"], reward);
        assert_eq!(body["trace_correlation_id"], format!("run-{seed}"));
        assert_eq!(body["success_status"], "success");
        assert_eq!(body["status_detail"], Value::Null);
        assert_eq!(body["inference_url"], llm.url("/v1/chat/completions"));
        assert_eq!(body["metadata"]["mipro_candidate_id"], Value::Null);
        let messages = body["trace"]["inference"]["messages"].as_array().unwrap();
        assert_eq!((&messages[0]["role"], &messages[1]["role"]), (&json!("system"), &json!("user")));
        let row = &set.train()[seed as usize % set.train().len()];
        assert!(messages[1]["content"].as_str().unwrap().contains(&row.text), "seed mod rows picks the row");
        assert_eq!(body["reward_info"]["details"]["expected"], set.label_of(row));
        assert!(body["trace"]["inference"]["response"]["choices"].is_array());
    }
}

#[tokio::test]
async fn rewards_converge_to_the_true_mean() {
    let (llm, app) = (start_llm(llm::Options::default()).await, start_task_app(Options::default()).await);
    let (accuracy, set) = (Accuracy::new(llm::Options::default().seed), Dataset::builtin());
    let baseline = &example_prompts()[0].messages;
    let mut sum = 0.0;
    for seed in 0..231_u64 {
        let reward =
            answered(&app, &rollout_body(&llm.url("/v1"), seed)).await["reward_info"]["outcome_reward"]
                .clone();
        let text = &set.train()[seed as usize].text;
        let right = accuracy.luck(seed) < accuracy.probability(baseline, text);
        assert_eq!(reward, if right { 1.0 } else { 0.0 }, "seed {seed}: {text}");
        sum += reward.as_f64().unwrap();
    }
    let (seen, told) = (sum / 231.0, accuracy.true_mean(baseline, set.train()));
    assert!((seen - told).abs() < 0.12, "seen {seen}, true {told}");
}

#[tokio::test]
async fn the_call_carries_what_the_contract_says() {
    let (url, request) = canned(http("200 OK", "", &completion(r#"{"intent": "x"}"#))).await;
    let app = start_task_app(Options::default()).await;
    let mut body = rollout_body(&url, 3);
    body["policy"]["config"]["api_key"] = json!("sk-test");
    body["policy"]["config"]["max_completion_tokens"] = json!(256);
    answered(&app, &body).await;
    let text = request.await.unwrap();
    let (head, sent) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/sys/run-1/chat/completions HTTP/1.1"), "{head}");
    for line in ["x-trace-correlation-id: run-3", "authorization: Bearer sk-test", "traceparent: 00-"] {
        assert!(head.contains(line), "{line} is missing from {head}");
    }
    let sent: Value = serde_json::from_str(sent).unwrap();
    assert_eq!((&sent["model"], &sent["temperature"]), (&json!("gpt-4.1-nano"), &json!(0.0)));
    assert_eq!(sent["max_completion_tokens"], 256);
    assert_eq!(sent["tools"].as_array().unwrap().len(), 1);
    assert_eq!(sent["tool_choice"]["function"]["name"], "banking77_classify");
    let user = sent["messages"][1]["content"].as_str().unwrap();
    assert!(user.contains("\n1. activate_my_card\n2. age_limit\n"), "{user}");
    assert!(user.contains("77. "), "all labels are listed");
}

#[tokio::test]
async fn the_messages_are_the_initial_prompt_filled_in() {
    let (llm, app) = (start_llm(llm::Options::default()).await, start_task_app(Options::default()).await);
    let info: Value = client().get(app.url("/info")).send().await.unwrap().json().await.unwrap();
    let body = answered(&app, &rollout_body(&llm.url("/v1"), 9)).await;
    let labels: Vec<String> = info["labels"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(i, label)| format!("{}. {}", i + 1, label.as_str().unwrap()))
        .collect();
    let (patterns, sent) = (&info["initial_prompt"]["messages"], &body["trace"]["inference"]["messages"]);
    assert_eq!(patterns.as_array().unwrap().len(), sent.as_array().unwrap().len());
    for i in 0..2 {
        let pattern = patterns[i]["pattern"].as_str().unwrap();
        let filled = pattern
            .replace("{query}", &Dataset::builtin().train()[9].text)
            .replace("{available_intents}", &labels.join("\n"));
        assert_eq!(sent[i]["content"], filled);
        assert_eq!((&patterns[i]["order"], &patterns[i]["role"]), (&json!(i), &sent[i]["role"]));
    }
    assert_eq!(
        info["initial_prompt"]["wildcards"],
        json!({"query": "REQUIRED", "available_intents": "OPTIONAL"})
    );
    assert_eq!(info["task_app_id"], "banking77");
    assert_eq!(info["example_candidates"].as_array().unwrap().len(), 11);
}

#[tokio::test]
async fn what_the_proxy_says_of_itself_is_passed_on() {
    let headers = "Server-Timing: db.query;dur=1.5\r\nServer-Timing: total;dur=2\r\nx-mipro-candidate-id: cand-4\r\n\
                   x-mock-plan: total_us=1\r\nset-cookie: a=b\r\n";
    let (url, _request) = canned(http("200 OK", headers, &completion(r#"{"intent": "x"}"#))).await;
    let app = start_task_app(Options::default()).await;
    let response = rollout(&app, &rollout_body(&url, 1)).await;
    let timings: Vec<_> =
        response.headers().get_all("server-timing").iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!(timings, ["db.query;dur=1.5", "total;dur=2"]);
    assert_eq!(response.headers()["x-mipro-candidate-id"], "cand-4");
    assert_eq!(response.headers()["x-mock-plan"], "total_us=1");
    assert!(response.headers().get("set-cookie").is_none());
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["metadata"]["mipro_candidate_id"], "cand-4");
}

#[tokio::test]
async fn an_answer_is_right_whatever_its_case_and_underscores() {
    let set = Dataset::builtin();
    let expected = set.label_of(&set.train()[1]).to_owned();
    for (given, reward) in [
        (expected.clone(), 1.0),
        (expected.to_uppercase().replace('_', " "), 1.0),
        (format!("{expected} or so"), 0.0),
    ] {
        let arguments = json!({"intent": given}).to_string();
        let (url, _request) = canned(http("200 OK", "", &completion(&arguments))).await;
        let app = start_task_app(Options::default()).await;
        let body = answered(&app, &rollout_body(&url, 1)).await;
        assert_eq!(body["reward_info"]["outcome_reward"], reward, "{given}");
    }
}

#[tokio::test]
async fn a_model_that_answers_badly_scores_nothing_and_is_told_why() {
    let plain = json!({"choices": [{"message": {"role": "assistant", "content": "age_limit"}}]}).to_string();
    for (answer, why) in [
        (plain, "the model made no tool call, so the reward is 0"),
        (completion("{intent"), "the arguments of the tool call are not JSON, so the reward is 0"),
        (completion(r#"{"label": "x"}"#), "the tool call names no intent, so the reward is 0"),
    ] {
        let (url, _request) = canned(http("200 OK", "", &answer)).await;
        let app = start_task_app(Options::default()).await;
        let body = answered(&app, &rollout_body(&url, 1)).await;
        assert_eq!(
            (&body["reward_info"]["outcome_reward"], &body["success_status"]),
            (&json!(0.0), &json!("success"))
        );
        assert_eq!(body["status_detail"], why);
    }
}

#[tokio::test]
async fn an_llm_fault_is_no_reward() {
    let app = start_task_app(Options::default()).await;
    let faulty = |faults: &str| llm::Options { faults: faults.parse().unwrap(), ..llm::Options::default() };
    for (faults, status, detail) in [
        ("rate-limit=100%", json!(429), "the LLM answered 429: rate limit reached"),
        ("error=100%", json!(500), "the LLM answered 500: the server had an error"),
        ("cut=100%", json!(200), "the LLM's answer at 127.0.0.1:"),
    ] {
        let llm = start_llm(faulty(faults)).await;
        let response = rollout(&app, &rollout_body(&llm.url("/v1/secret-capability/r-1"), 1)).await;
        // The mock serves one path only: here it matters that nothing is hidden from the caller.
        assert_eq!(response.json::<Value>().await.unwrap()["metadata"]["llm_status"], 404);
        let body = answered(&app, &rollout_body(&llm.url("/v1"), 1)).await;
        assert_eq!(body["success_status"], "failure");
        assert_eq!(body["reward_info"]["outcome_reward"], Value::Null);
        assert!(body["reward_info"]["outcome_objectives"].get("reward").is_none());
        assert!(body["status_detail"].as_str().unwrap().starts_with(detail), "{}", body["status_detail"]);
        assert_eq!(body["metadata"]["llm_status"], status);
    }
}

#[tokio::test]
async fn a_dead_or_silent_llm_is_told_without_the_capability() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let timeout = std::time::Duration::from_millis(200);
    let app = start_task_app(Options { timeout, ..Options::default() }).await;
    let body = answered(&app, &rollout_body(&format!("http://{address}/secret-capability/r"), 1)).await;
    let detail = body["status_detail"].as_str().unwrap();
    assert!(detail.starts_with(&format!("the LLM at {address} can't be reached")), "{detail}");
    assert!(!detail.contains("secret-capability"));
    assert_eq!(body["success_status"], "failure");

    let silent =
        start_llm(llm::Options { faults: "stall=100%".parse().unwrap(), ..llm::Options::default() }).await;
    let body = answered(&app, &rollout_body(&silent.url("/v1"), 1)).await;
    assert!(body["status_detail"].as_str().unwrap().contains("took too long"), "{}", body["status_detail"]);
    assert_eq!(body["reward_info"]["outcome_reward"], Value::Null);
}

#[tokio::test]
async fn bad_rollouts_name_the_field() {
    let app = start_task_app(Options::default()).await;
    let base = rollout_body("http://127.0.0.1:1/v1", 1);
    let with = |pointer: &str, value: Value| {
        let mut body = base.clone();
        *body.pointer_mut(pointer).unwrap() = value;
        body
    };
    for (body, param) in [
        (json!({}), "policy.config"),
        (with("/policy/config", json!("x")), "policy.config"),
        (with("/policy/config/inference_url", Value::Null), "policy.config.inference_url"),
        (with("/policy/config/inference_url", json!("ftp://x")), "policy.config.inference_url"),
        (with("/env", json!({})), "env.seed"),
        (with("/env/seed", json!(1.5)), "env.seed"),
        (with("/env/config/split", json!("dev")), "env.config.split"),
        (with("/trace_correlation_id", json!(3)), "trace_correlation_id"),
        (with("/trace_correlation_id", json!("a\nb")), "trace_correlation_id"),
    ] {
        let response = rollout(&app, &body).await;
        assert_eq!(response.status(), 400, "{body}");
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["param"], param, "{error}");
    }
    let broken = client().post(app.url("/rollout")).body("{").send().await.unwrap();
    assert_eq!(broken.status(), 400);
}

#[tokio::test]
async fn ids_and_seeds_may_stand_elsewhere_and_unknown_fields_are_ignored() {
    let (llm, app) = (start_llm(llm::Options::default()).await, start_task_app(Options::default()).await);
    let mut body = rollout_body(&llm.url("/v1?cid=from-query-5"), 1);
    body.as_object_mut().unwrap().remove("trace_correlation_id");
    body["env"] = json!({"config": {"seed": -1}, "extra": [1]});
    body["more"] = json!({"x": null});
    let answer = answered(&app, &body).await;
    assert_eq!(answer["trace_correlation_id"], "from-query-5");
    assert_eq!(answer["success_status"], "success");
    assert_eq!(answer["inference_url"], llm.url("/v1/chat/completions?cid=from-query-5"));
    assert_eq!(answer["metadata"]["row"], Dataset::builtin().train().len() as u64 - 1);
}

#[tokio::test]
async fn the_key_opens_everything_but_health() {
    let app =
        start_task_app(Options { api_key: Some(Secret::new("open sesame")), ..Options::default() }).await;
    assert_eq!(client().get(app.url("/health")).send().await.unwrap().status(), 200);
    for path in ["/info", "/task_info", "/nowhere"] {
        for key in [None, Some("wrong"), Some("open sesame"), Some("")] {
            let mut request = client().get(app.url(path));
            if let Some(key) = key {
                request = request.header("x-api-key", key);
            }
            let response = request.send().await.unwrap();
            let expected = match (key, path) {
                (Some("open sesame"), "/nowhere") => 404,
                (Some("open sesame"), _) => 200,
                _ => 401,
            };
            assert_eq!(response.status(), expected, "{path} with {key:?}");
        }
    }
    let refused = rollout(&app, &rollout_body("http://127.0.0.1:1/v1", 1)).await;
    assert_eq!(refused.status(), 401);
    assert!(
        refused.json::<Value>().await.unwrap()["error"]["message"].as_str().unwrap().contains("X-API-Key")
    );
}

#[tokio::test]
async fn task_info_tells_splits_sizes_and_seeds() {
    let app = start_task_app(Options::default()).await;
    let set = Dataset::builtin();
    let get = |query: &str| {
        let url = app.url(&format!("/task_info{query}"));
        async move { client().get(url).send().await.unwrap() }
    };
    let info: Value = get("?seed=7&seed=238&split=train").await.json().await.unwrap();
    assert_eq!(info["taskset"]["splits"], json!({"train": 231, "test": 77}));
    assert_eq!(info["seeds"].as_array().unwrap().len(), 2);
    for told in info["seeds"].as_array().unwrap() {
        assert_eq!(told["query"], set.train()[7].text);
        assert_eq!(told["expected_intent"], set.label_of(&set.train()[7]));
    }
    assert_eq!(get("").await.json::<Value>().await.unwrap()["seeds"], json!([]));
    assert_eq!(get("?seed=x").await.status(), 400);
    assert_eq!(get("?split=dev").await.status(), 400);
}

#[tokio::test]
async fn given_files_replace_the_built_in_set() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("train.csv"), "text,category\n\"one\n\ntwo\",a\nthree,b\n").unwrap();
    std::fs::write(dir.path().join("test.csv"), "text,category\nfour,b\n").unwrap();
    let dataset = Some(dir.path().to_owned());
    let llm = start_llm(llm::Options { dataset: dataset.clone(), ..llm::Options::default() }).await;
    let app = start_task_app(Options { dataset, ..Options::default() }).await;
    let response = rollout(&app, &rollout_body(&llm.url("/v1"), 2)).await;
    let plan = response.headers()["x-mock-plan"].to_str().unwrap().to_owned();
    assert!(plan.contains("correct="), "the query of several lines was recognized: {plan}");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["reward_info"]["details"]["expected"], "a");
}
