//! Gates: a report held against `budgets.toml`, in the order in which one can believe what they say. First **counts**, which are
//! the same on every machine; then **ceilings**, which a slow machine can miss; then **comparisons**, which need pairs and time.
//! Beside them, of no report: **instructions** of single functions, the same wherever the same program runs ([`mod@instructions`]).
//!
//! Pure: the day comes in, nothing is read, nothing is measured. Reading order: [`Budgets`] (what is allowed), [`evaluate`]
//! (what was seen), [`exit_code`] (what that comes to), [`mod@accept`] (what was seen becomes what is allowed).

use time::Date;

use crate::compare::RulesError;
use crate::schema::{Report, Rung, Verdict};

mod accept;
mod budgets;
mod ceilings;
mod comparisons;
mod counts;
mod instructions;
#[cfg(test)]
mod tests;

pub use accept::{Accepted, accept, accept_instructions};
pub use budgets::{
    Allowance, Budgets, Ceiling, CountBudget, CountBudgets, Erratic, InstructionBudgets, Margin, SCHEMA,
    Shape,
};
pub use ceilings::ceilings;
pub use comparisons::comparisons;
pub use counts::counts;
pub use instructions::instructions;

/// Why budgets can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not TOML, or not of this form.
    #[error("budgets: {0}")]
    Syntax(#[source] Box<toml::de::Error>),
    /// Not TOML that can be edited.
    #[error("budgets: {0}")]
    Edit(#[source] Box<toml_edit::TomlError>),
    /// Of another version.
    #[error("budgets of schema \"{0}\"; this build reads \"{SCHEMA}\"")]
    Schema(String),
    /// A ceiling that limits nothing.
    #[error("a ceiling of rung {rung} has neither `soft` nor `hard`")]
    NoLimit {
        /// Which one.
        rung: String,
    },
    /// Margins that nothing can be judged by.
    #[error("budgets: {0}")]
    Rules(#[from] RulesError),
}

/// Which part of the budgets a gate belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// How often something is done.
    Count,
    /// How long something takes, absolutely.
    Ceiling,
    /// How long something takes against the other side.
    Comparison,
}

/// How a gate came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Within its limits.
    Pass,
    /// Below what was accepted: it passes, and the budget can be lowered.
    Better,
    /// Over its soft limit: it passes, and is said.
    Soft,
    /// Marked erratic: measured, shown, not judged.
    Erratic,
    /// Neither kept nor broken, as far as was measured.
    Inconclusive,
    /// Not measured, or not to be believed.
    Invalid,
    /// Over its hard limit, or erratic for too long.
    Breach,
}

/// One gate.
#[derive(Debug, Clone, PartialEq)]
pub struct GateOutcome {
    /// Which part of the budgets.
    pub kind: Kind,
    /// What is gated: `blob critical.db_round_trips`, with the stage where one can be named.
    pub name: String,
    /// What is allowed.
    pub limit: String,
    /// What was seen.
    pub seen: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What to do, in a sentence; empty where there is nothing to do.
    pub advice: String,
}

/// What to do about gates that are inconclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnInconclusive {
    /// They hold nothing up: for pull requests.
    Pass,
    /// They fail: for releases.
    Fail,
    /// They are not known, and more is to be measured.
    #[default]
    Extend,
}

/// Holds a report against all budgets, counts first. `today` decides which erratic marks have expired.
#[must_use]
pub fn evaluate(budgets: &Budgets, report: &Report, today: Date) -> Vec<GateOutcome> {
    let mut outcomes = counts(budgets, report, today);
    outcomes.extend(ceilings(budgets, report, today));
    outcomes.extend(comparisons(budgets, report, today));
    outcomes
}

/// 0 where all hold, 99 where one is breached, 125 where one is not known. No gate at all holds nothing: 125.
#[must_use]
pub fn exit_code(outcomes: &[GateOutcome], on_inconclusive: OnInconclusive) -> u8 {
    let any = |wanted| outcomes.iter().any(|gate| gate.outcome == wanted);
    if any(Outcome::Breach) || (any(Outcome::Inconclusive) && on_inconclusive == OnInconclusive::Fail) {
        99
    } else if outcomes.is_empty()
        || any(Outcome::Invalid)
        || (any(Outcome::Inconclusive) && on_inconclusive == OnInconclusive::Extend)
    {
        125
    } else {
        0
    }
}

impl Outcome {
    /// As it is printed.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Better => "better",
            Self::Soft => "soft limit",
            Self::Erratic => "erratic",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Invalid => "INVALID",
            Self::Breach => "BREACH",
        }
    }
}

impl GateOutcome {
    /// One line, and a second with what to do where there is something.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { name, limit, seen, outcome, advice, .. } = self;
        let line = format!("{:<12}  {name}: {seen}, budget {limit}", outcome.word());
        if advice.is_empty() { line } else { format!("{line}\n{:14}{advice}", "") }
    }
}

impl From<&GateOutcome> for Verdict {
    fn from(gate: &GateOutcome) -> Self {
        let outcome = match gate.outcome {
            Outcome::Pass | Outcome::Better | Outcome::Soft | Outcome::Erratic => "pass",
            Outcome::Inconclusive => "inconclusive",
            Outcome::Invalid => "invalid",
            Outcome::Breach => "fail",
        };
        let mut detail = format!("{}, budget {}", gate.seen, gate.limit);
        for more in [gate.outcome.word(), gate.advice.as_str()] {
            if !more.is_empty() && more != "pass" {
                detail = format!("{detail}; {more}");
            }
        }
        Self { name: format!("gate: {}", gate.name), outcome: outcome.to_owned(), detail }
    }
}

/// A rung's figures, or why no gate can be held against them.
fn believable<'a>(report: &'a Report, name: &str) -> Result<&'a Rung, String> {
    let rung = report.rungs.iter().find(|rung| rung.name == name);
    let rung = rung.ok_or_else(|| format!("rung {name} did not run"))?;
    if report.run.interrupted {
        return Err("the run was interrupted".to_owned());
    }
    if !rung.validity.ok {
        return Err(rung.validity.reasons.join("; "));
    }
    if !rung.accounting.holds() || rung.accounting.ok == 0 {
        return Err(format!("{} of {} rollouts ended well", rung.accounting.ok, rung.accounting.intended));
    }
    Ok(rung)
}

/// What an erratic mark makes of an outcome.
fn with_mark(mut gate: GateOutcome, erratic: Option<&Erratic>, today: Date) -> GateOutcome {
    let Some(mark) = erratic else { return gate };
    if mark.until <= today {
        gate.outcome = Outcome::Breach;
        gate.advice = format!(
            "marked erratic until {} ({}): mend it, or mark it again with a new day",
            mark.until, mark.reason
        );
    } else {
        let seen = gate.outcome.word();
        gate.outcome = Outcome::Erratic;
        gate.advice = format!("would be {seen}; marked erratic until {} ({})", mark.until, mark.reason);
    }
    gate
}
