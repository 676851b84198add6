//! What time does: rollouts in flight expire, closed ones are forgotten.

use super::support::{Rig, report};
use crate::system::{Event, Phase, Refusal, Status};

#[test]
fn rollouts_in_flight_expire_and_may_still_be_reported() {
    let mut rig = Rig::new(|spec| spec.limits.rollout_ttl_us = 60_000_000);
    rig.start("a");
    rig.start("b");
    rig.report("b", Status::Reward, Some(1.0)).unwrap();
    rig.pass_s(59);
    rig.start("c");
    assert_eq!(rig.state.pending(), 2);
    rig.pass_s(1);
    let from = rig.history.len();
    rig.start("d");
    assert_eq!(rig.names(from), ["mipro.rollout.started", "mipro.rollout.expired"]);
    assert_eq!(rig.state.pending(), 2, "c and d");
    let phases = ["a", "b", "c"].map(|id| rig.state.rollout(id).unwrap().phase);
    assert_eq!(phases, [Phase::Expired, Phase::Expired, Phase::Open]);

    rig.report("a", Status::RewardDone, Some(0.5)).unwrap();
    assert_eq!(rig.state.rollout("a").unwrap().phase, Phase::Done);
    assert!(rig.report("b", Status::Reward, Some(1.0)).unwrap().duplicate);
    assert_eq!(rig.state.totals.rewards, 2);
    assert_eq!(rig.state.pending(), 2);
}

#[test]
fn duplicates_and_refusals_expire_nothing() {
    let mut rig = Rig::new(|spec| spec.limits.rollout_ttl_us = 1_000_000);
    rig.start("a");
    rig.start("b");
    rig.report("b", Status::RewardDone, Some(1.0)).unwrap();
    rig.pass_s(10);
    let before = rig.json();
    assert!(rig.report("b", Status::RewardDone, Some(1.0)).unwrap().duplicate);
    rig.start("a");
    rig.report("nobody", Status::Done, None).unwrap_err();
    assert_eq!(rig.json(), before);
}

#[test]
fn one_command_expires_a_bounded_number() {
    let mut rig = Rig::new(|spec| spec.limits.rollout_ttl_us = 1_000_000);
    (0..150).for_each(|index| drop(rig.start(&format!("r{index}"))));
    rig.pass_s(2);
    let mut expired = Vec::new();
    for index in 0..4 {
        let from = rig.history.len();
        rig.start(&format!("late{index}"));
        let ids = rig.history[from..].iter().map(|recorded| match &recorded.event {
            Event::RolloutsExpired { started_seqs, .. } => started_seqs.len(),
            _ => 0,
        });
        expired.push(ids.sum::<usize>());
    }
    assert_eq!(expired, [64, 64, 22, 0]);
    assert_eq!(rig.state.pending(), 4);
    // Rollouts that expired in one event are all still known, and can all be closed.
    for index in 0..150 {
        assert!(!rig.report(&format!("r{index}"), Status::Done, None).unwrap().duplicate);
    }
    assert_eq!(rig.state.totals.done, 150);
}

#[test]
fn closed_rollouts_are_remembered_for_the_window() {
    let mut rig = Rig::new(|spec| spec.limits.dedup_window_us = 100_000_000);
    rig.start("r");
    rig.report("r", Status::RewardDone, Some(1.0)).unwrap();
    rig.pass_s(99);
    rig.start("other");
    assert!(rig.report("r", Status::RewardDone, Some(1.0)).unwrap().duplicate);
    rig.pass_s(1);
    rig.start("another");
    assert!(rig.state.rollout("r").is_none());
    let refusal = rig.report("r", Status::RewardDone, Some(1.0)).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownRollout("r".to_owned()));
}

/// Its reward is the newest thing that may be repeated: expired or closed without one, it counts from the reward on.
#[test]
fn a_late_reward_renews_its_place_in_the_window() {
    for (closed_by, ttl_us) in [(None, 60_000_000), (Some(Status::Done), 600_000_000)] {
        let mut rig = Rig::new(|spec| {
            (spec.limits.dedup_window_us, spec.limits.rollout_ttl_us) = (100_000_000, ttl_us);
        });
        rig.start("r");
        match closed_by {
            Some(status) => drop(rig.report("r", status, None).unwrap()),
            None => rig.pass_s(60),
        }
        rig.rollout("between", 0.5);
        rig.pass_s(99);
        assert!(!rig.report("r", Status::Reward, Some(1.0)).unwrap().duplicate);
        rig.pass_s(99);
        rig.start("other");
        assert!(rig.report("r", Status::Reward, Some(1.0)).unwrap().duplicate, "{closed_by:?}");
        assert!(rig.state.rollout("between").is_none(), "who was not rewarded since has aged");
        rig.pass_s(1);
        rig.start("another");
        assert!(rig.state.rollout("r").is_none(), "{closed_by:?}");
    }
}

#[test]
fn a_late_reward_is_not_among_the_first_to_be_forgotten() {
    let mut rig = Rig::new(|spec| spec.limits.rollouts_closed_max = 2);
    rig.start("bare");
    rig.report("bare", Status::Done, None).unwrap();
    rig.rollout("a", 0.5);
    // Within the same second: order alone tells them apart.
    rig.report("bare", Status::Reward, Some(1.0)).unwrap();
    rig.rollout("b", 0.5);
    assert!(rig.state.rollout("a").is_none());
    assert!(rig.state.rollout("bare").is_some() && rig.state.rollout("b").is_some());
}

#[test]
fn closed_rollouts_are_bounded_in_number_and_the_oldest_go_first() {
    let mut rig = Rig::new(|spec| spec.limits.rollouts_closed_max = 3);
    (0..5).for_each(|index| drop(rig.rollout(&format!("r{index}"), 0.5)));
    rig.start("open");
    let known = (0..5).filter(|index| rig.state.rollout(&format!("r{index}")).is_some()).collect::<Vec<_>>();
    assert_eq!(known, [2, 3, 4]);
    assert!(rig.state.rollout("open").is_some(), "open ones don't count as closed");
}

#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let mut rig = Rig::new(|spec| spec.limits.rollout_ttl_us = 1_000_000);
    rig.start("a");
    rig.now_us -= 3_600_000_000;
    rig.start("b");
    rig.tell(report("c", Status::RewardDone, Some(1.0), Some("baseline"))).unwrap();
    assert_eq!(rig.state.pending(), 2);
}
