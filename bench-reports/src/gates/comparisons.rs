//! Comparisons: margins against the other side. The comparison itself gave the verdict; here it is held against what the budget
//! asks, and a comparison that asked something else is not taken for it.

use time::Date;

use super::budgets::{Budgets, Margin};
use super::{GateOutcome, Kind, Outcome, with_mark};
use crate::schema::{CompareVerdict, Comparison, EndpointComparison, GateRule, Report};

/// Margins closer than this are the same, written otherwise.
const SAME_MARGIN: f64 = 1e-9;

/// Holds every margin against the comparisons it is for.
#[must_use]
pub fn comparisons(budgets: &Budgets, report: &Report, today: Date) -> Vec<GateOutcome> {
    let mut outcomes = Vec::new();
    for margin in &budgets.comparisons {
        let wanted = |of: &&Comparison| margin.rung.as_ref().is_none_or(|rung| *rung == of.rung);
        let made: Vec<&Comparison> = report.comparisons.iter().filter(wanted).collect();
        if made.is_empty() {
            let advice = "nothing was compared";
            let gate = gate(margin, "", "nothing".to_owned(), Outcome::Invalid, advice.to_owned());
            outcomes.push(with_mark(gate, margin.erratic.as_ref(), today));
        }
        for comparison in made {
            let gate = judged(margin, comparison);
            outcomes.push(with_mark(gate, margin.erratic.as_ref(), today));
        }
    }
    outcomes
}

fn gate(margin: &Margin, rung: &str, seen: String, outcome: Outcome, advice: String) -> GateOutcome {
    let rung = if rung.is_empty() { String::new() } else { format!("{rung} ") };
    let soft = margin.soft.map_or_else(String::new, |soft| format!(" (soft {})", percent(soft)));
    GateOutcome {
        kind: Kind::Comparison,
        name: format!("{rung}{} p{}", margin.endpoint, margin.p),
        limit: format!("at most {} longer{soft}", percent(margin.hard)),
        seen,
        outcome,
        advice,
    }
}

fn judged(margin: &Margin, comparison: &Comparison) -> GateOutcome {
    let gate = |seen, outcome, advice| gate(margin, &comparison.rung, seen, outcome, advice);
    let nothing = |advice: String| gate("nothing".to_owned(), Outcome::Invalid, advice);
    let Some(endpoint) = comparison.endpoints.iter().find(|of| asked(margin, of)) else {
        return nothing("this endpoint was not compared".to_owned());
    };
    match endpoint.gate {
        GateRule::Margin { share } if (share - margin.hard).abs() < SAME_MARGIN => {}
        _ => return nothing("it was compared by another margin: measure again".to_owned()),
    }
    if let CompareVerdict::Invalid { reasons } = &comparison.verdict {
        return gate(endpoint.seen(), Outcome::Invalid, reasons.join("; "));
    }
    let outcome = match (&endpoint.verdict, endpoint.effect) {
        (CompareVerdict::Pass { .. }, Some(effect))
            if margin.soft.is_some_and(|soft| effect.share > soft) =>
        {
            Outcome::Soft
        }
        (CompareVerdict::Pass { .. }, _) => Outcome::Pass,
        (CompareVerdict::Regress, _) => Outcome::Breach,
        (CompareVerdict::Inconclusive { .. }, _) => Outcome::Inconclusive,
        (CompareVerdict::Invalid { .. } | CompareVerdict::Shown, _) => Outcome::Invalid,
    };
    gate(endpoint.seen(), outcome, endpoint.verdict.detail())
}

fn asked(margin: &Margin, endpoint: &EndpointComparison) -> bool {
    endpoint.name == margin.endpoint && (endpoint.quantile * 100.0 - margin.p).abs() < SAME_MARGIN
}

fn percent(share: f64) -> String {
    crate::format::percent(share)
}
