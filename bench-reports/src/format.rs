//! Figures as people read them: three digits, thousands apart, the unit said once.

#[cfg(test)]
mod tests;

/// What stands where there is no figure.
pub(crate) const NOTHING: &str = "–";

/// Three significant digits: `2,912`, `45.1`, `3.90`, `0.012`, `<0.001`.
pub(crate) fn three_digits(value: f64) -> String {
    if !value.is_finite() {
        return NOTHING.to_owned();
    }
    let size = value.abs();
    match size {
        _ if size == 0.0 => "0".to_owned(),
        _ if size < 0.000_5 => (if value < 0.0 { "-<0.001" } else { "<0.001" }).to_owned(),
        _ if size < 0.999_5 => format!("{value:.3}"),
        _ if size < 9.995 => format!("{value:.2}"),
        _ if size < 99.95 => format!("{value:.1}"),
        _ => thousands(value),
    }
}

/// A whole number with thousands apart: `12,345`.
pub(crate) fn thousands(value: f64) -> String {
    if !value.is_finite() {
        return NOTHING.to_owned();
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if value < 0.0 && digits != "0" {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds as milliseconds without the unit.
pub(crate) fn ms(us: f64) -> String {
    three_digits(us / 1000.0)
}

/// Microseconds as milliseconds without the unit, or [`NOTHING`].
pub(crate) fn ms_or_nothing(us: Option<f64>) -> String {
    us.map_or_else(|| NOTHING.to_owned(), ms)
}

/// Microseconds as milliseconds with the unit.
pub(crate) fn with_ms(us: f64) -> String {
    format!("{} ms", ms(us))
}

/// Bytes in the unit that gives three digits.
pub(crate) fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    if !bytes.is_finite() {
        return NOTHING.to_owned();
    }
    let (mut value, mut unit) = (bytes, 0);
    while value.abs() >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let figure = if unit == 0 && (value.fract() == 0.0 || value >= 100.0) {
        format!("{value:.0}")
    } else {
        three_digits(value)
    };
    format!("{figure} {}", UNITS[unit])
}

/// A count per rollout: whole numbers as such, others with two decimals, `<0.01` below.
pub(crate) fn per_rollout(count: f64) -> String {
    if !count.is_finite() {
        return NOTHING.to_owned();
    }
    let nearest = count.round();
    if (count - nearest).abs() < 1e-9 {
        return thousands(nearest);
    }
    match count {
        _ if count > 0.0 && count < 0.005 => "<0.01".to_owned(),
        _ if count < 99.995 => format!("{count:.2}"),
        _ => thousands(count),
    }
}

/// A ratio: `747×`, `1.02×`.
pub(crate) fn times(ratio: f64) -> String {
    format!("{}×", three_digits(ratio))
}

/// A share in percent: `3.1 %`.
pub(crate) fn percent(share: f64) -> String {
    if !share.is_finite() {
        return NOTHING.to_owned();
    }
    let value = share * 100.0;
    match value.abs() {
        0.0 => "0 %".to_owned(),
        size if size < 0.05 => "<0.1 %".to_owned(),
        size if size < 9.95 => format!("{value:.1} %"),
        _ => format!("{value:.0} %"),
    }
}

/// A word for one and another for more: `1 rung`, `8 rungs`.
pub(crate) fn counted(count: usize, one: &str, more: &str) -> String {
    format!("{} {}", thousands(count as f64), if count == 1 { one } else { more })
}
