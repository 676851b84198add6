//! `mipro gate`: what a rollout may cost, held against what it costs. In the order in which one can believe the answers: counts
//! (exact, the same on every machine), ceilings (wide), then a comparison with another revision (interleaved, with intervals).
//!
//! Counts and ceilings come from one small ladder: a seeded stretch of rollouts, one at a time, over a real database and a real
//! object store without delays, after a warm-up in which statements are prepared. A breach among them ends the gate: nobody
//! should wait for a comparison to hear of it.

use std::path::Path;

use mipro_bench_reports::gates::{self, Budgets, GateOutcome, Kind, Outcome};
use mipro_bench_reports::{Report, Verdict};
use tokio_util::sync::CancellationToken;

use crate::bench::{self, Finished, Watcher};
use crate::compare::{self, CompareOptions};
use crate::ladder::RungName;
use crate::options::{BenchOptions, Error};

#[cfg(test)]
mod tests;

/// Rollouts a rung makes where the budgets don't say: enough that half a rollout's rounding is no count, few enough that all rungs take seconds.
const ROLLOUTS: u64 = 20;
/// The stack whose database has no wire, so that nothing can be counted on it.
const EMBEDDED: &str = "embedded";

/// What `mipro gate` may be told.
#[derive(Debug, Clone)]
pub struct GateOptions {
    /// The testbed of counts and ceilings; what [`ladder`] sets in it is not looked at.
    pub bench: BenchOptions,
    /// What is allowed.
    pub budgets: Budgets,
    /// What this build is compared with, if anything; its rules are the budgets'.
    pub compare: Option<CompareOptions>,
    /// The day on which erratic marks are looked at.
    pub today: time::Date,
}

/// How it came out.
#[derive(Debug)]
pub struct Gated {
    /// Every gate, counts first.
    pub outcomes: Vec<GateOutcome>,
    /// The figures they rest on, with the gates as verdicts.
    pub finished: Finished,
}

/// The ladder that a gate measures: of the shape that the budgets say their counts are of.
///
/// # Errors
/// When the budgets name no rung that there is, or a link that can't be read.
pub fn ladder(options: &BenchOptions, budgets: &Budgets) -> Result<BenchOptions, Error> {
    let named = budgets.rungs();
    let rungs: Vec<RungName> =
        RungName::ALL.iter().copied().filter(|rung| named.contains(&rung.name())).collect();
    if rungs.is_empty() {
        return Err(Error::Unexpected("the budgets name no rung of the ladder".to_owned()));
    }
    let serial = BenchOptions {
        rungs,
        systems: 1,
        concurrency: 1,
        rollouts: Some(ROLLOUTS),
        history: 0,
        loss: false,
        ablate: false,
        count_allocations: true,
        ..options.clone()
    };
    let Some(shape) = &budgets.run else { return Ok(serial) };
    let link =
        shape.link.parse().map_err(|error| Error::Unexpected(format!("the budgets' link: {error}")))?;
    Ok(BenchOptions {
        link,
        llm: shape.llm.clone(),
        systems: shape.systems,
        concurrency: shape.concurrency,
        rollouts: Some(shape.rollouts),
        ..serial
    })
}

/// Measures and judges. Everything it starts is stopped before it returns. Cancelling `cancel` ends it early: no gate passes
/// then.
///
/// # Errors
/// As [`ladder`], [`bench::run`] and [`compare::run`].
pub async fn run(
    options: &GateOptions,
    scratch: &Path,
    watcher: &dyn Watcher,
    cancel: &CancellationToken,
) -> Result<Gated, Error> {
    let ladder = ladder(&options.bench, &options.budgets)?;
    let places = [scratch.join("counts"), scratch.join("comparison")];
    for place in &places {
        std::fs::create_dir_all(place).map_err(|source| Error::Write { path: place.clone(), source })?;
    }
    let mut finished = bench::run(&ladder, &places[0], watcher, cancel).await?;
    let report = &finished.report;
    let mut outcomes = gates::counts(&options.budgets, report, options.today);
    if report.environment.stack == EMBEDDED {
        outcomes.iter_mut().for_each(without_a_wire);
    }
    outcomes.extend(gates::ceilings(&options.budgets, report, options.today));
    let breached = outcomes.iter().any(|gate| gate.outcome == Outcome::Breach);
    if let Some(compare) = options.compare.as_ref().filter(|_| !breached && !cancel.is_cancelled()) {
        let compared = compare::run(compare, &places[1], watcher, cancel).await?;
        add(&mut finished, compared);
        outcomes.extend(gates::comparisons(&options.budgets, &finished.report, options.today));
    }
    finished.report.verdicts = outcomes.iter().map(Verdict::from).collect();
    Ok(Gated { outcomes, finished })
}

/// What only a wire could tell of a database that has none: fewer of it are no improvement.
const ON_THE_WIRE: [&str; 3] = [".db_round_trips", ".db_connections", " background.db_"];

fn without_a_wire(gate: &mut GateOutcome) {
    if gate.kind == Kind::Count && ON_THE_WIRE.iter().any(|part| gate.name.contains(part)) {
        gate.outcome = Outcome::Invalid;
        gate.advice = "the embedded database has no wire to count on: use --stack native".to_owned();
    }
}

/// One report for both parts; the second's rungs would stand beside the first's under other names, so only what was compared
/// is taken.
fn add(finished: &mut Finished, compared: Finished) {
    let Report { comparisons, run, .. } = compared.report;
    finished.report.comparisons = comparisons;
    finished.report.run.interrupted |= run.interrupted;
    finished.report.run.finished_at = run.finished_at;
    finished.config.push_str(&compared.config);
    finished.logs.extend(compared.logs);
}
