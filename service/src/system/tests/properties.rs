//! Whatever commands come in whatever order: replay gives the same state, nothing is counted twice, nothing goes negative.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::support::{Rig, SECOND_US, deltas, messages, report};
use crate::system::{Command, NewCandidate, Phase, Recorded, State, Status};

#[derive(Debug, Clone)]
pub(super) enum Step {
    Add { text: u8, named: bool, place: Option<u32> },
    Start { rollout: u8, matching: bool },
    Report { rollout: u8, status: Status, reward: Option<f64>, candidate: Option<u8> },
    Wait { seconds: u64 },
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let status = prop::sample::select(vec![Status::Reward, Status::Done, Status::RewardDone, Status::Failed]);
    let reward = prop_oneof![
        4 => Just(Some(1.0)),
        4 => Just(Some(0.0)),
        3 => Just(None),
        2 => any::<f64>().prop_map(Some),
        1 => Just(Some(f64::NAN)),
        1 => Just(Some(f64::INFINITY)),
        1 => Just(Some(0.1 + 0.2)),
    ];
    prop_oneof![
        1 => (0..5_u8, any::<bool>(), prop::option::of(0..3_u32))
            .prop_map(|(text, named, place)| Step::Add { text, named, place }),
        4 => (0..12_u8, prop::bool::weighted(0.9)).prop_map(|(rollout, matching)| Step::Start { rollout, matching }),
        6 => (0..12_u8, status, reward, prop::option::weighted(0.3, 0..4_u8))
            .prop_map(|(rollout, status, reward, candidate)| Step::Report { rollout, status, reward, candidate }),
        1 => (0..40_u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

pub(super) fn command(step: &Step) -> Option<Command> {
    Some(match step {
        Step::Add { text, named, place } => Command::AddCandidate(NewCandidate {
            candidate_id: named.then(|| format!("c{text}")),
            params: place.map(|place| ("instruction".to_owned(), place)).into_iter().collect(),
            ..deltas(&format!("Text {text}"))
        }),
        Step::Start { rollout, matching } => {
            let query = messages("q");
            let messages = if *matching { query } else { query[..1].into() };
            Command::StartRollout { rollout_id: format!("r{rollout}"), messages }
        }
        Step::Report { rollout, status, reward, candidate } => {
            let candidate =
                candidate.map(|index| if index == 0 { "baseline".to_owned() } else { format!("c{index}") });
            Command::Report(report(&format!("r{rollout}"), *status, *reward, candidate.as_deref()))
        }
        Step::Wait { .. } => return None,
    })
}

pub(super) fn rig(batch: Option<u32>) -> Rig {
    Rig::new(|spec| {
        spec.rollouts_per_candidate = batch;
        spec.limits.rollout_ttl_us = 60 * SECOND_US;
        spec.limits.dedup_window_us = 100 * SECOND_US;
        spec.limits.rollouts_closed_max = 8;
    })
}

/// What must hold after every command.
fn check(state: &State) {
    let pending = state.rollouts.open().filter(|(_, rollout)| rollout.reward.is_none());
    assert_eq!(state.pending(), pending.count() as u64, "what is in flight is what the arms count");
    let rewarded: u64 = state.arms.iter().map(|arm| arm.n).sum();
    assert_eq!(rewarded, state.totals.rewards);
    assert_eq!(state.arms.iter().map(|arm| arm.starts).sum::<u64>(), state.totals.rollouts);
    assert!(state.arms.iter().all(|arm| arm.starts >= arm.n + u64::from(arm.pending)));
    assert!(state.arms.iter().all(|arm| arm.mean.is_finite() && arm.m2.is_finite() && arm.m2 >= 0.0));
    assert!(state.rollouts.open().all(|(_, rollout)| rollout.phase == Phase::Open));
    assert!(state.rollouts.closed().all(|(_, rollout)| rollout.phase != Phase::Open));
    let counted = (state.rollouts.open().count(), state.rollouts.closed().count());
    assert_eq!(counted, state.remembered());
    assert!(counted.1 <= state.spec.limits.rollouts_closed_max);
}

/// Rewards as the history tells them: at most one for each time a rollout was begun.
fn rewards_by_history(history: &[Recorded]) -> u64 {
    let mut open: BTreeMap<&str, bool> = BTreeMap::new();
    let mut rewards = 0;
    for recorded in history {
        use crate::system::Event::{RewardReceived, RolloutAdopted, RolloutStarted};
        match &recorded.event {
            RolloutStarted { rollout_id, .. } | RolloutAdopted { rollout_id, .. } => {
                open.insert(rollout_id, false);
            }
            RewardReceived { rollout_id, .. } => {
                let rewarded = open.insert(rollout_id, true);
                assert_eq!(rewarded, Some(false), "{rollout_id} was rewarded twice, or never begun");
                rewards += 1;
            }
            _ => {}
        }
    }
    rewards
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_sequence_of_commands_keeps_the_invariants(
        steps in prop::collection::vec(step(), 1..80),
        batch in prop::option::of(1..4_u32),
    ) {
        let mut rig = rig(batch);
        for step in &steps {
            let before = rig.state.clone();
            match command(step) {
                None => {
                    let Step::Wait { seconds } = step else { unreachable!() };
                    rig.pass_s(*seconds);
                }
                Some(command) => {
                    let events = rig.history.len();
                    let refused = rig.run(&command).is_err();
                    prop_assert!(!refused || rig.state == before, "a refused command changes nothing");
                    let seqs: Vec<u64> = rig.history[events..].iter().map(|recorded| recorded.seq).collect();
                    let expected: Vec<u64> = (before.version + 1..=rig.state.version).collect();
                    prop_assert_eq!(seqs, expected, "versions grow by one an event, without gaps");
                }
            }
            check(&rig.state);
        }
        prop_assert_eq!(rewards_by_history(&rig.history), rig.state.totals.rewards);

        let folded = State::fold(&rig.history).unwrap();
        prop_assert_eq!(&folded, &rig.state, "replay gives the same state");
        let stored: State = serde_json::from_str(&serde_json::to_string(&rig.state).unwrap()).unwrap();
        prop_assert_eq!(&stored, &rig.state, "so does storing and loading it");
        let history: Vec<Recorded> =
            serde_json::from_str(&serde_json::to_string(&rig.history).unwrap()).unwrap();
        prop_assert_eq!(State::fold(&history).unwrap(), folded, "and replaying a stored history");
    }

    #[test]
    fn a_command_sent_twice_changes_nothing_the_second_time(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut rig = rig(None);
        for command in steps.iter().filter_map(command) {
            if rig.run(&command).is_ok() {
                let before = rig.state.clone();
                prop_assert!(rig.run(&command).is_ok());
                prop_assert_eq!(&rig.state, &before);
            }
        }
    }

    #[test]
    fn a_state_reloaded_in_between_decides_as_if_it_had_stayed(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (mut kept, mut reloaded) = (rig(None), rig(None));
        for step in &steps {
            if let Step::Wait { seconds } = step {
                kept.pass_s(*seconds);
                reloaded.pass_s(*seconds);
            }
            reloaded.state = serde_json::from_str(&serde_json::to_string(&reloaded.state).unwrap()).unwrap();
            if let Some(command) = command(step) {
                prop_assert_eq!(kept.run(&command), reloaded.run(&command));
            }
        }
        prop_assert_eq!(kept.state, reloaded.state);
    }
}

#[test]
fn a_document_that_breaks_the_states_rules_is_refused() {
    let mut rig = rig(None);
    rig.start("r");
    let good = rig.json();
    let broken = |pointer: &str, value: serde_json::Value| {
        let mut json = good.clone();
        *json.pointer_mut(pointer).unwrap() = value;
        serde_json::from_value::<State>(json).is_err()
    };
    assert!(broken("/arms", serde_json::json!([])));
    assert!(broken("/candidates", serde_json::json!([])));
    assert!(broken("/open/0/arm", serde_json::json!(1)));
    assert!(broken("/open/0/key", serde_json::json!("00")));
    let mut later = good;
    later["later"] = serde_json::json!({"x": 1});
    assert_eq!(serde_json::from_value::<State>(later).unwrap(), rig.state, "unknown fields are tolerated");
}
