//! The one sentence a run comes down to: what the service added to a rollout before and after, what a kill lost, and that
//! the LLM's part stayed the same.

use crate::format::{thousands, times, with_ms};
use crate::schema::{Comparison, LossCount, Report, Rung};
use crate::view::{sound, through_service};

mod profiled;
#[cfg(test)]
mod tests;

/// By how much the LLM's mean may differ between two rungs and still count as unchanged.
const LLM_SAME_WITHIN: f64 = 0.05;

/// The first and the last rung through the service; the same one twice when only one ran.
pub(crate) fn before_after(report: &Report) -> Option<(&Rung, &Rung)> {
    let mut measured = report.rungs.iter().filter(|rung| through_service(rung));
    let before = measured.next()?;
    Some((before, measured.next_back().unwrap_or(before)))
}

/// What the service added to a rollout of two rungs, in microseconds, and which figure that is: the p50, or of both the mean
/// where one of them has too few rollouts for a p50.
pub(crate) fn added_us(before: &Rung, after: &Rung) -> (f64, f64, &'static str) {
    let (was, is) = (&before.overhead, &after.overhead);
    match (was.p50_us, is.p50_us) {
        (Some(was), Some(is)) => (was, is, "p50"),
        _ => (was.mean_us.unwrap_or_default(), is.mean_us.unwrap_or_default(), "mean"),
    }
}

/// A p50 goes without saying.
fn said(figure: &str) -> &'static str {
    if figure == "p50" { "" } else { " (mean; too few rollouts for a p50)" }
}

/// Mean time per rollout in the LLM's stages; `None` where the rung saw no LLM.
pub(crate) fn llm_us(rung: &Rung) -> Option<f64> {
    rung.stage_groups.get("llm").map(|stage| stage.per_rollout_us).filter(|us| *us > 0.0)
}

/// Whether two means of the LLM's part count as the same.
pub(crate) fn llm_unchanged(before_us: f64, after_us: f64) -> bool {
    (after_us / before_us - 1.0).abs() <= LLM_SAME_WITHIN
}

/// What SIGKILL lost, where it was measured.
pub(crate) fn killed(rung: &Rung) -> Option<LossCount> {
    rung.loss.as_ref()?.process_killed
}

/// The headline sentence: the first line on screen.
#[must_use]
pub fn headline(report: &Report) -> String {
    let prefix = prefix(report);
    if let Some(driven) = driven(report) {
        return format!("{prefix}{driven}");
    }
    let Some((before, after)) = before_after(report) else {
        if let Some(profile) = &report.profile {
            return format!("{prefix}{}", profiled::sentence(profile));
        }
        if let Some(comparison) = report.comparisons.first() {
            return format!("{prefix}{}", compared(comparison));
        }
        return format!("{prefix}No rung went through the service, so there is no overhead to report.");
    };
    if std::ptr::eq(before, after) {
        return format!("{prefix}{}", single(before));
    }
    let (before_us, after_us, figure) = added_us(before, after);
    format!(
        "{prefix}The service added {}{} to a rollout before ({}) and {} after ({}){}; {}; {}.",
        with_ms(before_us),
        said(figure),
        before.name,
        with_ms(after_us),
        after.name,
        change(before_us, after_us),
        lost(before, after),
        llm(before, after),
    )
}

/// How the command begins whose target was somebody's own, and whose loss and LLM are not known.
const LOAD: &str = "mipro load";

/// A run of the load generator alone: how it went at the last level, and from when the time is counted.
fn driven(report: &Report) -> Option<String> {
    let last = report.rungs.last().filter(|_| report.run.command.starts_with(LOAD))?;
    let levels = match report.rungs.len() {
        1 => String::new(),
        n => format!("At {}, the last of {n} levels: ", last.name),
    };
    let accounting = &last.accounting;
    let rate = accounting.ok as f64 / last.wall_seconds.max(f64::MIN_POSITIVE);
    let response = &last.rollout.response;
    let percentile = |name: &str, us: Option<f64>| {
        us.map_or_else(|| format!("{name}: too few samples"), |us| format!("{name} {}", with_ms(us)))
    };
    let from = if last.rollout.pacer_lag.is_some() { " from the intended start" } else { "" };
    let own = last.overhead.p50_us.map_or_else(String::new, |us| {
        format!("; of a rollout the service itself took {} (p50)", with_ms(us))
    });
    Some(format!(
        "{levels}{} of {} intended succeeded, {} a second; {}, {}{from}{own}.",
        thousands(accounting.ok as f64),
        thousands(accounting.intended as f64),
        thousands(rate),
        percentile("p50", response.p50_us),
        percentile("p99", response.p99_us),
    ))
}

/// A run that only compared: the verdict, and the endpoint that it rests on.
fn compared(comparison: &Comparison) -> String {
    let on = if comparison.rung.is_empty() { String::new() } else { format!(" on rung {}", comparison.rung) };
    let verdict = comparison.verdict.word();
    let decisive = comparison.endpoints.iter().find(|endpoint| endpoint.verdict.word() == verdict);
    let seen =
        decisive.map_or_else(String::new, |endpoint| format!("; {}: {}", endpoint.title(), endpoint.seen()));
    let detail = comparison.verdict.detail();
    let detail = if detail.is_empty() { detail } else { format!(" ({detail})") };
    format!("{} against {}{on}: {verdict}{detail}{seen}.", comparison.b, comparison.a)
}

/// What must be known before the figures are read.
fn prefix(report: &Report) -> String {
    if report.run.interrupted {
        return "Interrupted, partial: ".to_owned();
    }
    let doubtful: Vec<&str> =
        report.rungs.iter().filter(|rung| !sound(rung)).map(|rung| rung.name.as_str()).collect();
    if doubtful.is_empty() {
        String::new()
    } else {
        format!("Not to be believed (see the accounting of {}): ", doubtful.join(", "))
    }
}

fn single(rung: &Rung) -> String {
    let loss = match killed(rung) {
        Some(count) => format!("a kill lost {}", of(count)),
        None => "what a kill loses was not measured".to_owned(),
    };
    let llm = llm_us(rung)
        .map_or_else(|| "the LLM was not measured".to_owned(), |us| format!("the LLM took {}", with_ms(us)));
    let (us, _, figure) = added_us(rung, rung);
    let added = format!("{}{}", with_ms(us), said(figure));
    format!("The service added {added} to a rollout ({}, the only rung that ran); {loss}; {llm}.", rung.name)
}

fn change(before_us: f64, after_us: f64) -> String {
    match after_us {
        _ if after_us <= 0.0 || before_us <= 0.0 => String::new(),
        _ if before_us >= after_us => format!(", {} less", times(before_us / after_us)),
        _ => format!(", {} more", times(after_us / before_us)),
    }
}

fn of(count: LossCount) -> String {
    format!(
        "{} of {} acknowledged rewards",
        thousands(count.lost as f64),
        thousands(count.acknowledged as f64)
    )
}

fn lost(before: &Rung, after: &Rung) -> String {
    match (killed(before), killed(after)) {
        (Some(before), Some(after)) => format!("a kill lost {} before and {} after", of(before), of(after)),
        (Some(before), None) => format!("a kill lost {} before (not measured after)", of(before)),
        (None, Some(after)) => format!("a kill lost {} after (not measured before)", of(after)),
        (None, None) => "what a kill loses was not measured".to_owned(),
    }
}

fn llm(before: &Rung, after: &Rung) -> String {
    match (llm_us(before), llm_us(after)) {
        (Some(before), Some(after)) if llm_unchanged(before, after) => {
            format!("the LLM's part did not change ({} and {})", with_ms(before), with_ms(after))
        }
        (Some(before), Some(after)) => {
            format!("the LLM's part CHANGED, from {} to {}", with_ms(before), with_ms(after))
        }
        _ => "the LLM's part was not measured".to_owned(),
    }
}
