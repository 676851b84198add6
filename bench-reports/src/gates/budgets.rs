//! `budgets.toml`: what a rollout may cost, as it is read.
//!
//! ```toml
//! schema = "mipro.budgets/1"
//!
//! [run]                                  # what the counts are counts of
//! rollouts = 20
//! concurrency = 1
//! systems = 1
//! llm = "fixed:20ms"
//! link = "same-region"
//!
//! [counts.blob.critical]                 # per rollout; a number is exact
//! db_round_trips = 18
//! s3_bytes = { value = 289120, soft = "5%", hard = "20%" }
//!
//! [counts.bounded.process]               # of the service's whole process, whoever waits
//! allocations = { value = 1500, hard = "2%" }
//!
//! [instructions]                         # an operation of a scene, as callgrind counts them
//! soft = "2%"
//! hard = "5%"
//! toolchain = { rustc = "1.95.0 (…)", target = "x86_64-unknown-linux-gnu", valgrind = "3.19.0", libc = "glibc 2.36", simd = "avx2" }
//! scenes = { "service/tpe.suggest_8" = 5120.5 }
//!
//! [[ceilings]]
//! rung = "parallel"
//! soft = "overhead:med<5ms"
//! hard = "overhead:med<20ms"
//!
//! [[comparisons]]
//! endpoint = "rollout.response"
//! p = 50
//! hard = "5%"
//! erratic = { reason = "the disk is shared", until = 2027-01-31 }
//! ```

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Error;
use crate::compare::{Endpoint, Rules};
use crate::instructions::Toolchain;
use crate::schema::Rung;
use crate::threshold::Threshold;

/// The value of [`Budgets::schema`].
pub const SCHEMA: &str = "mipro.budgets/1";

/// All of `budgets.toml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The run and its command that the counts were accepted from; empty where they were written by hand.
    #[serde(default)]
    pub accepted_from: String,
    /// What kind of run the counts are of; a report of another kind has other counts, and is not held against them.
    #[serde(default)]
    pub run: Option<Shape>,
    /// By rung.
    #[serde(default)]
    pub counts: BTreeMap<String, CountBudgets>,
    /// What single functions may take; of no report.
    #[serde(default)]
    pub instructions: Option<InstructionBudgets>,
    /// Bounds on one rung's own figures.
    #[serde(default)]
    pub ceilings: Vec<Ceiling>,
    /// Margins against the other side.
    #[serde(default)]
    pub comparisons: Vec<Margin>,
}

/// A run whose counts are the same every time: one rollout after the other, on one system.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Rollouts measured; what is done once a run is a share of them.
    pub rollouts: u64,
    /// Rollouts in flight. With more than one, a sync serves several and its count depends on time.
    pub concurrency: u32,
    /// Systems the rollouts are spread over.
    pub systems: u32,
    /// As `bench --llm` takes it.
    pub llm: String,
    /// As `bench --link` takes it.
    pub link: String,
}

/// Counts of one rung.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountBudgets {
    /// What a caller waits for.
    #[serde(default)]
    pub critical: BTreeMap<String, CountBudget>,
    /// What nobody waits for.
    #[serde(default)]
    pub background: BTreeMap<String, CountBudget>,
    /// What the service's whole process does, where nobody can tell who waits for which part of it.
    #[serde(default)]
    pub process: BTreeMap<String, CountBudget>,
}

impl CountBudgets {
    /// All parts by name.
    pub(crate) fn parts(&self) -> [(&'static str, &BTreeMap<String, CountBudget>); 3] {
        [("critical", &self.critical), ("background", &self.background), ("process", &self.process)]
    }
}

/// What an operation of each scene may take, and what the figures are figures of.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstructionBudgets {
    /// More than a figure by more than this is said, and passes.
    #[serde(default)]
    pub soft: Option<Allowance>,
    /// More than a figure by more than this fails.
    pub hard: Allowance,
    /// Counts of another one are held against nothing.
    pub toolchain: Toolchain,
    /// Instructions an operation, by `room/scene`.
    #[serde(default)]
    pub scenes: BTreeMap<String, f64>,
}

/// What one count may be, per rollout. A bare number is exact: not one more in a whole run.
#[derive(Debug, Clone, PartialEq)]
pub struct CountBudget {
    /// The accepted figure.
    pub value: f64,
    /// More than `value` by more than this is said, and passes.
    pub soft: Option<Allowance>,
    /// More than `value` by more than this fails; none at all where it is not given.
    pub hard: Allowance,
    /// Measured, shown, and never failing, for a while.
    pub erratic: Option<Erratic>,
}

/// How far above its value a figure may lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowance {
    /// `"5%"` of the value.
    Share(f64),
    /// `0.5` more than the value.
    More(f64),
}

/// A mark on what is known to be unsteady. It ends by itself, so that it can't be forgotten.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erratic {
    /// Why it can't be gated at present.
    pub reason: String,
    /// The first day on which it counts as a breach, whatever was measured.
    #[serde(deserialize_with = "date")]
    pub until: time::Date,
}

/// A bound on one rung's own figures.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceiling {
    /// Which rung.
    pub rung: String,
    /// Not holding is said, and passes.
    #[serde(default, deserialize_with = "threshold")]
    pub soft: Option<Threshold>,
    /// Not holding fails.
    #[serde(default, deserialize_with = "threshold")]
    pub hard: Option<Threshold>,
    /// Measured, shown, and never failing, for a while.
    #[serde(default)]
    pub erratic: Option<Erratic>,
}

/// How much longer something may take than on the other side.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Margin {
    /// `rollout.response`, `stages.gate.wait`, …
    pub endpoint: String,
    /// The percentile: 50, or 90 at light load.
    pub p: f64,
    /// Only in comparisons on this rung.
    #[serde(default)]
    pub rung: Option<String>,
    /// An estimate above this is said, and passes.
    #[serde(default, deserialize_with = "optional_share")]
    pub soft: Option<f64>,
    /// The non-inferiority margin, a share (`"5%"`).
    #[serde(deserialize_with = "share")]
    pub hard: f64,
    /// Measured, shown, and never failing, for a while.
    #[serde(default)]
    pub erratic: Option<Erratic>,
}

impl Budgets {
    /// Reads the file's text.
    ///
    /// # Errors
    /// When it is not of this form; the message has line and column.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let budgets: Self = toml::from_str(text).map_err(|error| Error::Syntax(Box::new(error)))?;
        if budgets.schema != SCHEMA {
            return Err(Error::Schema(budgets.schema));
        }
        if let Some(ceiling) = budgets.ceilings.iter().find(|of| of.soft.is_none() && of.hard.is_none()) {
            return Err(Error::NoLimit { rung: ceiling.rung.clone() });
        }
        budgets.rules_for(None, 1).check()?;
        Ok(budgets)
    }

    /// The rungs whose counts or ceilings are budgeted: what a gate has to measure.
    #[must_use]
    pub fn rungs(&self) -> Vec<&str> {
        let mut rungs: Vec<&str> = self.counts.keys().map(String::as_str).collect();
        rungs.extend(self.ceilings.iter().map(|ceiling| ceiling.rung.as_str()));
        rungs.sort_unstable();
        rungs.dedup();
        rungs
    }

    /// The margins that apply to a comparison on `rung`, as a comparison takes them.
    #[must_use]
    pub fn rules(&self, rung: &str, seed: u64) -> Rules {
        self.rules_for(Some(rung), seed)
    }

    fn rules_for(&self, rung: Option<&str>, seed: u64) -> Rules {
        let applies =
            |margin: &&Margin| margin.rung.is_none() || rung.is_none() || margin.rung.as_deref() == rung;
        let endpoints = self
            .comparisons
            .iter()
            .filter(applies)
            .map(|margin| Endpoint::gated(&margin.endpoint, margin.p / 100.0, margin.hard))
            .collect();
        Rules { endpoints, seed, ..Rules::default() }
    }
}

impl Shape {
    /// Why a rung's counts are not those of such a run; `None` where they are.
    #[must_use]
    pub fn mismatch(&self, rung: &Rung) -> Option<String> {
        let wanted = (self.rollouts, self.concurrency, self.systems);
        let found = (rung.rollouts, rung.concurrency, rung.systems);
        // A rung without a service has no systems.
        let same = wanted == found || (rung.systems == 0 && (wanted.0, wanted.1) == (found.0, found.1));
        let text = |(rollouts, concurrency, systems): (u64, u32, u32)| {
            format!("{rollouts} rollouts, {concurrency} in flight, on {systems} systems")
        };
        (!same).then(|| format!("counts are of {}; this run made {}", text(wanted), text(found)))
    }
}

impl Allowance {
    /// The largest figure that a value may grow to.
    #[must_use]
    pub fn above(self, value: f64) -> f64 {
        match self {
            Self::Share(share) => value * (1.0 + share),
            Self::More(more) => value + more,
        }
    }

    /// As far below the value as that is above it.
    pub(crate) fn below(self, value: f64) -> f64 {
        2.0 * value - self.above(value)
    }
}

impl<'de> Deserialize<'de> for CountBudget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

/// A number, or a table with `value`.
struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = CountBudget;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a count per rollout, or { value, soft, hard, erratic }")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<CountBudget, E> {
        Ok(CountBudget { value: amount(value)?, soft: None, hard: Allowance::More(0.0), erratic: None })
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<CountBudget, E> {
        self.visit_f64(value as f64)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CountBudget, A::Error> {
        let table = CountTable::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(CountBudget {
            value: amount(table.value)?,
            soft: table.soft,
            hard: table.hard.unwrap_or(Allowance::More(0.0)),
            erratic: table.erratic,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CountTable {
    value: f64,
    #[serde(default)]
    soft: Option<Allowance>,
    #[serde(default)]
    hard: Option<Allowance>,
    #[serde(default)]
    erratic: Option<Erratic>,
}

impl<'de> Deserialize<'de> for Allowance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AllowanceVisitor)
    }
}

struct AllowanceVisitor;

impl Visitor<'_> for AllowanceVisitor {
    type Value = Allowance;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share such as \"5%\", or a number that may be added")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Allowance, E> {
        amount(value).map(Allowance::More)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Allowance, E> {
        self.visit_f64(value as f64)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Allowance, E> {
        parse_share(text)
            .map(Allowance::Share)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// Neither negative nor endless.
fn amount<E: de::Error>(value: f64) -> Result<f64, E> {
    if value >= 0.0 && value.is_finite() {
        return Ok(value);
    }
    Err(E::invalid_value(de::Unexpected::Float(value), &"a finite number of 0 or more"))
}

/// `5%` or `5 %` as 0.05.
fn parse_share(text: &str) -> Option<f64> {
    let number = text.trim().strip_suffix('%')?.trim_end();
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    number.parse::<f64>().ok().filter(|_| plain).map(|percent| percent / 100.0)
}

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_share(&text)
        .ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &"a share such as \"5%\""))
}

fn optional_share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    share(deserializer).map(Some)
}

fn threshold<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Threshold>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|error| de::Error::custom(format!("'{text}', {error}")))
}

fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<time::Date, D::Error> {
    let given = toml::value::Datetime::deserialize(deserializer)?;
    let day = given.date.filter(|_| given.time.is_none());
    let day = day.ok_or_else(|| de::Error::custom("a day is wanted, such as 2027-01-31"))?;
    time::Month::try_from(day.month)
        .and_then(|month| time::Date::from_calendar_date(i32::from(day.year), month, day.day))
        .map_err(de::Error::custom)
}
