//! Wire contract: the task app, through the service.

use serde_json::{Value, json};

use super::common::*;

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
async fn a_key_is_asked_for_where_one_is_set() {
    let app = Role::start(&["task-app", "--listen", "127.0.0.1:0"], &[("ENVIRONMENT_API_KEY", "env-key")]);
    let http = reqwest::Client::new();
    assert_eq!(http.get(format!("{}/health", app.url)).send().await.unwrap().status(), 200);
    let bare = http.get(format!("{}/info", app.url)).send().await.unwrap();
    assert!(bare.status().is_client_error(), "{}", bare.status());
    let keyed = http.get(format!("{}/info", app.url)).header("x-api-key", "env-key").send().await.unwrap();
    assert_eq!(keyed.status(), 200);
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
