use proptest::prelude::*;

use super::*;

#[test]
fn durations_are_read_exactly() {
    let read = |text: &str| parse_duration(text).unwrap().as_micros();
    assert_eq!(read("20ms"), 20_000);
    assert_eq!(read("1.5s"), 1_500_000);
    assert_eq!(read("0.001ms"), 1);
    assert_eq!(read("250us"), 250);
    assert_eq!(read("2m"), 120_000_000);
    assert_eq!(read(" 0s "), 0);
}

#[test]
fn what_is_no_duration_is_refused() {
    for text in [
        "",
        "20",
        "ms",
        "-1ms",
        "1.2.3s",
        "1,5s",
        "0.0001ms",
        "0.5us",
        "3h",
        "61m",
        "99999999999999999999s",
        "1.s",
    ] {
        assert!(parse_duration(text).is_err(), "{text:?} was taken");
    }
    insta::assert_snapshot!(parse_duration("20").unwrap_err(), @"`20` is not a duration: write a number with a unit, us, ms, s or m, such as 20ms");
}

#[test]
fn what_is_no_rate_is_refused() {
    for text in ["", "1", "%", "101%", "-1%", "0.00001%", "1%%", "NaN%", "1e1%", ".5%"] {
        assert!(text.parse::<Rate>().is_err(), "{text:?} was taken");
    }
    assert_eq!("100%".parse::<Rate>().unwrap(), Rate::ALL);
    insta::assert_snapshot!("1".parse::<Rate>().unwrap_err(), @"`1` is not a rate: write a percentage from 0% to 100% with at most 4 decimals, such as 0.5%");
}

proptest! {
    #[test]
    fn rates_survive_a_round_trip(ppm in 0_u32..=1_000_000) {
        let rate = Rate::from_ppm(ppm).unwrap();
        prop_assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
    }

    #[test]
    fn durations_survive_a_round_trip(us in 0_u64..=3_600_000_000) {
        let duration = Duration::from_micros(us);
        prop_assert_eq!(parse_duration(&show_duration(duration)).unwrap(), duration);
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in ".{0,20}") {
        let _ = parse_duration(&text);
        let _ = text.parse::<Rate>();
    }
}
