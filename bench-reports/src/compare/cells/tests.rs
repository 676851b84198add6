use proptest::prelude::*;

use super::*;

fn samples(values: &[u64]) -> Samples {
    values.iter().copied().collect()
}

#[test]
fn the_grid_is_that_of_three_significant_digits() {
    assert_eq!((cell_of(0), cell_of(1), cell_of(2047), cell_of(2048)), (0, 1, 2047, 2048));
    assert_eq!((lowest_ns(2048), width_ns(2048)), (2048, 2));
    assert_eq!(cell_of(u64::MAX), 53 * 1024 + 2047);
    assert_eq!((width_ns(2047), width_ns(3071), width_ns(3072)), (1, 2, 4));
}

#[test]
fn a_median_lies_in_the_middle_and_moves_smoothly() {
    let even = samples(&(1..=1000).map(|n| n * 1_000_000).collect::<Vec<_>>());
    let median = even.quantile_ns(0.5).unwrap();
    assert!((median / 500.5e6 - 1.0).abs() < 0.001, "{median}");
    // All in one cell: the quantile passes from its lower to its upper edge.
    let one = samples(&[5_000_000; 100]);
    let at = |quantile| one.quantile_ns(quantile).unwrap();
    assert!(at(0.1) < at(0.5) && at(0.5) < at(0.9) && at(0.9) / at(0.1) < 1.001);
    assert_eq!(samples(&[]).quantile_ns(0.5), None);
}

#[test]
fn histograms_of_other_precision_are_taken_too() {
    for digits in [2, 3, 4] {
        let mut histogram = Histogram::<u64>::new(digits).unwrap();
        (1..=10_000).for_each(|n| histogram.record(n * 1_000).unwrap());
        let taken = Samples::from(&histogram);
        assert_eq!(taken.count(), 10_000);
        let p90 = taken.quantile_ns(0.9).unwrap();
        assert!((p90 / 9e6 - 1.0).abs() < 0.01, "{digits} digits: {p90}");
    }
}

proptest! {
    #[test]
    fn a_value_lies_in_its_cell(value in prop_oneof![0_u64..5000, any::<u64>()]) {
        let cell = cell_of(value);
        prop_assert!(lowest_ns(cell) <= value);
        prop_assert!(value - lowest_ns(cell) < width_ns(cell));
    }

    #[test]
    fn cells_follow_each_other(cell in 0_u32..50_000) {
        prop_assert_eq!(lowest_ns(cell) + width_ns(cell), lowest_ns(cell + 1));
        prop_assert_eq!(cell_of(lowest_ns(cell)), cell);
        prop_assert!(cell < 2048 || width_ns(cell) as f64 / lowest_ns(cell) as f64 <= 1.0 / 1024.0);
    }

    /// The quantile of a weighted sum is that of the samples written out as often as their slice weighs.
    #[test]
    fn a_weighted_sum_is_its_samples_repeated(
        slices in prop::collection::vec(prop::collection::vec(1_u64..10_000_000, 1..40), 1..6),
        weights in prop::collection::vec(0_u16..4, 6),
        quantile in 0.01_f64..0.99,
    ) {
        let weights = &weights[..slices.len()];
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let kept: Vec<Samples> = slices.iter().map(|slice| samples(slice)).collect();
        let sums = Sums::of(&kept.iter().collect::<Vec<_>>());
        let mut written: Vec<u64> = Vec::new();
        for (slice, weight) in slices.iter().zip(weights) {
            (0..*weight).for_each(|_| written.extend(slice));
        }
        written.sort_unstable();
        prop_assert_eq!(sums.count(weights), written.len() as u64);
        let found = sums.quantile_ns(weights, quantile);
        let rank = ((quantile * written.len() as f64).ceil() as usize).clamp(1, written.len());
        let (low, high) = (written[rank - 1], written[rank.min(written.len() - 1)]);
        let off = |value: u64| value as f64 / 1024.0 + 1.0;
        prop_assert!(found >= low as f64 - off(low) && found <= high as f64 + off(high), "{found} {low} {high}");
    }

    #[test]
    fn through_a_histogram_and_back(values in prop::collection::vec(1_u64..3_600_000_000_000, 1..200)) {
        let kept = samples(&values);
        prop_assert_eq!(&Samples::from(&kept.histogram()), &kept);
    }
}
