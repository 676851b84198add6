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
