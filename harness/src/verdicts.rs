//! What a finished run shows or fails to show, as checks anybody can read in the report. They judge figures already in the
//! report and nothing else; `bench` prints them and, without thresholds, fails on none but the accounting.

use mipro_bench_reports::{LossCount, OperationReport, Report, Rung, SeedRow, Verdict};

/// Largest share of the service's own time that no stage may leave unclaimed in the rungs that talk to the stores.
pub const OTHER_SHARE_MAX: f64 = 0.10;
/// Critical-path round trips or requests per rollout that count as none.
pub const NEAR_ZERO_PER_ROLLOUT: f64 = 0.01;
/// How many times smaller `parallel`'s overhead should be than `blob`'s.
pub const SPEEDUP_MIN: f64 = 100.0;
/// How much longer than the mock's own plan a parallel run may take, besides what `direct` costs.
pub const MAKESPAN_RATIO_MAX: f64 = 1.03;

const PASS: &str = "pass";
const FAIL: &str = "fail";
const INCONCLUSIVE: &str = "inconclusive";

const FROM_WRITE_BACK: [&str; 6] = ["write-back", "logged", "bounded", "one-call", "parallel", "same-region"];
const WAITS_FOR_STORES: [&str; 3] = ["blob", "pooled", "write-through"];

/// Every check that this report has the figures for.
#[must_use]
pub fn all(report: &Report) -> Vec<Verdict> {
    let mut verdicts = vec![accounting(report), validity(report)];
    for rung in &report.rungs {
        if WAITS_FOR_STORES.contains(&rung.name.as_str()) {
            verdicts.extend(other_share(rung));
        }
        if rung.name == "write-through" {
            verdicts.push(no_loads(rung));
        }
        if FROM_WRITE_BACK.contains(&rung.name.as_str()) {
            verdicts.push(nothing_on_the_critical_path(rung));
        }
        verdicts.extend(killed(rung));
        verdicts.extend(host_gone(rung));
        verdicts.extend(makespan(report, rung));
    }
    verdicts.extend(speedup(report));
    if !report.seed_rows.is_empty()
        && report.environment.llm == "seed"
        && report.environment.link.contains("fitted")
    {
        verdicts.push(seed_rows(&report.seed_rows));
    }
    if report.run.interrupted {
        // What was measured so far may hold; that the whole run would have is not known.
        for held in verdicts.iter_mut().filter(|v| v.outcome == PASS) {
            INCONCLUSIVE.clone_into(&mut held.outcome);
            held.detail = format!("interrupted; so far: {}", held.detail);
        }
    }
    verdicts
}

/// Whether every rung accounts for every rollout it intended.
#[must_use]
pub fn accounting_holds(report: &Report) -> bool {
    report.rungs.iter().all(|r| r.accounting.holds())
}

fn verdict(name: String, holds: bool, detail: String) -> Verdict {
    Verdict { name, outcome: if holds { PASS } else { FAIL }.to_owned(), detail }
}

/// A check on a rung's critical path: without a rollout that brought the service's books, all its counts are 0 and say nothing.
fn on_books(rung: &Rung, name: String, holds: bool, detail: String) -> Verdict {
    if rung.overhead.count > 0 {
        return verdict(name, holds, detail);
    }
    let detail = "no rollout succeeded and told the service's times".to_owned();
    Verdict { name, outcome: INCONCLUSIVE.to_owned(), detail }
}

fn accounting(report: &Report) -> Verdict {
    let short: Vec<&str> =
        report.rungs.iter().filter(|r| !r.accounting.holds()).map(|r| r.name.as_str()).collect();
    let intended: u64 = report.rungs.iter().map(|r| r.accounting.intended).sum();
    let ok: u64 = report.rungs.iter().map(|r| r.accounting.ok).sum();
    let detail = if short.is_empty() {
        format!(
            "{intended} intended, {ok} ok, every other one in an error class, unsent or in flight at the end"
        )
    } else {
        format!("rollouts are missing in {}", short.join(", "))
    };
    verdict("every rollout accounted for".to_owned(), short.is_empty(), detail)
}

fn validity(report: &Report) -> Verdict {
    let doubts: Vec<String> = report
        .rungs
        .iter()
        .filter(|r| !r.validity.ok)
        .map(|r| format!("{}: {}", r.name, r.validity.reasons.join("; ")))
        .collect();
    let detail = if doubts.is_empty() && report.rungs.iter().all(|r| r.overhead.count == 0) {
        "the generator kept up; no rung went through the service".to_owned()
    } else if doubts.is_empty() {
        "client time ≥ server time and stages + other = total in every answer; no count claimed that the link did not see"
            .to_owned()
    } else {
        doubts.join("; ")
    };
    verdict("figures agree with each other".to_owned(), doubts.is_empty(), detail)
}

fn per_rollout_us(rung: &Rung, group: &str) -> f64 {
    rung.stage_groups.get(group).map_or(0.0, |g| g.per_rollout_us)
}

fn other_share(rung: &Rung) -> Option<Verdict> {
    let overhead_us = rung.overhead.mean_us.filter(|us| *us > 0.0)?;
    let share = per_rollout_us(rung, "other") / overhead_us;
    let detail = format!("{:.2} % of the service's own time has no stage", share * 100.0);
    Some(verdict(format!("{}: other under 10 % of overhead", rung.name), share < OTHER_SHARE_MAX, detail))
}

fn no_loads(rung: &Rung) -> Verdict {
    let gets = rung.counts.critical.s3_get;
    let calls = |of: fn(&OperationReport) -> u64| rung.operations.values().map(of).sum::<u64>() as f64;
    let loads = calls(|o| o.load_db.count) / rung.accounting.ok.max(1) as f64;
    let detail = format!("{loads:.3} DB loads and {gets:.3} S3 GETs a rollout on the critical path");
    let holds = gets <= NEAR_ZERO_PER_ROLLOUT && loads <= NEAR_ZERO_PER_ROLLOUT;
    on_books(rung, format!("{}: no loads after the first", rung.name), holds, detail)
}

fn nothing_on_the_critical_path(rung: &Rung) -> Verdict {
    let c = &rung.counts.critical;
    let s3 = c.s3_get + c.s3_put;
    let holds = c.db_round_trips <= NEAR_ZERO_PER_ROLLOUT && s3 <= NEAR_ZERO_PER_ROLLOUT;
    let detail = format!(
        "{:.3} DB round trips and {s3:.3} S3 requests a rollout that a caller waits for",
        c.db_round_trips
    );
    on_books(rung, format!("{}: no store on the critical path", rung.name), holds, detail)
}

/// What SIGKILL under load may cost: nothing, but for the rung that says so. That one shows that the trial can lose at all.
fn killed(rung: &Rung) -> Option<Verdict> {
    let count = rung.loss.as_ref()?.process_killed?;
    let detail = format!("{} of {} acknowledged rewards lost", count.lost, count.acknowledged);
    if rung.durability == "memory" {
        let name = format!("{}: loses what it had not saved when killed, as it says", rung.name);
        let outcome = if count.lost > 0 { PASS } else { INCONCLUSIVE };
        return Some(Verdict { name, outcome: outcome.to_owned(), detail });
    }
    Some(none_lost(format!("{}: nothing lost when killed under load", rung.name), count, detail))
}

/// Rungs that store before they answer lose nothing with the host; of the others the report says what they lose.
fn host_gone(rung: &Rung) -> Option<Verdict> {
    let count = rung.loss.as_ref()?.host_gone.filter(|_| rung.durability == "stored")?;
    let detail = format!("{} of {} acknowledged rewards lost", count.lost, count.acknowledged);
    Some(none_lost(format!("{}: nothing lost with the host", rung.name), count, detail))
}

/// Nothing lost of nothing acknowledged shows nothing.
fn none_lost(name: String, count: LossCount, detail: String) -> Verdict {
    let outcome = match count {
        LossCount { acknowledged: 0, .. } => INCONCLUSIVE,
        LossCount { lost: 0, .. } => PASS,
        _ => FAIL,
    };
    Verdict { name, outcome: outcome.to_owned(), detail }
}

fn named<'a>(report: &'a Report, name: &str) -> Option<&'a Rung> {
    report.rungs.iter().find(|r| r.name == name)
}

fn speedup(report: &Report) -> Option<Verdict> {
    let before_us = named(report, "blob")?.overhead.p50_us?;
    let after_us = named(report, "parallel")?.overhead.p50_us.filter(|us| *us > 0.0)?;
    let ratio = before_us / after_us;
    let detail = format!("{:.1} ms → {:.3} ms, {ratio:.0} times", before_us / 1e3, after_us / 1e3);
    Some(verdict("parallel: overhead p50 at least 100× below blob".to_owned(), ratio >= SPEEDUP_MIN, detail))
}

/// A parallel rung's run against the plan of the mock, with what a rollout costs in `direct` added for each lane's share.
fn makespan(report: &Report, rung: &Rung) -> Option<Verdict> {
    if !["parallel", "same-region"].contains(&rung.name.as_str()) {
        return None;
    }
    let ours = rung.makespan.as_ref()?;
    let floor = named(report, "direct")?;
    let floor_span = floor.makespan.as_ref()?;
    let rounds = |r: &Rung| r.rollouts as f64 / f64::from(r.concurrency.max(1));
    let floor_cost =
        ((floor_span.measured_seconds - floor_span.planned_seconds) / rounds(floor).max(1.0)).max(0.0);
    let allowed = MAKESPAN_RATIO_MAX * ours.planned_seconds + floor_cost * rounds(rung);
    let detail = format!(
        "{} rollouts, {} in flight: {:.3} s measured, {:.3} s planned by the mock, {allowed:.3} s allowed",
        rung.rollouts, rung.concurrency, ours.measured_seconds, ours.planned_seconds
    );
    Some(verdict(
        format!("{}: as fast as the LLM allows", rung.name),
        ours.measured_seconds <= allowed,
        detail,
    ))
}

fn seed_rows(rows: &[SeedRow]) -> Verdict {
    let outside: Vec<String> = rows
        .iter()
        .filter(|r| !r.inside && r.p50_ms.is_some())
        .map(|r| format!("{} {}", r.operation, r.row))
        .collect();
    let unmeasured = rows.iter().filter(|r| r.p50_ms.is_none()).count();
    let fewest = rows.iter().map(|r| r.samples).min().unwrap_or(0);
    let (outcome, detail) = if !outside.is_empty() {
        (FAIL, format!("outside: {}", outside.join(", ")))
    } else if unmeasured > 0 {
        (INCONCLUSIVE, format!("{unmeasured} of {} rows have too few samples", rows.len()))
    } else {
        (PASS, format!("all {} rows, {fewest} samples or more each", rows.len()))
    };
    let name = "blob: p50 inside the seeds' min–max, row by row".to_owned();
    Verdict { name, outcome: outcome.to_owned(), detail }
}

#[cfg(test)]
mod tests;
