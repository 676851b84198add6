//! Thresholds in k6's grammar: `rollout.response:p(99)<250ms`, `stages.db.p(99)<50ms`, `accounting.errors:count==0`.
//!
//! ```text
//! threshold   = metric (":" | ".") aggregation operator number unit
//! metric      = "rollout" ["." view] | "overhead" | "steps." name ["." view] | "stages." stage | "groups." group
//!             | "operations." name ["." row] | "accounting." class
//! view        = "response" | "service" | "lag"                       ("response" where none is said)
//! row         = "load_db" | "load_s3" | "save_s3" | "save_db" | "other" | "total"     ("total" where none is said)
//! class       = "errors" | "ok" | "http_5xx" | … | "in_flight_at_end"
//! aggregation = "p(" number ")" | "avg" | "min" | "max" | "med" | "count" | "rate"
//! operator    = "<" | "<=" | ">" | ">=" | "==" | "!="
//! unit        = "ns" | "us" | "µs" | "ms" | "s" | "m"     for times
//!             | "%" | "/s"                                for a rate, of the rollouts intended or per second
//!             | nothing                                   for a count
//! ```
//! `response`, `service` and `lag` alone mean those of the rollout. Other than k6, which takes the empty distribution's
//! percentile for 0, a threshold without samples fails, and so does a percentile with fewer than ten samples beyond it.

use std::fmt;
use std::str::FromStr;

use crate::dist::{Dist, SAMPLES_BEYOND_MIN};
use crate::format::{percent, thousands, with_ms};
use crate::schema::{Accounting, Report, Rung, Times};
use crate::view::not_ok;

mod parse;
#[cfg(test)]
mod tests;

pub use parse::{Problem, ThresholdError};

/// A condition that a rung's figures hold or don't.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    metric: Metric,
    aggregation: Aggregation,
    operator: Operator,
    limit: Limit,
}

/// How a threshold came out on one rung.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The threshold, as it is written.
    pub threshold: String,
    /// The rung.
    pub rung: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was seen, with its unit; or why there is nothing to see.
    pub seen: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Metric {
    Rollout(View),
    Overhead,
    Step(String, View),
    /// A stage, or the roll-up of that name.
    Stage(String),
    Group(String),
    Operation(String, Row),
    Accounting(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Response,
    Service,
    Lag,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    LoadDb,
    LoadS3,
    SaveS3,
    SaveDb,
    Other,
    Total,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Aggregation {
    /// In percent.
    Percentile(f64),
    Mean,
    Min,
    Max,
    Median,
    Count,
    Rate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Limit {
    number: f64,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Ns,
    Us,
    Ms,
    S,
    Min,
    Percent,
    PerSecond,
    Count,
}

impl View {
    const ALL: [Self; 3] = [Self::Response, Self::Service, Self::Lag];

    const fn name(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Service => "service",
            Self::Lag => "lag",
        }
    }

    fn of(self, times: &Times) -> Option<&Dist> {
        match self {
            Self::Response => Some(&times.response),
            Self::Service => Some(&times.service),
            Self::Lag => times.lag.as_ref(),
        }
    }
}

impl Row {
    const ALL: [Self; 6] = [Self::LoadDb, Self::LoadS3, Self::SaveS3, Self::SaveDb, Self::Other, Self::Total];

    const fn name(self) -> &'static str {
        match self {
            Self::LoadDb => "load_db",
            Self::LoadS3 => "load_s3",
            Self::SaveS3 => "save_s3",
            Self::SaveDb => "save_db",
            Self::Other => "other",
            Self::Total => "total",
        }
    }
}

impl Operator {
    /// Longer ones first, so that `<=` is not read as `<`.
    const ALL: [Self; 6] =
        [Self::LessOrEqual, Self::GreaterOrEqual, Self::Equal, Self::NotEqual, Self::Less, Self::Greater];

    const fn sign(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
        }
    }

    #[expect(
        clippy::float_cmp,
        reason = "`==` on counts is asked for and exact; on times it is the user's own doing"
    )]
    fn holds(self, seen: f64, limit: f64) -> bool {
        match self {
            Self::Less => seen < limit,
            Self::LessOrEqual => seen <= limit,
            Self::Greater => seen > limit,
            Self::GreaterOrEqual => seen >= limit,
            Self::Equal => seen == limit,
            Self::NotEqual => seen != limit,
        }
    }
}

impl Unit {
    const TIMES: [(&'static str, Self); 6] = [
        ("ns", Self::Ns),
        ("us", Self::Us),
        ("µs", Self::Us),
        ("ms", Self::Ms),
        ("s", Self::S),
        ("m", Self::Min),
    ];

    /// How much of what is compared (µs, a share, per second, a number) one of it is.
    const fn scale(self) -> f64 {
        match self {
            Self::Ns => 1e-3,
            Self::Us | Self::PerSecond | Self::Count => 1.0,
            Self::Ms => 1e3,
            Self::S => 1e6,
            Self::Min => 60e6,
            Self::Percent => 1e-2,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ns => "ns",
            Self::Us => "us",
            Self::Ms => "ms",
            Self::S => "s",
            Self::Min => "m",
            Self::Percent => "%",
            Self::PerSecond => "/s",
            Self::Count => "",
        }
    }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse::threshold(text)
    }
}

impl Threshold {
    /// Holds a rung's figures against it.
    #[must_use]
    pub fn check(&self, rung: &Rung) -> Outcome {
        let (holds, seen) = match self.value(rung) {
            Ok(value) => {
                (self.operator.holds(value, self.limit.number * self.limit.unit.scale()), self.show(value))
            }
            Err(reason) => (false, reason),
        };
        Outcome { threshold: self.to_string(), rung: rung.name.clone(), holds, seen }
    }

    /// Samples that its metric must have for it to be judged at all.
    #[must_use]
    pub fn samples_needed(&self) -> u64 {
        match self.aggregation {
            Aggregation::Percentile(percentile) => Dist::samples_needed(percentile),
            Aggregation::Median => Dist::samples_needed(50.0),
            _ => 1,
        }
    }

    /// Holds every rung of a report against it. A report without rungs has none that fails, and none that holds.
    #[must_use]
    pub fn check_all(&self, report: &Report) -> Vec<Outcome> {
        report.rungs.iter().map(|rung| self.check(rung)).collect()
    }

    /// What is compared: microseconds, a share, a number per second, a number.
    fn value(&self, rung: &Rung) -> Result<f64, String> {
        match &self.metric {
            Metric::Accounting(class) => self.accounted(rung, class),
            metric => {
                let dist = metric.dist(rung).ok_or_else(|| format!("no {metric} in rung {}", rung.name))?;
                if dist.count == 0 {
                    return Err(format!("no samples of {metric}"));
                }
                self.aggregation.of(dist)
            }
        }
    }

    fn accounted(&self, rung: &Rung, class: &str) -> Result<f64, String> {
        let intended = rung.accounting.intended;
        if intended == 0 {
            return Err("no rollouts were intended".to_owned());
        }
        let count = class_count(&rung.accounting, class).ok_or_else(|| format!("no class {class}"))? as f64;
        match (self.aggregation, self.limit.unit) {
            (Aggregation::Rate, Unit::PerSecond) if rung.wall_seconds > 0.0 => Ok(count / rung.wall_seconds),
            (Aggregation::Rate, Unit::PerSecond) => Err("the rung took no time".to_owned()),
            (Aggregation::Rate, _) => Ok(count / intended as f64),
            _ => Ok(count),
        }
    }

    fn show(&self, value: f64) -> String {
        match self.limit.unit {
            Unit::Percent => percent(value),
            Unit::PerSecond => format!("{value:.1}/s"),
            Unit::Count => thousands(value),
            _ => with_ms(value),
        }
    }
}

fn class_count(accounting: &Accounting, class: &str) -> Option<u64> {
    match class {
        "errors" => Some(accounting.errors()),
        "ok" => Some(accounting.ok),
        "intended" => Some(accounting.intended),
        _ => not_ok(accounting).into_iter().find(|(name, _)| *name == class).map(|(_, count)| count),
    }
}

impl Metric {
    fn dist<'a>(&self, rung: &'a Rung) -> Option<&'a Dist> {
        match self {
            Self::Rollout(view) => view.of(&rung.rollout),
            Self::Overhead => Some(&rung.overhead),
            Self::Step(name, view) => view.of(rung.steps.get(name)?),
            Self::Stage(name) => {
                rung.stages.get(name).or_else(|| rung.stage_groups.get(name)).map(|stage| &stage.dist)
            }
            Self::Group(name) => rung.stage_groups.get(name).map(|stage| &stage.dist),
            Self::Operation(name, row) => {
                let operation = rung.operations.get(name)?;
                Some(match row {
                    Row::LoadDb => &operation.load_db,
                    Row::LoadS3 => &operation.load_s3,
                    Row::SaveS3 => &operation.save_s3,
                    Row::SaveDb => &operation.save_db,
                    Row::Other => &operation.other,
                    Row::Total => &operation.total,
                })
            }
            Self::Accounting(_) => None,
        }
    }
}

impl Aggregation {
    /// Of a distribution that has samples, in microseconds; `count` as a number.
    fn of(self, dist: &Dist) -> Result<f64, String> {
        let or_missing = |value: Option<f64>| value.ok_or_else(|| format!("the distribution has no {self}"));
        match self {
            Self::Count | Self::Rate => Ok(dist.count as f64),
            Self::Mean => or_missing(dist.mean_us),
            Self::Min => or_missing(dist.min_us),
            Self::Max => or_missing(dist.max_us),
            Self::Median => self.percentile(dist, 50.0),
            Self::Percentile(percentile) => self.percentile(dist, percentile),
        }
    }

    fn percentile(self, dist: &Dist, percentile: f64) -> Result<f64, String> {
        dist.percentile_us(percentile).ok_or_else(|| {
            format!(
                "{self} needs {} samples, of which {SAMPLES_BEYOND_MIN} lie beyond it, and there are {}",
                thousands(Dist::samples_needed(percentile) as f64),
                thousands(dist.count as f64)
            )
        })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, aggregation, operator, limit } = self;
        write!(f, "{metric}:{aggregation}{}{}{}", operator.sign(), limit.number, limit.unit.name())
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rollout(view) => write!(f, "rollout.{}", view.name()),
            Self::Overhead => f.write_str("overhead"),
            Self::Step(name, view) => write!(f, "steps.{name}.{}", view.name()),
            Self::Stage(name) => write!(f, "stages.{name}"),
            Self::Group(name) => write!(f, "groups.{name}"),
            Self::Operation(name, row) => write!(f, "operations.{name}.{}", row.name()),
            Self::Accounting(class) => write!(f, "accounting.{class}"),
        }
    }
}

impl fmt::Display for Aggregation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percentile(percentile) => write!(f, "p({percentile})"),
            Self::Mean => f.write_str("avg"),
            Self::Min => f.write_str("min"),
            Self::Max => f.write_str("max"),
            Self::Median => f.write_str("med"),
            Self::Count => f.write_str("count"),
            Self::Rate => f.write_str("rate"),
        }
    }
}
