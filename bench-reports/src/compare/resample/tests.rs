use super::super::compare;
use super::super::tests::{Machine, QUIET, rules, slices};
use super::super::{Endpoint, pairs::Pairs};
use super::*;

const NAME: &str = "rollout.response";

fn estimate_of(pairs: u32, machine: Machine, seed: u64) -> Estimate {
    let data = slices(pairs, 1.1, machine);
    estimate(&Pairs::of(&data).valid, NAME, 0.5, seed).unwrap()
}

#[test]
fn the_same_seed_the_same_answer() {
    let first = estimate_of(10, QUIET, 7);
    assert_eq!(first.se.to_bits(), estimate_of(10, QUIET, 7).se.to_bits());
    let other = estimate_of(10, QUIET, 8);
    assert_ne!(first.se.to_bits(), other.se.to_bits());
    assert!((first.se / other.se - 1.0).abs() < 0.1, "two seeds differ by the draws' own noise");
    assert_eq!(first.theta.to_bits(), other.theta.to_bits(), "the estimate itself is not drawn");
}

/// Slices that differ by a known spread: the standard error of the mean of g differences of two of them.
#[test]
fn the_standard_error_is_that_of_the_slices() {
    let machine = Machine { per_pair: 0.0, per_slice: 0.1, seed: 3 };
    let expected = 0.1 * (2.0_f64 / 30.0).sqrt();
    let errors: Vec<f64> = (0..8).map(|seed| estimate_of(30, Machine { seed, ..machine }, 1).se).collect();
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    assert!((mean / expected - 1.0).abs() < 0.15, "{mean} for {expected}: {errors:?}");
}

/// A machine whose speed moves from pair to pair moves both sides: pairs cancel it.
#[test]
fn what_both_sides_share_cancels() {
    let steady = estimate_of(30, Machine { per_pair: 0.0, ..QUIET }, 1);
    let moving = estimate_of(30, Machine { per_pair: 0.2, ..QUIET }, 1);
    assert!(moving.se < steady.se * 2.0, "{} and {}", moving.se, steady.se);
    assert!(moving.se_b > steady.se_b * 3.0, "B alone does move: {} and {}", moving.se_b, steady.se_b);
}

#[test]
fn lag1_of_known_series() {
    assert_eq!(lag1(&[1.0, 2.0, 3.0]), None);
    assert_eq!(lag1(&[2.0; 10]), None);
    let falls: Vec<f64> = (0..40).map(f64::from).collect();
    assert!(lag1(&falls).unwrap() > 0.9);
    let jumps: Vec<f64> = (0..40).map(|n| f64::from(n % 2)).collect();
    assert!(lag1(&jumps).unwrap() < -0.9);
}

#[test]
fn a_quad_that_lost_a_pair_is_a_block_of_one() {
    assert_eq!(blocks(&[0, 0, 1, 2, 2]), [0..2, 2..3, 3..5]);
    assert!(blocks(&[]).is_empty());
}

#[test]
fn no_spread_no_width() {
    let mut data = slices(6, 1.0, QUIET);
    for slice in &mut data {
        let ns = if slice.side == crate::Side::A { 1_000_000 } else { 1_100_000 };
        slice.samples.insert(NAME.to_owned(), [ns; 50].into_iter().collect());
    }
    let of = compare(&data, &rules(vec![Endpoint::gated(NAME, 0.5, 0.05)])).unwrap().endpoints.remove(0);
    let effect = of.effect.unwrap();
    assert!((effect.share - 0.1).abs() < 0.002 && effect.upper - effect.lower < 1e-9, "{effect:?}");
    assert_eq!(effect.lag1, None);
    assert!(effect.p_value < 1e-12);
    assert_eq!(of.verdict.word(), "REGRESS");
}
