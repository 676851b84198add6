//! Wire contract: `POST …/systems/{system_id}/status`.

use serde_json::json;

use super::common::*;

#[tokio::test]
async fn a_reward_then_done_are_both_acknowledged_with_the_candidate() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.ask(&job, "r1").await;
    let (status, reward) =
        world.client.status(&job, json!({"rollout_id": "r1", "status": "reward", "reward": 1.0})).await;
    assert_eq!(status, 200, "{reward}");
    assert_eq!(
        (reward["candidate_id"].as_str(), reward["rollout_id"].as_str()),
        (Some("baseline"), Some("r1"))
    );
    assert_eq!(reward["status"], "reward");
    let (status, done) = world
        .client
        .status(&job, json!({"rollout_id": "r1", "status": "done", "candidate_id": "baseline"}))
        .await;
    assert_eq!(status, 200, "{done}");
    assert_eq!(done["status"], "done");
    assert!(done["version"].as_u64() > reward["version"].as_u64(), "the version grows with each change");
    let state = world.client.state(&job).await;
    assert_eq!((state["rollout_count"].as_u64(), state["reward_count"].as_u64()), (Some(1), Some(1)));
}

#[tokio::test]
async fn done_with_a_reward_and_nothing_else_counts() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.ask(&job, "r1").await;
    let (status, done) =
        world.client.status(&job, json!({"rollout_id": "r1", "status": "done", "reward": 0.7})).await;
    assert_eq!(status, 200, "{done}");
    assert_eq!(done["candidate_id"], "baseline");
    let state = world.client.state(&job).await;
    assert_eq!(state["candidates"]["baseline"]["avg_reward"], 0.7);
    assert_eq!(state["reward_count"], 1);
}

#[tokio::test]
async fn failed_closes_without_charging_the_prompt() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.ask(&job, "r1").await;
    let (status, body) = world.client.status(&job, json!({"rollout_id": "r1", "status": "failed"})).await;
    assert_eq!(status, 200, "{body}");
    let state = world.client.state(&job).await;
    assert_eq!(state["reward_count"], 0);
    assert_eq!(state["candidates"]["baseline"]["reward_count"], 0);
    let (status, body) =
        world.client.status(&job, json!({"rollout_id": "r1", "status": "reward", "reward": 1.0})).await;
    assert_eq!(status, 409, "after failed: {body}");
    assert!(error_message(&body).contains("r1"));
}

#[tokio::test]
async fn a_candidate_id_that_differs_from_the_rollouts_is_a_conflict() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.ask(&job, "r1").await;
    let (status, added) = world.client.add(&job, json!({"deltas": {"instruction_text": "Other."}})).await;
    assert_eq!(status, 200, "{added}");
    let report = json!({"rollout_id": "r1", "status": "reward_done", "reward": 1.0, "candidate_id": added["candidate_id"]});
    let (status, body) = world.client.status(&job, report).await;
    assert_eq!(status, 409, "{body}");
    assert_eq!(world.client.state(&job).await["reward_count"], 0, "a refused call changes nothing");
}

#[tokio::test]
async fn attempt_id_is_an_alias_of_rollout_id() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.ask(&job, "r1").await;
    let (status, body) =
        world.client.status(&job, json!({"attempt_id": "r1", "status": "reward_done", "reward": 0.0})).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["rollout_id"], "r1");
}

#[tokio::test]
async fn a_reward_is_required_and_must_be_a_finite_number() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.ask(&job, "r1").await;
    for status in ["reward", "reward_done"] {
        let (code, body) = world.client.status(&job, json!({"rollout_id": "r1", "status": status})).await;
        assert_eq!(code, 400, "{body}");
        assert!(error_message(&body).contains("reward"), "{body}");
    }
    for raw in ["1e999", "-1e999", "NaN", "Infinity", "\"0.5\"", "true", "[1]"] {
        let text = format!(r#"{{"rollout_id": "r1", "status": "reward", "reward": {raw}}}"#);
        let request = world.client.request(reqwest::Method::POST, &Client::system_path(&job, "status"));
        let (code, body) = answer(request.header("content-type", "application/json").body(text)).await;
        assert_eq!(code, 400, "{raw}: {body}");
        error_message(&body);
    }
    assert_eq!(world.client.state(&job).await["reward_count"], 0);
}

#[tokio::test]
async fn a_rollout_that_never_went_through_the_proxy_is_taken_with_a_known_candidate() {
    let world = World::new();
    let job = world.client.small_job().await;
    let report = json!({"rollout_id": "elsewhere", "status": "reward_done", "reward": 0.5, "candidate_id": "baseline"});
    let (status, body) = world.client.status(&job, report).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(world.client.state(&job).await["reward_count"], 1);
    let (status, body) =
        world.client.status(&job, json!({"rollout_id": "unheard-of", "status": "done"})).await;
    assert_eq!(status, 404, "{body}");
    assert!(error_message(&body).contains("unheard-of"));
    let report = json!({"rollout_id": "x", "status": "reward_done", "reward": 0.5, "candidate_id": "nobody"});
    let (status, body) = world.client.status(&job, report).await;
    assert_eq!(status, 422, "{body}");
    assert!(error_message(&body).contains("nobody"));
}

#[tokio::test]
async fn repeating_an_applied_call_changes_nothing_also_after_done() {
    for engine in ["actor", "cache", "blob"] {
        let world = World::engine(engine);
        let job = world.client.small_job().await;
        world.client.ask(&job, "r1").await;
        let reward = json!({"rollout_id": "r1", "status": "reward", "reward": 0.25});
        let first = world.client.status(&job, reward.clone()).await;
        let done = world.client.status(&job, json!({"rollout_id": "r1", "status": "done"})).await;
        let state = world.client.state(&job).await;
        for again in [
            reward,
            json!({"rollout_id": "r1", "status": "done"}),
            json!({"rollout_id": "r1", "status": "reward_done", "reward": 0.25}),
            json!({"attempt_id": "r1", "status": "done", "reward": 0.25, "candidate_id": "baseline"}),
        ] {
            let (status, body) = world.client.status(&job, again).await;
            assert_eq!(status, 200, "{engine}: {body}");
        }
        assert_eq!((first.0.as_u16(), done.0.as_u16()), (200, 200));
        assert_eq!(world.client.state(&job).await, state, "{engine}: repeats changed the state");
    }
}

#[tokio::test]
async fn a_different_reward_for_a_rewarded_rollout_is_a_conflict() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.ask(&job, "r1").await;
    world.client.status(&job, json!({"rollout_id": "r1", "status": "reward_done", "reward": 1.0})).await;
    let (status, body) =
        world.client.status(&job, json!({"rollout_id": "r1", "status": "reward", "reward": 0.5})).await;
    assert_eq!(status, 409, "{body}");
    assert_eq!(world.client.state(&job).await["candidates"]["baseline"]["avg_reward"], 1.0);
}

#[tokio::test]
async fn a_first_reward_after_a_done_that_carried_none_counts() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.ask(&job, "r1").await;
    let (status, _) = world.client.status(&job, json!({"rollout_id": "r1", "status": "done"})).await;
    assert_eq!(status, 200);
    let (status, body) =
        world.client.status(&job, json!({"rollout_id": "r1", "status": "reward", "reward": 0.5})).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(world.client.state(&job).await["reward_count"], 1);
}

#[tokio::test]
async fn unknown_systems_and_other_orgs_systems_are_not_there() {
    let world = World::new();
    let job = world.client.small_job().await;
    let report =
        json!({"rollout_id": "r1", "status": "reward_done", "reward": 1.0, "candidate_id": "baseline"});
    let (status, foreign) = world.client.as_key(OTHER_KEY).status(&job, report.clone()).await;
    assert_eq!(status, 404, "{foreign}");
    let nobody = Job { system_id: "9e9e9e9e-9e9e-4e9e-8e9e-9e9e9e9e9e9e".to_owned(), ..job.clone() };
    let (status, unknown) = world.client.status(&nobody, report.clone()).await;
    assert_eq!(status, 404, "{unknown}");
    let malformed = Job { system_id: "not-an-id".to_owned(), ..job };
    assert_eq!(world.client.status(&malformed, report).await.0, 404);
}

#[tokio::test]
async fn unknown_fields_are_ignored_and_wrong_ones_named() {
    let world = World::new();
    let job = world.client.small_job().await;
    let report = json!({"rollout_id": "r1", "status": "reward_done", "reward": 1, "candidate_id": "baseline", "extra": {"a": [1]}});
    assert_eq!(world.client.status(&job, report).await.0, 200);
    for (body, field) in [
        (json!({"status": "done"}), "rollout_id"),
        (json!({"rollout_id": "r2"}), "status"),
        (json!({"rollout_id": "r2", "status": "finished"}), "status"),
        (json!({"rollout_id": 7, "status": "done"}), "rollout_id"),
        (json!({"rollout_id": "r2", "status": "reward", "reward": 1.0, "candidate_id": 3}), "candidate_id"),
    ] {
        let (status, answer) = world.client.status(&job, body.clone()).await;
        assert_eq!(status, 400, "{body} → {answer}");
        assert!(error_message(&answer).contains(field), "{body} → {answer}");
    }
}

#[tokio::test]
async fn every_status_is_answered_with_what_clients_read() {
    let world = World::new();
    let job = world.client.small_job().await;
    for (index, (sent, reward)) in
        [("reward", Some(1.0)), ("done", None), ("reward_done", Some(0.0)), ("failed", None)]
            .into_iter()
            .enumerate()
    {
        let rollout = format!("r{index}");
        let candidate = world.client.ask(&job, &rollout).await.headers()["x-mipro-candidate-id"].clone();
        let mut report = json!({"rollout_id": rollout, "status": sent});
        if let Some(reward) = reward {
            report["reward"] = json!(reward);
        }
        let (status, body) = world.client.status(&job, report).await;
        assert_eq!(status, 200, "{sent}: {body}");
        assert_eq!(body["candidate_id"], candidate.to_str().unwrap());
        assert_eq!((&body["rollout_id"], &body["status"]), (&json!(rollout), &json!(sent)));
        assert_eq!(body["version"], world.client.state(&job).await["version"], "{sent}");
    }
}

#[tokio::test]
async fn fields_that_are_null_are_absent() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.ask(&job, "r1").await;
    let report = json!({"rollout_id": "r1", "attempt_id": null, "status": "done", "reward": null, "candidate_id": null});
    assert_eq!(world.client.status(&job, report).await.0, 200);
    assert_eq!(world.client.state(&job).await["reward_count"], 0);
}

#[tokio::test]
async fn a_different_reward_is_a_conflict_also_after_done_and_through_any_status() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.ask(&job, "r1").await;
    world.client.status(&job, json!({"rollout_id": "r1", "status": "reward", "reward": 0.25})).await;
    for done in [false, true] {
        if done {
            assert_eq!(world.client.status(&job, json!({"rollout_id": "r1", "status": "done"})).await.0, 200);
        }
        let before = world.client.state(&job).await;
        for status in ["reward", "reward_done", "done"] {
            let report = json!({"rollout_id": "r1", "status": status, "reward": 0.5});
            let (code, body) = world.client.status(&job, report).await;
            assert_eq!(code, 409, "{status}, done: {done}: {body}");
            error_message(&body);
        }
        assert_eq!(world.client.state(&job).await, before, "a refused call changes nothing");
    }
}

#[tokio::test]
async fn after_failed_no_reward_counts_and_failed_may_be_repeated() {
    let world = World::new();
    let job = world.client.small_job().await;
    world.client.ask(&job, "r1").await;
    let failed = json!({"rollout_id": "r1", "status": "failed"});
    assert_eq!(world.client.status(&job, failed.clone()).await.0, 200);
    let state = world.client.state(&job).await;
    assert_eq!(world.client.status(&job, failed).await.0, 200);
    for status in ["reward", "reward_done", "done"] {
        let report = json!({"rollout_id": "r1", "status": status, "reward": 1.0});
        assert_eq!(world.client.status(&job, report).await.0, 409, "{status}");
    }
    assert_eq!(world.client.state(&job).await, state);
}

#[tokio::test]
async fn a_rollout_from_elsewhere_is_known_once_it_was_reported() {
    let world = World::new();
    let job = world.client.small_job().await;
    let reward =
        json!({"rollout_id": "elsewhere", "status": "reward", "reward": 0.5, "candidate_id": "baseline"});
    assert_eq!(world.client.status(&job, reward).await.0, 200);
    let (status, done) =
        world.client.status(&job, json!({"rollout_id": "elsewhere", "status": "done"})).await;
    assert_eq!((status.as_u16(), done["candidate_id"].as_str()), (200, Some("baseline")));
    assert_eq!(world.client.state(&job).await["rollout_count"], 1);
    for index in 0..6 {
        let id = format!("c{index}");
        let candidate = json!({"candidate_id": id, "deltas": {"text": id}});
        assert_eq!(world.client.add(&job, candidate).await.0, 200);
        let rollout = format!("elsewhere-{index}");
        let report = json!({"rollout_id": rollout, "status": "reward", "reward": 0.5, "candidate_id": id});
        assert_eq!(world.client.status(&job, report).await.0, 200);
        let asked = world.client.ask(&job, &rollout).await;
        assert_eq!(asked.headers()["x-mipro-candidate-id"], *id, "the proxy keeps to what was reported");
    }
    assert_eq!(world.client.state(&job).await["rollout_count"], 7);
}

/// The one file of a system's newest state.
fn newest_state(dir: &std::path::Path) -> std::path::PathBuf {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                found.push(path);
            }
        }
    }
    found.into_iter().max().expect("the state is stored")
}

/// A lifetime can't be set from outside, and an hour is long: so the rollout is made older in what is stored.
#[tokio::test]
async fn a_first_reward_after_done_comes_too_late_when_the_rollouts_time_is_up() {
    let mut world = World::engine("blob");
    let job = world.client.small_job().await;
    world.client.ask(&job, "r1").await;
    assert_eq!(world.client.status(&job, json!({"rollout_id": "r1", "status": "done"})).await.0, 200);
    world.service.child.kill().unwrap();
    world.service.child.wait().unwrap();
    let file = newest_state(&world.dir.path().join("data"));
    let mut stored: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let opened_s = stored.pointer_mut("/state/closed/0/opened_s").unwrap();
    *opened_s = json!(opened_s.as_u64().unwrap() - 2 * 3_600);
    std::fs::write(&file, stored.to_string()).unwrap();
    world.restart();
    let (status, body) =
        world.client.status(&job, json!({"rollout_id": "r1", "status": "reward", "reward": 0.5})).await;
    assert_eq!(status, 409, "{body}");
    assert_eq!(body["error"]["code"], "too_late");
    assert_eq!(world.client.state(&job).await["reward_count"], 0);
}
