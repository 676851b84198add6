//! What `oha --output-format json` prints, of whole rollouts: response times from the intended start, in seconds.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{errors, json};
use crate::schema::Rung;

/// Bars of `responseTimeHistogram`.
const BARS: u64 = 11;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Oha {
    summary: Summary,
    response_time_histogram: BTreeMap<String, u64>,
    latency_percentiles: BTreeMap<&'static str, Option<f64>>,
    rps: Rps,
    details: Details,
    status_code_distribution: BTreeMap<&'static str, u64>,
    error_distribution: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    success_rate: Option<f64>,
    total: f64,
    slowest: Option<f64>,
    fastest: Option<f64>,
    average: Option<f64>,
    requests_per_sec: Option<f64>,
    total_data: u64,
    size_per_request: Option<u64>,
    size_per_sec: Option<f64>,
}

#[derive(Serialize)]
struct Rps {
    mean: Option<f64>,
    stddev: Option<f64>,
    max: Option<f64>,
    min: Option<f64>,
    percentiles: BTreeMap<&'static str, Option<f64>>,
}

#[derive(Serialize)]
struct Details {
    #[serde(rename = "DNSDialup")]
    dial_up: Range,
    #[serde(rename = "DNSLookup")]
    lookup: Range,
}

#[derive(Serialize)]
struct Range {
    average: Option<f64>,
    fastest: Option<f64>,
    slowest: Option<f64>,
}

const PERCENTILES: [(&str, f64); 9] = [
    ("p10", 10.0),
    ("p25", 25.0),
    ("p50", 50.0),
    ("p75", 75.0),
    ("p90", 90.0),
    ("p95", 95.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("p99.99", 99.99),
];

/// One rung as oha's JSON. `successRate` is of all rollouts intended, those never sent among them. Not known, and so null or 0:
/// bytes, rates over time, name resolution.
#[must_use]
pub fn oha(rung: &Rung) -> String {
    let (dist, accounting) = (&rung.rollout.response, &rung.accounting);
    let seconds = |us: Option<f64>| us.map(|us| us / 1e6);
    let rate = (rung.wall_seconds > 0.0).then(|| accounting.ok as f64 / rung.wall_seconds);
    let unknown = || Range { average: None, fastest: None, slowest: None };
    let success_rate = (accounting.intended > 0).then(|| accounting.ok as f64 / accounting.intended as f64);
    json(&Oha {
        summary: Summary {
            success_rate,
            total: rung.wall_seconds,
            slowest: seconds(dist.max_us),
            fastest: seconds(dist.min_us),
            average: seconds(dist.mean_us),
            requests_per_sec: rate,
            total_data: 0,
            size_per_request: None,
            size_per_sec: None,
        },
        response_time_histogram: bars(rung),
        latency_percentiles: PERCENTILES
            .into_iter()
            .map(|(name, percentile)| (name, seconds(dist.percentile_us(percentile))))
            .collect(),
        rps: Rps {
            mean: rate,
            stddev: None,
            max: None,
            min: None,
            percentiles: PERCENTILES.into_iter().map(|(name, _)| (name, None)).collect(),
        },
        details: Details { dial_up: unknown(), lookup: unknown() },
        status_code_distribution: [("200", accounting.ok)].into_iter().filter(|(_, ok)| *ok > 0).collect(),
        error_distribution: errors(rung).collect(),
    })
}

/// Samples up to each of evenly spaced times, in seconds, as oha's bars have them: from the fastest to the slowest.
fn bars(rung: &Rung) -> BTreeMap<String, u64> {
    let dist = &rung.rollout.response;
    let (Some(min_us), Some(max_us), Ok(histogram)) = (dist.min_us, dist.max_us, dist.decode()) else {
        return BTreeMap::new();
    };
    let edge_ns = |bar: u64| ((min_us + (max_us - min_us) * bar as f64 / (BARS - 1) as f64) * 1000.0) as u64;
    let mut bars = BTreeMap::new();
    for bar in 0..BARS {
        let up_to = histogram.count_between(0, edge_ns(bar));
        let before = bar.checked_sub(1).map_or(0, |bar| histogram.count_between(0, edge_ns(bar)));
        *bars.entry((edge_ns(bar) as f64 / 1e9).to_string()).or_default() += up_to.saturating_sub(before);
    }
    bars
}
