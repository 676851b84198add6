use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn count(faults: &Faults, seed: u64, calls: u64) -> HashMap<Fault, u64> {
    let mut counts = HashMap::new();
    for key in 0..calls {
        *counts.entry(faults.draw(seed, key, 0)).or_default() += 1;
    }
    counts
}

#[test]
fn a_seeded_sequence_holds_exactly_these_faults() {
    let faults: Faults = "rate-limit=1%,error=1%,cut=0.5%,stall=0.1%".parse().unwrap();
    let counts = count(&faults, 1, 10_000);
    let of = |fault| counts.get(&fault).copied().unwrap_or(0);
    let line = format!(
        "rate-limit {} error {} cut {} stall {} slow {} none {}",
        of(Fault::RateLimit),
        of(Fault::Error),
        of(Fault::Cut),
        of(Fault::Stall),
        of(Fault::Slow),
        of(Fault::None)
    );
    insta::assert_snapshot!(line, @"rate-limit 97 error 102 cut 47 stall 10 slow 0 none 9744");
    assert_eq!(count(&faults, 1, 10_000), counts);
    assert_ne!(count(&faults, 2, 10_000), counts);
}

#[test]
fn a_retry_draws_anew_but_repeatably() {
    let faults: Faults = "error=50%".parse().unwrap();
    let fates: Vec<Fault> = (0..20).map(|attempt| faults.draw(1, 5, attempt)).collect();
    assert!(fates.contains(&Fault::Error) && fates.contains(&Fault::None));
    assert_eq!(fates, (0..20).map(|attempt| faults.draw(1, 5, attempt)).collect::<Vec<_>>());
}

#[test]
fn one_hundred_percent_is_every_call() {
    let faults: Faults = "cut=100%".parse().unwrap();
    assert_eq!(count(&faults, 9, 500), HashMap::from([(Fault::Cut, 500)]));
    assert_eq!(count(&Faults::default(), 9, 500), HashMap::from([(Fault::None, 500)]));
}

#[test]
fn lists_are_read() {
    let faults: Faults = " rate-limit=1% , stall=0.1%:30s, slow=2%,".parse().unwrap();
    assert_eq!(faults.rate_limit.ppm(), 10_000);
    assert_eq!((faults.stall.ppm(), faults.stall_for), (1_000, Duration::from_secs(30)));
    assert_eq!((faults.slow.ppm(), faults.slow_by), (20_000, SLOW_DEFAULT));
    assert_eq!("".parse::<Faults>().unwrap(), Faults::default());
}

#[test]
fn errors_say_what_is_wrong() {
    let wrong = |text: &str| text.parse::<Faults>().unwrap_err();
    insta::assert_snapshot!(wrong("error"), @"`error` has no rate: write it as name=1%");
    insta::assert_snapshot!(wrong("crash=1%"), @"`crash` is not a fault: use rate-limit, error, cut, stall or slow");
    insta::assert_snapshot!(wrong("error=1%,error=2%"), @"`error` is given twice");
    insta::assert_snapshot!(wrong("cut=1%:3s"), @"`cut` takes no duration: only stall and slow do");
    insta::assert_snapshot!(wrong("error=1"), @"in `error`: `1` is not a rate: write a percentage from 0% to 100% with at most 4 decimals, such as 0.5%");
    insta::assert_snapshot!(wrong("error=60%,cut=50.5%"), @"the rates add up to 110.5%, but a call has one fault at most: keep the sum at 100% or below");
}

proptest! {
    #[test]
    fn lists_survive_a_round_trip(rates in prop::array::uniform5(0_u32..=200_000), stall_ms in 1_u64..9_000, slow_ms in 1_u64..9_000) {
        let rate = |i: usize| Rate::from_ppm(rates[i]).unwrap();
        let faults = Faults {
            rate_limit: rate(0), error: rate(1), cut: rate(2), stall: rate(3), slow: rate(4),
            stall_for: Duration::from_millis(stall_ms), slow_by: Duration::from_millis(slow_ms),
        };
        prop_assert_eq!(faults.to_string().parse::<Faults>().unwrap(), faults);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z=%,.:0-9 -]{0,40}") {
        let _ = text.parse::<Faults>();
    }
}
