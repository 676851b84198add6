use super::*;

#[test]
fn a_draw_depends_on_seed_purpose_and_key_alone() {
    assert_eq!(uniform(1, "a", b"k"), uniform(1, "a", b"k"));
    assert_ne!(uniform(1, "a", b"k"), uniform(2, "a", b"k"));
    assert_ne!(uniform(1, "a", b"k"), uniform(1, "b", b"k"));
    assert_ne!(uniform(1, "a", b"k"), uniform(1, "a", b"l"));
    assert_ne!(uniform(1, "ab", b"c"), uniform(1, "a", b"bc"));
}

#[test]
fn normal_draws_have_mean_zero_and_variance_one() {
    let mut rng = stream(3, "normal", b"");
    let draws: Vec<f64> = (0..20_000).map(|_| normal(&mut rng)).collect();
    let mean = draws.iter().sum::<f64>() / 20_000.0;
    let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
    assert!(mean.abs() < 0.03, "mean {mean}");
    assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
}
