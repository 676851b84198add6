use super::*;

#[test]
fn durations_need_a_unit() {
    assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
    assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
    insta::assert_snapshot!(parse("10").unwrap_err(), @"`10` has no unit; say 10s or 10ms");
    insta::assert_snapshot!(parse("10days").unwrap_err(), @"`days` is no unit of time; units are us, ms, s, m, h");
    insta::assert_snapshot!(parse("-1s").unwrap_err(), @"`-1s` is not a length of time");
}

#[test]
fn counts_take_k_and_m() {
    assert_eq!(parse_count("10k"), Ok(10_000));
    assert_eq!(parse_count("3M"), Ok(3_000_000));
    insta::assert_snapshot!(parse_count("ten").unwrap_err(), @"`ten` is not a count; say 100, 10k or 1M");
    insta::assert_snapshot!(parse_count("99999999999999999M").unwrap_err(), @"`99999999999999999M` is too many");
}
