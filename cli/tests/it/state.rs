//! Wire contract: `GET …/state`.

use serde_json::json;

use super::common::*;

#[tokio::test]
async fn the_state_has_what_clients_read() {
    let world = World::new();
    let job = world.client.small_job().await;
    let (_, added) = world
        .client
        .add(&job, json!({"deltas": {"instruction_text": "Other."}, "params": {"instruction": 1}}))
        .await;
    let candidate = added["candidate_id"].as_str().unwrap();
    for index in 0..4 {
        let report = json!({"rollout_id": format!("b{index}"), "status": "reward_done", "reward": 0.5, "candidate_id": "baseline"});
        world.client.status(&job, report).await;
        let report = json!({"rollout_id": format!("c{index}"), "status": "reward_done", "reward": 1.0, "candidate_id": candidate});
        world.client.status(&job, report).await;
    }
    let state = world.client.state(&job).await;
    assert_eq!(state["system_id"], job.system_id);
    assert_eq!((&state["mode"], &state["status"]), (&json!("online"), &json!("active")));
    assert_eq!((&state["rollout_count"], &state["reward_count"]), (&json!(8), &json!(8)));
    assert!(state["version"].as_u64() > Some(8) && state["proposal_seq"].is_u64());
    let baseline = &state["candidates"]["baseline"];
    assert_eq!(baseline["candidate_id"], "baseline");
    assert_eq!(
        (&baseline["avg_reward"], &baseline["rollout_count"], &baseline["reward_count"]),
        (&json!(0.5), &json!(4), &json!(4))
    );
    assert_eq!(baseline["params"], json!({}));
    let message = &baseline["baseline_messages"][0];
    assert_eq!((&message["role"], &message["content"]), (&json!("system"), &json!("Say what is asked.")));
    let other = &state["candidates"][candidate];
    assert_eq!(other["deltas"]["instruction_text"], "Other.");
    assert_eq!(other["params"], json!({"instruction": 1}));
    assert!(other["stage_payloads"].is_object());
    assert_eq!(state["best_candidate_id"], candidate);
    assert!(state["best_score"].as_f64() > Some(0.5));
    let attempted = state["attempted_candidates"].as_array().unwrap();
    assert!(
        attempted.iter().any(|c| c["candidate_id"] == "baseline" && c["score"].is_number()),
        "{attempted:?}"
    );
    assert!(state["optimized_candidates"].is_array());
}

#[tokio::test]
async fn nothing_is_lost_over_a_clean_stop_on_any_engine() {
    for (engine, config) in [("actor", ""), ("cache", ""), ("cache", WRITE_THROUGH), ("blob", "")] {
        let mut world = World::with(engine, &[], config);
        let job = world.client.small_job().await;
        for index in 0..20 {
            let report = json!({"rollout_id": format!("r{index}"), "status": "reward_done", "reward": 1.0, "candidate_id": "baseline"});
            assert_eq!(world.client.status(&job, report).await.0, 200);
        }
        let before = world.client.state(&job).await;
        world.bounce();
        assert_eq!(world.client.state(&job).await, before, "{engine} {config}");
    }
}
