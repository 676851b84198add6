//! Wire contract: the task app, through the service.

use serde_json::{Value, json};

use super::common::*;
use super::upstream::{Keeper, classified};

#[tokio::test]
async fn a_rollout_through_the_proxy_is_answered_as_the_contract_says() {
    let world = World::with("actor", &["--server-timing"], "");
    let job = world.job().await;
    let rollout = world.rollout(&job, "r-1", 7).await;
    assert_eq!(rollout["trace_correlation_id"], "r-1");
    assert_eq!(rollout["success_status"], "success", "{rollout}");
    assert_eq!(rollout["metadata"]["mipro_candidate_id"], "baseline");
    let reward = rollout["reward_info"]["outcome_reward"].as_f64().unwrap();
    assert!(reward == 0.0 || reward == 1.0);
    assert_eq!(rollout["reward_info"]["outcome_objectives"]["reward"].as_f64(), Some(reward));
    assert!(rollout["reward_info"]["outcome_objectives"]["latency_ms"].is_number());
    assert!(rollout["reward_info"]["instance_objectives"].is_array());
    assert!(rollout["reward_info"]["details"]["latency_ms"].is_number());
    let messages = rollout["trace"]["inference"]["messages"].as_array().unwrap();
    let user = messages[1]["content"].as_str().unwrap();
    let (_, info) = Client::new(&world.task_app.url, "").get("/task_info?seed=7").await;
    assert!(
        info.to_string().contains("card_arrival") || user.contains("card_arrival"),
        "all labels are listed"
    );
    assert!(rollout["trace"]["inference"]["response"]["choices"].is_array());
    let state = world.client.state(&job).await;
    assert_eq!(state["rollout_count"], 1, "the job's prompt is the task app's own: it matched");
    let unmatched = world.client.get(&Client::system_path(&job, "events")).await.1.to_string();
    assert!(!unmatched.contains("unmatched"), "{unmatched}");
}

#[tokio::test]
async fn timings_pass_through_the_task_app() {
    let world = World::with("actor", &["--server-timing"], "");
    let job = world.job().await;
    let body = json!({"trace_correlation_id": "r-1", "env": {"seed": 1, "config": {"seed": 1, "split": "train"}},
        "policy": {"config": {"model": "m", "inference_url": job.proxy_url.clone() + "/r-1"}}});
    let answer =
        world.client.http.post(format!("{}/rollout", world.task_app.url)).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200, "a URL that stops at the rollout gets the rest appended");
    let timing = answer.headers()["server-timing"].to_str().unwrap();
    assert!(timing.contains("total;dur=") && timing.contains("op=start_rollout"), "{timing}");
    assert!(answer.headers().contains_key("x-mock-plan"));
}

#[tokio::test]
async fn a_key_is_asked_for_on_everything_but_health() {
    let app = Role::start(&["task-app", "--listen", "127.0.0.1:0"], &[("ENVIRONMENT_API_KEY", "env-key")]);
    let http = reqwest::Client::new();
    assert_eq!(http.get(format!("{}/health", app.url)).send().await.unwrap().status(), 200);
    let llm = Keeper::new().await;
    let body = rollout_body(&format!("{}/chat/completions", llm.url));
    let requests = || {
        [
            http.get(format!("{}/info", app.url)),
            http.get(format!("{}/task_info?seed=1", app.url)),
            http.post(format!("{}/rollout", app.url)).json(&body),
        ]
    };
    for request in requests() {
        let (status, refused) = answer(request).await;
        assert!(status == 401 || status == 400, "{status}: {refused}");
        error_message(&refused);
    }
    for request in requests() {
        assert_eq!(answer(request.header("x-api-key", "env-kex")).await.0, 401);
    }
    assert_eq!(llm.seen().len(), 0, "nothing was asked for strangers");
    for request in requests() {
        assert_eq!(answer(request.header("x-api-key", "env-key")).await.0, 200);
    }
}

fn rollout_body(inference_url: &str) -> Value {
    json!({"trace_correlation_id": "run-1", "env": {"seed": 7, "config": {"seed": 7, "split": "train"}},
           "policy": {"config": {"model": "gpt-4.1-nano", "inference_url": inference_url}}})
}

async fn rollout(app: &Role, body: &Value) -> Value {
    let (status, answer) =
        answer(reqwest::Client::new().post(format!("{}/rollout", app.url)).json(body)).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn app() -> Role {
    Role::start(&["task-app", "--listen", "127.0.0.1:0"], &[])
}

/// The label that seed 7 asks for.
async fn expected(app: &Role) -> String {
    let (_, told) = Client::new(&app.url, "").get("/task_info?seed=7").await;
    told["seeds"][0]["expected_intent"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_call_carries_the_baseline_prompt_all_labels_and_the_forced_tool() {
    let (app, llm) = (app(), Keeper::new().await);
    let mut body = rollout_body(&format!("{}/sys/run-1/chat/completions", llm.url));
    body["policy"]["config"]["api_key"] = json!("sk-1");
    for place in ["", "/env", "/env/config", "/policy", "/policy/config"] {
        body.pointer_mut(place).unwrap()["something_new"] = json!({"deep": [1]});
    }
    let answered = rollout(&app, &body).await;
    let seen = llm.last();
    assert_eq!(seen.uri.path(), "/v1/sys/run-1/chat/completions");
    assert_eq!(seen.header("authorization"), Some("Bearer sk-1"));
    let sent = seen.json();
    assert_eq!(sent["model"], "gpt-4.1-nano");
    let tool = &sent["tools"][0]["function"];
    assert_eq!(
        (sent["tools"].as_array().map(Vec::len), &tool["name"]),
        (Some(1), &json!("banking77_classify"))
    );
    assert_eq!(tool["parameters"]["properties"]["intent"]["type"], "string");
    assert_eq!(sent["tool_choice"]["function"]["name"], "banking77_classify");
    let client = Client::new(&app.url, "");
    let (info, told) = (client.get("/info").await.1, client.get("/task_info?seed=7").await.1);
    let prompt = &info["initial_prompt"];
    let query = told["seeds"][0]["query"].as_str().unwrap();
    let labels: Vec<&str> = info["labels"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    assert_eq!(labels.len(), 77);
    let numbered: Vec<String> =
        labels.iter().enumerate().map(|(i, label)| format!("{}. {label}", i + 1)).collect();
    let user = prompt["messages"][1]["pattern"].as_str().unwrap().replace("{query}", query);
    let user = user.replace("{available_intents}", &numbered.join("\n"));
    let system = prompt["messages"][0]["pattern"].as_str().unwrap().to_owned();
    assert_eq!(seen.messages(), [("system".to_owned(), system), ("user".to_owned(), user)]);
    assert_eq!(answered["trace"]["inference"]["messages"], sent["messages"]);
    assert_eq!(answered["trace"]["inference"]["response"], classified("card_arrival"));
    assert_eq!(answered["inference_url"], body["policy"]["config"]["inference_url"]);
    assert_eq!(answered["metadata"]["mipro_candidate_id"], json!(null), "no proxy stood between");
}

#[tokio::test]
async fn a_label_is_right_whatever_its_case_and_underscores() {
    let app = app();
    let label = expected(&app).await;
    assert!(label.contains('_'), "a label that shows it: {label}");
    let spaced = label.replace('_', " ");
    for (said, reward) in [
        (label.clone(), 1.0),
        (label.to_uppercase(), 1.0),
        (spaced.clone(), 1.0),
        (spaced.to_uppercase(), 1.0),
        (label.replace('_', "-"), 0.0),
        (format!("{label}s"), 0.0),
        (String::new(), 0.0),
    ] {
        let llm =
            Keeper::answering(200, &[("x-mipro-candidate-id", "cand_7")], &classified(&said).to_string())
                .await;
        let answered = rollout(&app, &rollout_body(&format!("{}/sys/run-1/chat/completions", llm.url))).await;
        let info = &answered["reward_info"];
        assert_eq!(
            (&info["outcome_reward"], &answered["success_status"]),
            (&json!(reward), &json!("success")),
            "{said:?}"
        );
        assert_eq!(info["outcome_objectives"]["reward"], json!(reward));
        assert_eq!(info["instance_objectives"].as_array().map(Vec::len), Some(1));
        assert_eq!(answered["metadata"]["mipro_candidate_id"], "cand_7");
    }
}

#[tokio::test]
async fn an_llm_fault_is_told_and_is_no_reward_of_0() {
    let app = app();
    let limited = json!({"error": {"message": "slow down", "type": "requests", "param": null, "code": null}});
    for (status, body, told) in [
        (429, limited.to_string(), "slow down"),
        (500, "oh no".to_owned(), "oh no"),
        (200, "not json".to_owned(), "JSON"),
        (200, json!({"choices": []}).to_string(), "choices"),
    ] {
        let llm = Keeper::answering(status, &[("x-mipro-candidate-id", "cand_7")], &body).await;
        let answered = rollout(&app, &rollout_body(&format!("{}/chat/completions", llm.url))).await;
        assert_ne!(answered["success_status"], "success", "{answered}");
        assert!(answered["status_detail"].as_str().unwrap().contains(told), "{answered}");
        assert_eq!(answered["reward_info"]["outcome_reward"], json!(null));
        assert_eq!(answered["reward_info"]["outcome_objectives"].get("reward"), None);
        assert_eq!(
            answered["metadata"]["mipro_candidate_id"], "cand_7",
            "so that it can be reported as failed"
        );
    }
}

#[tokio::test]
async fn the_correlation_id_may_stand_in_the_urls_query() {
    let (app, llm) = (app(), Keeper::new().await);
    for (query, body_id, expected) in [
        ("?cid=from-cid", None, "from-cid"),
        ("?trace_correlation_id=from-query", None, "from-query"),
        ("?cid=from-cid", Some("from-body"), "from-body"),
    ] {
        let mut body = rollout_body(&format!("{}/sys/run/chat/completions{query}", llm.url));
        body["trace_correlation_id"] = json!(body_id);
        assert_eq!(rollout(&app, &body).await["trace_correlation_id"], expected, "{query}");
        assert_eq!(llm.last().uri.query(), Some(&query[1..]), "the query goes along");
        assert_eq!(llm.last().header("x-trace-correlation-id"), Some(expected));
    }
}

#[tokio::test]
async fn an_inference_url_that_stops_early_gets_the_rest() {
    let (app, llm) = (app(), Keeper::new().await);
    for (given, called) in [
        ("/sys/run", "/v1/sys/run/chat/completions"),
        ("/sys/run/", "/v1/sys/run/chat/completions"),
        ("/sys/run?cid=a", "/v1/sys/run/chat/completions?cid=a"),
        ("/sys/run/chat/completions", "/v1/sys/run/chat/completions"),
        ("/sys/run/v1/chat/completions", "/v1/sys/run/v1/chat/completions"),
    ] {
        rollout(&app, &rollout_body(&format!("{}{given}", llm.url))).await;
        assert_eq!(llm.last().uri.to_string(), called, "{given}");
    }
    for wrong in [json!("nonsense"), json!("ftp://h/x"), json!(7), json!(null)] {
        let mut body = rollout_body("");
        body["policy"]["config"]["inference_url"] = wrong.clone();
        let request = reqwest::Client::new().post(format!("{}/rollout", app.url)).json(&body);
        let (status, refused) = answer(request).await;
        assert_eq!(status, 400, "{wrong}: {refused}");
        assert!(error_message(&refused).contains("inference_url"), "{refused}");
    }
}

#[tokio::test]
async fn info_and_task_info_describe_the_taskset() {
    let app = app();
    let client = Client::new(&app.url, "");
    let (status, info) = client.get("/info").await;
    assert_eq!(status, 200);
    let prompt = &info["initial_prompt"];
    for (place, role) in ["system", "user"].into_iter().enumerate() {
        assert_eq!(
            (&prompt["messages"][place]["role"], &prompt["messages"][place]["order"]),
            (&json!(role), &json!(place))
        );
    }
    assert_eq!(prompt["wildcards"], json!({"query": "REQUIRED", "available_intents": "OPTIONAL"}));
    let (status, told) = client.get("/task_info?seed=7&seed=8").await;
    assert_eq!(status, 200);
    for split in ["train", "test"] {
        assert!(told["taskset"]["splits"][split].as_u64() > Some(0), "{told}");
    }
    for (place, seed) in [7, 8].into_iter().enumerate() {
        let row = &told["seeds"][place];
        assert_eq!(row["seed"], seed);
        assert!(
            row["query"].is_string() && info["labels"].as_array().unwrap().contains(&row["expected_intent"]),
            "{row}"
        );
    }
    let (status, refused) = client.get("/task_info?seed=x").await;
    assert_eq!(status, 400);
    assert!(error_message(&refused).contains('x'));
}

#[tokio::test]
async fn the_seed_picks_the_row_that_is_asked_about() {
    let (app, llm) = (app(), Keeper::new().await);
    let client = Client::new(&app.url, "");
    let rows = client.get("/task_info").await.1["taskset"]["splits"]["test"].as_u64().unwrap();
    for seed in [0, 3, rows - 1, rows, rows + 3] {
        let mut body = rollout_body(&format!("{}/chat/completions", llm.url));
        body["env"] = json!({"seed": seed, "config": {"seed": seed, "split": "test"}});
        rollout(&app, &body).await;
        let path = format!("/task_info?seed={}&split=test", seed % rows);
        let query = client.get(&path).await.1["seeds"][0]["query"].as_str().unwrap().to_owned();
        assert!(llm.last().messages()[1].1.contains(&query), "seed {seed}: {query}");
    }
}

#[tokio::test]
async fn seeds_pick_rows_modulo_the_split() {
    let app = Role::start(&["task-app", "--listen", "127.0.0.1:0"], &[]);
    let client = Client::new(&app.url, "");
    let (_, info) = client.get("/info").await;
    assert_eq!(info["initial_prompt"]["messages"].as_array().map(Vec::len), Some(2), "{info}");
    let row = async |seed: u64| -> Value { client.get(&format!("/task_info?seed={seed}")).await.1 };
    let first = row(0).await;
    let rows = find_number(&first, "train").expect("the split's size is told");
    let (a, b) = (row(3).await, row(3 + rows).await);
    assert_eq!(strip_seed(a), strip_seed(b));
}

fn find_number(value: &Value, name: &str) -> Option<u64> {
    match value {
        Value::Object(map) => map.iter().find_map(|(key, v)| {
            if key == name { v.as_u64().or_else(|| find_any_number(v)) } else { find_number(v, name) }
        }),
        Value::Array(list) => list.iter().find_map(|v| find_number(v, name)),
        _ => None,
    }
}

fn find_any_number(value: &Value) -> Option<u64> {
    value.as_object()?.values().find_map(Value::as_u64)
}

fn strip_seed(mut value: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("seed");
                map.values_mut().for_each(strip);
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut value);
    value
}
