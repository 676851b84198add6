use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{Dist, Recorder};

const NAME: &str = "rollout.response";

/// A machine whose speed drifts: each pair has its own, each slice differs from it a little, each sample has its own length.
#[derive(Clone, Copy)]
pub(super) struct Machine {
    pub(super) per_pair: f64,
    pub(super) per_slice: f64,
    pub(super) seed: u64,
}

pub(super) const QUIET: Machine = Machine { per_pair: 0.1, per_slice: 0.02, seed: 1 };

/// Nearly normal: the sum of twelve evenly spread numbers.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

/// Pairs of slices of 200 samples around 5 ms, where B takes `factor` times as long.
pub(super) fn slices(pairs: u32, factor: f64, machine: Machine) -> Vec<Slice> {
    let mut rng = ChaCha8Rng::seed_from_u64(machine.seed);
    let mut all = Vec::new();
    for pair in 0..pairs {
        let speed = machine.per_pair * normal(&mut rng);
        for side in if pair % 2 == 0 { [Side::A, Side::B] } else { [Side::B, Side::A] } {
            let slower = if side == Side::B { factor.ln() } else { 0.0 };
            let mean = speed + slower + machine.per_slice * normal(&mut rng);
            let ns = |rng: &mut ChaCha8Rng| (5e6 * (mean + 0.3 * normal(rng)).exp()) as u64;
            let samples: Samples = (0..200).map(|_| ns(&mut rng)).collect();
            all.push(slice(side, pair, samples, all.len() as f64 * 2.0));
        }
    }
    all
}

fn slice(side: Side, pair: u32, samples: Samples, started_s: f64) -> Slice {
    let mut slice = Slice::new(side, pair, &BTreeMap::new());
    slice.samples.insert(NAME.to_owned(), samples);
    slice.started_s = started_s;
    slice
}

pub(super) fn rules(endpoints: Vec<Endpoint>) -> Rules {
    Rules { endpoints, ..Rules::default() }
}

fn judged(slices: &[Slice], margin: f64) -> EndpointComparison {
    compare(slices, &rules(vec![Endpoint::gated(NAME, 0.5, margin)])).unwrap().endpoints.remove(0)
}

#[test]
fn alike_passes_slower_regresses_faster_is_improved() {
    let same = judged(&slices(30, 1.0, QUIET), 0.1);
    assert_eq!(same.verdict, CompareVerdict::Pass { improved: false });
    let slower = judged(&slices(30, 1.2, QUIET), 0.1);
    assert_eq!(slower.verdict, CompareVerdict::Regress);
    let effect = slower.effect.unwrap();
    assert!(effect.lower < 0.2 && 0.2 < effect.upper, "{effect:?}");
    assert!(effect.upper - effect.lower < 0.1, "{effect:?}");
    let faster = judged(&slices(30, 0.8, QUIET), 0.1);
    assert_eq!(faster.verdict, CompareVerdict::Pass { improved: true });
}

#[test]
fn faster_by_less_than_the_machine_differs_from_itself_is_no_improvement() {
    let data = slices(30, 0.97, Machine { per_slice: 0.005, ..QUIET });
    let verdict = |aa_half_width| {
        let mut endpoint = Endpoint::gated(NAME, 0.5, 0.1);
        endpoint.aa_half_width = aa_half_width;
        compare(&data, &rules(vec![endpoint])).unwrap().endpoints.remove(0).verdict
    };
    assert_eq!(verdict(Some(0.01)), CompareVerdict::Pass { improved: true });
    assert_eq!(verdict(Some(0.06)), CompareVerdict::Pass { improved: false });
    assert_eq!(verdict(None), CompareVerdict::Pass { improved: false }, "the rules' own 5 %");
}

#[test]
fn between_is_inconclusive_and_says_how_many_more() {
    let noisy = Machine { per_slice: 0.3, ..QUIET };
    let CompareVerdict::Inconclusive { more_pairs: Some(more), reason } =
        judged(&slices(20, 1.02, noisy), 0.05).verdict
    else {
        panic!("20 noisy pairs can't tell 2 % from 5 %");
    };
    assert!(more > 20, "{more}: {reason}");
    assert!(reason.ends_with("against a margin of +5.0 %"), "{reason}");
}

#[test]
fn a_regression_within_the_margin_is_none() {
    let slower = judged(&slices(30, 1.05, Machine { per_slice: 0.005, ..QUIET }), 0.1);
    assert!(slower.effect.unwrap().lower > 0.0, "shown to be slower");
    assert_eq!(slower.verdict, CompareVerdict::Pass { improved: false }, "and within the margin");
}

#[test]
fn fewer_than_four_pairs_show_nothing() {
    let verdict = judged(&slices(3, 5.0, QUIET), 0.1).verdict;
    let CompareVerdict::Inconclusive { more_pairs, reason } = verdict else { panic!("{verdict:?}") };
    assert_eq!(more_pairs, Some(27));
    assert_eq!(reason, "3 pairs with samples on both sides: with fewer than 4, significance is unreachable");
    assert_eq!(judged(&slices(4, 5.0, QUIET), 0.1).verdict, CompareVerdict::Regress);
    assert!(matches!(judged(&[], 0.1).verdict, CompareVerdict::Inconclusive { more_pairs: Some(30), .. }));
}

#[test]
fn too_few_samples_for_the_quantile() {
    let mut few = slices(30, 1.0, QUIET);
    for slice in &mut few {
        slice.samples.insert(NAME.to_owned(), [5_000_000].into_iter().collect());
    }
    let p90 = compare(&few, &rules(vec![Endpoint::gated(NAME, 0.9, 0.1)])).unwrap().endpoints.remove(0);
    let CompareVerdict::Inconclusive { more_pairs, reason } = p90.verdict else {
        panic!("{:?}", p90.verdict)
    };
    assert_eq!((more_pairs, reason.as_str()), (Some(70), "30 samples, where this quantile needs 100"));
    assert_eq!(p90.effect, None);
}

#[test]
fn what_only_one_side_did_has_no_ratio() {
    let mut data = slices(30, 1.0, QUIET);
    data.iter_mut().filter(|slice| slice.side == Side::A).for_each(|slice| slice.samples.clear());
    let invalid = |reason: &str| CompareVerdict::Invalid { reasons: vec![reason.to_owned()] };
    assert_eq!(judged(&data, 0.1).verdict, invalid("no samples on side A"));
    data.iter_mut().for_each(|slice| slice.samples.clear());
    assert_eq!(judged(&data, 0.1).verdict, invalid("no samples on either side"));
    let mut seldom = slices(30, 1.0, QUIET);
    seldom.iter_mut().filter(|of| of.side == Side::A && of.pair < 20).for_each(|of| of.samples.clear());
    assert_eq!(judged(&seldom, 0.1).verdict, invalid("only 10 of 30 pairs have samples on both sides"));
    let shown = compare(&data, &rules(vec![Endpoint::shown(NAME, 0.5)])).unwrap();
    assert_eq!(shown.endpoints[0].verdict, CompareVerdict::Shown, "what is only shown is not judged");
}

#[test]
fn ceilings_are_held_against_b_alone() {
    let verdict = |max_us| {
        let endpoint = Endpoint::ceiling(NAME, 0.99, max_us);
        compare(&slices(30, 3.0, QUIET), &rules(vec![endpoint])).unwrap().verdict
    };
    let shown = compare(&slices(30, 3.0, QUIET), &rules(vec![Endpoint::shown(NAME, 0.99)])).unwrap();
    let p99_us = shown.endpoints[0].b_us.unwrap();
    assert_eq!(verdict(p99_us * 1.3), CompareVerdict::Pass { improved: false });
    assert_eq!(verdict(p99_us * 0.7), CompareVerdict::Regress);
    assert!(matches!(verdict(p99_us), CompareVerdict::Inconclusive { .. }));
}

#[test]
fn quads_are_resampled_where_pairs_resemble_each_other() {
    let mut drifting = slices(32, 1.0, QUIET);
    for slice in &mut drifting {
        // B is slower in the first half and faster in the second: neighbours are alike.
        let factor = if slice.side == Side::A {
            1.0
        } else if slice.pair < 16 {
            1.3
        } else {
            0.8
        };
        let samples: Samples = (0..200).map(|n| (4e6 * factor + f64::from(n) * 1e4) as u64).collect();
        slice.samples.insert(NAME.to_owned(), samples);
    }
    let effect = judged(&drifting, 0.1).effect.unwrap();
    assert!(effect.lag1.unwrap() > 0.8, "{effect:?}");
    assert_eq!((effect.blocks, effect.block_pairs), (16, 2));
    let steady = judged(&slices(32, 1.0, QUIET), 0.1).effect.unwrap();
    assert_eq!((steady.blocks, steady.block_pairs), (32, 1));
}

#[test]
fn holm_keeps_one_of_many_from_crying_wolf() {
    // One endpoint of twenty that alone would be a regression, narrowly.
    let lone = slices(30, 1.09, Machine { per_slice: 0.17, per_pair: 0.1, seed: 5 });
    let alone = judged(&lone, 0.05);
    assert_eq!(alone.verdict, CompareVerdict::Regress);
    let p = alone.effect.unwrap().p_value;
    assert!((0.05 / 20.0..0.05).contains(&p), "the example needs a narrow one, not p = {p}");
    let calm = slices(30, 1.0, QUIET);
    let mut data = lone;
    for (slice, other) in data.iter_mut().zip(&calm) {
        (1..20).for_each(|n| {
            slice.samples.insert(format!("stages.{n}"), other.samples[NAME].clone());
        });
    }
    let mut endpoints = vec![Endpoint::gated(NAME, 0.5, 0.05)];
    endpoints.extend((1..20).map(|n| Endpoint::gated(&format!("stages.{n}"), 0.5, 0.05)));
    let many = compare(&data, &rules(endpoints)).unwrap();
    assert!(matches!(many.endpoints[0].verdict, CompareVerdict::Inconclusive { .. }));
}

#[test]
fn more_looks_are_paid_for_with_wider_intervals() {
    let width = |looks_max| {
        let rules = Rules { looks_max, ..rules(vec![Endpoint::gated(NAME, 0.5, 0.1)]) };
        let comparison = compare(&slices(30, 1.0, QUIET), &rules).unwrap();
        assert!((comparison.alpha - 0.05 / f64::from(looks_max)).abs() < 1e-12);
        let effect = comparison.endpoints[0].effect.unwrap();
        effect.upper - effect.lower
    };
    assert!(width(3) > width(2) && width(2) > width(1));
    let looks = |looks_max| Rules { looks_max, ..Rules::default() }.looks();
    assert_eq!(
        (looks(1), looks(2), looks(3)),
        ([30].as_slice(), [20, 30].as_slice(), [20, 30, 45].as_slice())
    );
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let refused = |rules: Rules| compare(&[], &rules).unwrap_err().to_string();
    let one = |endpoint| rules(vec![endpoint]);
    insta::assert_snapshot!(refused(one(Endpoint::gated("r", 0.99, 0.1))), @"r: the ratio of p99 can't be gated, only p90 and below; give it a ceiling, or only show it");
    insta::assert_snapshot!(refused(one(Endpoint::gated("r", 0.5, 0.0))), @"r: a margin or ceiling must be a positive number, not 0");
    insta::assert_snapshot!(refused(one(Endpoint::ceiling("r", 0.5, f64::NAN))), @"r: a margin or ceiling must be a positive number, not NaN");
    insta::assert_snapshot!(refused(one(Endpoint::shown("r", 1.0))), @"r: quantile 1 does not lie between 0 and 1");
    insta::assert_snapshot!(refused(Rules { alpha: 0.5, ..Rules::default() }), @"alpha is 0.5, and must lie between 0 and 0.5");
    insta::assert_snapshot!(refused(Rules { looks_max: 4, ..Rules::default() }), @"4 looks at the data, and must be 1 to 3: each one more makes false alarms likelier");
    assert!(compare(&[], &one(Endpoint::ceiling("r", 0.99, 1.0))).is_ok(), "a tail may have a ceiling");
}

#[test]
fn in_words() {
    let mut data = slices(30, 1.2, QUIET);
    data[7].invalid.push("the generator missed 3 % of its schedule".to_owned());
    let endpoints = vec![
        Endpoint::gated(NAME, 0.5, 0.1),
        Endpoint::ceiling(NAME, 0.9, 20_000.0),
        Endpoint::shown(NAME, 0.99),
        Endpoint::gated("stages.gate.wait", 0.5, 0.1),
    ];
    let mut comparison = compare(&data, &rules(endpoints)).unwrap();
    (comparison.a, comparison.b, comparison.rung) =
        ("HEAD~1".to_owned(), "HEAD".to_owned(), "parallel".to_owned());
    insta::assert_snapshot!(comparison.to_text());
    comparison.invalidate("the machine's clock stepped".to_owned());
    assert_eq!(comparison.verdict.exit_code(), 125);
    insta::assert_snapshot!(comparison.verdict.detail(), @"the machine's clock stepped");
}

#[test]
fn into_a_report_and_back() {
    let comparison = compare(&slices(5, 1.2, QUIET), &rules(vec![Endpoint::gated(NAME, 0.5, 0.1)])).unwrap();
    let text = serde_json::to_string(&comparison).unwrap();
    assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), comparison);
    assert!(text.contains(r#""verdict":{"verdict":"regress"}"#), "{text}");
    assert!(text.contains(r#""gate":{"kind":"margin","share":0.1}"#), "{text}");
}

#[test]
fn histograms_become_slices() {
    let recorder: Recorder = (1..=100).map(|n| n * 1_000_000).collect();
    let histograms =
        [(NAME.to_owned(), recorder.histogram()), ("never".to_owned(), Dist::default().decode().unwrap())];
    let slice = Slice::new(Side::B, 7, &histograms.into_iter().collect());
    assert_eq!(slice.samples.keys().collect::<Vec<_>>(), [NAME]);
    assert_eq!(slice.samples[NAME].count(), 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Swapping the sides turns the ratio round, whatever was measured.
    #[test]
    fn the_other_way_round(factor in 0.5_f64..2.0, seed in any::<u64>(), per_slice in 0.0_f64..0.3) {
        let data = slices(12, factor, Machine { seed, per_slice, ..QUIET });
        let mut swapped = data.clone();
        swapped.iter_mut().for_each(|of| of.side = if of.side == Side::A { Side::B } else { Side::A });
        let (there, back) = (judged(&data, 0.1).effect.unwrap(), judged(&swapped, 0.1).effect.unwrap());
        prop_assert!((there.share.ln_1p() + back.share.ln_1p()).abs() < 1e-9);
        prop_assert!((there.lower.ln_1p() + back.upper.ln_1p()).abs() < 1e-9);
        prop_assert!((there.se_ln - back.se_ln).abs() < 1e-9);
        prop_assert!(there.lower <= there.share && there.share <= there.upper);
    }

    /// The unit does not matter: a machine a thousand times slower gives the same ratio.
    #[test]
    fn scale_does_not_matter(seed in any::<u64>()) {
        let data = slices(12, 1.1, Machine { seed, ..QUIET });
        let mut slow = data.clone();
        for slice in &mut slow {
            let histogram = slice.samples[NAME].histogram();
            let scaled = histogram.iter_recorded().flat_map(|step| {
                vec![histogram.median_equivalent(step.value_iterated_to()) * 1024; step.count_at_value() as usize]
            });
            slice.samples.insert(NAME.to_owned(), scaled.collect());
        }
        let (fast, slow) = (judged(&data, 0.1).effect.unwrap(), judged(&slow, 0.1).effect.unwrap());
        prop_assert!((fast.share - slow.share).abs() < 1e-6);
        prop_assert!((fast.se_ln - slow.se_ln).abs() < 1e-6);
    }
}
