use mipro_bench_reports::{GateRule, StageReport, Times};

use super::*;

/// A pilot whose service takes 1 ms a rollout, and these stages of it.
fn pilot(stages: &[(&str, f64)]) -> Seen {
    let mut rung = Rung::default();
    rung.overhead.count = 100;
    rung.overhead.mean_us = Some(1_000.0);
    rung.steps.insert("status_reward_done".to_owned(), Times::default());
    for (name, per_rollout_us) in stages {
        let stage = StageReport { per_rollout_us: *per_rollout_us, ..StageReport::default() };
        rung.stages.insert((*name).to_owned(), stage);
    }
    let steady = stages.iter().map(|(name, _)| (*name).to_owned()).filter(|name| name != "s3.get").collect();
    Seen { rung, steady }
}

fn gated(pilots: &[Seen; 2]) -> Vec<String> {
    let gated =
        rules::endpoints(pilots, 0.1, Pacing::Closed).into_iter().filter(|e| e.gate != GateRule::Shown);
    gated.map(|endpoint| endpoint.name).collect()
}

#[test]
fn what_is_gated_is_what_both_sides_have_and_somebody_would_notice() {
    let a = pilot(&[
        ("db.query", 500.0),
        ("s3.get", 400.0),
        ("prompt.render", 10.0),
        ("s3.put", 300.0),
        ("llm.first_byte", 20_000.0),
    ]);
    let b = pilot(&[
        ("db.query", 20.0),
        ("s3.get", 400.0),
        ("prompt.render", 10.0),
        ("llm.first_byte", 20_000.0),
    ]);
    assert_eq!(gated(&[a.clone(), b.clone()]), ["rollout.response", "overhead", "stages.db.query"]);
    let all = rules::endpoints(&[a.clone(), b.clone()], 0.1, Pacing::Closed);
    let step = all.iter().find(|e| e.name == "steps.status_reward_done.service").unwrap();
    assert_eq!((step.quantile, step.gate), (0.5, GateRule::Shown), "which call it is, is shown");
    assert!(all.iter().any(|e| e.name == "stages.s3.put"), "it is shown, though only one side has it");
    assert!(all.iter().any(|e| e.name == "stages.s3.get"), "it is shown, though not every rollout has it");
    let tails = all.iter().filter(|e| e.quantile > 0.5);
    assert!(tails.clone().count() == 4 && tails.clone().all(|e| e.gate == GateRule::Shown));
    let light = rules::endpoints(&[a, b], 0.1, Pacing::Light);
    let tails = light.iter().filter(|e| e.quantile > 0.5 && e.gate != GateRule::Shown);
    let tails: Vec<_> = tails.map(|e| (e.name.as_str(), e.quantile)).collect();
    assert_eq!(tails, [("rollout.response", 0.9)], "a tail means something at light load alone");
}

#[test]
fn a_service_that_tells_nothing_is_compared_by_its_rollouts() {
    let silent = Seen::default();
    assert_eq!(gated(&[silent.clone(), silent]), ["rollout.response"]);
}

fn compared(verdict: CompareVerdict) -> Comparison {
    let rules = Rules { endpoints: Vec::new(), alpha: 0.05, looks_max: 1, aa_half_width: 0.05, seed: 1 };
    Comparison { verdict, a: "old".to_owned(), b: "new".to_owned(), ..judge(&[], &rules).unwrap() }
}

#[test]
fn what_was_asked_for_an_inconclusive_look_stands_in_the_report() {
    let open = || compared(CompareVerdict::Inconclusive { more_pairs: Some(7), reason: "wide".to_owned() });
    let extend = verdict_of(&open(), OnInconclusive::Extend);
    assert_eq!(
        (extend.name.as_str(), extend.outcome.as_str()),
        ("new is no slower than old", "inconclusive")
    );
    assert_eq!(extend.detail, "wide; about 7 more pairs");
    assert!(verdict_of(&open(), OnInconclusive::Pass).detail.ends_with("count as passed"));
    assert!(verdict_of(&open(), OnInconclusive::Fail).detail.ends_with("count as failed"));
    assert_eq!(verdict_of(&compared(CompareVerdict::Regress), OnInconclusive::Extend).outcome, "fail");
    let invalid = compared(CompareVerdict::Invalid { reasons: vec!["x".to_owned()] });
    assert_eq!(verdict_of(&invalid, OnInconclusive::Pass).outcome, "invalid");
}
