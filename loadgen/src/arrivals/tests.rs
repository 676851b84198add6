use std::time::Duration;

use proptest::prelude::*;

use super::{Arrivals, Rate, Shape};

const SECOND_NS: u64 = 1_000_000_000;

fn arrivals(shape: Shape, rate: Rate, seed: u64) -> Arrivals {
    Arrivals::new(shape, rate, seed).unwrap()
}

fn steps() -> Rate {
    Rate::Steps { rates: vec![50.0, 100.0, 200.0], each: Duration::from_secs(30) }
}

fn before(arrivals: &Arrivals, seconds: f64) -> u64 {
    arrivals.starts().take_while(|at| (*at as f64) < seconds * 1e9).count() as u64
}

#[test]
fn a_constant_rate_is_even_and_begins_at_once() {
    let even = arrivals(Shape::Constant, Rate::Constant(1_000.0), 1);
    assert_eq!((even.at(0), even.at(1), even.at(10_000)), (Some(0), Some(1_000_000), Some(10 * SECOND_NS)));
    assert_eq!(before(&even, 10.0), 10_000, "ten thousand in ten seconds, not one more");
    let odd = arrivals(Shape::Constant, Rate::Constant(3.0), 1);
    assert_eq!((odd.at(1), odd.at(3_000_000)), (Some(333_333_333), Some(1_000_000 * SECOND_NS)));
}

#[test]
fn a_ramp_follows_its_integral() {
    let up = arrivals(Shape::Constant, Rate::Ramp { from: 0.0, to: 100.0, over: Duration::from_secs(10) }, 1);
    assert_eq!(up.starts().count(), 500);
    // 5·t² = k
    assert_eq!((up.at(0), up.at(5), up.at(125)), (Some(0), Some(SECOND_NS), Some(5 * SECOND_NS)));
    assert_eq!((up.at(499).is_some(), up.at(500)), (true, None));
    let down =
        arrivals(Shape::Constant, Rate::Ramp { from: 100.0, to: 0.0, over: Duration::from_secs(10) }, 1);
    // 100·t − 5·t² = k
    assert_eq!((down.starts().count(), down.at(375)), (500, Some(5 * SECOND_NS)));
    assert_eq!(down.at(95), Some(SECOND_NS));
    let flat = Rate::Ramp { from: 7.0, to: 7.0, over: Duration::from_secs(100) };
    assert_eq!(arrivals(Shape::Constant, flat, 1).at(7), Some(SECOND_NS));
}

#[test]
fn steps_follow_one_another() {
    let steps = arrivals(Shape::Constant, steps(), 1);
    assert_eq!(steps.starts().count(), 1_500 + 3_000 + 6_000);
    assert_eq!((steps.at(1_500), steps.at(4_500)), (Some(30 * SECOND_NS), Some(60 * SECOND_NS)));
    assert_eq!((steps.at(1_501), steps.at(10_500)), (Some(30 * SECOND_NS + 10_000_000), None));
}

/// Counts and gaps of a Poisson process are what the theory says, within five standard errors.
#[test]
fn poisson_counts_and_gaps_have_their_mean_and_variance() {
    let rate = 2_000.0;
    let poisson = arrivals(Shape::Poisson, Rate::Constant(rate), 42);
    let n = 100_000usize;
    let starts: Vec<f64> = poisson.starts().take(n).map(|ns| ns as f64 / 1e9).collect();
    let gaps: Vec<f64> = starts.windows(2).map(|w| (w[1] - w[0]) * rate).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    let error = 1.0 / (n as f64).sqrt();
    assert!((mean - 1.0).abs() < 5.0 * error, "mean gap {mean}");
    // The variance of an exponential's sample variance is 8/n.
    assert!((variance - 1.0).abs() < 5.0 * 8f64.sqrt() * error, "variance of gaps {variance}");

    let windows = 4_000usize;
    let mut counts = vec![0f64; windows];
    for at in &starts {
        if let Some(count) = counts.get_mut((at * 100.0) as usize) {
            *count += 1.0;
        }
    }
    let mean = counts.iter().sum::<f64>() / windows as f64;
    let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / windows as f64;
    assert!((mean - 20.0).abs() < 5.0 * (20.0 / windows as f64).sqrt(), "mean count {mean}");
    assert!((variance / mean - 1.0).abs() < 5.0 * (2.0 / windows as f64).sqrt(), "index of dispersion");
}

#[test]
fn the_seed_is_what_makes_poisson_arrivals() {
    let of = |seed| arrivals(Shape::Poisson, Rate::Constant(10.0), seed);
    let first = |arrivals: &Arrivals| arrivals.starts().take(50).collect::<Vec<_>>();
    assert_eq!(first(&of(1)), first(&of(1)));
    assert_ne!(first(&of(1)), first(&of(2)));
    assert_ne!(first(&of(1)), first(&of(1).warm_up()), "a warm-up does not practise the run's own arrivals");
    let known = [0, 1, 9].map(|k| of(7).at(k).unwrap());
    // Written down, so that another version of a library cannot change what a seed stands for.
    insta::assert_debug_snapshot!(known, @r"
    [
        41485499,
        175747664,
        839915396,
    ]
    ");
}

#[test]
fn a_rate_that_makes_nothing_is_refused() {
    let second = Duration::from_secs(1);
    for (wrong, why) in [
        (Rate::Constant(0.0), "rate of 0"),
        (Rate::Constant(f64::NAN), "not between"),
        (Rate::Constant(1e9), "not between"),
        (Rate::Ramp { from: -1.0, to: 5.0, over: second }, "not between"),
        (Rate::Ramp { from: 0.0, to: 0.0, over: second }, "rate of 0"),
        (Rate::Ramp { from: 1.0, to: 5.0, over: Duration::ZERO }, "no time"),
        (Rate::Steps { rates: vec![], each: second }, "rate of 0"),
        (Rate::Steps { rates: vec![5.0, 0.0], each: second }, "rate of 0"),
        (Rate::Steps { rates: vec![5.0], each: Duration::ZERO }, "no time"),
    ] {
        let refused = Arrivals::new(Shape::Constant, wrong.clone(), 1).unwrap_err().to_string();
        assert!(refused.contains(why), "{wrong:?}: {refused}");
    }
}

#[test]
fn a_warm_up_holds_the_first_rate() {
    let of = |rate| arrivals(Shape::Constant, rate, 1).warm_up().rate().clone();
    assert_eq!(of(steps()), Rate::Constant(50.0));
    let over = Duration::from_secs(5);
    assert_eq!(of(Rate::Ramp { from: 20.0, to: 90.0, over }), Rate::Constant(20.0));
    assert_eq!(of(Rate::Ramp { from: 0.0, to: 90.0, over }), Rate::Constant(45.0));
}

fn rates() -> impl Strategy<Value = Rate> {
    let over = (100u64..5_000).prop_map(Duration::from_millis);
    prop_oneof![
        (1.0..5_000.0f64).prop_map(Rate::Constant),
        (0.0..3_000.0f64, 1.0..3_000.0f64, over.clone(), any::<bool>()).prop_map(|(from, to, over, down)| {
            let (from, to) = if down { (to, from) } else { (from, to) };
            Rate::Ramp { from, to, over }
        }),
        (prop::collection::vec(1.0..2_000.0f64, 1..5), over)
            .prop_map(|(rates, each)| Rate::Steps { rates, each }),
    ]
}

proptest! {
    #[test]
    fn arrivals_are_pure_ordered_and_as_many_as_the_rate_says(
        rate in rates(),
        poisson in any::<bool>(),
        seed in any::<u64>(),
        window in 0.05..3.0f64,
        index in 0u64..300,
    ) {
        let shape = if poisson { Shape::Poisson } else { Shape::Constant };
        let arrivals = arrivals(shape, rate.clone(), seed);
        let starts: Vec<u64> = arrivals.starts().take(300).collect();
        prop_assert!(starts.is_sorted());
        prop_assert_eq!(&starts, &arrivals.starts().take(300).collect::<Vec<_>>());
        prop_assert_eq!(starts.get(index as usize).copied(), arrivals.at(index), "at and starts agree");
        if let Some(length) = rate.length() {
            prop_assert!(starts.iter().all(|at| u128::from(*at) <= length.as_nanos()));
        }
        let (seen, expected) = (before(&arrivals, window) as f64, rate.expected(window));
        // A nanosecond's rounding may move one over the window's edge.
        let slack = if poisson { 7.0 * expected.sqrt() + 7.0 } else { 1.0 + 1e-6 };
        prop_assert!((seen - expected).abs() <= slack, "{} seen, {} expected", seen, expected);
    }
}
