//! Instructions: what single functions cost, as callgrind counts them. A change of one in a hundred is seen that no timing on a
//! shared machine would show; it is a change of code, though, and not of time: judge it, then accept it or mend it.

use std::collections::BTreeMap;

use super::budgets::{Budgets, InstructionBudgets};
use super::{GateOutcome, Kind, Outcome};
use crate::instructions::{Instructions, SceneCount};

/// Holds each budgeted scene against what was counted. Of another toolchain nothing is known: those gates are inconclusive, never
/// breached. A scene that was counted and has no budget is inconclusive, too, so that none is forgotten.
#[must_use]
pub fn instructions(budgets: &Budgets, counted: &[Instructions]) -> Vec<GateOutcome> {
    let Some(budget) = &budgets.instructions else { return Vec::new() };
    let mut seen: BTreeMap<&str, Result<SceneCount, String>> = BTreeMap::new();
    for of in counted {
        let other = budget.toolchain.difference(&of.toolchain);
        for (name, count) in &of.scenes {
            seen.insert(name, other.clone().map_or(Ok(*count), Err));
        }
    }
    let mut gates: Vec<GateOutcome> = budget
        .scenes
        .iter()
        .map(|(name, value)| judged(budget, name, *value, seen.remove(name.as_str())))
        .collect();
    gates.extend(seen.into_iter().map(|(name, count)| {
        let seen = count.map_or_else(|_| "counted".to_owned(), |count| shown(count.each()));
        let advice = "`just bench-accept` gives it a budget".to_owned();
        gate(name, "none".to_owned(), seen, Outcome::Inconclusive, advice)
    }));
    gates
}

fn gate(name: &str, limit: String, seen: String, outcome: Outcome, advice: String) -> GateOutcome {
    GateOutcome { kind: Kind::Count, name: format!("{name} instructions"), limit, seen, outcome, advice }
}

fn judged(
    budget: &InstructionBudgets,
    name: &str,
    value: f64,
    seen: Option<Result<SceneCount, String>>,
) -> GateOutcome {
    let hard = budget.hard.above(value);
    let limit = format!("{} (at most {})", shown(value), shown(hard));
    let each = match seen {
        Some(Ok(count)) => count.each(),
        Some(Err(other)) => {
            let advice = format!("skipped: the budget is of another toolchain: {other}");
            return gate(name, limit, "counted".to_owned(), Outcome::Inconclusive, advice);
        }
        None => {
            let advice = "it was not counted: `just instructions`".to_owned();
            return gate(name, limit, "nothing".to_owned(), Outcome::Invalid, advice);
        }
    };
    let soft = budget.soft.unwrap_or(budget.hard);
    let more = || {
        let file = name.replace('/', ".");
        format!(
            "{:+.1} %; `callgrind_annotate target/instructions/{file}.callgrind` says where",
            (each / value - 1.0) * 100.0
        )
    };
    let (outcome, advice) = if each > hard {
        (Outcome::Breach, more())
    } else if each > soft.above(value) {
        (Outcome::Soft, more())
    } else if each < soft.below(value) {
        (Outcome::Better, "accept it, so that it stays so".to_owned())
    } else {
        (Outcome::Pass, String::new())
    };
    gate(name, limit, shown(each), outcome, advice)
}

/// An operation's instructions, to the tenth where there are few.
fn shown(each: f64) -> String {
    if each < 1_000.0 { format!("{each:.1}") } else { crate::format::thousands(each) }
}

#[cfg(test)]
mod tests;
