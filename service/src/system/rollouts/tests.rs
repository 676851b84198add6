use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn key(id: u8) -> RolloutKey {
    RolloutKey::of(&id.to_string())
}

fn opened(seq: u64) -> Rollout {
    Rollout {
        arm: 3,
        phase: Phase::Open,
        reward: None,
        probability: Some(0.25),
        opened_s: 7,
        closed_s: 0,
        seq,
    }
}

#[test]
fn keys_are_the_first_96_bits_of_the_ids_hash() {
    let hash = blake3::hash(b"rollout-1");
    assert_eq!(RolloutKey::of("rollout-1").0, hash.as_bytes()[..12]);
}

#[test]
fn what_nothing_depends_on_any_more_is_forgotten() {
    let mut rollouts = Rollouts::default();
    let close = |phase| move |rollout: &mut Rollout| (rollout.phase, rollout.closed_s) = (phase, 9);
    (0..4).for_each(|id| rollouts.insert(key(id), &opened(10 + u64::from(id))));
    rollouts.change(key(0), |rollout| rollout.reward = Some(1.0));
    let rewarded = rollouts.get(key(0)).unwrap();
    assert_eq!((rewarded.reward, rewarded.probability, rewarded.opened_s), (Some(1.0), None, 7));
    (0..3).zip([Phase::Done, Phase::Done, Phase::Failed]).for_each(|(id, phase)| {
        rollouts.change(key(id), close(phase));
    });
    let seen: Vec<_> =
        rollouts.closed().map(|(_, r)| (r.probability, r.opened_s, r.closed_s, r.seq)).collect();
    // The one done without a reward may still get one within its time to live.
    assert_eq!(seen, [(None, 0, 9, 0), (None, 7, 9, 0), (None, 0, 9, 0)]);
    assert_eq!(rollouts.get(key(3)), Some(opened(13)));
}

#[test]
fn expired_ones_are_found_by_the_events_that_began_them() {
    let mut rollouts = Rollouts::default();
    (1..=5).for_each(|id| rollouts.insert(key(id), &opened(u64::from(id) * 10)));
    assert_eq!(rollouts.begun_by(&[10, 20, 40]), [key(1), key(2), key(4)]);
    assert_eq!(rollouts.begun_by(&[1, 20, 35, 50, 99]), [key(2), key(5)]);
    assert!(rollouts.begun_by(&[]).is_empty());
    rollouts.change(key(2), |rollout| rollout.phase = Phase::Done);
    assert_eq!(rollouts.begun_by(&[10, 20, 40]), [key(1), key(4)]);
}

proptest! {
    /// Against a map and two plain lists.
    #[test]
    fn both_lists_keep_their_order(steps in prop::collection::vec((0..12_u8, 0..6_u8), 1..200)) {
        let mut rollouts = Rollouts::default();
        let mut phases: BTreeMap<u8, Phase> = BTreeMap::new();
        let (mut open, mut closed): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
        for (seq, (id, what)) in (1..).zip(steps) {
            let phase = [Phase::Open, Phase::Expired, Phase::Done, Phase::Failed].get(usize::from(what)).copied();
            match (phase, phases.get(&id).copied()) {
                (Some(Phase::Open), _) => {
                    rollouts.insert(key(id), &opened(seq));
                    open.retain(|known| *known != id);
                    closed.retain(|known| *known != id);
                    open.push(id);
                    phases.insert(id, Phase::Open);
                }
                (Some(phase), known) => {
                    let before = rollouts.change(key(id), |rollout| rollout.phase = phase);
                    prop_assert_eq!(before.map(|rollout| rollout.phase), known);
                    if known.is_some_and(|known| known != phase) {
                        open.retain(|known| *known != id);
                        closed.retain(|known| *known != id);
                        closed.push(id);
                        phases.insert(id, phase);
                    }
                }
                (None, _) => {
                    rollouts.forget_oldest_closed();
                    if !closed.is_empty() {
                        phases.remove(&closed.remove(0));
                    }
                }
            }
            let keys = |ids: &[u8]| ids.iter().map(|id| key(*id)).collect::<Vec<_>>();
            prop_assert_eq!(rollouts.open().map(|(key, _)| key).collect::<Vec<_>>(), keys(&open));
            prop_assert_eq!(rollouts.closed().map(|(key, _)| key).collect::<Vec<_>>(), keys(&closed));
            prop_assert_eq!((rollouts.open_len(), rollouts.closed_len()), (open.len(), closed.len()));
            prop_assert!(rollouts.slots.len() <= 12, "free slots are used again");
            prop_assert_eq!(&rollouts.clone(), &rollouts);
        }
    }
}
