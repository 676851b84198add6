//! github-action-benchmark, tool `customSmallerIsBetter`: a list of `{name, unit, value, range, extra}`.

use serde::Serialize;

use super::{counts, figures, json};
use crate::format::thousands;
use crate::schema::Report;

#[derive(Serialize)]
struct Entry {
    name: String,
    unit: &'static str,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra: Option<String>,
}

/// The p50 of every rung's rollouts, overhead and stages, the counts of its critical path, and side B of every comparison with its
/// interval. The action compares with one run of another hour: of times it sees the machine's mood, of counts the truth.
#[must_use]
pub fn github(report: &Report) -> String {
    let mut entries = Vec::new();
    for figure in figures(report) {
        if let Some(us) = figure.dist.p50_us {
            entries.push(Entry {
                name: format!("{}/{} p50", figure.rung, figure.name),
                unit: "ms",
                value: milliseconds(us),
                range: figure.dist.stdev_us.map(|us| format!("± {}", milliseconds(us))),
                extra: Some(format!("{} samples", thousands(figure.dist.count as f64))),
            });
        }
    }
    for rung in report.rungs.iter().filter(|rung| rung.overhead.count > 0) {
        entries.extend(counts(rung).map(|(name, count)| Entry {
            name: format!("{}/{name}", rung.name),
            unit: "per rollout",
            value: count,
            range: None,
            extra: None,
        }));
    }
    for comparison in &report.comparisons {
        let rung = if comparison.rung.is_empty() { &comparison.b } else { &comparison.rung };
        for endpoint in &comparison.endpoints {
            if let (Some(us), Some(effect)) = (endpoint.b_us, endpoint.effect) {
                let (lower, upper) = (milliseconds(effect.b_lower_us), milliseconds(effect.b_upper_us));
                entries.push(Entry {
                    name: format!("compare/{rung}/{}", endpoint.title()),
                    unit: "ms",
                    value: milliseconds(us),
                    range: Some(format!("{lower} – {upper}")),
                    extra: Some(format!("{} against {}", effect.with_interval(), comparison.a)),
                });
            }
        }
    }
    json(&entries)
}

/// To the nanosecond.
fn milliseconds(us: f64) -> f64 {
    (us * 1000.0).round() / 1e6
}
