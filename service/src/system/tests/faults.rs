//! The seeds' pseudo-code has fifteen faults (the optimizer's own are tested beside it); one test for each mended one.

use super::support::{Rig, deltas, report};
use crate::system::{NewCandidate, Phase, Refusal, Status};

/// Seeds: a combination of params nobody registered was created and served, without end.
#[test]
fn fault_08_only_registered_candidates_are_served_and_their_number_is_bounded() {
    let mut rig = Rig::new(|spec| spec.limits.candidates_max = 4);
    let at = |text: &str, instruction: u32, demos: u32| {
        let params = [("instruction".to_owned(), instruction), ("demos".to_owned(), demos)].into();
        NewCandidate { candidate_id: Some(text.to_owned()), params, ..deltas(text) }
    };
    rig.add(at("a", 1, 0)).unwrap();
    rig.add(at("b", 0, 1)).unwrap();
    rig.add(deltas("c")).unwrap();
    assert_eq!(rig.add(at("d", 1, 1)).unwrap_err(), Refusal::Full { what: "candidates", max: 4 });
    // (1, 1) would look best, and there is no such candidate.
    for index in 0..300 {
        let id = format!("r{index}");
        let candidate = rig.start(&id).candidate_id;
        assert!(rig.state.candidate(&candidate).is_some());
        let reward = if candidate == "a" || candidate == "b" { 1.0 } else { 0.0 };
        rig.report(&id, Status::RewardDone, Some(reward)).unwrap();
    }
    assert_eq!(rig.state.candidates().count(), 4);
}

/// Seeds: `rewards.push` at every call, so a retried POST counted twice.
#[test]
fn fault_09_a_retried_reward_counts_once() {
    let mut rig = Rig::new(|_| {});
    rig.start("r");
    (0..5).for_each(|_| drop(rig.report("r", Status::Reward, Some(0.5)).unwrap()));
    let (_, arm) = rig.state.candidate("baseline").unwrap();
    assert_eq!((arm.n, rig.state.totals.rewards), (1, 1));
}

/// Seeds: `done` returned early, so the reward sent with it was lost; a shipped client sends exactly that.
#[test]
fn fault_10_a_reward_sent_with_done_counts() {
    let mut rig = Rig::new(|_| {});
    rig.start("r");
    rig.report("r", Status::Done, Some(0.7)).unwrap();
    assert_eq!(rig.state.candidate("baseline").unwrap().1.mean, 0.7);
}

/// Seeds: `reward` demanded candidate_id; shipped clients leave it out and need it in the answer.
#[test]
fn fault_11_the_candidate_is_known_from_the_rollout() {
    let mut rig = Rig::with_candidates(3, |_| {});
    let candidate = rig.start("r").candidate_id;
    assert_eq!(rig.report("r", Status::Reward, Some(1.0)).unwrap().candidate_id, candidate);
    let other = ["baseline", "c1"].into_iter().find(|id| *id != candidate);
    let mismatch = rig.tell(report("r", Status::Reward, Some(1.0), other)).unwrap_err();
    assert!(matches!(mismatch, Refusal::CandidateMismatch { .. }));
}

/// Seeds: the same rollout selected again, so the prompt changed in mid-episode.
#[test]
fn fault_12_a_rollout_keeps_its_candidate() {
    let mut rig = Rig::with_candidates(7, |_| {});
    let candidate = rig.start("r").candidate_id;
    for index in 0..50 {
        rig.rollout(&format!("other{index}"), f64::from(index % 2));
        assert_eq!(rig.start("r").candidate_id, candidate);
    }
    assert_eq!(rig.state.totals.rollouts, 51);
}

/// Seeds: rollouts in flight were invisible, so parallel ones all chose the same.
#[test]
fn fault_13_rollouts_in_flight_are_counted_and_expire() {
    let mut rig = Rig::with_candidates(7, |_| {});
    (0..16).for_each(|index| drop(rig.start(&format!("r{index}"))));
    assert!(rig.state.candidates().all(|(_, arm)| arm.pending == 2), "16 in flight spread over 8 candidates");
    rig.pass_s(3_600);
    rig.start("next");
    assert_eq!(rig.state.pending(), 1, "those whose time is up are no longer in flight");
}

/// Seeds: every reward and every rollout were kept in the state.
#[test]
fn fault_14_the_state_does_not_grow_with_history() {
    let mut rig = Rig::with_candidates(3, |spec| spec.limits.rollouts_closed_max = 50);
    let mut size_after = |rollouts: std::ops::Range<u32>| {
        rollouts.for_each(|index| drop(rig.rollout(&format!("rollout{index:06}"), f64::from(index % 2))));
        serde_json::to_vec(&rig.state).unwrap().len()
    };
    let early = size_after(0..100);
    let late = size_after(100..2_000);
    assert!(late < early + early / 20, "{early} bytes after 100 rollouts, {late} after 2000");
}

/// Seeds: a fault of the LLM became reward 0.0, charged to the prompt.
#[test]
fn fault_15_failures_are_not_charged_to_the_prompt() {
    let mut rig = Rig::with_candidates(1, |_| {});
    let mut failed = 0;
    for index in 0..200 {
        let id = format!("r{index}");
        let candidate = rig.start(&id).candidate_id;
        if candidate == "c1" && index % 3 == 0 {
            rig.report(&id, Status::Failed, None).unwrap();
            assert_eq!(rig.state.rollout(&id).unwrap().phase, Phase::Failed);
            failed += 1;
        } else {
            rig.report(&id, Status::RewardDone, Some(if candidate == "c1" { 0.9 } else { 0.5 })).unwrap();
        }
    }
    let (_, arm) = rig.state.candidate("c1").unwrap();
    assert!((arm.mean - 0.9).abs() < 1e-9, "the mean knows rewards only: {}", arm.mean);
    assert!(failed > 10);
    assert_eq!(rig.state.best.candidate_id, "c1");
}
