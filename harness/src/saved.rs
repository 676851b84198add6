//! Two saved reports beside each other. They were not interleaved, so of times nothing is concluded, however long they took:
//! whatever else ran on the machine that hour is in the difference. Counts a rollout need no luck, and are judged.

use mipro_bench_reports::compare::differences;
use mipro_bench_reports::{CountSet, Report, Rung};

#[cfg(test)]
mod tests;

/// Counts that differ by less are the same: half of one in ten thousand rollouts.
const COUNT_SLACK: f64 = 0.5e-4;

/// What two reports say beside each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// Counts that callers wait for and that are not the same in both.
    pub counts: Vec<CountChange>,
    /// Medians, for the eye only.
    pub times: Vec<TimeChange>,
}

/// A count a rollout, on the critical path.
#[derive(Debug, Clone, PartialEq)]
pub struct CountChange {
    /// The rung.
    pub rung: String,
    /// `db_round_trips`, `s3_put`, …
    pub count: &'static str,
    /// In the first report.
    pub a: f64,
    /// In the second.
    pub b: f64,
}

/// A median in both reports.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeChange {
    /// The rung.
    pub rung: String,
    /// `overhead` or `rollout`.
    pub what: &'static str,
    /// In the first report, in microseconds.
    pub a_us: f64,
    /// In the second.
    pub b_us: f64,
}

impl Saved {
    /// Whether any count has grown.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        self.counts.iter().any(|change| change.b > change.a)
    }
}

/// Holds `b` against `a`, rung by rung.
///
/// # Errors
/// Everything in which the runs differ that their figures depend on: machine, stack, link, LLM, dataset, seed and so on.
pub fn compare(a: &Report, b: &Report) -> Result<Saved, Vec<String>> {
    let reasons = differences(a, b);
    if !reasons.is_empty() {
        return Err(reasons);
    }
    let mut saved = Saved { counts: Vec::new(), times: Vec::new() };
    for rung in &a.rungs {
        if let Some(other) = b.rungs.iter().find(|other| other.name == rung.name) {
            saved.counts.extend(counts(rung, other));
            saved.times.extend(times(rung, other));
        }
    }
    Ok(saved)
}

type Count = fn(&CountSet) -> f64;

fn counts(a: &Rung, b: &Rung) -> Vec<CountChange> {
    let all: [(&'static str, Count); 7] = [
        ("db_round_trips", |c| c.db_round_trips),
        ("db_statements", |c| c.db_statements),
        ("db_connections", |c| c.db_connections),
        ("s3_get", |c| c.s3_get),
        ("s3_put", |c| c.s3_put),
        ("llm_calls", |c| c.llm_calls),
        ("log_syncs", |c| c.log_syncs),
    ];
    let changed = all.into_iter().map(|(count, of)| CountChange {
        rung: a.name.clone(),
        count,
        a: of(&a.counts.critical),
        b: of(&b.counts.critical),
    });
    changed.filter(|change| (change.a - change.b).abs() > COUNT_SLACK).collect()
}

fn times(a: &Rung, b: &Rung) -> impl Iterator<Item = TimeChange> {
    let one = |what, a_us: Option<f64>, b_us: Option<f64>| {
        Some(TimeChange { rung: a.name.clone(), what, a_us: a_us?, b_us: b_us? })
    };
    let overhead = one("overhead", a.overhead.p50_us, b.overhead.p50_us);
    let rollout = one("rollout", a.rollout.service.p50_us, b.rollout.service.p50_us);
    [overhead, rollout].into_iter().flatten()
}
