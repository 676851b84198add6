//! What k6 hands to `handleSummary`, of whole rollouts: an iteration is a rollout, its requests are its steps. Times in
//! milliseconds.

use std::collections::BTreeMap;

use serde::Serialize;

use super::json;
use crate::dist::Dist;
use crate::schema::Rung;
use crate::threshold::Outcome;

#[derive(Serialize)]
struct Summary {
    root_group: Group,
    options: Options,
    state: State,
    metrics: BTreeMap<String, Metric>,
}

#[derive(Serialize)]
struct Group {
    name: &'static str,
    path: &'static str,
    id: &'static str,
    groups: [(); 0],
    checks: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Options {
    summary_trend_stats: [&'static str; 8],
    summary_time_unit: &'static str,
    no_color: bool,
}

#[derive(Serialize)]
struct State {
    #[serde(rename = "isStdOutTTY")]
    is_stdout_tty: bool,
    #[serde(rename = "isStdErrTTY")]
    is_stderr_tty: bool,
    #[serde(rename = "testRunDurationMs")]
    test_run_duration_ms: f64,
}

#[derive(Serialize)]
struct Metric {
    r#type: &'static str,
    contains: &'static str,
    values: BTreeMap<&'static str, f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    thresholds: BTreeMap<String, Threshold>,
}

#[derive(Serialize)]
struct Threshold {
    ok: bool,
}

/// One rung as k6's summary: `iterations`, `dropped_iterations`, `iteration_duration` (from the intended start), `http_req_failed`,
/// and our own `rollout_service`, `rollout_lag`, `overhead`, `http_req_duration{step:NAME}`, `stage_duration{stage:NAME}`. A trend
/// lacks the percentiles that it has too few samples for; k6 would give them all the same. `thresholds` of this rung are put on
/// the metric they are about.
#[must_use]
pub fn k6(rung: &Rung, thresholds: &[Outcome]) -> String {
    let accounting = &rung.accounting;
    let errors = accounting.errors();
    let mut metrics = BTreeMap::new();
    let mut put = |name: &str, metric: Option<Metric>| {
        if let Some(metric) = metric {
            metrics.insert(name.to_owned(), metric);
        }
    };
    put("iterations", Some(counter(accounting.ok + errors, rung)));
    put("dropped_iterations", Some(counter(accounting.unsent, rung)));
    put("iteration_duration", trend(&rung.rollout.response));
    put("rollout_service", trend(&rung.rollout.service));
    put("rollout_lag", rung.rollout.lag.as_ref().and_then(trend));
    put("overhead", trend(&rung.overhead));
    put("http_req_failed", Some(failed(errors, accounting.ok)));
    for (step, times) in &rung.steps {
        put(&format!("http_req_duration{{step:{step}}}"), trend(&times.service));
    }
    for (stage, report) in &rung.stages {
        put(&format!("stage_duration{{stage:{stage}}}"), trend(&report.dist));
    }
    for outcome in thresholds {
        let (metric, condition) = place(&outcome.threshold);
        if let Some(metric) = metrics.get_mut(&metric) {
            metric.thresholds.insert(condition, Threshold { ok: outcome.holds });
        }
    }
    json(&Summary {
        // The id is the MD5 of the empty path, as k6 has it.
        root_group: Group {
            name: "",
            path: "",
            id: "d41d8cd98f00b204e9800998ecf8427e",
            groups: [],
            checks: [],
        },
        options: Options {
            summary_trend_stats: ["avg", "min", "med", "max", "p(90)", "p(95)", "p(99)", "count"],
            summary_time_unit: "ms",
            no_color: true,
        },
        state: State {
            is_stdout_tty: false,
            is_stderr_tty: false,
            test_run_duration_ms: rung.wall_seconds * 1000.0,
        },
        metrics,
    })
}

fn counter(count: u64, rung: &Rung) -> Metric {
    let rate = if rung.wall_seconds > 0.0 { count as f64 / rung.wall_seconds } else { 0.0 };
    let values = [("count", count as f64), ("rate", rate)].into();
    Metric { r#type: "counter", contains: "default", values, thresholds: BTreeMap::new() }
}

/// k6 calls "passes" what made the rate: here, failures.
fn failed(errors: u64, ok: u64) -> Metric {
    let rate = if errors + ok > 0 { errors as f64 / (errors + ok) as f64 } else { 0.0 };
    let values = [("rate", rate), ("passes", errors as f64), ("fails", ok as f64)].into();
    Metric { r#type: "rate", contains: "default", values, thresholds: BTreeMap::new() }
}

/// `None` without samples: k6 would have the metric with zeros, which reads as if it had been fast.
fn trend(dist: &Dist) -> Option<Metric> {
    let values: BTreeMap<&'static str, f64> = [
        ("avg", dist.mean_us),
        ("min", dist.min_us),
        ("med", dist.p50_us),
        ("max", dist.max_us),
        ("p(90)", dist.p90_us),
        ("p(95)", dist.p95_us),
        ("p(99)", dist.p99_us),
    ]
    .into_iter()
    .filter_map(|(name, us)| Some((name, (us? * 1000.0).round() / 1e6)))
    .chain([("count", dist.count as f64)])
    .collect();
    (dist.count > 0).then(|| Metric {
        r#type: "trend",
        contains: "time",
        values,
        thresholds: BTreeMap::new(),
    })
}

/// Which metric a threshold of ours is about, and what it says of it.
fn place(threshold: &str) -> (String, String) {
    let (metric, condition) = threshold.rsplit_once(':').unwrap_or((threshold, ""));
    let metric = match metric.split_once('.') {
        Some(("rollout", "response")) => "iteration_duration".to_owned(),
        Some(("rollout", view)) => format!("rollout_{view}"),
        Some(("steps", step)) => {
            format!("http_req_duration{{step:{}}}", step.strip_suffix(".service").unwrap_or(step))
        }
        Some(("stages", stage)) => format!("stage_duration{{stage:{stage}}}"),
        Some(("accounting", _)) => "http_req_failed".to_owned(),
        _ => metric.to_owned(),
    };
    (metric, condition.to_owned())
}
