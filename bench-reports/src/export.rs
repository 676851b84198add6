//! A report as other tools read it. Each writer is a pure function from a report to text; figures that a format wants and a
//! report does not have are null or left out, never made up.
//!
//! [`oha()`] and [`k6()`] describe one run of one thing, so they take one rung; [`bencher()`], [`github()`] and [`markdown()`] take the
//! whole report.

use serde::Serialize;

use crate::dist::Dist;
use crate::schema::{Report, Rung};
use crate::view::not_ok;

mod bencher;
mod github;
mod k6;
mod markdown;
mod oha;
#[cfg(test)]
mod tests;

pub use bencher::bencher;
pub use github::github;
pub use k6::k6;
pub use markdown::{MARK, markdown};
pub use oha::oha;

/// The rung that an export of one is about: the one named, else the last that ran.
#[must_use]
pub fn rung<'a>(report: &'a Report, name: Option<&str>) -> Option<&'a Rung> {
    match name {
        Some(name) => report.rungs.iter().find(|rung| rung.name == name),
        None => report.rungs.last(),
    }
}

/// JSON for people to read, too, ending with a line break.
fn json(value: &impl Serialize) -> String {
    let mut text =
        serde_json::to_string_pretty(value).expect("maps with text keys and finite numbers are always JSON");
    text.push('\n');
    text
}

/// One figure of a report that grows worse as it grows.
struct Figure<'a> {
    rung: &'a str,
    /// `overhead`, `stages.db.query`, …
    name: String,
    dist: &'a Dist,
}

/// The figures that are followed over time: whole rollouts, overhead, every stage.
fn figures(report: &Report) -> impl Iterator<Item = Figure<'_>> {
    report.rungs.iter().flat_map(|rung| {
        let fixed = [("rollout.response", &rung.rollout.response), ("overhead", &rung.overhead)];
        let stages = rung.stages.iter().map(|(stage, of)| (format!("stages.{stage}"), &of.dist));
        fixed
            .into_iter()
            .map(|(name, dist)| (name.to_owned(), dist))
            .chain(stages)
            .filter(|(_, dist)| dist.count > 0)
            .map(|(name, dist)| Figure { rung: &rung.name, name, dist })
    })
}

/// The counts of every rung's critical path, with their names.
fn counts(rung: &Rung) -> [(&'static str, f64); 6] {
    let critical = &rung.counts.critical;
    [
        ("db_round_trips", critical.db_round_trips),
        ("db_statements", critical.db_statements),
        ("s3_get", critical.s3_get),
        ("s3_put", critical.s3_put),
        ("s3_bytes", critical.s3_bytes),
        ("llm_calls", critical.llm_calls),
    ]
}

/// How many rollouts ended in each class that is not `ok`, those that any did.
fn errors(rung: &Rung) -> impl Iterator<Item = (&'static str, u64)> {
    not_ok(&rung.accounting).into_iter().filter(|(_, count)| *count > 0)
}

/// Nanoseconds, to the tenth.
fn ns(us: f64) -> f64 {
    (us * 10_000.0).round() / 10.0
}
