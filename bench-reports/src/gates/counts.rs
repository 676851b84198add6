//! Counts: how often a rollout asks the database, the object store, the LLM and the log for something. They need no second
//! run to compare with and don't depend on how busy the machine is, so they come first and are exact.

use time::Date;

use mipro_telemetry::{Group, Stage};

use super::budgets::{Budgets, CountBudget};
use super::{GateOutcome, Kind, Outcome, believable, with_mark};
use crate::format::per_rollout;
use crate::schema::{CountSet, Report, Rung};

/// What a count of a stage's calls begins with.
const CALLS: &str = "calls.";

/// Holds every budgeted count against what was counted.
#[must_use]
pub fn counts(budgets: &Budgets, report: &Report, today: Date) -> Vec<GateOutcome> {
    let mut outcomes = Vec::new();
    for (name, of) in &budgets.counts {
        let rung = countable(budgets, report, name);
        for (part, counts) in of.parts() {
            for (count, budget) in counts {
                let seen = rung.as_ref().map_err(Clone::clone).and_then(|rung| {
                    count_of(rung, part, count)
                        .map(|seen| (*rung, seen))
                        .ok_or_else(|| format!("{count} was not counted"))
                });
                let gate = judged(&format!("{name} {part}.{count}"), count, budget, seen);
                outcomes.push(with_mark(gate, budget.erratic.as_ref(), today));
            }
        }
    }
    outcomes
}

/// A rung whose counts may be held against the budgets, or why not.
pub(super) fn countable<'a>(budgets: &Budgets, report: &'a Report, name: &str) -> Result<&'a Rung, String> {
    let rung = believable(report, name)?;
    budgets.run.as_ref().and_then(|shape| shape.mismatch(rung)).map_or(Ok(rung), Err)
}

fn judged(name: &str, count: &str, budget: &CountBudget, seen: Result<(&Rung, f64), String>) -> GateOutcome {
    let limit = budget.hard.above(budget.value);
    let gate = |seen: String, outcome, advice: String| GateOutcome {
        kind: Kind::Count,
        name: name.to_owned(),
        limit: shown_limit(budget.value, limit),
        seen,
        outcome,
        advice,
    };
    let (rung, seen) = match seen {
        Ok(seen) => seen,
        Err(reason) => return gate("nothing".to_owned(), Outcome::Invalid, reason),
    };
    // Half an occurrence in the whole run: any whole one more is over, rounding is not.
    let slack = 0.5 / rung.accounting.ok.max(1) as f64;
    let soft = budget.soft.map(|soft| soft.above(budget.value));
    let lowest = budget.soft.unwrap_or(budget.hard).below(budget.value);
    let stages = stages(count, rung, name.contains(" background."));
    let (outcome, advice) = if seen > limit + slack {
        (Outcome::Breach, format!("{} more a rollout{stages}", per_rollout(seen - budget.value)))
    } else if soft.is_some_and(|soft| seen > soft + slack) {
        (Outcome::Soft, format!("{} more a rollout{stages}", per_rollout(seen - budget.value)))
    } else if seen < lowest - slack {
        (Outcome::Better, "accept it, so that it stays so".to_owned())
    } else {
        (Outcome::Pass, String::new())
    };
    gate(per_rollout(seen), outcome, advice)
}

fn shown_limit(value: f64, limit: f64) -> String {
    if limit > value {
        format!("{} (at most {})", per_rollout(value), per_rollout(limit))
    } else {
        per_rollout(value)
    }
}

/// The stages that such a count is made in, with how often each ran: where to look. How often stages behind the answers ran is
/// not in a report; of a background count they are named all the same.
fn stages(count: &str, rung: &Rung, background: bool) -> String {
    let stages: &[Stage] = match count {
        "db_round_trips" | "db_statements" => &[Stage::DbQuery, Stage::PointerUpdate],
        "db_connections" => &[Stage::DbAcquire],
        "s3_get" => &[Stage::S3Get],
        "s3_put" => &[Stage::S3Put, Stage::SnapshotPut],
        "s3_bytes" => &[Stage::S3Get, Stage::S3Put, Stage::SnapshotPut],
        "llm_calls" => &[Stage::LlmFirstByte],
        "log_syncs" => &[Stage::LogSync, Stage::LogAppend, Stage::GateWait],
        _ => &[],
    };
    let told = |stage: &Stage| match rung.stages.get(stage.name()) {
        Some(report) if report.calls_per_rollout > 0.0 => {
            Some(format!("{} ({} calls a rollout)", stage.name(), per_rollout(report.calls_per_rollout)))
        }
        _ if background && stage.group() == Group::Background => {
            Some(format!("{} (behind the answers)", stage.name()))
        }
        _ => None,
    };
    let ran: Vec<String> = stages.iter().filter_map(told).collect();
    match (stages, ran.is_empty()) {
        ([], _) => String::new(),
        ([first, ..], true) => format!("; its stage is {}, which no caller waited for", first.name()),
        (_, false) => format!("; look at {}", ran.join(", ")),
    }
}

/// A count by its name in the report (of the process only what the harness put there), or `calls.<stage>`: how often a stage ran on the critical path.
pub(super) fn count_of(rung: &Rung, part: &str, name: &str) -> Option<f64> {
    let counts = &rung.counts;
    let (set, extra) = match part {
        "process" => return counts.process.get(name).copied(),
        "critical" => (&counts.critical, &counts.extra_critical),
        "background" => (&counts.background, &counts.extra_background),
        _ => return None,
    };
    if let Some(stage) = name.strip_prefix(CALLS).filter(|_| part == "critical") {
        let known = Stage::from_name(stage)?;
        return Some(rung.stages.get(known.name()).map_or(0.0, |stage| stage.calls_per_rollout));
    }
    let CountSet {
        db_round_trips,
        db_statements,
        db_connections,
        s3_get,
        s3_put,
        s3_bytes,
        llm_calls,
        log_syncs,
    } = *set;
    Some(match name {
        "db_round_trips" => db_round_trips,
        "db_statements" => db_statements,
        "db_connections" => db_connections,
        "s3_get" => s3_get,
        "s3_put" => s3_put,
        "s3_bytes" => s3_bytes,
        "llm_calls" => llm_calls,
        "log_syncs" => log_syncs,
        other => *extra.get(other)?,
    })
}
