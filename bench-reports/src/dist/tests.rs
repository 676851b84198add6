use proptest::prelude::*;

use super::*;

fn recorder(values: impl IntoIterator<Item = u64>) -> Recorder {
    values.into_iter().collect()
}

#[test]
fn a_percentile_needs_ten_samples_beyond_it() {
    let shown = |count: u64| {
        let dist = recorder((1..=count).map(|n| n * 1_000_000)).to_dist();
        [dist.p50_us, dist.p90_us, dist.p95_us, dist.p99_us, dist.p99_9_us].map(|value| value.is_some())
    };
    assert_eq!(shown(19), [false; 5]);
    assert_eq!(shown(20), [true, false, false, false, false]);
    assert_eq!(shown(99), [true, false, false, false, false]);
    assert_eq!(shown(100), [true, true, false, false, false]);
    assert_eq!(shown(200), [true, true, true, false, false]);
    assert_eq!(shown(999), [true, true, true, false, false]);
    assert_eq!(shown(1_000), [true, true, true, true, false]);
    assert_eq!(shown(10_000), [true; 5]);
}

#[test]
fn no_samples_no_figures() {
    assert_eq!(Recorder::new().to_dist(), Dist::default());
    assert!(Recorder::new().quantile_ns(0.5).is_none());
    assert!(Dist::default().decode().unwrap().is_empty());
    assert_eq!(Recorder::from_dist(&Dist::default()).unwrap().count(), 0);
}

#[test]
fn known_values_come_out_in_microseconds() {
    let dist = recorder((1..=1000).map(|n| n * 1_000_000)).to_dist();
    assert_eq!(dist.count, 1000);
    assert_eq!(dist.min_us, Some(1_000.0));
    assert_eq!(dist.max_us, Some(1_000_000.0));
    assert_eq!(dist.mean_us, Some(500_500.0));
    let near = |value: Option<f64>, expected: f64| {
        let value = value.unwrap();
        assert!((value / expected - 1.0).abs() < 0.001, "{value} against {expected}");
    };
    near(dist.p50_us, 500_000.0);
    near(dist.p90_us, 900_000.0);
    near(dist.p99_us, 990_000.0);
    near(dist.stdev_us, 288_675.0);
    assert!(dist.hdr.starts_with("HISTFAAA"));
}

#[test]
fn out_of_range_values_are_clamped() {
    let dist = recorder([0, u64::MAX]).to_dist();
    assert_eq!(dist.min_us, Some(0.001));
    assert_eq!(dist.max_us, Some(3_600_000_000.0));
    assert_eq!(Recorder::from_dist(&dist).unwrap().to_dist(), dist);
}

#[test]
fn unreadable_histograms_are_refused() {
    assert!(matches!(Recorder::from_hdr("%"), Err(HdrError::Base64(_))));
    assert!(matches!(Recorder::from_hdr("aGVsbG8gd29ybGQ="), Err(HdrError::Format(_))));
    let long = "A".repeat(HDR_TEXT_BYTES_MAX + 1);
    assert!(matches!(Dist::from_hdr(&long), Err(HdrError::TooLong { .. })));
    let mut dist = recorder([5, 6]).to_dist();
    dist.count = 3;
    assert!(matches!(Recorder::from_dist(&dist), Err(HdrError::Count { count: 3, histogram: 2 })));
}

#[test]
fn memory_stays_bounded_and_few_samples_stay_cheap() {
    let mut recorder = recorder((0..FEW_MAX as u64).map(|n| n + 1));
    assert!(matches!(recorder.samples, Samples::Few(_)));
    recorder.record_ns(VALUE_MAX_NS);
    let Samples::Many(histogram) = &recorder.samples else { panic!("should have turned to a histogram") };
    assert!(histogram.distinct_values() * size_of::<u64>() < 290_000);
    assert_eq!(recorder.count(), FEW_MAX as u64 + 1);
}

fn values() -> impl Strategy<Value = Vec<u64>> {
    // Around the switch from plain samples to the histogram, and over all magnitudes.
    let value =
        (0_u32..42, any::<u64>()).prop_map(|(shift, noise)| (1_u64 << shift) | (noise & ((1 << shift) - 1)));
    prop_oneof![prop::collection::vec(value.clone(), 0..40), prop::collection::vec(value, 900..1200)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn merging_is_the_same_as_recording_all(a in values(), b in values()) {
        let mut merged = recorder(a.iter().copied());
        merged.merge(&recorder(b.iter().copied()));
        let whole = recorder(a.into_iter().chain(b));
        prop_assert_eq!(merged.count(), whole.count());
        prop_assert_eq!(merged.sum_ns(), whole.sum_ns());
        // The encoding may differ in its bounds, the figures may not.
        prop_assert_eq!(Dist { hdr: String::new(), ..merged.to_dist() }, Dist { hdr: String::new(), ..whole.to_dist() });
    }

    #[test]
    fn a_reported_distribution_comes_back_to_three_digits(values in values()) {
        let dist = recorder(values).to_dist();
        let again = Recorder::from_dist(&dist).unwrap().to_dist();
        prop_assert_eq!(dist.count, again.count);
        for (a, b) in [(dist.mean_us, again.mean_us), (dist.p50_us, again.p50_us), (dist.p99_us, again.p99_us), (dist.min_us, again.min_us), (dist.max_us, again.max_us)] {
            prop_assert_eq!(a.is_some(), b.is_some());
            if let (Some(a), Some(b)) = (a, b) {
                prop_assert!((a - b).abs() <= 0.001_5 * a.max(1.0), "{} against {}", a, b);
            }
        }
        prop_assert_eq!(dist.decode().unwrap().len(), dist.count);
    }

    #[test]
    fn percentiles_rise_and_stay_within_the_extremes(values in prop::collection::vec(1_u64..10_u64.pow(10), 1..300)) {
        let recorder = recorder(values);
        let mut last = 0;
        for quantile in [0.0, 0.1, 0.5, 0.9, 0.99, 1.0] {
            let value = recorder.quantile_ns(quantile).unwrap();
            prop_assert!(value >= last && value >= recorder.min_ns && value <= recorder.max_ns);
            last = value;
        }
    }
}
