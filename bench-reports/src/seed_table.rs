//! The seed document's table "Complete Per-Rollout Breakdown", and ours beside it.
//!
//! Their figures come from three rollouts and are kept as they were written, contradictions included: [`caveat`] computes
//! from the rows what their totals leave out, so that nobody has to take our word for it.

use std::fmt::Write as _;

use crate::dist::Dist;
use crate::format::thousands;
use crate::schema::{Rung, SeedRow};

#[cfg(test)]
mod tests;

/// One row of the seed's table, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeedFigure {
    /// `start_rollout`, `llm`, `status_reward`, `status_done` or `rollout`.
    pub operation: &'static str,
    /// The row's name in the seed.
    pub row: &'static str,
    /// Smallest of theirs.
    pub min_ms: f64,
    /// Largest of theirs.
    pub max_ms: f64,
    /// Their estimate of the average.
    pub avg_ms: f64,
}

/// Rollouts that the seed's figures were taken from.
pub const SEED_ROLLOUTS: u32 = 3;

/// Execution time of one statement as the seed's database showed it, in milliseconds, against the waits in the table.
pub const SEED_DATABASE_SAYS_MS: f64 = 0.1;

/// Operation name of the LLM's row.
const LLM: &str = "llm";
/// Operation name of the total.
const ROLLOUT: &str = "rollout";

const fn figure(operation: &'static str, row: &'static str, min: u32, max: u32, avg: u32) -> SeedFigure {
    SeedFigure { operation, row, min_ms: min as f64, max_ms: max as f64, avg_ms: avg as f64 }
}

/// The rows in the order in which a rollout meets them.
pub const SEED_ROWS: [SeedFigure; 13] = [
    figure("start_rollout", "load_state (db)", 200, 740, 350),
    figure("start_rollout", "load_state (s3)", 90, 180, 120),
    figure("start_rollout", "save_state (s3)", 90, 125, 100),
    figure("start_rollout", "save_state (db)", 200, 420, 300),
    figure(LLM, "LLM API call", 1300, 2800, 2000),
    figure("status_reward", "load_state (db)", 200, 740, 350),
    figure("status_reward", "load_state (s3)", 90, 180, 120),
    figure("status_reward", "save_state (s3)", 100, 1954, 300),
    figure("status_reward", "save_state (db)", 200, 550, 300),
    figure("status_done", "load_state (db)", 200, 370, 280),
    figure("status_done", "load_state (s3)", 90, 180, 120),
    figure("status_done", "save_state (s3)", 100, 370, 200),
    figure("status_done", "save_state (db)", 200, 430, 300),
];

/// The total as the seed states it; it is not the sum of [`SEED_ROWS`].
pub const SEED_TOTAL: SeedFigure = figure(ROLLOUT, "total per rollout", 3490, 7590, 5500);

/// The seed's rows with this rung's p50 beside each: meant for rung `blob`, which does what the seed's service did.
#[must_use]
pub fn compare(rung: &Rung) -> Vec<SeedRow> {
    SEED_ROWS.iter().chain([&SEED_TOTAL]).map(|seed| beside(seed, ours(rung, seed))).collect()
}

/// Where the seed's table contradicts itself, computed from its rows.
#[must_use]
pub fn caveat() -> String {
    let sum = |of: fn(&SeedFigure) -> f64| thousands(SEED_ROWS.iter().map(of).sum());
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "The seed's rows do not add up to its total: they sum to {}–{} ms (average {} ms), where it states {}–{} ms (average {} \
         ms). All come from {SEED_ROLLOUTS} rollouts, so a minimum or maximum is one sample.",
        sum(|row| row.min_ms),
        sum(|row| row.max_ms),
        sum(|row| row.avg_ms),
        thousands(SEED_TOTAL.min_ms),
        thousands(SEED_TOTAL.max_ms),
        thousands(SEED_TOTAL.avg_ms),
    );
    text
}

fn ours<'a>(rung: &'a Rung, seed: &SeedFigure) -> Option<&'a Dist> {
    match seed.operation {
        ROLLOUT => Some(&rung.rollout.service),
        LLM => rung.stage_groups.get(LLM).map(|stage| &stage.dist),
        operation => {
            let operation = rung.operations.get(operation)?;
            match seed.row {
                "load_state (db)" => Some(&operation.load_db),
                "load_state (s3)" => Some(&operation.load_s3),
                "save_state (s3)" => Some(&operation.save_s3),
                "save_state (db)" => Some(&operation.save_db),
                _ => None,
            }
        }
    }
}

fn beside(seed: &SeedFigure, ours: Option<&Dist>) -> SeedRow {
    // To the nanosecond: division would add digits that mean nothing.
    let p50_ms = ours.and_then(|dist| dist.p50_us).map(|us| (us * 1000.0).round() / 1e6);
    SeedRow {
        operation: seed.operation.to_owned(),
        row: seed.row.to_owned(),
        seed_min_ms: seed.min_ms,
        seed_max_ms: seed.max_ms,
        seed_avg_ms: seed.avg_ms,
        p50_ms,
        samples: ours.map_or(0, |dist| dist.count),
        inside: p50_ms.is_some_and(|ms| (seed.min_ms..=seed.max_ms).contains(&ms)),
    }
}
