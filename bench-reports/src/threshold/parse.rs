//! From text to [`Threshold`], with errors that point at the place.

use mipro_telemetry::{Group, Stage};

use super::{Aggregation, Limit, Metric, Operator, Row, Threshold, Unit, View, class_count};
use crate::schema::Accounting;

/// A threshold that can't be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct ThresholdError {
    /// The whole threshold, as it was given.
    pub text: String,
    /// Where in it, counted in characters from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a threshold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    /// No `<`, `>`, `==` … anywhere.
    #[error("an operator is missing: <, <=, >, >=, == or !=")]
    Operator,
    /// Neither `:` nor `.` before the aggregation.
    #[error(
        "an aggregation is missing: p(99), avg, min, max, med, count or rate after the metric and a colon"
    )]
    NoAggregation,
    /// Not one of k6's.
    #[error("'{0}' is no aggregation: p(99), avg, min, max, med, count or rate")]
    Aggregation(String),
    /// `p(…)` of something that isn't a percentile.
    #[error(
        "'{0}' is no percentile: a number above 0 and below 100 (`min` and `max` have names of their own)"
    )]
    Percentile(String),
    /// Not a figure of a report.
    #[error(
        "'{0}' is no metric: rollout.response, rollout.service, rollout.lag, overhead, steps.NAME, stages.NAME, groups.NAME, \
         operations.NAME or accounting.CLASS"
    )]
    Metric(String),
    /// `stages.` or `groups.` of something else.
    #[error("'{name}' is no {kind}: {known}")]
    Name {
        /// `stage`, `group` or `class`.
        kind: &'static str,
        /// As given.
        name: String,
        /// All there are.
        known: String,
    },
    /// Times have percentiles, classes of rollouts have counts.
    #[error("{metric} has no {aggregation}: {has}")]
    Pairing {
        /// As given.
        metric: String,
        /// As given.
        aggregation: String,
        /// What it has.
        has: &'static str,
    },
    /// Nothing that reads as a number.
    #[error("a number is missing after the operator")]
    Number,
    /// A number that needs a unit.
    #[error("a unit is missing after {number}: {units}")]
    NoUnit {
        /// As given.
        number: String,
        /// Those that fit.
        units: &'static str,
    },
    /// A unit that does not fit.
    #[error("'{unit}' is no unit of this: {units}")]
    Unit {
        /// As given.
        unit: String,
        /// Those that fit.
        units: &'static str,
    },
}

const TIME_UNITS: &str = "ns, us, ms, s or m";
const RATE_UNITS: &str = "% of the rollouts intended, or /s";
const NO_UNIT: &str = "a count has none";

impl ThresholdError {
    /// The threshold with a mark under the place, for the terminal.
    #[must_use]
    pub fn pointed(&self) -> String {
        format!("{}\n{}^ {}", self.text, " ".repeat(self.column.saturating_sub(1)), self.problem)
    }
}

/// A byte offset into the text with what is wrong there.
type Fault = (usize, Problem);

pub(super) fn threshold(text: &str) -> Result<Threshold, ThresholdError> {
    parts(text).map_err(|(offset, problem)| ThresholdError {
        text: text.to_owned(),
        column: text.get(..offset).map_or(0, |before| before.chars().count()) + 1,
        problem,
    })
}

fn parts(text: &str) -> Result<Threshold, Fault> {
    let found = text
        .char_indices()
        .find_map(|(at, _)| {
            Operator::ALL.into_iter().find(|of| text[at..].starts_with(of.sign())).map(|of| (at, of))
        })
        .ok_or((text.len(), Problem::Operator))?;
    let (at, operator) = found;
    let (metric, aggregation) = left(&text[..at])?;
    let limit = limit(text, at + operator.sign().len(), aggregation)?;
    Ok(Threshold { metric, aggregation, operator, limit })
}

/// Metric and aggregation, apart at the last colon, or where there is none at the last dot outside of parentheses.
fn left(text: &str) -> Result<(Metric, Aggregation), Fault> {
    let open = text.find('(').unwrap_or(text.len());
    let split = text.rfind(':').or_else(|| text[..open].rfind('.'));
    let split = split.ok_or_else(|| (text.trim_end().len(), Problem::NoAggregation))?;
    let (metric_at, metric_text) = trimmed(text, 0, split);
    let (aggregation_at, aggregation_text) = trimmed(text, split + 1, text.len());
    let metric = metric(metric_text).map_err(|problem| (metric_at, problem))?;
    let aggregation = aggregation(aggregation_text).map_err(|problem| (aggregation_at, problem))?;
    let is_class = matches!(metric, Metric::Accounting(_));
    let has = match aggregation {
        Aggregation::Count => None,
        Aggregation::Rate if is_class => None,
        Aggregation::Rate => Some("p(99), avg, min, max, med and count"),
        _ if is_class => Some("count and rate"),
        _ => None,
    };
    match has {
        None => Ok((metric, aggregation)),
        Some(has) => {
            let (metric, aggregation) = (metric.to_string(), aggregation.to_string());
            Err((aggregation_at, Problem::Pairing { metric, aggregation, has }))
        }
    }
}

/// The part of `text` between two offsets without white space around it, and where that begins.
fn trimmed(text: &str, from: usize, to: usize) -> (usize, &str) {
    let part = &text[from..to];
    let start = from + (part.len() - part.trim_start().len());
    (start, part.trim())
}

fn metric(text: &str) -> Result<Metric, Problem> {
    let unknown = || Problem::Metric(text.to_owned());
    let (head, rest) = text.split_once('.').map_or((text, None), |(head, rest)| (head, Some(rest)));
    match (head, rest) {
        ("rollout", None) => Ok(Metric::Rollout(View::Response)),
        ("rollout", Some(view)) => view_of(view).map(Metric::Rollout).ok_or_else(unknown),
        ("overhead", None) => Ok(Metric::Overhead),
        (view, None) => view_of(view).map(Metric::Rollout).ok_or_else(unknown),
        (_, Some("")) => Err(unknown()),
        ("steps", Some(name)) => {
            let (name, view) = tail(name, view_of);
            Ok(Metric::Step(name, view.unwrap_or(View::Response)))
        }
        ("operations", Some(name)) => {
            let (name, row) = tail(name, row_of);
            Ok(Metric::Operation(name, row.unwrap_or(Row::Total)))
        }
        ("stages", Some(name)) => known("stage", name, &stages_and_groups()).map(Metric::Stage),
        ("groups", Some(name)) => known("group", name, &groups()).map(Metric::Group),
        ("accounting", Some(class)) => known("class", class, &classes()).map(Metric::Accounting),
        _ => Err(unknown()),
    }
}

/// `name.view` apart; a name may have dots itself.
fn tail<T>(text: &str, of: fn(&str) -> Option<T>) -> (String, Option<T>) {
    match text.rsplit_once('.').map(|(name, last)| (name, of(last))) {
        Some((name, Some(last))) if !name.is_empty() => (name.to_owned(), Some(last)),
        _ => (text.to_owned(), None),
    }
}

fn view_of(text: &str) -> Option<View> {
    View::ALL.into_iter().find(|view| view.name() == text)
}

fn row_of(text: &str) -> Option<Row> {
    Row::ALL.into_iter().find(|row| row.name() == text)
}

fn known(kind: &'static str, name: &str, known: &[&'static str]) -> Result<String, Problem> {
    if known.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(Problem::Name { kind, name: name.to_owned(), known: known.join(", ") })
}

fn groups() -> Vec<&'static str> {
    Group::ALL.iter().map(|group| group.name()).collect()
}

fn stages_and_groups() -> Vec<&'static str> {
    let mut names: Vec<_> = Stage::ALL.iter().map(|stage| stage.name()).collect();
    // `queue` and `other` are both.
    names.extend(groups().into_iter().filter(|group| Stage::from_name(group).is_none()));
    names
}

fn classes() -> Vec<&'static str> {
    let mut classes = vec!["intended", "ok", "errors"];
    classes.extend(crate::view::not_ok(&Accounting::default()).map(|(name, _)| name));
    debug_assert!(classes.iter().all(|class| class_count(&Accounting::default(), class).is_some()));
    classes
}

fn aggregation(text: &str) -> Result<Aggregation, Problem> {
    Ok(match text {
        "avg" => Aggregation::Mean,
        "min" => Aggregation::Min,
        "max" => Aggregation::Max,
        "med" => Aggregation::Median,
        "count" => Aggregation::Count,
        "rate" => Aggregation::Rate,
        _ => {
            let inner = text.strip_prefix("p(").and_then(|rest| rest.strip_suffix(')'));
            let inner = inner.ok_or_else(|| Problem::Aggregation(text.to_owned()))?;
            let number = digits(inner.trim()).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number);
            let fits = number.filter(|percentile| *percentile > 0.0 && *percentile < 100.0);
            Aggregation::Percentile(fits.ok_or_else(|| Problem::Percentile(inner.to_owned()))?)
        }
    })
}

/// Number and unit behind the operator.
fn limit(text: &str, from: usize, aggregation: Aggregation) -> Result<Limit, Fault> {
    let (at, rest) = trimmed(text, from, text.len());
    let (number, unit_text) = digits(rest).ok_or((at, Problem::Number))?;
    let number_text = rest[..rest.len() - unit_text.len()].to_owned();
    let unit_at = at + number_text.len() + (unit_text.len() - unit_text.trim_start().len());
    let unit_text = unit_text.trim();
    let (fitting, units): (&[(&str, Unit)], _) = match aggregation {
        Aggregation::Count => (&[("", Unit::Count)], NO_UNIT),
        Aggregation::Rate => (&[("%", Unit::Percent), ("/s", Unit::PerSecond)], RATE_UNITS),
        _ => (&Unit::TIMES, TIME_UNITS),
    };
    match fitting.iter().find(|(name, _)| *name == unit_text) {
        Some((_, unit)) => Ok(Limit { number, unit: *unit }),
        None if unit_text.is_empty() => Err((unit_at, Problem::NoUnit { number: number_text, units })),
        None => Err((unit_at, Problem::Unit { unit: unit_text.to_owned(), units })),
    }
}

/// The plain decimal number that a text begins with, and what follows: no sign, no exponent.
fn digits(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    number.is_finite().then_some((number, &text[end..]))
}
