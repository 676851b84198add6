//! Ceilings: thresholds on one rung's own figures. Wide ones, since a busy machine can miss a tight one without any fault.

use time::Date;

use super::budgets::{Budgets, Ceiling};
use super::{GateOutcome, Kind, Outcome, believable, with_mark};
use crate::schema::{Report, Rung};
use crate::threshold::Threshold;

/// Holds every ceiling against the rung it is for.
#[must_use]
pub fn ceilings(budgets: &Budgets, report: &Report, today: Date) -> Vec<GateOutcome> {
    let judged = |ceiling: &Ceiling| {
        let gate = judged(ceiling, believable(report, &ceiling.rung));
        with_mark(gate, ceiling.erratic.as_ref(), today)
    };
    budgets.ceilings.iter().map(judged).collect()
}

fn judged(ceiling: &Ceiling, rung: Result<&Rung, String>) -> GateOutcome {
    let text = |threshold: &Option<Threshold>| threshold.as_ref().map(ToString::to_string);
    let (hard, soft) = (text(&ceiling.hard), text(&ceiling.soft));
    let limit = match (&hard, &soft) {
        (Some(hard), Some(soft)) => format!("{hard} (soft {soft})"),
        (Some(one), None) => one.clone(),
        (None, soft) => format!("soft {}", soft.clone().unwrap_or_default()),
    };
    let gate = |seen: String, outcome, advice: &str| GateOutcome {
        kind: Kind::Ceiling,
        name: format!("{} {}", ceiling.rung, hard.as_ref().or(soft.as_ref()).map_or("", |text| metric(text))),
        limit: limit.clone(),
        seen,
        outcome,
        advice: advice.to_owned(),
    };
    let rung = match rung {
        Ok(rung) => rung,
        Err(reason) => return gate("nothing".to_owned(), Outcome::Invalid, &reason),
    };
    let [hard, soft] =
        [&ceiling.hard, &ceiling.soft].map(|of| of.as_ref().map(|threshold| threshold.check(rung)));
    let seen = hard.as_ref().or(soft.as_ref()).map_or_else(String::new, |outcome| outcome.seen.clone());
    if hard.is_some_and(|hard| !hard.holds) {
        gate(seen, Outcome::Breach, "the report's stages say where the time goes")
    } else if soft.is_some_and(|soft| !soft.holds) {
        gate(seen, Outcome::Soft, "the report's stages say where the time goes")
    } else {
        gate(seen, Outcome::Pass, "")
    }
}

/// A threshold's metric and aggregation, without its limit.
fn metric(threshold: &str) -> &str {
    threshold.split(['<', '>', '=', '!']).next().unwrap_or(threshold)
}
