//! Jobs, status calls, candidates, state, events: what comes back, and in which shape it is refused.

use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::{ALICE, Rig, job, status_path, system_path};

const JOBS: &str = "/api/prompt-learning/online/jobs";

/// Status, type, code, param and message of an error, on one line.
fn told(answer: &(reqwest::StatusCode, Value)) -> String {
    let (status, body) = answer;
    let error = body["error"].as_object().unwrap_or_else(|| panic!("no error in {body}"));
    let mut names: Vec<_> = error.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["code", "message", "param", "type"], "one shape for all");
    let text = |name: &str| error[name].as_str().unwrap_or("-").to_owned();
    format!("{} {} {} {}: {}", status.as_u16(), text("type"), text("code"), text("param"), text("message"))
}

#[tokio::test]
async fn a_job_is_there_at_once_and_names_its_proxy() {
    let rig = Rig::with(|options| options.public_url = Some("https://mipro.example".into())).await;
    let (status, made) = rig.post(JOBS, &job()).await;
    assert_eq!(status, 200);
    let id = made["job_id"].as_str().unwrap();
    let system = made["metadata"]["mipro_system_id"].as_str().unwrap();
    assert_eq!(id, format!("pl_{}", system.replace('-', "")));
    let (status, shown) = rig.get(&format!("{JOBS}/{id}")).await;
    assert_eq!((status.as_u16(), &shown["status"], &shown["job_id"]), (200, &json!("succeeded"), &json!(id)));
    assert_eq!(shown["metadata"]["mipro_proxy_url"], format!("https://mipro.example/api/mipro/v1/{system}"));
    assert!(shown.as_object().unwrap().contains_key("best_score"));
    assert!(shown.get("events").is_none() && shown.get("snapshot").is_none());
}

#[tokio::test]
async fn a_jobs_extras_are_asked_for_in_pythons_words() {
    let rig = Rig::open("http://127.0.0.1:9/v1").await;
    let (_, made) = rig.post(JOBS, &job()).await;
    let path = format!("{JOBS}/{}", made["job_id"].as_str().unwrap());
    let (_, shown) =
        rig.get(&format!("{path}?include_events=True&include_snapshot=1&include_metadata=False")).await;
    assert!(shown["events"].as_array().is_some_and(|events| !events.is_empty()), "{shown}");
    assert_eq!(shown["snapshot"]["best_candidate_id"], "baseline");
    assert!(shown.get("metadata").is_none());
    let refused = rig.get(&format!("{path}?include_events=maybe")).await;
    insta::assert_snapshot!(told(&refused), @"400 invalid_request_error invalid_value include_events: `include_events` must be true or false");
}

#[tokio::test]
async fn a_job_continues_a_system_of_its_org() {
    let rig = Rig::keyed(|_| {}).await;
    let system = rig.system().await;
    let mut again = job();
    again["config_body"]["prompt_learning"]["mipro"]["system_id"] = json!(system);
    again["config_body"]["prompt_learning"].as_object_mut().unwrap().remove("initial_prompt");
    let (status, made) = rig.post(JOBS, &again).await;
    assert_eq!((status.as_u16(), &made["metadata"]["mipro_system_id"]), (200, &json!(system)));
    let foreign = rig.call(Method::POST, JOBS, crate::rig::BOB, Some(&again.to_string())).await;
    insta::assert_snapshot!(told(&foreign), @"404 invalid_request_error system_not_found -: there is no such system");
}

#[tokio::test]
async fn unknown_fields_never_make_a_job_fail() {
    let rig = Rig::open("http://127.0.0.1:9/v1").await;
    let mut job = job();
    job["surprise"] = json!({"deep": [1, null]});
    let learning = &mut job["config_body"]["prompt_learning"];
    learning["task_app_api_key"] = Value::Null;
    learning["mipro"]["tpe"] = json!({"gamma": 0.3, "new_knob": "x"});
    learning["mipro"]["proposer"] = json!({"mode": "instruction_only", "later": {}});
    assert_eq!(rig.post(JOBS, &job).await.0, 200);
}

#[tokio::test]
async fn a_wrong_type_in_a_job_is_named_by_its_path() {
    let rig = Rig::open("http://127.0.0.1:9/v1").await;
    let mut seen = String::new();
    for (pointer, value) in [
        ("/config_body/prompt_learning/mipro/tpe", json!({"gamma": "small"})),
        ("/config_body/prompt_learning/mipro/tpe", json!({"gamma": 1.5})),
        ("/config_body/prompt_learning/mipro/tpe", json!([1])),
        ("/config_body/prompt_learning/mipro/online_rollouts_per_candidate", json!(2.5)),
        ("/config_body/prompt_learning/mipro/online_rollouts_per_candidate", json!(0)),
        ("/config_body/prompt_learning/mipro/val_seeds", json!([1, "two"])),
        ("/config_body/prompt_learning/mipro/mode", json!("offline")),
        ("/config_body/prompt_learning/mipro/mode", json!("sideways")),
        ("/config_body/prompt_learning/initial_prompt/messages/1/pattern", json!(7)),
        ("/config_body/prompt_learning/initial_prompt/messages", json!([])),
        ("/config_body/prompt_learning/initial_prompt", Value::Null),
        ("/config_body/prompt_learning/policy/temperature", json!("hot")),
        ("/config_body/prompt_learning/algorithm", json!("gepa")),
        ("/config_body", json!("x")),
    ] {
        let mut job = job();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match job.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
            parent => parent[name] = value,
        }
        seen.push_str(&told(&rig.post(JOBS, &job).await));
        seen.push('\n');
    }
    insta::assert_snapshot!(seen, @r#"
        400 invalid_request_error invalid_type config_body.prompt_learning.mipro.tpe.gamma: `config_body.prompt_learning.mipro.tpe.gamma` must be a finite number, not a string
        400 invalid_request_error invalid_value config_body.prompt_learning.mipro.tpe.gamma: `config_body.prompt_learning.mipro.tpe.gamma` must lie between 0 and 1, both excluded
        400 invalid_request_error invalid_type config_body.prompt_learning.mipro.tpe: `config_body.prompt_learning.mipro.tpe` must be an object, not a list
        400 invalid_request_error invalid_type config_body.prompt_learning.mipro.online_rollouts_per_candidate: `config_body.prompt_learning.mipro.online_rollouts_per_candidate` must be a whole number in range, not this number
        400 invalid_request_error invalid_value config_body.prompt_learning.mipro.online_rollouts_per_candidate: `config_body.prompt_learning.mipro.online_rollouts_per_candidate` must be 1 or more
        400 invalid_request_error invalid_type config_body.prompt_learning.mipro.val_seeds[1]: `config_body.prompt_learning.mipro.val_seeds[1]` must be a whole number, not a string
        501 not_implemented_error not_implemented config_body.prompt_learning.mipro.mode: `config_body.prompt_learning.mipro.mode` is `offline`, which this build does not serve yet; use `online`
        400 invalid_request_error invalid_value config_body.prompt_learning.mipro.mode: `config_body.prompt_learning.mipro.mode` must be `online` or `offline`
        400 invalid_request_error invalid_type config_body.prompt_learning.initial_prompt.messages[1].pattern: `config_body.prompt_learning.initial_prompt.messages[1].pattern` must be a string, not this number
        400 invalid_request_error invalid_value config_body.prompt_learning.initial_prompt.messages: `config_body.prompt_learning.initial_prompt.messages` must hold at least one message
        400 invalid_request_error missing_field config_body.prompt_learning.initial_prompt: `config_body.prompt_learning.initial_prompt` is missing
        400 invalid_request_error invalid_type config_body.prompt_learning.policy.temperature: `config_body.prompt_learning.policy.temperature` must be a finite number, not a string
        400 invalid_request_error invalid_value config_body.prompt_learning.algorithm: `config_body.prompt_learning.algorithm` must be `mipro`, the only algorithm served here
        400 invalid_request_error invalid_type config_body: `config_body` must be an object, not a string
    "#);
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_with_the_place() {
    let rig = Rig::open("http://127.0.0.1:9/v1").await;
    let system = rig.system().await;
    let (status, candidates) = (status_path(&system), system_path(&system, "candidates"));
    let mut seen = String::new();
    for (path, body) in [
        (JOBS, "{\"config_body\": "),
        (JOBS, "[]"),
        (&status, "{\n  \"rollout_id\": oops"),
        (&status, "\"text\""),
        (&status, ""),
        (&candidates, "{]"),
        (&candidates, "{\"deltas\": 5}"),
        (&candidates, "{}"),
        (&candidates, "{\"deltas\": {}, \"params\": {\"demos\": -1}}"),
        (&candidates, "{\"deltas\": {\"messages\": 5}}"),
    ] {
        seen.push_str(&told(&rig.call(Method::POST, path, ALICE, Some(body)).await));
        seen.push('\n');
    }
    insta::assert_snapshot!(seen, @r#"
        400 invalid_request_error invalid_json config_body: the body is not valid JSON: EOF while parsing a value at line 1 column 16
        400 invalid_request_error invalid_type -: the body must be a JSON object
        400 invalid_request_error invalid_json rollout_id: the body is not valid JSON: expected value at line 2 column 17
        400 invalid_request_error invalid_type -: the body must be a JSON object
        400 invalid_request_error invalid_json -: the body is not valid JSON: EOF while parsing a value at line 1 column 0
        400 invalid_request_error invalid_json -: the body is not valid JSON: key must be a string at line 1 column 2
        400 invalid_request_error invalid_type deltas: `deltas` must be an object, not this number
        400 invalid_request_error missing_field deltas: `deltas` is missing
        400 invalid_request_error invalid_type params.demos: `params.demos` must be a whole number in range, not this number
        400 invalid_request_error invalid_value deltas.messages: `deltas.messages` must be a list
    "#);
}

#[tokio::test]
async fn status_bodies_are_refused_by_field() {
    let rig = Rig::open("http://127.0.0.1:9/v1").await;
    let path = status_path(&rig.system().await);
    let mut seen = String::new();
    for body in [
        r#"{"status":"done"}"#,
        r#"{"rollout_id":"r"}"#,
        r#"{"rollout_id":7,"status":"done"}"#,
        r#"{"rollout_id":"","status":"done"}"#,
        r#"{"rollout_id":"r","status":"finished"}"#,
        r#"{"rollout_id":"r","status":"reward"}"#,
        r#"{"rollout_id":"r","status":"reward_done","reward":null}"#,
        r#"{"rollout_id":"r","status":"reward","reward":1e999}"#,
        r#"{"rollout_id":"r","status":"reward","reward":-1e999}"#,
        r#"{"rollout_id":"r","status":"reward","reward":"NaN"}"#,
        r#"{"rollout_id":"r","status":"reward","reward":"1.0"}"#,
        r#"{"rollout_id":"r","status":"reward","reward":true}"#,
        r#"{"rollout_id":"r","status":"reward","reward":NaN}"#,
        "{\n  \"status\": \"reward\",\n  \"reward\" : -Infinity\n}",
        r#"{"rollout_id":"r","status":"reward","reward":1.}"#,
        r#"{"rollout_id":"r","status":"reward","reward":1,"candidate_id":5}"#,
    ] {
        seen.push_str(&told(&rig.call(Method::POST, &path, ALICE, Some(body)).await));
        seen.push('\n');
    }
    insta::assert_snapshot!(seen, @r#"
        400 invalid_request_error missing_field rollout_id: `rollout_id` is missing
        400 invalid_request_error missing_field status: `status` is missing
        400 invalid_request_error invalid_value rollout_id: `rollout_id` must be a string
        400 invalid_request_error invalid_value rollout_id: `rollout_id` must not be empty
        400 invalid_request_error invalid_value status: `status` must be one of reward, done, reward_done, failed
        400 invalid_request_error missing_field reward: `reward` is missing
        400 invalid_request_error missing_field reward: `reward` is missing
        400 invalid_request_error invalid_value reward: `reward` must be a finite number
        400 invalid_request_error invalid_value reward: `reward` must be a finite number
        400 invalid_request_error invalid_value reward: `reward` must be a finite number
        400 invalid_request_error invalid_value reward: `reward` must be a finite number
        400 invalid_request_error invalid_value reward: `reward` must be a finite number
        400 invalid_request_error invalid_value reward: `reward` must be a finite number
        400 invalid_request_error invalid_value reward: `reward` must be a finite number
        400 invalid_request_error invalid_json -: the body is not valid JSON: invalid number at line 1 column 48
        400 invalid_request_error invalid_value candidate_id: `candidate_id` must be a string
    "#);
}

#[tokio::test]
async fn status_calls_answer_as_the_contract_says() {
    let llm = crate::proxy::llm().await;
    let rig = Rig::open(&format!("{}/v1", llm.uri())).await;
    let system = rig.system().await;
    let path = status_path(&system);
    assert_eq!(rig.chat(&system, "r1").await.status(), 200);
    let call = json!({"attempt_id": "r1", "status": "reward", "reward": 1.0, "unknown": 1});
    let (status, first) = rig.post(&path, &call).await;
    assert_eq!(status, 200, "{first}");
    assert_eq!((&first["candidate_id"], &first["rollout_id"]), (&json!("baseline"), &json!("r1")));
    assert_eq!((&first["status"], &first["durability"]), (&json!("reward"), &json!("memory")));
    assert!(first["version"].as_u64().is_some());
    assert_eq!(rig.post(&path, &call).await, (status, first), "repeating it changes nothing");
    let done = json!({"rollout_id": "r1", "status": "done"});
    assert_eq!(rig.post(&path, &done).await.0, 200);
    let deltas = json!({"candidate_id": "other", "deltas": {"text": "x"}});
    assert_eq!(rig.post(&system_path(&system, "candidates"), &deltas).await.0, 200);
    let expect = [
        (json!({"rollout_id": "r1", "status": "reward", "reward": 0.5}), 409),
        (json!({"rollout_id": "r1", "status": "done", "candidate_id": "other"}), 409),
        (json!({"rollout_id": "never", "status": "done"}), 404),
        (json!({"rollout_id": "never", "status": "done", "candidate_id": "who"}), 422),
        (
            json!({"rollout_id": "never", "status": "reward_done", "reward": 1, "candidate_id": "baseline"}),
            200,
        ),
        (json!({"rollout_id": "r1", "status": "failed"}), 409),
    ];
    for (call, status) in expect {
        let (got, body) = rig.post(&path, &call).await;
        assert_eq!(got, status, "{call} gave {body}");
    }
}

#[tokio::test]
async fn candidates_are_registered_once_and_shown() {
    let rig = Rig::open("http://127.0.0.1:9/v1").await;
    let system = rig.system().await;
    let body = json!({"deltas": {"instruction_text": "Be brief."}, "params": {"instruction": 1}, "metadata": {"label": "b"}});
    let (status, made) = rig.post(&system_path(&system, "candidates"), &body).await;
    assert_eq!(status, 200, "{made}");
    let (_, again) = rig.post(&system_path(&system, "candidates"), &body).await;
    assert_eq!(made["candidate_id"], again["candidate_id"]);
    let (_, state) = rig.get(&system_path(&system, "state")).await;
    let id = made["candidate_id"].as_str().unwrap();
    assert_eq!(state["candidates"][id]["deltas"]["instruction_text"], "Be brief.");
    assert_eq!(state["candidates"][id]["params"], json!({"instruction": 1}));
    let (_, events) = rig.get(&system_path(&system, "events?since_seq=1&limit=1")).await;
    assert_eq!(events["items"].as_array().map(Vec::len), Some(1), "{events}");
    assert_eq!(events["items"][0]["seq"], 2);
    let refused = rig.get(&system_path(&system, "events?limit=-3")).await;
    insta::assert_snapshot!(told(&refused), @"400 invalid_request_error invalid_value limit: `limit` must be a whole number, 0 or more");
}

#[tokio::test]
async fn what_is_not_there_is_told_in_the_same_shape() {
    let rig = Rig::open("http://127.0.0.1:9/v1").await;
    let nobody = "00000000-0000-4000-8000-000000000000";
    let mut seen = String::new();
    for (method, path, body) in [
        (Method::GET, "/nowhere".to_owned(), None),
        (Method::DELETE, JOBS.to_owned(), None),
        (Method::GET, format!("{JOBS}/pl_x"), None),
        (Method::GET, format!("{JOBS}/pl_{}", nobody.replace('-', "")), None),
        (Method::GET, system_path("not-a-uuid", "state"), None),
        (Method::GET, system_path(nobody, "state"), None),
        (Method::POST, status_path(nobody), Some(r#"{"rollout_id":"r","status":"done"}"#)),
        (Method::POST, format!("/api/mipro/v1/{nobody}/r/chat/completions"), Some(r#"{"messages":[{}]}"#)),
        (Method::POST, "/api/mipro/v1/%FF/r/chat/completions".to_owned(), Some("{}")),
        (Method::POST, "/api/v1/online/sessions".to_owned(), Some("{}")),
        (Method::GET, "/api/systems/x/candidates".to_owned(), None),
    ] {
        seen.push_str(&told(&rig.call(method, &path, ALICE, body).await));
        seen.push('\n');
    }
    insta::assert_snapshot!(seen, @r#"
        404 invalid_request_error not_found -: there is no such route
        405 invalid_request_error method_not_allowed -: this route does not take that method; the `Allow` header says which it takes
        404 invalid_request_error job_not_found -: there is no such job
        404 invalid_request_error job_not_found -: there is no such job
        404 invalid_request_error system_not_found -: there is no such system
        404 invalid_request_error system_not_found -: there is no such system
        404 invalid_request_error system_not_found -: there is no such system
        404 invalid_request_error system_not_found -: there is no such system
        404 invalid_request_error system_not_found -: there is no such system
        501 not_implemented_error not_implemented -: session routes are not served by this build yet; create a job with POST /api/prompt-learning/online/jobs
        501 not_implemented_error not_implemented -: session routes are not served by this build yet; create a job with POST /api/prompt-learning/online/jobs
    "#);
}

#[tokio::test]
async fn operators_see_health_readiness_and_figures() {
    let rig = Rig::open("http://127.0.0.1:9/v1").await;
    let (status, health) = rig.get("/health").await;
    assert_eq!(status, 200);
    assert_eq!((&health["durability"], &health["engine"]), (&json!("memory"), &json!("actor")));
    assert_eq!(rig.get("/readyz").await.0, 200);
    rig.system().await;
    let page = rig.http.get(format!("{}/metrics", rig.url)).send().await.unwrap();
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let page = page.text().await.unwrap();
    assert!(page.contains("mipro_requests_total{operation=\"create_job\",status=\"200\"} 1"), "{page}");
    assert!(page.contains("mipro_requests_in_flight 1"), "the scrape itself: {page}");
    rig.engine.down.store(true, std::sync::atomic::Ordering::Relaxed);
    let unready = rig.get("/readyz").await;
    insta::assert_snapshot!(told(&unready), @"503 server_error unready -: the database is unavailable; try again");
    assert_eq!(unready.1["reasons"], json!(["the database is unavailable; try again"]));
    assert_eq!(rig.get("/health").await.0, 200, "a store that is down does not make the process sick");
}

#[tokio::test]
async fn a_store_that_is_down_is_503_with_retry_after() {
    let rig = Rig::open("http://127.0.0.1:9/v1").await;
    let system = rig.system().await;
    rig.engine.down.store(true, std::sync::atomic::Ordering::Relaxed);
    let url = format!("{}{}", rig.url, system_path(&system, "state"));
    let response = rig.http.get(url).send().await.unwrap();
    assert_eq!(response.status(), 503);
    let after_s: u32 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3).contains(&after_s), "soon, and not all at once: {after_s}");
}
