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
mod tests;
