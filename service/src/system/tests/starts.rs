//! Starting rollouts: stickiness, batch mode, prompts that don't match, probabilities.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::support::{Rig, messages};
use crate::system::{Event, Message, Pick, PolicyKind, Refusal, Status};

fn foreign() -> Arc<[Message]> {
    Arc::new([Message { role: "user".to_owned(), text: Some("Hello".to_owned()) }])
}

fn picks(rig: &Rig) -> Vec<(String, Pick, f64)> {
    let started = |recorded: &crate::system::Recorded| match &recorded.event {
        Event::RolloutStarted { candidate_id, probability, pick, .. } => {
            Some((candidate_id.clone(), *pick, *probability))
        }
        _ => None,
    };
    rig.history.iter().filter_map(started).collect()
}

#[test]
fn the_same_rollout_id_keeps_its_candidate_whatever_happens_to_it() {
    let mut rig = Rig::with_candidates(5, |_| {});
    let first = rig.start("r");
    assert!(!first.sticky);
    let before = rig.json();
    for _ in 0..20 {
        let again = rig.start("r");
        assert_eq!((&again.candidate_id, again.sticky), (&first.candidate_id, true));
    }
    assert_eq!(rig.json(), before, "asking again changes nothing");
    rig.report("r", Status::RewardDone, Some(0.0)).unwrap();
    assert_eq!(rig.start("r").candidate_id, first.candidate_id, "also when it is done");
}

#[test]
fn messages_of_another_prompt_are_credited_to_baseline_and_sticky() {
    let mut rig = Rig::with_candidates(5, |_| {});
    let reply = rig.start_with("r", foreign()).unwrap();
    assert_eq!(
        (reply.candidate_id.as_str(), reply.matched, reply.probability),
        ("baseline", false, Some(1.0))
    );
    let again = rig.start("r");
    assert_eq!((again.candidate_id.as_str(), again.sticky), ("baseline", true));
    rig.report("r", Status::RewardDone, Some(1.0)).unwrap();
    assert_eq!(rig.state.candidate("baseline").unwrap().1.n, 1);
    assert_eq!(rig.state.totals.unmatched, 1);
    assert_eq!(picks(&rig)[0].1, Pick::Unmatched);
}

#[test]
fn batch_mode_holds_a_candidate_for_so_many_starts() {
    let mut rig = Rig::with_candidates(3, |spec| spec.rollouts_per_candidate = Some(4));
    for index in 0..40 {
        if index % 5 == 0 {
            rig.start_with(&format!("u{index}"), foreign()).unwrap();
        }
        // Later turns and status calls are no starts.
        rig.rollout(&format!("r{index}"), 0.5);
        rig.start(&format!("r{index}"));
    }
    let picks: Vec<_> = picks(&rig).into_iter().filter(|(_, pick, _)| *pick != Pick::Unmatched).collect();
    for batch in picks.chunks(4) {
        let kinds: Vec<_> = batch.iter().map(|(_, pick, _)| *pick).collect();
        assert_eq!(kinds, [Pick::Batch, Pick::Held, Pick::Held, Pick::Held]);
        assert!(batch.iter().all(|(id, _, p)| (id, p) == (&batch[0].0, &batch[0].2)), "{batch:?}");
    }
    let tried: BTreeSet<_> = picks.iter().map(|(id, ..)| id).collect();
    assert_eq!(tried.len(), 4, "every candidate got a batch");
}

#[test]
fn without_batch_mode_each_rollout_is_a_pick_of_its_own() {
    let mut rig = Rig::with_candidates(3, |_| {});
    (0..8).for_each(|index| drop(rig.start(&format!("r{index}"))));
    assert!(picks(&rig).iter().all(|(_, pick, _)| *pick == Pick::Policy));
    let tried: BTreeSet<_> = picks(&rig).into_iter().map(|(id, ..)| id).collect();
    assert_eq!(tried.len(), 4, "rollouts in flight are counted, so they spread over the candidates");
}

#[test]
fn the_logged_probability_is_that_of_the_policy() {
    let mut rig = Rig::with_candidates(3, |spec| spec.policy = PolicyKind::Uniform);
    assert_eq!(rig.start("r").probability, Some(0.25));
    let mut rig = Rig::with_candidates(3, |spec| spec.policy = PolicyKind::Fixed);
    let reply = rig.start("r");
    assert_eq!((reply.candidate_id.as_str(), reply.probability), ("baseline", Some(1.0)));
    let mut rig = Rig::with_candidates(3, |_| {});
    assert_eq!(rig.start("a").probability, Some(0.25), "four arms without a try");
    let third = f64::from(1.0_f32 / 3.0);
    assert_eq!(rig.start("b").probability, Some(third), "three are left");
}

#[test]
fn the_same_context_makes_the_same_choice() {
    let choices = |seed: u64| {
        let mut rig = Rig::with_candidates(5, |_| {});
        rig.seed = seed;
        (0..30).map(|index| rig.rollout(&format!("r{index}"), f64::from(index % 2))).collect::<Vec<_>>()
    };
    assert_eq!(choices(7), choices(7));
    assert_ne!(choices(7), choices(8));
}

#[test]
fn open_rollouts_are_bounded() {
    let mut rig = Rig::new(|spec| spec.limits.rollouts_open_max = 2);
    rig.start("a");
    rig.start("b");
    let full = rig.start_with("c", messages("q")).unwrap_err();
    assert_eq!(full, Refusal::Full { what: "open rollouts", max: 2 });
    rig.start("a");
    rig.report("a", Status::Done, None).unwrap();
    rig.start("c");
    rig.pass_s(3_600);
    rig.start("d");
    assert_eq!(rig.state.pending(), 1, "those whose time is up make room");
}
