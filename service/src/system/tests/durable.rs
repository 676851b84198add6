//! What comes back from bytes is what went in: events, states and snapshots, whatever commands made them.

use proptest::prelude::*;
use uuid::Uuid;

use super::properties::{Step, command, rig, step};
use super::support::Rig;
use crate::codec;
use crate::snapshot::format::{Expected, pack, unpack};
use crate::system::{Context, NoProbe, State, apply, decide, record};

/// A batch as the log keeps it.
struct Kept {
    first_seq: u64,
    count: u32,
    payload: Vec<u8>,
}

/// Runs the steps with the log between deciding and applying.
fn run(rig: &mut Rig, steps: &[Step]) -> Vec<Kept> {
    let mut log = Vec::new();
    for step in steps {
        let Some(command) = command(step) else {
            let Step::Wait { seconds } = step else { unreachable!() };
            rig.pass_s(*seconds);
            continue;
        };
        rig.seed += 1;
        let context = Context { now_us: rig.now_us, seed: rig.seed };
        let before = rig.state.clone();
        let Ok(decision) = decide(&rig.state, &command, &context, &mut NoProbe) else { continue };
        let events = record(&rig.state, decision.events, &context);
        assert_eq!(rig.state, before, "nothing changes before the events are applied");
        if let Some(first) = events.first() {
            let mut payload = Vec::new();
            codec::event::encode(&events, &mut payload);
            let count = u32::try_from(events.len()).unwrap();
            log.push(Kept { first_seq: first.seq, count, payload });
        }
        events.iter().for_each(|recorded| apply(&mut rig.state, recorded, &mut NoProbe));
        rig.history.extend(events);
    }
    log
}

fn replay(state: &mut State, log: &[Kept]) {
    log.iter()
        .for_each(|kept| codec::event::replay(&kept.payload, kept.first_seq, kept.count, state).unwrap());
}

fn expected(state: &State) -> Expected {
    Expected { checksum: None, bytes: None, system: state.system_id }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn replay_gives_the_same_bytes_from_the_first_event_and_from_any_snapshot(
        steps in prop::collection::vec(step(), 1..80),
        batch in prop::option::of(1..4_u32),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut rig = rig(batch);
        let start = rig.state.clone();
        let log = run(&mut rig, &steps);
        let bytes = codec::state::encode(&rig.state);
        prop_assert_eq!(&codec::state::decode(&bytes).unwrap(), &rig.state);

        // Event by event, as histories are read.
        let mut decoded = start.clone();
        let mut history = rig.history[..2].to_vec();
        for kept in &log {
            let events = codec::event::decode(&kept.payload, kept.first_seq, kept.count).unwrap();
            events.iter().for_each(|recorded| apply(&mut decoded, recorded, &mut NoProbe));
            history.extend(events);
        }
        prop_assert_eq!(&history, &rig.history);
        prop_assert_eq!(&codec::state::encode(&decoded), &bytes, "decoding and applying");

        // In one go, with a snapshot in between.
        let mut replayed = start;
        let (head, tail) = log.split_at(cut.index(log.len() + 1));
        replay(&mut replayed, head);
        let packed = pack(&replayed, 3).unwrap();
        let mut restored = unpack(&packed.bytes, &expected(&rig.state)).unwrap().state;
        prop_assert_eq!(&restored, &replayed);
        replay(&mut replayed, tail);
        prop_assert_eq!(&codec::state::encode(&replayed), &bytes, "replaying");
        replay(&mut restored, tail);
        prop_assert_eq!(codec::state::encode(&restored), bytes, "replaying upon a snapshot");
        prop_assert_eq!(pack(&restored, 3).unwrap(), pack(&rig.state, 3).unwrap());
    }

    #[test]
    fn a_state_unpacked_in_between_decides_as_if_it_had_stayed(steps in prop::collection::vec(step(), 1..60)) {
        let (mut kept, mut reloaded) = (rig(None), rig(None));
        for step in &steps {
            if let Step::Wait { seconds } = step {
                kept.pass_s(*seconds);
                reloaded.pass_s(*seconds);
            }
            reloaded.state = codec::state::decode(&codec::state::encode(&reloaded.state)).unwrap();
            if let Some(command) = command(step) {
                prop_assert_eq!(kept.run(&command), reloaded.run(&command));
            }
        }
        prop_assert_eq!(kept.state, reloaded.state);
    }
}

#[test]
fn replay_refuses_a_gap_and_a_repetition() {
    let mut rig = rig(None);
    let start = rig.state.clone();
    let steps = [Step::Start { rollout: 1, matching: true }, Step::Start { rollout: 2, matching: true }];
    let log = run(&mut rig, &steps);
    let mut state = start.clone();
    let Kept { first_seq, count, payload } = &log[1];
    let gap = codec::event::replay(payload, *first_seq, *count, &mut state).unwrap_err();
    assert!(matches!(gap, codec::CodecError::Misplaced { found_seq: 4, expected_seq: 3, .. }), "{gap}");
    assert_eq!(state, start);
    replay(&mut state, &log);
    let again = codec::event::replay(payload, *first_seq, *count, &mut state).unwrap_err();
    assert!(matches!(again, codec::CodecError::Misplaced { found_seq: 4, expected_seq: 5, .. }), "{again}");
    assert_eq!(state, rig.state);
}

#[test]
fn another_systems_snapshot_is_refused() {
    let rig = rig(None);
    let packed = pack(&rig.state, 1).unwrap();
    let other = Expected { system: Uuid::from_u128(77), ..expected(&rig.state) };
    let refused = unpack(&packed.bytes, &other).unwrap_err().to_string();
    assert!(refused.contains("another system"), "{refused}");
    assert!(!refused.contains("77") && !refused.contains(&rig.state.system_id.to_string()));
}
