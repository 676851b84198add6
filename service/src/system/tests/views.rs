//! What the state and events routes show.

use serde_json::{Value, json};

use super::support::{Rig, deltas};
use crate::system::view::{events_json, state_json, summary_json};
use crate::system::{CandidateContent, NewCandidate, Status};

fn rewarded(rig: &mut Rig, candidate: &str, rewards: &[f64]) {
    for reward in rewards {
        let id = format!("adopted{}", rig.history.len());
        rig.tell(super::support::report(&id, Status::RewardDone, Some(*reward), Some(candidate))).unwrap();
    }
}

#[test]
fn a_new_system_shows_its_baseline() {
    let view = state_json(&Rig::new(|_| {}).state);
    for (field, expected) in [
        ("version", json!(2)),
        ("mode", json!("online")),
        ("status", json!("active")),
        ("best_candidate_id", json!("baseline")),
        ("best_score", Value::Null),
        ("rollout_count", json!(0)),
        ("reward_count", json!(0)),
        ("proposal_seq", json!(0)),
        ("attempted_candidates", json!([])),
        ("optimized_candidates", json!([])),
        ("created_at", json!("2023-11-14T22:13:20Z")),
    ] {
        assert_eq!(view[field], expected, "{field}");
    }
    assert_eq!(view["system_id"], "00000000-0000-0000-0000-000000000001");
    let baseline = &view["candidates"]["baseline"];
    for (field, expected) in [
        ("candidate_id", json!("baseline")),
        ("avg_reward", Value::Null),
        ("rollout_count", json!(0)),
        ("reward_count", json!(0)),
        ("params", json!({})),
        ("deltas", json!({})),
        ("stage_payloads", json!({})),
        ("parent_id", Value::Null),
    ] {
        assert_eq!(baseline[field], expected, "{field}");
    }
    let system = &baseline["baseline_messages"][0];
    assert_eq!((&system["role"], &system["content"]), (&json!("system"), &json!("Answer with one label.")));
}

#[test]
fn scores_counts_and_rankings() {
    let mut rig = Rig::with_candidates(3, |_| {});
    rewarded(&mut rig, "baseline", &[0.5; 6]);
    rewarded(&mut rig, "c1", &[0.7; 6]);
    rewarded(&mut rig, "c2", &[0.9, 0.9, 0.9, 0.9, 0.8, 1.0]);
    rewarded(&mut rig, "c3", &[0.1]);
    let view = state_json(&rig.state);
    assert_eq!(view["best_candidate_id"], "c2");
    assert_eq!(view["best_score"], view["candidates"]["c2"]["avg_reward"]);
    assert_eq!((&view["rollout_count"], &view["reward_count"]), (&json!(19), &json!(19)));
    let names = |list: &Value| {
        let items = list.as_array().unwrap().iter();
        items.map(|item| item["candidate_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&view["attempted_candidates"]), ["baseline", "c1", "c2", "c3"]);
    assert_eq!(names(&view["optimized_candidates"]), ["c2", "c1"]);
    assert_eq!(view["optimized_candidates"][1]["score"], view["candidates"]["c1"]["avg_reward"]);
    let summary = summary_json(&rig.state);
    assert_eq!((&summary["best_score"], &summary["status"]), (&view["best_score"], &json!("active")));
}

#[test]
fn a_candidates_text_can_be_shown_whatever_made_it() {
    let mut rig = Rig::new(|_| {});
    let replaced = json!({"transformation": {"text_replacements": [
        {"old_text": "one label", "new_text": "the label", "apply_to_role": "system", "apply_to_order": 0}],
        "example_injections": []}});
    let content = CandidateContent {
        deltas: replaced.clone(),
        metadata: json!({"label": "L"}),
        parent_id: Some("baseline".to_owned()),
        ..CandidateContent::default()
    };
    let id = rig.add(NewCandidate { content, ..NewCandidate::default() }).unwrap();
    let view = state_json(&rig.state);
    let shown = &view["candidates"][&id];
    assert_eq!((&shown["deltas"], &shown["parent_id"]), (&replaced, &json!("baseline")));
    assert_eq!(shown["metadata"]["label"], "L");
    assert_eq!(shown["baseline_messages"][0]["content"], "Answer with the label.");
    assert_eq!(view["proposal_seq"], 1);

    let own = json!([{"role": "system", "pattern": "mine"}]);
    let mut given = deltas("X");
    given.content.baseline_messages = own.clone();
    let id = rig.add(given).unwrap();
    assert_eq!(state_json(&rig.state)["candidates"][&id]["baseline_messages"], own);
}

#[test]
fn events_come_in_pages() {
    let mut rig = Rig::new(|_| {});
    rig.start("r");
    rig.report("r", Status::RewardDone, Some(0.5)).unwrap();
    let all = events_json(&rig.history, 0, 5_000);
    let types: Vec<_> =
        all["items"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    let expected = [
        "mipro.system.created",
        "mipro.candidate.added",
        "mipro.rollout.started",
        "mipro.reward.received",
        "mipro.tpe.update",
        "mipro.rollout.done",
    ];
    assert_eq!(types, expected);
    assert_eq!(all["next_seq"], 6);
    let reward = &all["items"][3];
    let shown =
        (&reward["seq"], &reward["at"], &reward["reward"], &reward["rollout_id"], &reward["candidate_id"]);
    assert_eq!(
        shown,
        (&json!(4), &json!("2023-11-14T22:13:20Z"), &json!(0.5), &json!("r"), &json!("baseline"))
    );
    assert_eq!(all["items"][2]["probability"], 1.0);

    let page = events_json(&rig.history, 2, 2);
    let seqs: Vec<_> = page["items"].as_array().unwrap().iter().map(|item| item["seq"].clone()).collect();
    assert_eq!((seqs, &page["next_seq"]), (vec![json!(3), json!(4)], &json!(4)));
    assert_eq!(events_json(&rig.history, 99, 10), json!({"items": [], "next_seq": 99}));
    assert_eq!(events_json(&rig.history, 0, 0), json!({"items": [], "next_seq": 0}));
}
