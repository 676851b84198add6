//! Status calls: every sentence of the wire contract about them.

use super::support::{Rig, report};
use crate::system::{Phase, Refusal, Status};

fn rewards(rig: &Rig) -> (u64, f64) {
    let (_, arm) = rig.state.candidate("baseline").unwrap();
    (arm.n, arm.mean)
}

#[test]
fn reward_then_done_closes_the_rollout() {
    let mut rig = Rig::new(|_| {});
    rig.start("r");
    let from = rig.history.len();
    let told = rig.report("r", Status::Reward, Some(0.5)).unwrap();
    assert_eq!(
        (told.status, told.candidate_id.as_str(), told.duplicate),
        (Status::Reward, "baseline", false)
    );
    assert_eq!(told.version, rig.state.version);
    let told = rig.report("r", Status::Done, None).unwrap();
    assert_eq!((told.status, told.duplicate), (Status::Done, false));
    assert_eq!(rig.names(from), ["mipro.reward.received", "mipro.tpe.update", "mipro.rollout.done"]);
    assert_eq!(rewards(&rig), (1, 0.5));
    assert_eq!(rig.state.rollout("r").unwrap().phase, Phase::Done);
}

#[test]
fn reward_done_does_both_and_done_with_a_reward_is_the_same() {
    for status in [Status::RewardDone, Status::Done] {
        let mut rig = Rig::new(|_| {});
        rig.start("r");
        let told = rig.report("r", status, Some(0.7)).unwrap();
        assert_eq!(told.status, Status::RewardDone);
        assert_eq!(rewards(&rig), (1, 0.7));
        assert_eq!(rig.state.rollout("r").unwrap().phase, Phase::Done);
    }
}

#[test]
fn repeating_an_applied_call_changes_nothing_also_after_done() {
    let mut rig = Rig::new(|_| {});
    rig.start("r");
    let first = rig.report("r", Status::Reward, Some(1.0)).unwrap();
    rig.report("r", Status::Done, None).unwrap();
    let before = rig.json();
    // The same effect in other words: with the candidate named, as reward_done, as done with a reward.
    let again = [
        report("r", Status::Reward, Some(1.0), Some("baseline")),
        report("r", Status::RewardDone, Some(1.0), None),
        report("r", Status::Done, Some(1.0), None),
        report("r", Status::Done, None, None),
    ];
    for call in again {
        let told = rig.tell(call).unwrap();
        assert!(told.duplicate);
        assert_eq!(told.candidate_id, first.candidate_id);
    }
    assert_eq!(rig.json(), before);
    assert_eq!(rig.report("r", Status::Reward, Some(1.0)).unwrap().status, first.status, "the same 200");
}

#[test]
fn a_different_reward_for_a_rewarded_rollout_is_refused() {
    let mut rig = Rig::new(|_| {});
    rig.start("r");
    rig.report("r", Status::Reward, Some(1.0)).unwrap();
    let before = rig.json();
    for status in [Status::Reward, Status::RewardDone, Status::Done] {
        let refusal = rig.report("r", status, Some(0.0)).unwrap_err();
        assert_eq!(refusal, Refusal::RewardConflict { rollout_id: "r".to_owned(), recorded: 1.0, sent: 0.0 });
    }
    assert_eq!(rig.json(), before);
}

#[test]
fn a_first_reward_after_a_done_without_one_counts_within_the_time_to_live() {
    let mut rig = Rig::new(|spec| spec.limits.rollout_ttl_us = 10_000_000);
    rig.start("early");
    rig.start("late");
    rig.report("early", Status::Done, None).unwrap();
    rig.report("late", Status::Done, None).unwrap();
    assert_eq!(rig.state.pending(), 0);
    rig.pass_s(9);
    rig.report("early", Status::Reward, Some(0.25)).unwrap();
    assert_eq!(rewards(&rig), (1, 0.25));
    assert_eq!(rig.state.pending(), 0, "pending was released by done and not again");
    rig.pass_s(1);
    let refusal = rig.report("late", Status::Reward, Some(0.25)).unwrap_err();
    assert_eq!(refusal, Refusal::TooLate { rollout_id: "late".to_owned(), ttl_s: 10 });
    assert!(
        rig.report("early", Status::Reward, Some(0.25)).unwrap().duplicate,
        "what was applied stays a duplicate"
    );
}

#[test]
fn failed_closes_without_a_reward_and_is_not_charged_to_the_prompt() {
    let mut rig = Rig::new(|_| {});
    rig.start("r");
    let told = rig.report("r", Status::Failed, Some(0.0)).unwrap();
    assert_eq!(told.status, Status::Failed, "a reward sent with failed is no reward");
    assert_eq!(rewards(&rig), (0, 0.0));
    assert_eq!(rig.state.pending(), 0);
    assert_eq!(rig.state.best.score, None);
    let refusal = rig.report("r", Status::Reward, Some(1.0)).unwrap_err();
    assert_eq!(refusal, Refusal::Failed("r".to_owned()));
    assert!(rig.report("r", Status::Failed, None).unwrap().duplicate);
    let done = rig.report("r", Status::Done, None).unwrap();
    assert_eq!(
        (done.status, done.duplicate),
        (Status::Failed, true),
        "it is closed already, and stays what it is"
    );
}

#[test]
fn a_rewarded_rollout_can_not_fail_any_more() {
    let mut rig = Rig::new(|_| {});
    rig.start("r");
    rig.report("r", Status::RewardDone, Some(1.0)).unwrap();
    assert_eq!(rig.report("r", Status::Failed, None).unwrap_err(), Refusal::AlreadyRewarded("r".to_owned()));
}

#[test]
fn a_rollout_that_never_went_through_the_proxy_needs_a_known_candidate() {
    let mut rig = Rig::with_candidates(1, |_| {});
    let before = rig.json();
    let refusal = rig.report("ghost", Status::RewardDone, Some(1.0)).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownRollout("ghost".to_owned()));
    let refusal = rig.tell(report("ghost", Status::RewardDone, Some(1.0), Some("nobody"))).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownCandidate("nobody".to_owned()));
    assert_eq!(rig.json(), before);

    let told = rig.tell(report("ghost", Status::RewardDone, Some(1.0), Some("c1"))).unwrap();
    assert_eq!(told.candidate_id, "c1");
    assert_eq!(rig.state.candidate("c1").unwrap().1.n, 1);
    assert!(rig.report("ghost", Status::RewardDone, Some(1.0)).unwrap().duplicate, "now it is known");
}

#[test]
fn another_candidate_than_the_rollouts_is_refused() {
    let mut rig = Rig::with_candidates(1, |_| {});
    let own = rig.start("r").candidate_id;
    let other = if own == "c1" { "baseline" } else { "c1" };
    let refusal = rig.tell(report("r", Status::Reward, Some(1.0), Some(other))).unwrap_err();
    let mismatch = Refusal::CandidateMismatch {
        rollout_id: "r".to_owned(),
        actual: own.clone(),
        sent: other.to_owned(),
    };
    assert_eq!(refusal, mismatch);
    let refusal = rig.tell(report("r", Status::Reward, Some(1.0), Some("nobody"))).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownCandidate("nobody".to_owned()));
    rig.tell(report("r", Status::Reward, Some(1.0), Some(&own))).unwrap();
}

#[test]
fn rewards_must_be_there_and_finite() {
    let mut rig = Rig::new(|_| {});
    rig.start("r");
    let before = rig.json();
    let field = |refusal: Refusal| match refusal {
        Refusal::Invalid { field, .. } => field,
        other => panic!("unexpected refusal: {other:?}"),
    };
    for status in [Status::Reward, Status::RewardDone] {
        assert_eq!(field(rig.report("r", status, None).unwrap_err()), "reward");
    }
    for reward in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for status in [Status::Reward, Status::Done, Status::RewardDone, Status::Failed] {
            assert_eq!(field(rig.report("r", status, Some(reward)).unwrap_err()), "reward");
        }
    }
    assert_eq!(rig.json(), before);
}

#[test]
fn rollout_ids_are_bounded() {
    let mut rig = Rig::new(|spec| spec.limits.id_bytes_max = 8);
    for id in ["", "123456789", "a\nb"] {
        assert!(matches!(
            rig.tell(report(id, Status::Done, None, Some("baseline"))).unwrap_err(),
            Refusal::Invalid { field: "rollout_id", .. }
        ));
        let started = rig.start_with(id, super::support::messages("q"));
        assert!(matches!(started.unwrap_err(), Refusal::Invalid { field: "rollout_id", .. }));
    }
    rig.start("12345678");
}
