//! Events as they are stored: a change here breaks every log and document written before.

use std::sync::Arc;

use serde_json::json;

use super::support::{new_system, prompt};
use crate::system::{CandidateContent, Event, Pick, PromptHash, Recorded, SystemSpec};

fn stored(event: Event) -> String {
    let recorded = Recorded { seq: 7, at_us: 1_700_000_000_123_456, event };
    let json = serde_json::to_string(&recorded).unwrap();
    assert_eq!(serde_json::from_str::<Recorded>(&json).unwrap(), recorded, "reads back as it was");
    json
}

fn id(text: &str) -> String {
    text.to_owned()
}

#[test]
fn system_created() {
    let spec = SystemSpec {
        prompt: Arc::new(prompt()),
        model: id("m"),
        provider: id("openai"),
        ..SystemSpec::default()
    };
    insta::assert_snapshot!(stored(Event::SystemCreated { system: Arc::new(new_system(spec)) }), @r#"{"seq":7,"at_us":1700000000123456,"event":{"mipro.system.created":{"system":{"system_id":"00000000-0000-0000-0000-000000000001","org_id":"00000000-0000-0000-0000-000000000002","name":"demo","spec":{"mode":"online","prompt":{"id":"p","name":"P","messages":[{"role":"system","order":0,"pattern":"Answer with one label."},{"role":"user","order":1,"pattern":"Query: {query}"}],"wildcards":{"query":"REQUIRED"}},"model":"m","provider":"openai","inference_mode":"","temperature":null,"max_completion_tokens":null,"rollouts_per_candidate":null,"tpe":{"gamma":0.25,"n_candidates":24,"n_startup_trials":10,"epsilon":0.25,"alpha":1.0},"policy":"tpe","snapshot_events_max":null,"snapshot_s_max":null,"limits":{"candidates_max":1024,"rollouts_open_max":100000,"rollouts_closed_max":100000,"dedup_window_us":86400000000,"rollout_ttl_us":3600000000,"id_bytes_max":256,"content_bytes_max":262144,"params_max":32}}}}}}"#);
}

#[test]
fn candidate_added() {
    let content = CandidateContent {
        deltas: json!({"text": "T"}),
        metadata: json!({"label": "L"}),
        parent_id: Some(id("baseline")),
        ..CandidateContent::default()
    };
    let event = Event::CandidateAdded {
        candidate_id: id("c"),
        content: Arc::new(content),
        params: [(id("demos"), 1), (id("instruction"), 3)].into(),
    };
    insta::assert_snapshot!(stored(event), @r#"{"seq":7,"at_us":1700000000123456,"event":{"mipro.candidate.added":{"candidate_id":"c","content":{"deltas":{"text":"T"},"stage_payloads":null,"metadata":{"label":"L"},"parent_id":"baseline","baseline_messages":null},"params":{"demos":1,"instruction":3}}}}"#);
}

#[test]
fn rollout_started() {
    let event = Event::RolloutStarted {
        rollout_id: id("r"),
        candidate_id: id("c"),
        probability: 0.25,
        pick: Pick::Policy,
        seed: Some(u64::MAX),
        prompt_hash: Some(PromptHash([0x0f; 16])),
    };
    insta::assert_snapshot!(stored(event), @r#"{"seq":7,"at_us":1700000000123456,"event":{"mipro.rollout.started":{"rollout_id":"r","candidate_id":"c","probability":0.25,"pick":"policy","seed":18446744073709551615,"prompt_hash":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"}}}"#);
    let older = r#"{"mipro.rollout.started":{"rollout_id":"r","candidate_id":"c","probability":0.25,"pick":"policy"}}"#;
    let older = serde_json::from_str::<Event>(older).unwrap();
    assert!(matches!(older, Event::RolloutStarted { seed: None, prompt_hash: None, .. }));
    let names = [Pick::Policy, Pick::Batch, Pick::Held, Pick::Unmatched]
        .map(|pick| serde_json::to_string(&pick).unwrap());
    insta::assert_snapshot!(names.join(" "), @r#""policy" "batch" "held" "unmatched""#);
}

#[test]
fn rollout_adopted() {
    insta::assert_snapshot!(stored(Event::RolloutAdopted { rollout_id: id("r"), candidate_id: id("c") }), @r#"{"seq":7,"at_us":1700000000123456,"event":{"mipro.rollout.adopted":{"rollout_id":"r","candidate_id":"c"}}}"#);
}

#[test]
fn reward_received() {
    let event = Event::RewardReceived { rollout_id: id("r"), candidate_id: id("c"), reward: 0.1 + 0.2 };
    insta::assert_snapshot!(stored(event), @r#"{"seq":7,"at_us":1700000000123456,"event":{"mipro.reward.received":{"rollout_id":"r","candidate_id":"c","reward":0.30000000000000004}}}"#);
}

#[test]
fn tpe_updated() {
    let event = Event::TpeUpdated {
        candidate_id: id("c"),
        reward_count: 3,
        avg_reward: 2.0 / 3.0,
        best_candidate_id: id("baseline"),
        best_score: None,
    };
    insta::assert_snapshot!(stored(event), @r#"{"seq":7,"at_us":1700000000123456,"event":{"mipro.tpe.update":{"candidate_id":"c","reward_count":3,"avg_reward":0.6666666666666666,"best_candidate_id":"baseline","best_score":null}}}"#);
}

#[test]
fn rollouts_closed() {
    let (done, failed) = (
        Event::RolloutDone { rollout_id: id("r"), candidate_id: id("c") },
        Event::RolloutFailed { rollout_id: id("r"), candidate_id: id("c") },
    );
    insta::assert_snapshot!(stored(done), @r#"{"seq":7,"at_us":1700000000123456,"event":{"mipro.rollout.done":{"rollout_id":"r","candidate_id":"c"}}}"#);
    insta::assert_snapshot!(stored(failed), @r#"{"seq":7,"at_us":1700000000123456,"event":{"mipro.rollout.failed":{"rollout_id":"r","candidate_id":"c"}}}"#);
    let expired = Event::RolloutsExpired { started_seqs: vec![3, 5], rollout_ids: Vec::new() };
    insta::assert_snapshot!(stored(expired), @r#"{"seq":7,"at_us":1700000000123456,"event":{"mipro.rollout.expired":{"started_seqs":[3,5]}}}"#);
    let older = r#"{"mipro.rollout.expired":{"rollout_ids":["r","s"]}}"#;
    let named = Event::RolloutsExpired { started_seqs: Vec::new(), rollout_ids: vec![id("r"), id("s")] };
    assert_eq!(serde_json::from_str::<Event>(older).unwrap(), named);
}

#[test]
fn unknown_fields_of_a_later_build_are_tolerated() {
    let json = r#"{"seq":7,"at_us":1,"later":1,"event":{"mipro.rollout.done":{"rollout_id":"r","candidate_id":"c","later":{}}}}"#;
    let expected = Event::RolloutDone { rollout_id: id("r"), candidate_id: id("c") };
    assert_eq!(serde_json::from_str::<Recorded>(json).unwrap().event, expected);
}
