use super::*;
use crate::dist::Recorder;

fn mean(values_ms: &[u64]) -> Mean {
    let dist = values_ms.iter().map(|ms| ms * 1_000_000).collect::<Recorder>().to_dist();
    Mean::of(&dist).unwrap()
}

#[test]
fn a_ratio_lies_inside_its_interval_and_turns_around() {
    let (slow, fast) = (mean(&[90, 100, 110, 100, 95, 105]), mean(&[45, 50, 55, 50, 48, 52]));
    let down = Ratio::of(fast, slow).unwrap();
    let up = Ratio::of(slow, fast).unwrap();
    assert!((down.value - 0.5).abs() < 1e-3);
    let ((low, high), (up_low, up_high)) = (down.interval.unwrap(), up.interval.unwrap());
    assert!(low < down.value && down.value < high && high < 1.0);
    assert!((low * up_high - 1.0).abs() < 1e-9 && (high * up_low - 1.0).abs() < 1e-9);
}

/// By hand: both have a standard deviation of a tenth of the mean over 16 samples, so the error of the ratio's logarithm is
/// 0.1 / 4 × √2 = 0.03536, and t at 15 degrees of freedom is 1.753.
#[test]
fn the_interval_is_the_delta_method_s() {
    let spread = Mean { us: 200.0, relative_error: Some(0.025), samples: 16 };
    let (low, high) = Ratio::of(spread, spread).unwrap().interval.unwrap();
    assert!((high.ln() - 0.061_98).abs() < 1e-4, "{}", high.ln());
    assert!((low * high - 1.0).abs() < 1e-12);
}

#[test]
fn what_is_not_known_is_not_said() {
    let one = mean(&[10]);
    assert_eq!(Ratio::of(one, one), Some(Ratio { value: 1.0, interval: None }));
    let nothing = Mean { us: 0.0, ..mean(&[1, 2, 3]) };
    assert_eq!(Ratio::of(one, nothing), None);
    assert_eq!(Ratio::of(nothing, mean(&[1, 2, 3])), Some(Ratio { value: 0.0, interval: None }));
    assert_eq!(Mean::of(&Dist::default()), None);
}

#[test]
fn calls_of_one_rollout_are_no_further_samples() {
    let dist = [10, 11, 12, 13, 10, 11].iter().map(|ms| ms * 1_000_000).collect::<Recorder>().to_dist();
    let stage =
        StageReport { dist, per_rollout_us: 33_500.0, calls_per_rollout: 3.0, overlap_per_rollout_us: 0.0 };
    let mut rung = Rung::default();
    rung.accounting.ok = 2;
    let mean = Mean::per_rollout(&stage, &rung);
    assert_eq!((mean.us, mean.samples), (33_500.0, 2));
}
