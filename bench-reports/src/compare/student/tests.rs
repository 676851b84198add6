use proptest::prelude::*;

use super::*;

/// Printed tables, upper one-sided: (degrees of freedom, p, t).
const TABLE: [(u32, f64, f64); 16] = [
    (1, 0.95, 6.314),
    (1, 0.975, 12.706),
    (2, 0.90, 1.886),
    (2, 0.95, 2.920),
    (3, 0.95, 2.353),
    (3, 0.99, 4.541),
    (4, 0.975, 2.776),
    (5, 0.995, 4.032),
    (9, 0.95, 1.833),
    (10, 0.975, 2.228),
    (19, 0.95, 1.729),
    (29, 0.95, 1.699),
    (29, 0.995, 2.756),
    (30, 0.975, 2.042),
    (60, 0.95, 1.671),
    (120, 0.975, 1.980),
];

#[test]
fn the_printed_tables() {
    for (df, p, t) in TABLE {
        assert!((quantile(p, df) - t).abs() < 0.000_6, "df {df}, p {p}: {} for {t}", quantile(p, df));
    }
}

#[test]
fn closed_forms_of_one_and_two_degrees() {
    for t in [0.0_f64, 0.1, 1.0, 3.5, 40.0] {
        let cauchy = 0.5 + t.atan() / PI;
        let two = 0.5 + t / (2.0 * (2.0 + t * t).sqrt());
        assert!((cdf(t, 1) - cauchy).abs() < 1e-14);
        assert!((cdf(t, 2) - two).abs() < 1e-14);
    }
}

#[test]
fn many_degrees_come_near_the_normal() {
    assert!((quantile(0.975, 10_000) - 1.9602).abs() < 0.000_2);
    assert!((quantile(0.95, 10_000) - 1.6450).abs() < 0.000_2);
}

#[test]
fn the_ends() {
    assert_eq!(cdf(f64::INFINITY, 7).to_bits(), 1.0_f64.to_bits());
    assert_eq!(cdf(f64::NEG_INFINITY, 7).to_bits(), 0.0_f64.to_bits());
    assert!(quantile(0.5, 7).abs() < 1e-9);
}

proptest! {
    #[test]
    fn quantile_and_cdf_undo_each_other(p in 0.001_f64..0.999, df in 1_u32..200) {
        prop_assert!((cdf(quantile(p, df), df) - p).abs() < 1e-9);
    }

    #[test]
    fn symmetric_and_rising(t in 0.0_f64..50.0, step in 0.001_f64..5.0, df in 1_u32..200) {
        prop_assert!((cdf(t, df) + cdf(-t, df) - 1.0).abs() < 1e-12);
        prop_assert!(cdf(t + step, df) >= cdf(t, df) - 1e-14, "but for rounding");
        prop_assert!((0.0..=1.0).contains(&cdf(t, df)));
    }

    #[test]
    fn fewer_degrees_have_heavier_tails(p in 0.6_f64..0.999, df in 1_u32..200) {
        prop_assert!(quantile(p, df) > quantile(p, df + 1));
    }
}
