use proptest::prelude::*;

use super::*;

#[test]
fn the_seeded_model_has_the_promised_median_and_range() {
    let mut totals: Vec<u64> = (0..4_000).map(|key| Latency::Seed.delay(7, key).total_us).collect();
    totals.sort_unstable();
    let median = totals[2_000];
    assert!((1_870_000..1_930_000).contains(&median), "median {median}");
    assert!(totals[0] < 1_330_000, "shortest {}", totals[0]);
    assert!(totals[3_999] > 2_750_000, "longest {}", totals[3_999]);
    let at_the_ends = totals.iter().filter(|t| **t == 1_300_000 || **t == 2_800_000).count();
    assert!(at_the_ends <= 2, "{at_the_ends} delays heap up at the ends");
}

#[test]
fn another_seed_gives_other_delays() {
    let differing =
        (0..100).filter(|key| Latency::Seed.delay(1, *key) != Latency::Seed.delay(2, *key)).count();
    assert_eq!(differing, 100);
}

#[test]
fn fixed_is_fixed() {
    let delay = Latency::Fixed(Duration::from_millis(20)).delay(1, 2);
    assert_eq!(delay, Delay { first_byte_us: 15_000, total_us: 20_000 });
    assert_eq!(Latency::None.delay(1, 2).total_us, 0);
}

#[test]
fn models_are_read_and_written() {
    for text in ["none", "seed", "fixed:20ms", "fixed:1500us"] {
        assert_eq!(text.parse::<Latency>().unwrap().to_string(), text);
    }
    insta::assert_snapshot!("slow".parse::<Latency>().unwrap_err(), @"`slow` is not a latency model: use none, fixed:20ms (any duration), or seed");
    insta::assert_snapshot!("fixed:20".parse::<Latency>().unwrap_err(), @"in `fixed:…`: `20` is not a duration: write a number with a unit, us, ms, s or m, such as 20ms");
}

proptest! {
    #[test]
    fn seeded_delays_stay_inside_the_clip(seed: u64, key: u64) {
        let delay = Latency::Seed.delay(seed, key);
        prop_assert!((1_300_000..=2_800_000).contains(&delay.total_us), "{delay:?}");
        prop_assert!(delay.first_byte_us > 0 && delay.first_byte_us < delay.total_us);
        prop_assert_eq!(delay, Latency::Seed.delay(seed, key));
    }
}
