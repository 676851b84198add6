use proptest::prelude::*;

use super::{Recorded, Recording, Replay, Source};

fn rollout(at_us: u64, seed: Option<u32>, think_us: [u64; 2]) -> Recorded {
    Recorded { at_us, seed, think_us }
}

fn text(recording: &Recording) -> String {
    let mut bytes = Vec::new();
    recording.write(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_golden_file_is_read_and_written_alike() {
    let golden = include_str!("../../tests/golden/rollouts-1.jsonl");
    let recording = Recording::read(golden.as_bytes()).unwrap();
    let wanted = [
        rollout(0, Some(1_206_139_474), [0, 0]),
        rollout(20_000, Some(u32::MAX), [0, 1_500_000]),
        rollout(20_000, None, [250, 0]),
    ];
    assert_eq!((recording.rollouts(), recording.source()), (&wanted[..], Source::Events));
    assert_eq!(text(&recording), golden);
}

#[test]
fn recorded_rollouts_are_put_in_order_and_begin_at_0() {
    let recording =
        Recording::new(Source::Run, vec![rollout(70, None, [0, 0]), rollout(50, Some(1), [0, 0])]);
    assert_eq!(recording.rollouts(), [rollout(0, Some(1), [0, 0]), rollout(20, None, [0, 0])]);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let head = r#"{"format":"mipro.rollouts/1","source":"run"}"#;
    let told = |text: &str| Recording::read(text.as_bytes()).unwrap_err().to_string();
    let all = [
        told(""),
        told("so\n"),
        told(r#"{"format":"mipro.rollouts/2","source":"run"}"#),
        told(r#"{"format":"mipro.rollouts/1","source":"hearsay"}"#),
        told(head),
        told(&format!("{head}\n{{\"at_us\":5}}\n\n{{\"at_us\":4}}\n")),
        told(&format!("{head}\n{{\"at_us\":-5}}")),
        told(&format!("{head}\n{{\"at_us\":5,\"seed\":4294967296}}")),
        told(&format!("{head}\n{{\"at_us\":5,\"think_us\":[1]}}")),
        told(&format!("{head}\n{{\"at_us\":5,\"reward\":1}}")),
        told(&format!("{head}\n{{\"seed\":5}}")),
        told(&format!("{head}\n{}", " ".repeat(5_000))),
        Recording::read(&b"\xff\n"[..]).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(all.join("\n"), @r"
    line 1: the file is empty, not a mipro.rollouts/1 recording
    line 1: expected value (column 1)
    line 1: the format is mipro.rollouts/2; this build reads mipro.rollouts/1
    line 1: unknown variant `hearsay`, expected `run` or `events` (column 47)
    line 2: there is no rollout in it
    line 4: at_us 4 is before the line above's 5
    line 2: invalid value: integer `-5`, expected u64 (column 11)
    line 2: invalid value: integer `4294967296`, expected u32 (column 28)
    line 2: invalid length 1, expected an array of length 2 (column 25)
    line 2: unknown field `reward`, expected one of `at_us`, `seed`, `think_us` (column 19)
    line 2: missing field `at_us` (column 10)
    line 2: it is longer than 4096 bytes
    line 1: it is not UTF-8 text
    ");
}

#[test]
fn a_replay_is_as_much_faster_as_told() {
    let rollouts = vec![rollout(0, Some(7), [0, 0]), rollout(3_000, None, [500, 1_000])];
    let recording = Recording::new(Source::Run, rollouts);
    let replay = Replay::new(recording.clone(), 2.0).unwrap();
    assert_eq!(replay.starts().collect::<Vec<_>>(), [0, 1_500_000]);
    assert_eq!((replay.seed(0), replay.seed(1), replay.seed(2)), (Some(7), None, None));
    assert_eq!(
        (replay.think_ns(0), replay.think_ns(1), replay.think_ns(2)),
        ([0, 0], [250_000, 500_000], [0, 0])
    );
    for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Replay::new(recording.clone(), wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        rollouts in prop::collection::vec((0..u64::MAX / 2, any::<Option<u32>>(), any::<[u64; 2]>()), 1..40),
    ) {
        let rollouts = rollouts.into_iter().map(|(at, seed, think)| rollout(at, seed, think)).collect();
        let recording = Recording::new(Source::Run, rollouts);
        let read = Recording::read(text(&recording).as_bytes()).unwrap();
        prop_assert_eq!(read, recording);
    }

    #[test]
    fn garbage_is_refused_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Recording::read(&bytes[..]).is_err());
    }
}
