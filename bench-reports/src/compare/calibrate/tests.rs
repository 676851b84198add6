use super::super::tests::{Machine, QUIET, rules, slices};
use super::super::{Endpoint, compare};
use super::*;

const NAME: &str = "rollout.response";

#[test]
fn bounds_by_the_book() {
    // None in 30: 1 − 0.05^(1/30), the rule of three. All of them: nothing is excluded.
    assert!((rate_upper(0, 30, 0.95) - (1.0 - 0.05_f64.powf(1.0 / 30.0))).abs() < 1e-9);
    assert!((rate_upper(6, 120, 0.95) - 0.0965).abs() < 0.000_5, "{}", rate_upper(6, 120, 0.95));
    assert!((rate_upper(7, 120, 0.95) - 0.1067).abs() < 0.000_5, "{}", rate_upper(7, 120, 0.95));
    assert!((rate_upper(5, 5, 0.95) - 1.0).abs() < 1e-12);
    assert!((rate_upper(0, 0, 0.95) - 1.0).abs() < 1e-12);
    assert!(rate_upper(1, 100_000, 0.95) < 0.000_05);
}

#[test]
fn a_machine_against_itself() {
    let rules = rules(vec![Endpoint::gated(NAME, 0.5, 0.1)]);
    let runs: Vec<Comparison> =
        (0..40).map(|seed| compare(&slices(12, 1.0, Machine { seed, ..QUIET }), &rules).unwrap()).collect();
    let found = calibrate(&runs);
    assert_eq!((found.len(), found[0].comparisons), (1, 40));
    assert_eq!(found[0].name, NAME);
    assert!(found[0].rate <= 0.2 && found[0].rate < found[0].rate_upper, "{found:?}");
    // A slice differs from the machine by 2 %, and its median of 200 samples from its own by 2.7 %: two of them by 4.7 %, the mean
    // of 12 pairs by 1.4 %, and half an interval is 1.8 times that.
    assert!((0.02..0.03).contains(&found[0].half_width), "{found:?}");
    assert!((0.02..0.04).contains(&found[0].noise), "{found:?}");
    let planted: Vec<Comparison> =
        (0..5).map(|seed| compare(&slices(12, 1.3, Machine { seed, ..QUIET }), &rules).unwrap()).collect();
    assert_eq!(calibrate(&planted)[0].false_alarms, 5, "what is not alike is an alarm");
    assert!(calibrate(&[]).is_empty());
}

#[test]
fn redrawn_comparisons_are_whole_quads() {
    let pool = slices(40, 1.0, QUIET);
    let drawn = redrawn(&pool, 12, 3);
    assert_eq!(drawn.len(), 24);
    for pair in 0..12 {
        let sides: Vec<Side> =
            drawn.iter().filter(|slice| slice.pair == pair).map(|slice| slice.side).collect();
        assert!(sides == [Side::A, Side::B] || sides == [Side::B, Side::A], "pair {pair}: {sides:?}");
    }
    let starts = |seed| redrawn(&pool, 12, seed).iter().map(|slice| slice.started_s).collect::<Vec<_>>();
    assert!((0..8).any(|seed| starts(seed) != starts(3)), "other quads for other seeds");
    assert_eq!(redrawn(&pool, 1_000, 1).len(), pool.len(), "no more than there are");
    assert!(redrawn(&[], 12, 1).is_empty());
}
