//! Durations and counts as people type them.

use std::time::Duration;

/// Reads `250ms`, `1.5s`, `2m`, `1h`; the unit is needed.
///
/// # Errors
/// Says what was expected.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds_per_unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" => return Err(format!("`{text}` has no unit; say {text}s or {text}ms")),
        _ => return Err(format!("`{unit}` is no unit of time; units are us, ms, s, m, h")),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
    Duration::try_from_secs_f64(number * seconds_per_unit)
        .map_err(|_| format!("`{text}` is not a length of time"))
}

/// Reads `100`, `10k`, `1M`.
///
/// # Errors
/// Says what was expected.
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 1_000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is not a count; say 100, 10k or 1M"))?;
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too many"))
}

/// As [`parse_count`], but at least one.
///
/// # Errors
/// Says what was expected.
pub(crate) fn parse_some(text: &str) -> Result<u64, String> {
    match parse_count(text)? {
        0 => Err("at least 1 is needed".to_owned()),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
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
}
