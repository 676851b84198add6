//! Bencher Metric Format: `{"<rung>/<figure>": {"<measure>": {value, lower_value, upper_value}}}`. Latencies in nanoseconds, as
//! Bencher's own measure has them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{counts, figures, json, ns};
use crate::schema::Report;

/// Measures by name, by benchmark.
type Benchmarks = BTreeMap<String, BTreeMap<String, Metric>>;

#[derive(Serialize)]
struct Metric {
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lower_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upper_value: Option<f64>,
}

/// Percentiles of every rung's rollouts, overhead and stages; the counts of its critical path; side B of every comparison, with
/// its interval. What has too few samples is left out.
#[must_use]
pub fn bencher(report: &Report) -> String {
    let mut benchmarks = Benchmarks::new();
    let mut put = |benchmark: String, measure: &str, value: f64, range: Option<[f64; 2]>| {
        let [lower_value, upper_value] =
            range.map_or([None, None], |[lower, upper]| [Some(ns(lower)), Some(ns(upper))]);
        let metric = Metric { value, lower_value, upper_value };
        benchmarks.entry(benchmark).or_default().insert(measure.to_owned(), metric);
    };
    for figure in figures(report) {
        let dist = figure.dist;
        for (measure, value) in
            [("latency-p50", dist.p50_us), ("latency-p90", dist.p90_us), ("latency-p99", dist.p99_us)]
        {
            if let Some(us) = value {
                put(format!("{}/{}", figure.rung, figure.name), measure, ns(us), None);
            }
        }
    }
    for rung in report.rungs.iter().filter(|rung| rung.overhead.count > 0) {
        for (name, count) in counts(rung) {
            put(format!("{}/counts", rung.name), &name.replace('_', "-"), count, None);
        }
    }
    for comparison in &report.comparisons {
        let rung = if comparison.rung.is_empty() { &comparison.b } else { &comparison.rung };
        for endpoint in &comparison.endpoints {
            if let (Some(us), Some(effect)) = (endpoint.b_us, endpoint.effect) {
                let range = Some([effect.b_lower_us, effect.b_upper_us]);
                let measure = format!("latency-p{}", endpoint.quantile * 100.0);
                put(format!("compare/{rung}/{}", endpoint.name), &measure, ns(us), range);
            }
        }
    }
    json(&benchmarks)
}
