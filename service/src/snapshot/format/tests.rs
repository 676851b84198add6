use proptest::prelude::*;

use super::*;
use crate::codec::tests::{SYSTEM, golden, mutated, sample_state, started};
use crate::system::{Event, NoProbe, Pick, Recorded, apply};

const ANY: Expected = Expected { checksum: None, bytes: None, system: SYSTEM };

fn exactly(packed: &Packed) -> Expected {
    Expected { checksum: Some(packed.checksum), bytes: Some(packed.bytes.len() as u64), system: SYSTEM }
}

/// The object with another header, whose checksum is right.
fn with_header(packed: &Packed, change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let (header, rest) = packed.bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
    let mut header = Header::read(header).unwrap();
    change(&mut header);
    [&header.to_bytes()[..], rest].concat()
}

#[test]
fn the_golden_snapshot_of_format_1_is_read_by_this_build() {
    let golden = golden("snapshot-v1.snap", &pack(&sample_state(), 3).unwrap().bytes);
    let unpacked = unpack(&golden, &ANY).unwrap();
    assert_eq!(unpacked, Unpacked { state: sample_state(), epoch: 3, seq: sample_state().version });
}

#[test]
fn packing_twice_gives_the_same_bytes_and_unpacking_the_same_state() {
    let state = sample_state();
    let packed = pack(&state, 3).unwrap();
    assert_eq!(pack(&sample_state(), 3).unwrap(), packed);
    assert_eq!((packed.seq, packed.epoch), (state.version, 3));
    assert_eq!(packed.checksum, *blake3::hash(&packed.bytes).as_bytes());
    assert_eq!(unpack(&packed.bytes, &exactly(&packed)).unwrap().state, state);
    assert_ne!(pack(&state, 4).unwrap().checksum, packed.checksum);
}

#[test]
fn every_truncation_is_found() {
    let bytes = pack(&sample_state(), 3).unwrap().bytes;
    for length in 0..bytes.len() {
        assert!(unpack(&bytes[..length], &ANY).is_err(), "cut at {length}");
    }
    assert!(unpack(&[&bytes[..], &[0]].concat(), &ANY).is_err(), "a byte too many");
}

#[test]
fn every_flipped_bit_is_found_without_the_pointers_help() {
    let mut bytes = pack(&sample_state(), 3).unwrap().bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(unpack(&bytes, &ANY).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    unpack(&bytes, &ANY).unwrap();
}

#[test]
fn a_whole_snapshot_that_is_not_the_pointers_is_found() {
    let state = sample_state();
    let (meant, older) = (pack(&state, 3).unwrap(), pack(&state, 2).unwrap());
    let error = unpack(&older.bytes, &exactly(&meant)).unwrap_err();
    assert!(matches!(error, FormatError::Another(_)), "{error}");
    let longer = Expected { bytes: Some(1 + meant.bytes.len() as u64), ..ANY };
    assert!(matches!(unpack(&meant.bytes, &longer).unwrap_err(), FormatError::Another(_)));
}

#[test]
fn a_newer_builds_snapshot_is_refused_with_what_is_newer() {
    let packed = pack(&sample_state(), 3).unwrap();
    let says =
        |change: &dyn Fn(&mut Header)| unpack(&with_header(&packed, change), &ANY).unwrap_err().to_string();
    insta::assert_snapshot!(says(&|header| header.format = 2), @"the snapshot has format 2, this build reads up to 1: start a newer build");
    insta::assert_snapshot!(says(&|header| header.codec = 2), @"the snapshot has codec 2, this build reads up to 1: start a newer build");
    insta::assert_snapshot!(says(&|header| header.min_reader = 9), @"the snapshot has min_reader 9, this build reads up to 1: start a newer build");
    // A newer schema that asks for no newer reader is read.
    unpack(&with_header(&packed, |header| header.schema = 9), &ANY).unwrap();
}

#[test]
fn no_memory_is_taken_for_what_a_header_only_claims() {
    let packed = pack(&sample_state(), 3).unwrap();
    let claims =
        |raw_bytes| unpack(&with_header(&packed, |header| header.raw_bytes = raw_bytes), &ANY).unwrap_err();
    assert!(matches!(claims(u64::MAX), FormatError::TooLarge { .. }));
    assert!(matches!(claims(RAW_BYTES_MAX + 1), FormatError::TooLarge { .. }));
    for near in [0, packed.raw_bytes - 1, packed.raw_bytes + 1] {
        assert!(matches!(claims(near), FormatError::Damaged(_)), "{near}");
    }
}

proptest! {
    /// With the checksums put right, so that damage gets as far as it can.
    #[test]
    fn damage_behind_right_checksums_does_no_harm(raw in mutated(state::encode(&sample_state())), frame_only in any::<bool>()) {
        let mut frame = zstd::bulk::compress(&raw, ZSTD_LEVEL).unwrap();
        if frame_only {
            let at = frame.len() / 2;
            frame[at] ^= 0x10;
        }
        let header = Header {
            format: FORMAT,
            schema: 1,
            min_reader: 1,
            codec: CODEC,
            epoch: 1,
            seq: sample_state().version,
            raw_bytes: raw.len() as u64,
            stored_bytes: frame.len() as u64,
            stored_crc: crc32c::crc32c(&frame),
        };
        let object = [&header.to_bytes()[..], &frame, blake3::hash(&raw).as_bytes()].concat();
        let _ = unpack(&object, &ANY);
    }

    #[test]
    fn arbitrary_bytes_are_no_snapshot(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(unpack(&bytes, &ANY).is_err());
    }
}

/// Numbers without a pattern; xorshift.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// In [0, 1), with all its 52 digits.
    fn unit(&mut self) -> f64 {
        f64::from_bits(0x3ff << 52 | self.next() >> 12) - 1.0
    }
}

/// A system under traffic that remembers what it must and whose rewards and probabilities are as long as can be.
struct Traffic {
    state: State,
    noise: Noise,
    now_us: u64,
    rollouts: u64,
}

impl Traffic {
    fn new(window: usize) -> Self {
        let mut state = sample_state();
        std::sync::Arc::make_mut(&mut state.spec).limits.rollouts_closed_max = window;
        let now_us = state.updated_us;
        Self { state, noise: Noise(42), now_us, rollouts: 0 }
    }

    fn apply(&mut self, event: Event) {
        let recorded = Recorded { seq: self.state.version + 1, at_us: self.now_us, event };
        apply(&mut self.state, &recorded, &mut NoProbe);
    }

    /// Ten rollouts a second, more or less.
    fn begin(&mut self) -> (String, String) {
        self.now_us += self.noise.next() % 200_000;
        self.rollouts += 1;
        let id = format!("rollout-{}", self.rollouts);
        let candidate = if self.noise.next().is_multiple_of(2) { "baseline" } else { "c1" };
        let probability = f64::from(self.noise.unit() as f32);
        self.apply(started(&id, candidate, probability, Pick::Policy));
        (id, candidate.to_owned())
    }

    fn reward(&mut self, (rollout_id, candidate_id): &(String, String)) {
        let reward = self.noise.unit();
        let (rollout_id, candidate_id) = (rollout_id.clone(), candidate_id.clone());
        self.apply(Event::RewardReceived { rollout_id, candidate_id, reward });
    }

    fn done(&mut self, (rollout_id, candidate_id): (String, String)) {
        self.apply(Event::RolloutDone { rollout_id, candidate_id });
    }

    fn bytes(&self) -> usize {
        pack(&self.state, 1).unwrap().bytes.len()
    }
}

#[test]
fn a_snapshot_does_not_grow_once_its_window_is_full() {
    let mut traffic = Traffic::new(1_000);
    let mut after = |rollouts: u64| {
        while traffic.rollouts < rollouts {
            let rollout = traffic.begin();
            traffic.reward(&rollout);
            traffic.done(rollout);
        }
        assert_eq!(traffic.state.remembered().1, 1_000);
        traffic.bytes()
    };
    let (early, late) = (after(2_000), after(100_000));
    assert!(late * 100 <= early * 110, "{early} bytes after 2,000 rollouts, {late} after 100,000");
}

#[test]
fn a_rollout_takes_24_bytes_of_a_snapshot_at_most() {
    type Live = fn(&mut Traffic, (String, String));
    let kinds: [(&str, Live); 4] = [
        ("open", |_, _| {}),
        ("open with a reward", |traffic, rollout| traffic.reward(&rollout)),
        ("done", |traffic, rollout| {
            traffic.reward(&rollout);
            traffic.done(rollout);
        }),
        ("done without a reward", Traffic::done),
    ];
    for (kind, live) in kinds {
        let mut traffic = Traffic::new(100_000);
        let mut bytes_after = |rollouts: u64| {
            while traffic.rollouts < rollouts {
                let rollout = traffic.begin();
                live(&mut traffic, rollout);
            }
            traffic.bytes()
        };
        let (few, many) = (bytes_after(1_000), bytes_after(11_000));
        let each = (many - few) as f64 / 10_000.0;
        println!("{kind}: {each:.1} bytes each, {few} for the first 1,000");
        assert!(each <= 24.0, "{kind}: {each} bytes each");
    }
}
