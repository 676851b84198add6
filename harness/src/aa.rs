//! `mipro aa`: a side held against itself, many times over. How often that raises an alarm is this method's false-alarm rate on
//! this machine, and how wide its intervals are is the machine's noise floor.
//!
//! One long alternation is cut into comparisons that share no slice. More are drawn from the same slices, quads that lie
//! together, with the sides of each swapped or not by the toss of a coin; those share slices, so both kinds are told apart.

use std::path::Path;

use mipro_bench_reports::compare::calibrate::redrawn;
use mipro_bench_reports::compare::{Calibration, Rules, Slice, calibrate, compare};
use mipro_bench_reports::folder::rfc3339;
use mipro_bench_reports::{Comparison, Machine, Noise, NoiseFloor};
use mipro_telemetry::clock;
use mipro_testbed::process::Fleet;
use tokio_util::sync::CancellationToken;

use crate::bench::Watcher;
use crate::compare::{Bench, CompareOptions, executables, rules, rules_of};
use crate::options::{Error, STOP_DEADLINE};
use crate::pairs::{Ended, Looks};

#[cfg(test)]
mod tests;

/// Looks that the intervals are made for: as many as a comparison may take.
const LOOKS: u32 = 3;

/// What `mipro aa` may be told.
#[derive(Debug, Clone)]
pub struct AaOptions {
    /// Both sides of it are the same. Its pairs are those of one comparison.
    pub compare: CompareOptions,
    /// Comparisons that share no slice.
    pub runs: u32,
    /// Comparisons drawn again from the same slices.
    pub redrawn: u32,
}

/// What came of it.
#[derive(Debug)]
pub struct Calibrated {
    /// To be kept.
    pub floor: NoiseFloor,
    /// Whether it was ended early: fewer comparisons than asked for.
    pub interrupted: bool,
}

/// Measures. Everything it starts is stopped before it returns. Cancelling `cancel` ends it after the slice that is being
/// measured, with what whole comparisons there are.
///
/// # Errors
/// As [`crate::compare::run`]; and when not one comparison was finished.
pub async fn run(
    options: &AaOptions,
    scratch: &Path,
    watcher: &dyn Watcher,
    cancel: &CancellationToken,
) -> Result<Calibrated, Error> {
    let exes = executables(&options.compare, watcher).await?;
    let fleet = Fleet::new(scratch);
    let work = async {
        let mut bench = Box::pin(Bench::start(&options.compare, &exes, scratch, &fleet, watcher)).await?;
        measure(&mut bench, options, watcher, cancel).await
    };
    let outcome = match fleet.guard(Box::pin(work)).await {
        Ok(outcome) => outcome,
        Err(death) => Err(Error::Unexpected(death.to_string())),
    };
    fleet.drain(STOP_DEADLINE).await;
    outcome
}

async fn measure(
    bench: &mut Bench<'_>,
    options: &AaOptions,
    watcher: &dyn Watcher,
    cancel: &CancellationToken,
) -> Result<Calibrated, Error> {
    let compare = &options.compare;
    let pilot = bench.pilot(compare, cancel).await?;
    let rules = rules_of(rules::endpoints(&pilot.seen, compare.margin, compare.pacing), compare, LOOKS);
    // Whole quads, so that a comparison's order is as balanced as any.
    let pairs = compare.pairs.next_multiple_of(2);
    let looks = Looks::once(pairs * options.runs.max(1));
    let (slices, ended) = bench.alternate(compare, pilot.size, (&looks, &rules), watcher, cancel).await?;
    let slices: Vec<Slice> = slices.into_iter().map(|measured| measured.slice).collect();
    let fresh = judged(parts(&slices, pairs), &rules)?;
    if fresh.is_empty() {
        return Err(Error::Unexpected("not one comparison was finished".to_owned()));
    }
    let drawn =
        (0..u64::from(options.redrawn)).map(|n| redrawn(&slices, pairs, compare.bench.seed.wrapping_add(n)));
    let drawn = judged(drawn, &rules)?;
    let noise = |of: &[Comparison]| calibrate(of).iter().map(noise_of).collect();
    let floor = NoiseFloor {
        schema: NoiseFloor::SCHEMA.to_owned(),
        measured_at: rfc3339(clock::unix_us()),
        command: compare.bench.command.clone(),
        machine: Machine::of(&bench.environment()),
        pairs,
        rollouts: pilot.size.rollouts,
        fresh: noise(&fresh),
        redrawn: noise(&drawn),
    };
    Ok(Calibrated { floor, interrupted: ended == Ended::Interrupted })
}

fn judged(of: impl IntoIterator<Item = Vec<Slice>>, rules: &Rules) -> Result<Vec<Comparison>, Error> {
    let one = |slices: Vec<Slice>| compare(&slices, rules).map_err(|e| Error::Unexpected(e.to_string()));
    of.into_iter().map(one).collect()
}

fn noise_of(of: &Calibration) -> Noise {
    Noise {
        endpoint: of.name.clone(),
        quantile: of.quantile,
        comparisons: of.comparisons,
        false_alarms: of.false_alarms,
        rate: of.rate,
        rate_upper: of.rate_upper,
        half_width: of.half_width,
        noise: of.noise,
    }
}

/// Slices in whole comparisons of `pairs` pairs, each numbered from 0; what is left over is left out.
fn parts(slices: &[Slice], pairs: u32) -> Vec<Vec<Slice>> {
    let last = slices.iter().map(|slice| slice.pair).max();
    let whole = last.map_or(0, |last| (last + 1) / pairs);
    let mut parts: Vec<Vec<Slice>> = vec![Vec::new(); whole as usize];
    for slice in slices {
        if let Some(part) = parts.get_mut((slice.pair / pairs) as usize) {
            part.push(Slice { pair: slice.pair % pairs, ..slice.clone() });
        }
    }
    // An interrupted pair has one slice.
    parts.retain(|part| part.len() == 2 * pairs as usize);
    parts
}
