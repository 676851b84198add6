//! Wire contract: `GET …/events`.

use serde_json::{Value, json};

use super::common::*;

fn items(body: &Value) -> Vec<Value> {
    body.as_array().or_else(|| body["items"].as_array()).unwrap().clone()
}

#[tokio::test]
async fn events_tell_the_story_in_order() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.add(&job, json!({"deltas": {"instruction_text": "Other."}})).await;
    world.client.ask(&job, "r1").await;
    world.client.status(&job, json!({"rollout_id": "r1", "status": "reward", "reward": 1.0})).await;
    world.client.status(&job, json!({"rollout_id": "r1", "status": "done"})).await;
    let (status, body) = world.client.get(&Client::system_path(&job, "events?since_seq=0&limit=5000")).await;
    assert_eq!(status, 200, "{body}");
    let events = items(&body);
    let types: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    let order = [
        "mipro.candidate.added",
        "mipro.rollout.started",
        "mipro.reward.received",
        "mipro.tpe.update",
        "mipro.rollout.done",
    ];
    let places: Vec<usize> = order
        .iter()
        .map(|t| types.iter().position(|x| x == t).unwrap_or_else(|| panic!("no {t} in {types:?}")))
        .collect();
    assert!(places.is_sorted(), "{types:?}");
    let seqs: Vec<u64> = events.iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|w| w[0] < w[1]), "{seqs:?}");
    assert!(events.iter().all(|e| e["at"].is_string() || e["at"].is_number()));
    let started = &events[places[1]];
    assert!(started.to_string().contains("probability"), "{started}");
}

#[tokio::test]
async fn since_and_limit_page_through_them() {
    let world = World::engine("cache");
    let job = world.client.small_job().await;
    for index in 0..5 {
        let report = json!({"rollout_id": format!("r{index}"), "status": "reward_done", "reward": 1.0, "candidate_id": "baseline"});
        world.client.status(&job, report).await;
    }
    let all = items(&world.client.get(&Client::system_path(&job, "events")).await.1);
    let mut paged = Vec::new();
    let mut since = 0;
    loop {
        let (status, page) =
            world.client.get(&Client::system_path(&job, &format!("events?since_seq={since}&limit=3"))).await;
        assert_eq!(status, 200);
        let page = items(&page);
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 3);
        since = last["seq"].as_u64().unwrap();
        paged.extend(page);
    }
    assert_eq!(paged, all);
    let (status, body) = world.client.get(&Client::system_path(&job, "events?since_seq=x")).await;
    assert_eq!(status, 400, "{body}");
}
