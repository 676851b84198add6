//! Wire contract: `GET …/state`.

use serde_json::{Value, json};

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

async fn reward(world: &World, job: &Job, candidate: &str, reward: f64, count: usize) {
    for index in 0..count {
        let report = json!({"rollout_id": format!("{candidate}-{index}"), "status": "reward_done", "reward": reward, "candidate_id": candidate});
        assert_eq!(world.client.status(job, report).await.0, 200);
    }
}

#[tokio::test]
async fn a_new_state_knows_its_baseline_and_nothing_more() {
    let world = World::new();
    let job = world.client.small_job().await;
    let state = world.client.state(&job).await;
    assert_eq!((&state["best_candidate_id"], &state["best_score"]), (&json!("baseline"), &json!(null)));
    assert_eq!(
        (&state["rollout_count"], &state["reward_count"], &state["proposal_seq"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert_eq!((&state["attempted_candidates"], &state["optimized_candidates"]), (&json!([]), &json!([])));
    let baseline = &state["candidates"]["baseline"];
    for empty in ["params", "deltas", "stage_payloads"] {
        assert_eq!(baseline[empty], json!({}), "{empty}");
    }
    assert_eq!((&baseline["avg_reward"], &baseline["rollout_count"]), (&json!(null), &json!(0)));
}

#[tokio::test]
async fn optimized_candidates_are_those_above_the_baseline_best_first() {
    let world = World::new();
    let job = world.client.small_job().await;
    for id in ["worse", "good", "best", "untried"] {
        let (status, added) =
            world.client.add(&job, json!({"candidate_id": id, "deltas": {"text": id}})).await;
        assert_eq!(status, 200, "{added}");
    }
    for (id, score) in [("baseline", 0.5), ("worse", 0.25), ("good", 0.75), ("best", 1.0)] {
        reward(&world, &job, id, score, 5).await;
    }
    let state = world.client.state(&job).await;
    let expected = json!([{"candidate_id": "best", "score": 1.0}, {"candidate_id": "good", "score": 0.75}]);
    assert_eq!(state["optimized_candidates"], expected);
    let attempted = state["attempted_candidates"].as_array().unwrap();
    assert_eq!(attempted.len(), 4, "those with rewards: {attempted:?}");
    for (id, score) in [("baseline", 0.5), ("worse", 0.25), ("good", 0.75), ("best", 1.0)] {
        assert!(attempted.contains(&json!({"candidate_id": id, "score": score})), "{id}: {attempted:?}");
    }
    assert_eq!((&state["best_candidate_id"], &state["best_score"]), (&json!("best"), &json!(1.0)));
    assert_eq!(
        (&state["proposal_seq"], &state["rollout_count"], &state["reward_count"]),
        (&json!(4), &json!(20), &json!(20))
    );
}

#[tokio::test]
async fn rollouts_without_a_reward_count_as_rollouts_only() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.ask(&job, "r1").await;
    world.client.ask(&job, "r2").await;
    world.client.status(&job, json!({"rollout_id": "r1", "status": "reward_done", "reward": 1.0})).await;
    world.client.status(&job, json!({"rollout_id": "r2", "status": "done"})).await;
    let state = world.client.state(&job).await;
    let baseline = &state["candidates"]["baseline"];
    assert_eq!((&state["rollout_count"], &state["reward_count"]), (&json!(2), &json!(1)));
    assert_eq!((&baseline["rollout_count"], &baseline["reward_count"]), (&json!(2), &json!(1)));
    assert_eq!(baseline["avg_reward"], 1.0, "the one without is no 0");
}

#[tokio::test]
async fn a_candidate_shows_all_it_was_given() {
    let world = World::new();
    let job = world.client.small_job().await;
    let stages = json!({"main": {"stage_id": "main", "module_id": "m", "instruction_text": "From a stage.",
        "instruction_indices": [1], "instruction_lines": ["From a stage."], "demo_indices": [], "baseline_messages": []}});
    let given = json!({"candidate_id": "mine", "parent_id": "baseline", "stage_payloads": stages, "deltas": {"of_ours": [1]},
        "params": {"instruction": 3, "demos": 1}, "metadata": {"label": "third"}});
    assert_eq!(world.client.add(&job, given.clone()).await.0, 200);
    let state = world.client.state(&job).await;
    let shown = &state["candidates"]["mine"];
    for field in ["candidate_id", "parent_id", "stage_payloads", "deltas", "params", "metadata"] {
        assert_eq!(shown[field], given[field], "{field}");
    }
}

/// A candidate's text, found as the contract's client finds it.
fn shown(candidate: &Value) -> String {
    let stages = || candidate["stage_payloads"].as_object().unwrap().values();
    let lines = |stage: &Value| {
        let lines: Vec<&str> =
            stage["instruction_lines"].as_array()?.iter().filter_map(Value::as_str).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    };
    let system = |message: &&Value| message["role"] == "system";
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let deltas = ["instruction_text", "text", "content"];
    stages()
        .find_map(|stage| text(&stage["instruction_text"]))
        .or_else(|| stages().find_map(lines))
        .or_else(|| deltas.iter().find_map(|name| text(&candidate["deltas"][name])))
        .or_else(|| {
            let message = candidate["baseline_messages"].as_array()?.iter().find(system)?;
            text(&message["content"]).or_else(|| text(&message["pattern"]))
        })
        .unwrap_or_else(|| panic!("nothing to show in {candidate}"))
}

#[tokio::test]
async fn every_kind_of_candidate_shows_its_text_where_clients_look() {
    let world = World::new();
    let job = world.client.small_job().await;
    let replaced = json!([{"old_text": "what is asked", "new_text": "the answer", "apply_to_role": "system", "apply_to_order": 0}]);
    for (given, expected) in [
        (json!({"deltas": {"instruction_text": "A."}}), "A."),
        (json!({"deltas": {"text": "B."}}), "B."),
        (json!({"deltas": {"content": "C."}}), "C."),
        (json!({"deltas": {"messages": [{"role": "system", "order": 0, "pattern": "D."}]}}), "D."),
        (json!({"deltas": {"transformation": {"text_replacements": replaced}}}), "Say the answer."),
        (json!({"deltas": {"demos": [{"user": "u", "assistant": "a"}]}}), "Say what is asked."),
        (
            json!({"stage_payloads": {"s": {"instruction_text": "E.", "instruction_lines": ["no"]}}, "deltas": {"text": "no"}}),
            "E.",
        ),
        (
            json!({"stage_payloads": {"s": {"instruction_lines": ["F.", "G."]}}, "deltas": {"text": "no"}}),
            "F.\nG.",
        ),
    ] {
        let (status, added) = world.client.add(&job, given.clone()).await;
        assert_eq!(status, 200, "{given}: {added}");
        let state = world.client.state(&job).await;
        assert_eq!(shown(&state["candidates"][added["candidate_id"].as_str().unwrap()]), expected, "{given}");
    }
    assert_eq!(shown(&world.client.state(&job).await["candidates"]["baseline"]), "Say what is asked.");
}
