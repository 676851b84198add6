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

#[tokio::test]
async fn the_limit_is_bounded_and_the_next_page_is_named() {
    let world = World::with("actor", &[], "[limits]\nevents_limit_max = 3\n");
    let job = world.client.small_job().await;
    for index in 0..4 {
        let report = json!({"rollout_id": format!("r{index}"), "status": "reward_done", "reward": 1.0, "candidate_id": "baseline"});
        world.client.status(&job, report).await;
    }
    let page =
        async |query: &str| world.client.get(&Client::system_path(&job, &format!("events{query}"))).await;
    let (status, first) = page("?since_seq=0&limit=5000").await;
    assert_eq!((status.as_u16(), items(&first).len()), (200, 3), "more are asked for than one answer holds");
    assert_eq!(items(&page("").await.1), items(&first), "since 0, as many as may be");
    assert_eq!(first["next_seq"], items(&first)[2]["seq"]);
    let (_, second) = page(&format!("?since_seq={}&limit=2", first["next_seq"])).await;
    assert_eq!(items(&second).len(), 2);
    assert!(
        items(&second)[0]["seq"].as_u64() > first["next_seq"].as_u64(),
        "those after, not that one again"
    );
    let (status, none) = page("?since_seq=1000000&limit=0").await;
    assert_eq!((status.as_u16(), &items(&none)[..], &none["next_seq"]), (200, &[][..], &json!(1_000_000)));
    for wrong in ["limit=-1", "limit=all", "since_seq=-1", "since_seq=1.5"] {
        let (status, body) = page(&format!("?{wrong}")).await;
        assert_eq!(status, 400, "{wrong}: {body}");
        assert!(error_message(&body).contains(wrong.split('=').next().unwrap()), "{body}");
    }
    assert_eq!(page("?unknown=1&since_seq=&limit=").await.0, 200, "what means nothing is ignored");
}

#[tokio::test]
async fn events_name_what_they_are_about() {
    let world = World::new();
    let job = world.client.small_job().await;
    let candidate = json!({"candidate_id": "mine", "deltas": {"text": "Other."}, "params": {"demos": 2}});
    world.client.add(&job, candidate).await;
    world.client.ask(&job, "r1").await;
    world.client.status(&job, json!({"rollout_id": "r1", "status": "reward_done", "reward": 0.5})).await;
    let events = items(&world.client.get(&Client::system_path(&job, "events")).await.1);
    let of = |name: &str| events.iter().rfind(|event| event["type"] == name).unwrap();
    let started = of("mipro.rollout.started");
    let chosen = &started["candidate_id"];
    assert_eq!((&started["rollout_id"], chosen.is_string()), (&json!("r1"), true));
    assert!(started["probability"].as_f64().is_some_and(|p| p > 0.0 && p <= 1.0), "{started}");
    let reward = of("mipro.reward.received");
    assert_eq!(
        (&reward["rollout_id"], &reward["candidate_id"], &reward["reward"]),
        (&json!("r1"), chosen, &json!(0.5))
    );
    assert_eq!(
        (&of("mipro.rollout.done")["rollout_id"], &of("mipro.rollout.done")["candidate_id"]),
        (&json!("r1"), chosen)
    );
    assert_eq!(&of("mipro.tpe.update")["candidate_id"], chosen);
    let added = of("mipro.candidate.added");
    assert_eq!((&added["candidate_id"], &added["params"]), (&json!("mine"), &json!({"demos": 2})));
}
