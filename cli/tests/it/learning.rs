//! Wire contract: how a job's settings decide which candidate a rollout gets.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::common::*;

/// A job with this in its `mipro`, and as many candidates beside the baseline; their ids.
async fn job_with(world: &World, settings: Value, candidates: usize) -> (Job, Vec<String>) {
    let mut body = job_body(&small_prompt(), "http://127.0.0.1:9");
    let mipro = body["config_body"]["prompt_learning"]["mipro"].as_object_mut().unwrap();
    mipro.extend(settings.as_object().unwrap().clone());
    let job = world.client.create(&body).await;
    let mut ids = vec!["baseline".to_owned()];
    for index in 0..candidates {
        let candidate = json!({"deltas": {"instruction_text": format!("Variant {index}.")},
                               "params": {"instruction": index + 1}});
        let (status, added) = world.client.add(&job, candidate).await;
        assert_eq!(status, 200, "{added}");
        ids.push(added["candidate_id"].as_str().unwrap().to_owned());
    }
    (job, ids)
}

async fn chosen(world: &World, job: &Job, rollout: &str) -> String {
    let answer = world.client.ask(job, rollout).await;
    answer.headers()["x-mipro-candidate-id"].to_str().unwrap().to_owned()
}

async fn reward(world: &World, job: &Job, candidate: &str, reward: f64, count: usize) {
    for index in 0..count {
        let report = json!({"rollout_id": format!("{candidate}-{reward}-{index}"), "status": "reward_done",
                            "reward": reward, "candidate_id": candidate});
        assert_eq!(world.client.status(job, report).await.0, 200);
    }
}

#[tokio::test]
async fn batch_mode_holds_a_candidate_for_as_many_rollouts_as_told() {
    const BATCH: usize = 3;
    for engine in ["actor", "cache", "blob"] {
        let world = World::engine(engine);
        let (job, _) = job_with(&world, json!({"online_rollouts_per_candidate": BATCH}), 3).await;
        let mut batches = Vec::new();
        for batch in 0..4 {
            let mut picked = BTreeSet::new();
            for index in 0..BATCH {
                let rollout = format!("r{batch}-{index}");
                picked.insert(chosen(&world, &job, &rollout).await);
                picked.insert(chosen(&world, &job, &rollout).await);
            }
            assert_eq!(picked.len(), 1, "{engine}: batch {batch} had {picked:?}; asking again uses none up");
            batches.extend(picked);
        }
        let distinct: BTreeSet<_> = batches.iter().collect();
        assert_eq!(distinct.len(), 4, "{engine}: untried candidates come first: {batches:?}");
    }
}

#[tokio::test]
async fn without_a_batch_size_each_rollout_is_picked_for_itself() {
    let world = World::new();
    let (job, ids) = job_with(&world, json!({}), 3).await;
    let mut picked = BTreeSet::new();
    for index in 0..ids.len() {
        picked.insert(chosen(&world, &job, &format!("r{index}")).await);
    }
    assert_eq!(picked, ids.into_iter().collect(), "untried candidates come first, one rollout each");
}

/// Candidate and probability of `starts` rollouts, after 5 rewards for each of 4 candidates: .2, .4, .6, .8.
async fn picks(world: &World, tpe: Value, starts: usize) -> Vec<(usize, f64)> {
    let (job, ids) = job_with(world, json!({"tpe": tpe}), 3).await;
    for (id, mean) in ids.iter().zip([0.2, 0.4, 0.6, 0.8]) {
        reward(world, &job, id, mean, 5).await;
    }
    for index in 0..starts {
        world.client.ask(&job, &format!("r{index}")).await;
        world.client.status(&job, json!({"rollout_id": format!("r{index}"), "status": "failed"})).await;
    }
    let (_, body) = world.client.get(&Client::system_path(&job, "events")).await;
    let started = body["items"].as_array().unwrap().iter().filter(|e| e["type"] == "mipro.rollout.started");
    let place = |event: &Value| ids.iter().position(|id| event["candidate_id"] == id.as_str()).unwrap();
    started.map(|event| (place(event), event["probability"].as_f64().unwrap())).collect()
}

#[tokio::test]
async fn epsilon_is_the_probability_of_a_choice_among_all() {
    let world = World::new();
    for (_, probability) in picks(&world, json!({"epsilon": 1.0}), 10).await {
        assert!((probability - 0.25).abs() < 1e-9, "{probability}");
    }
    let greedy = picks(&world, json!({"epsilon": 0.0, "n_candidates": 10_000}), 1).await;
    assert!(greedy[0].0 == 3 && greedy[0].1 > 0.99, "{greedy:?}");
    let mixed = picks(&world, json!({"epsilon": 0.4, "n_candidates": 10_000}), 20).await;
    assert!(mixed.iter().all(|(_, probability)| *probability > 0.099), "{mixed:?}");
}

#[tokio::test]
async fn n_candidates_draws_are_compared_and_more_are_greedier() {
    let world = World::new();
    let best = |picks: &[(usize, f64)]| picks.iter().find(|(place, _)| *place == 3).map(|(_, p)| *p);
    let one = picks(&world, json!({"epsilon": 0.0, "n_candidates": 1}), 60).await;
    let many = picks(&world, json!({"epsilon": 0.0, "n_candidates": 24}), 1).await;
    assert!(best(&many) > Some(0.99), "{many:?}");
    assert!(best(&one).is_some_and(|p| p < 0.7), "{one:?}");
    assert!(one.iter().any(|(place, _)| *place < 3), "{one:?}");
}

#[tokio::test]
async fn gamma_is_the_share_that_counts_as_good() {
    let world = World::new();
    let second = |picks: Vec<(usize, f64)>| {
        picks.into_iter().find(|(place, _)| *place == 2).expect("the second best is chosen now and then").1
    };
    // One draw each, so that probabilities are the density of the good themselves.
    let narrow = second(picks(&world, json!({"epsilon": 0.0, "n_candidates": 1, "gamma": 0.25}), 80).await);
    let wide = second(picks(&world, json!({"epsilon": 0.0, "n_candidates": 1, "gamma": 0.75}), 80).await);
    assert!(wide > narrow * 1.1, "{wide} against {narrow}");
}

#[tokio::test]
async fn n_startup_trials_are_spread_evenly_before_the_model_is_asked() {
    let world = World::new();
    let picks = picks(&world, json!({"epsilon": 0.0, "n_startup_trials": 1_000}), 4).await;
    let first = picks[0];
    assert!((first.1 - 0.25).abs() < 1e-9, "all have been tried as often: {first:?}");
    let places: BTreeSet<_> = picks.iter().map(|(place, _)| *place).collect();
    assert_eq!(places.len(), 4, "the least tried is next: {picks:?}");
}

#[tokio::test]
async fn alpha_is_a_smoothing_count() {
    let world = World::new();
    for (alpha, best) in [(0.001, "few"), (1.0, "many")] {
        let (job, _) = job_with(&world, json!({"tpe": {"alpha": alpha}}), 0).await;
        for id in ["few", "many"] {
            let candidate = json!({"candidate_id": id, "deltas": {"instruction_text": id}});
            assert_eq!(world.client.add(&job, candidate).await.0, 200);
        }
        reward(&world, &job, "baseline", 0.0, 5).await;
        reward(&world, &job, "few", 0.96, 5).await;
        reward(&world, &job, "many", 0.95, 60).await;
        assert_eq!(world.client.state(&job).await["best_candidate_id"], best, "alpha = {alpha}");
    }
    // Of the model's priors too: next to none, and the best is all but certain, with one draw as well.
    let sharp = picks(&world, json!({"epsilon": 0.0, "n_candidates": 1, "alpha": 0.001}), 1).await;
    assert!(sharp[0].0 == 3 && sharp[0].1 > 0.95, "{sharp:?}");
}

#[tokio::test]
async fn settings_out_of_bounds_are_refused_by_name_and_those_at_the_bounds_are_not() {
    let world = World::new();
    let post = async |settings: Value| {
        let mut body = job_body(&small_prompt(), "http://127.0.0.1:9");
        let mipro = body["config_body"]["prompt_learning"]["mipro"].as_object_mut().unwrap();
        mipro.extend(settings.as_object().unwrap().clone());
        world.client.post("/api/prompt-learning/online/jobs", &body).await
    };
    for (name, value) in [
        ("gamma", json!(0.0)),
        ("gamma", json!(1.0)),
        ("epsilon", json!(-0.01)),
        ("epsilon", json!(1.01)),
        ("alpha", json!(0.0)),
        ("alpha", json!(-1.0)),
        ("n_candidates", json!(0)),
        ("n_candidates", json!(2.5)),
        ("n_startup_trials", json!(-1)),
        ("n_startup_trials", json!("10")),
    ] {
        let (status, body) = post(json!({"tpe": {name: value}})).await;
        assert_eq!(status, 400, "{name} = {value}: {body}");
        assert_eq!(body["error"]["param"], format!("config_body.prompt_learning.mipro.tpe.{name}"));
        assert!(error_message(&body).contains(name), "{body}");
    }
    let (status, body) = post(json!({"online_rollouts_per_candidate": 0})).await;
    assert_eq!(status, 400, "{body}");
    for tpe in [
        json!({"gamma": 0.001, "epsilon": 0, "alpha": 1e-9, "n_candidates": 1, "n_startup_trials": 0}),
        json!({"gamma": 0.999, "epsilon": 1, "alpha": 1000, "n_candidates": 24.0}),
        json!({}),
        json!(null),
    ] {
        let (status, body) = post(json!({"tpe": tpe})).await;
        assert_eq!(status, 200, "{tpe}: {body}");
    }
}
