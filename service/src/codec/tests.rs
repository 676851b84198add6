use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::system::{
    CandidateContent, Event, NewSystem, NoProbe, PatternMessage, Pick, Prompt, PromptHash, Recorded, State,
    SystemSpec, apply,
};

pub(crate) const SYSTEM: Uuid = Uuid::from_u128(0x5e5);
const AT_US: u64 = 1_700_000_000_123_456;

/// The bytes of a golden file. Every build must read them; `MIPRO_WRITE_GOLDEN=1` writes files that aren't there yet.
pub(crate) fn golden(name: &str, now: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("MIPRO_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, now).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; MIPRO_WRITE_GOLDEN=1", path.display()))
}

fn created() -> Event {
    let messages = vec![PatternMessage { role: "system".into(), order: 0, pattern: "Say {what}.".into() }];
    let wildcards = BTreeMap::from([("what".into(), "REQUIRED".into())]);
    let spec = SystemSpec {
        prompt: Arc::new(Prompt::new("p".into(), "P".into(), messages, wildcards)),
        model: "m".into(),
        provider: "mock".into(),
        temperature: Some(0.1 + 0.2),
        rollouts_per_candidate: Some(3),
        ..SystemSpec::default()
    };
    let new =
        NewSystem { system_id: SYSTEM, org_id: Uuid::from_u128(0xa), name: Some("golden".into()), spec };
    Event::SystemCreated { system: Arc::new(new) }
}

fn added(id: &str) -> Event {
    let content = CandidateContent {
        deltas: json!({"instruction_text": format!("Text of {id}."), "z": [1e-7, 0.1, -0.0], "a": null}),
        metadata: json!({"label": "ä\u{1f642}"}),
        parent_id: Some("baseline".into()),
        ..CandidateContent::default()
    };
    let params = BTreeMap::from([("demos".into(), 0), ("instruction".into(), 3)]);
    Event::CandidateAdded { candidate_id: id.into(), content: Arc::new(content), params }
}

pub(crate) fn started(rollout: &str, candidate: &str, probability: f64, pick: Pick) -> Event {
    Event::RolloutStarted {
        rollout_id: rollout.into(),
        candidate_id: candidate.into(),
        probability,
        pick,
        seed: matches!(pick, Pick::Policy | Pick::Batch).then_some(0xfeed_beef_dead_cafe),
        prompt_hash: Some(PromptHash([7; 16])),
    }
}

fn rewarded(rollout: &str, candidate: &str, reward: f64) -> Event {
    Event::RewardReceived { rollout_id: rollout.into(), candidate_id: candidate.into(), reward }
}

fn learned(candidate: &str, best_score: Option<f64>) -> Event {
    Event::TpeUpdated {
        candidate_id: candidate.into(),
        reward_count: 1,
        avg_reward: 0.1 + 0.2,
        best_candidate_id: "c1".into(),
        best_score,
    }
}

fn done(rollout: &str, candidate: &str) -> Event {
    Event::RolloutDone { rollout_id: rollout.into(), candidate_id: candidate.into() }
}

/// Batches with every kind of event, and every kind of rollout at the end. Written down, not decided: the optimizer may
/// change its mind, the golden files may not.
pub(crate) fn sample() -> Vec<Vec<Recorded>> {
    let baseline = Event::CandidateAdded {
        candidate_id: "baseline".into(),
        content: Arc::default(),
        params: BTreeMap::new(),
    };
    let id = |text: &str| text.to_owned();
    let failed = |rollout: &str| Event::RolloutFailed { rollout_id: id(rollout), candidate_id: id("c1") };
    let adopted = Event::RolloutAdopted { rollout_id: id("adopted"), candidate_id: id("c1") };
    let expired =
        |seqs: &[u64]| Event::RolloutsExpired { started_seqs: seqs.to_vec(), rollout_ids: Vec::new() };
    let batches = vec![
        vec![created(), baseline],
        vec![added("c1")],
        vec![started("done", "c1", f64::from(0.3_f32), Pick::Batch)],
        vec![started("late", "baseline", 1.0, Pick::Unmatched)],
        vec![started("failed", "c1", 0.5, Pick::Held)],
        vec![started("rewarded", "c1", 0.25, Pick::Policy)],
        vec![started("expired", "baseline", f64::from(f32::MIN_POSITIVE), Pick::Policy)],
        vec![rewarded("done", "c1", 0.1 + 0.2), learned("c1", Some(0.1 + 0.2)), done("done", "c1")],
        vec![adopted, rewarded("adopted", "c1", -0.0), learned("c1", None)],
        vec![rewarded("rewarded", "c1", 1.0), learned("c1", Some(0.5))],
        vec![failed("failed"), expired(&[8])],
        vec![done("late", "baseline")],
        vec![started("open", "c1", 0.75, Pick::Batch)],
    ];
    let mut seq = 0;
    let number = |(turn, events): (u64, Vec<Event>)| {
        let recorded = |event| {
            seq += 1;
            Recorded { seq, at_us: AT_US + turn * 1_500_000, event }
        };
        events.into_iter().map(recorded).collect()
    };
    (0..).zip(batches).map(number).collect()
}

pub(crate) fn sample_state() -> State {
    State::fold(&sample().concat()).unwrap()
}

fn encoded(events: &[Recorded]) -> Vec<u8> {
    let mut out = Vec::new();
    event::encode(events, &mut out);
    out
}

fn decoded(payload: &[u8], events: &[Recorded]) -> Result<Vec<Recorded>, CodecError> {
    event::decode(payload, events[0].seq, u32::try_from(events.len()).unwrap())
}

/// Batches one after the other, each behind its length.
fn stream(batches: &[Vec<Recorded>]) -> Vec<u8> {
    let framed = |events: &Vec<Recorded>| {
        let payload = encoded(events);
        [&u32::try_from(payload.len()).unwrap().to_le_bytes()[..], &payload].concat()
    };
    batches.iter().flat_map(framed).collect()
}

#[test]
fn the_golden_events_of_schema_1_are_read_by_this_build() {
    let batches = sample();
    let golden = golden("events-v1.bin", &stream(&batches));
    let mut rest = &golden[..];
    for events in &batches {
        let (length, behind) = rest.split_first_chunk::<4>().unwrap();
        let (payload, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        rest = behind;
        assert_eq!(&decoded(payload, events).unwrap(), events);
    }
    assert!(rest.is_empty());
}

#[test]
fn the_golden_state_of_schema_1_is_read_by_this_build() {
    let sample = sample_state();
    let read = state::decode(&golden("state-v1.bin", &state::encode(&sample))).unwrap();
    assert_eq!(read, sample);
    assert_eq!(state::encode(&read), state::encode(&sample), "to the last bit");
    let reward = read.rollout("adopted").unwrap().reward.unwrap();
    assert!(reward == 0.0 && reward.is_sign_negative());
    assert_eq!(read.remembered(), (3, 4), "open, rewarded, adopted; done, failed, expired, late");
}

#[test]
fn a_started_rollout_is_small() {
    let start =
        sample().into_iter().find(|batch| matches!(batch[0].event, Event::RolloutStarted { .. })).unwrap();
    let ids = "done".len() + "c1".len();
    let bytes = encoded(&start).len() - ids;
    assert!(bytes <= 64, "{bytes} bytes besides its ids");
}

#[test]
fn what_needs_a_newer_reader_is_refused_and_says_so_whatever_its_shape() {
    // Field 2, min_reader: 9. Then a field 5 of another wire type than this build's.
    for bytes in [&[0x10, 9][..], &[0x10, 9, 0x28, 1][..], &[0x08, 12, 0x10, 9, 0x18, 1][..]] {
        let newer = CodecError::Newer { min_reader: 9, reader: 1 };
        assert_eq!(event::decode(bytes, 1, 0).unwrap_err(), newer);
        assert_eq!(state::decode(bytes).unwrap_err(), newer);
        assert!(newer.to_string().contains("start a newer build"));
    }
    let mut state = sample_state();
    let before = state.clone();
    event::replay(&[0x10, 9], state.version + 1, 0, &mut state).unwrap_err();
    assert_eq!(state, before);
}

#[test]
fn unknown_fields_are_skipped() {
    // Field 100, length-delimited; field 101, varint.
    let unknown = [0xa2, 0x06, 3, b'a', b'b', b'c', 0xa8, 0x06, 42];
    for events in sample() {
        let payload = [&encoded(&events)[..], &unknown].concat();
        assert_eq!(decoded(&payload, &events).unwrap(), events);
    }
    let bytes = [&state::encode(&sample_state())[..], &unknown].concat();
    assert_eq!(state::decode(&bytes).unwrap(), sample_state());
}

#[test]
fn a_count_that_is_not_the_batchs_is_refused() {
    let events = sample().remove(7);
    let payload = encoded(&events);
    for count in [0, 2, 4, u32::MAX] {
        let error = event::decode(&payload, events[0].seq, count).unwrap_err();
        assert!(matches!(error, CodecError::Misplaced { found: 3, .. }), "{error}");
    }
    assert!(event::decode(&payload, u64::MAX - 1, 3).is_err());
    assert!(event::decode(&payload, u64::MAX - 3, 3).is_ok());
}

#[test]
fn a_few_bytes_cannot_ask_for_gigabytes() {
    let id = "x".repeat(4 << 20);
    let mut payload = encoded(&[Recorded { seq: 1, at_us: 1, event: done(&id, &id) }]);
    // The same event nine hundred and ninety-nine times more: field 5, of a field 8 of nothing but zeros.
    payload.extend([0x2a, 2, 0x42, 0].repeat(999));
    let error = event::decode(&payload, 1, 1_000).unwrap_err();
    assert_eq!(error, CodecError::Damaged("its ids are longer than any command's"));
}

fn any_id() -> impl Strategy<Value = String> + Clone {
    let known = prop::sample::select(vec!["a", "b", "baseline", "c1", "open", "done", "expired"]);
    let odd = prop::collection::vec(any::<char>(), 0..20).prop_map(|chars| chars.into_iter().collect());
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => odd]
}

fn any_event() -> impl Strategy<Value = Event> {
    let pick = prop::sample::select(vec![Pick::Policy, Pick::Batch, Pick::Held, Pick::Unmatched]);
    let number = prop_oneof![any::<f64>(), Just(-0.0), Just(0.1 + 0.2), any::<f32>().prop_map(f64::from)];
    let hash = prop::option::of(any::<[u8; 16]>().prop_map(PromptHash));
    let start = (any_id(), any_id(), number.clone(), pick, prop::option::of(any::<u64>()), hash);
    let pair = (any_id(), any_id());
    let seqs = prop::collection::vec(any::<u64>(), 0..5);
    let learn = (any_id(), any::<u64>(), number.clone(), any_id(), prop::option::of(number.clone()));
    prop_oneof![
        1 => Just(created()),
        1 => any_id().prop_map(|id| added(&id)),
        4 => start.prop_map(|(rollout_id, candidate_id, probability, pick, seed, prompt_hash)| {
            Event::RolloutStarted { rollout_id, candidate_id, probability, pick, seed, prompt_hash }
        }),
        1 => pair.clone().prop_map(|(rollout_id, candidate_id)| Event::RolloutAdopted { rollout_id, candidate_id }),
        3 => (pair.clone(), number).prop_map(|((rollout_id, candidate_id), reward)| {
            Event::RewardReceived { rollout_id, candidate_id, reward }
        }),
        3 => learn.prop_map(|(candidate_id, reward_count, avg_reward, best_candidate_id, best_score)| {
            Event::TpeUpdated { candidate_id, reward_count, avg_reward, best_candidate_id, best_score }
        }),
        2 => pair.clone().prop_map(|(rollout_id, candidate_id)| Event::RolloutDone { rollout_id, candidate_id }),
        1 => pair.prop_map(|(rollout_id, candidate_id)| Event::RolloutFailed { rollout_id, candidate_id }),
        1 => (seqs, prop::collection::vec(any_id(), 0..4)).prop_map(|(started_seqs, rollout_ids)| {
            Event::RolloutsExpired { started_seqs, rollout_ids }
        }),
    ]
}

/// Bytes that differ from these in a few places.
pub(crate) fn mutated(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    prop::collection::vec(change, 1..6).prop_map(move |changes| {
        let mut bytes = bytes.clone();
        for (place, value, how) in changes {
            let at = if bytes.is_empty() { 0 } else { place.index(bytes.len()) };
            match how {
                0 if !bytes.is_empty() => bytes[at] = value,
                1 => bytes.insert(at, value),
                2 => bytes.truncate(at),
                _ if !bytes.is_empty() => drop(bytes.remove(at)),
                _ => {}
            }
        }
        bytes
    })
}

/// Whatever is read has bytes again, and replay takes exactly what decoding takes.
fn try_events(payload: &[u8], count: u32) {
    let before = sample_state();
    let first_seq = before.version + 1;
    let decoded = event::decode(payload, first_seq, count);
    let mut replayed = before.clone();
    let outcome = event::replay(payload, first_seq, count, &mut replayed);
    match decoded {
        Ok(events) => {
            let bytes = encoded(&events);
            assert_eq!(encoded(&event::decode(&bytes, first_seq, count).unwrap()), bytes);
            outcome.unwrap();
            let mut applied = before;
            events.iter().for_each(|recorded| apply(&mut applied, recorded, &mut NoProbe));
            assert_eq!(state::encode(&applied), state::encode(&replayed));
        }
        Err(error) => assert!(outcome.is_err(), "{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn events_read_back_as_they_were_and_replay_does_what_applying_does(
        events in prop::collection::vec((any_event(), any::<bool>()), 1..8),
    ) {
        let at = |odd: bool| if odd { u64::MAX - 5 } else { AT_US };
        let first = sample_state().version + 1;
        let recorded = |(seq, (event, odd))| Recorded { seq, at_us: at(odd), event };
        let events: Vec<Recorded> = (first..).zip(events).map(recorded).collect();
        let payload = encoded(&events);
        prop_assert_eq!(&decoded(&payload, &events).unwrap(), &events);
        try_events(&payload, u32::try_from(events.len()).unwrap());
    }

    #[test]
    fn arbitrary_bytes_are_no_events_and_no_state_and_do_no_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        count in 0..4_u32,
    ) {
        try_events(&bytes, count);
        let _ = state::decode(&bytes);
    }

    #[test]
    fn damaged_events_do_no_harm(
        bytes in prop::sample::select(sample()).prop_flat_map(|batch| mutated(encoded(&batch))),
        count in 1..4_u32,
    ) {
        try_events(&bytes, count);
    }

    #[test]
    fn a_damaged_state_is_refused_or_is_a_state(bytes in mutated(state::encode(&sample_state()))) {
        if let Ok(state) = state::decode(&bytes) {
            let again = state::decode(&state::encode(&state)).unwrap();
            prop_assert_eq!(state::encode(&again), state::encode(&state));
        }
    }
}
