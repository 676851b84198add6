//! `Server-Timing`: telling a caller where its time went, and reading what a server told.
//!
//! One entry per (stage, phase): `db.query;dur=12.41;n=3;bytes=8192;rt=4;phase=load;ov=1.5;cancelled=1`, then
//! `other;dur=…`, then `total;dur=…;op=start_rollout`. `dur` is exclusive milliseconds with as many decimals as whole
//! nanoseconds need, so that the durations of stages and `other` add up to `total` exactly. Zero parameters are left out.

use std::fmt::Write as _;

use crate::ledger::{Breakdown, StageEntry};
use crate::stage::{Operation, Phase, Stage};

#[cfg(test)]
mod tests;

/// The header's name, in the lower case that HTTP/2 wants.
pub const HEADER: &str = "server-timing";

/// One entry of a header, whoever wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// The metric's name, as sent.
    pub name: String,
    /// Parameter names in lower case with their values, in order; of a name sent twice only the first is kept.
    pub params: Vec<(String, String)>,
}

impl Metric {
    /// A parameter's value.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// `dur` in milliseconds; 0 where it is absent or no number.
    #[must_use]
    pub fn dur_ms(&self) -> f64 {
        self.param("dur").map_or(0.0, number)
    }

    /// `desc`; empty where it is absent.
    #[must_use]
    pub fn desc(&self) -> &str {
        self.param("desc").unwrap_or_default()
    }

    fn dur_ns(&self) -> u64 {
        ns(self.dur_ms())
    }

    fn integer(&self, name: &str) -> u64 {
        self.param(name).and_then(|v| v.parse().ok()).unwrap_or(0)
    }
}

/// Writes a request's books as a header value: visible ASCII, no trailing comma.
#[must_use]
pub fn write(breakdown: &Breakdown) -> String {
    let mut text = String::with_capacity(48 * (breakdown.entries.len() + 2));
    for entry in &breakdown.entries {
        write_entry(&mut text, entry);
        text.push_str(", ");
    }
    let (other, total) = (Ms(breakdown.other_ns), Ms(breakdown.total_ns));
    // Writing to a String cannot fail.
    let _ = write!(text, "other;dur={other}, total;dur={total};op={}", breakdown.operation.name());
    text
}

fn write_entry(text: &mut String, entry: &StageEntry) {
    let _ = write!(text, "{};dur={}", entry.stage.name(), Ms(entry.exclusive_ns));
    for (name, value) in [("n", entry.count), ("bytes", entry.bytes), ("rt", entry.round_trips)] {
        if value > 0 {
            let _ = write!(text, ";{name}={value}");
        }
    }
    if let Some(phase) = entry.phase {
        let _ = write!(text, ";phase={}", phase.name());
    }
    if entry.overlap_ns > 0 {
        let _ = write!(text, ";ov={}", Ms(entry.overlap_ns));
    }
    if entry.cancelled > 0 {
        let _ = write!(text, ";cancelled={}", entry.cancelled);
    }
}

/// Nanoseconds shown as milliseconds, without trailing zeros.
struct Ms(u64);

impl std::fmt::Display for Ms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, mut fraction, mut width) = (self.0 / 1_000_000, self.0 % 1_000_000, 6);
        write!(f, "{whole}")?;
        if fraction == 0 {
            return Ok(());
        }
        while fraction % 10 == 0 {
            fraction /= 10;
            width -= 1;
        }
        write!(f, ".{fraction:0width$}")
    }
}

/// Reads a header value, or several joined by commas. Lenient as the standard's parsing algorithm is: what it cannot read
/// it skips, and it never fails.
#[must_use]
pub fn parse(value: &str) -> Vec<Metric> {
    let mut metrics = Vec::new();
    let mut input = Input { rest: value };
    loop {
        if let Some(metric) = input.metric() {
            metrics.push(metric);
        }
        if !input.take(',') {
            return metrics;
        }
    }
}

/// What is left to read of a header.
struct Input<'a> {
    rest: &'a str,
}

impl<'a> Input<'a> {
    /// One entry, up to the comma after it or the end.
    fn metric(&mut self) -> Option<Metric> {
        let name = trim(self.until(&[';', ',']));
        let mut metric = Metric { name: name.to_owned(), params: Vec::new() };
        while self.take(';') {
            let param = trim(self.until(&['=', ';', ','])).to_ascii_lowercase();
            let value = if self.take('=') { self.value() } else { String::new() };
            if !param.is_empty() && metric.param(&param).is_none() {
                metric.params.push((param, value));
            }
        }
        (!name.is_empty()).then_some(metric)
    }

    /// A parameter's value: a token or a quoted string. What stands between a closing quote and the next delimiter is dropped.
    fn value(&mut self) -> String {
        self.rest = self.rest.trim_start_matches(BLANKS);
        if self.take('"') {
            let value = self.quoted();
            self.until(&[';', ',']);
            value
        } else {
            trim(self.until(&[';', ','])).to_owned()
        }
    }

    /// The rest of a quoted string, up to its closing quote or the end.
    fn quoted(&mut self) -> String {
        let mut value = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next() {
                None | Some('"') => break,
                Some('\\') => value.push(chars.next().unwrap_or('\\')),
                Some(c) => value.push(c),
            }
        }
        self.rest = chars.as_str();
        value
    }

    fn until(&mut self, stops: &[char]) -> &'a str {
        let at = self.rest.find(stops).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(at);
        self.rest = rest;
        taken
    }

    fn take(&mut self, expected: char) -> bool {
        let rest = self.rest.strip_prefix(expected);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

/// Optional white space, and the line breaks that old servers fold into headers.
const BLANKS: &[char] = &[' ', '\t', '\r', '\n'];

fn trim(text: &str) -> &str {
    text.trim_matches(BLANKS)
}

/// HTML's rules for floating-point numbers, which the standard refers to: the longest prefix that is a number counts, and
/// there is no "inf" or "nan".
fn number(text: &str) -> f64 {
    let text = text.trim_start_matches(BLANKS);
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let signed = |at: usize| at + usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
    let mut end = signed(0);
    let whole = digits(end);
    end += whole;
    let mut fraction = 0;
    if bytes.get(end) == Some(&b'.') {
        fraction = digits(end + 1);
        end += if fraction > 0 { 1 + fraction } else { 0 };
    }
    if whole + fraction == 0 {
        return 0.0;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let exponent = signed(end + 1);
        if exponent <= bytes.len() && digits(exponent) > 0 {
            end = exponent + digits(exponent);
        }
    }
    text[..end].parse().ok().filter(|n: &f64| n.is_finite()).unwrap_or(0.0)
}

/// Milliseconds to whole nanoseconds; nothing below 0.
fn ns(ms: f64) -> u64 {
    // A float-to-integer cast saturates, and a negative duration is nobody's time.
    (ms * 1_000_000.0).round() as u64
}

/// Reads our own entries back: the inverse of [`write()`], indifferent to order and to what others added. None without a
/// `total`, for then nothing can be said about the whole.
#[must_use]
pub fn breakdown_from(metrics: &[Metric]) -> Option<Breakdown> {
    let total = metrics.iter().find(|m| m.name == "total")?;
    let operation = total.param("op").and_then(Operation::from_name).unwrap_or(Operation::Unknown);
    let other_ns = metrics.iter().find(|m| m.name == "other").map_or(0, Metric::dur_ns);
    let mut entries: Vec<StageEntry> = Vec::new();
    for metric in metrics {
        let Some(stage) = Stage::from_name(&metric.name).filter(|s| *s != Stage::Other) else { continue };
        entries.push(StageEntry {
            stage,
            phase: metric.param("phase").and_then(Phase::from_name),
            exclusive_ns: metric.dur_ns(),
            overlap_ns: ns(metric.param("ov").map_or(0.0, number)),
            count: metric.integer("n"),
            bytes: metric.integer("bytes"),
            round_trips: metric.integer("rt"),
            cancelled: metric.integer("cancelled"),
        });
    }
    Some(Breakdown { operation, total_ns: total.dur_ns(), other_ns, entries })
}
