//! `bench --ablate`: what each optimization does by itself.
//!
//! A ladder shows what each rung saves over the one below, and so says nothing of another order. Here every optimization is
//! added to `blob` alone, and taken from the whole alone; where the three answers differ by more than their intervals, the
//! report says that order matters. What an optimization can't do without comes with it: state can't be saved behind the answer
//! unless it is kept.

use std::sync::Arc;

use mipro_bench_reports::{Ablation, AblationRow, Dist, DistancePoint, Rung, Saving};
use mipro_loadgen::Progress;
use mipro_testbed::link::{LinkSpec, Profile};
use tokio_util::sync::CancellationToken;

use crate::bed::Bed;
use crate::bench::Watcher;
use crate::ladder::{Keeping, RungLink, RungName, RungPlan};
use crate::options::{BenchOptions, Error};
use crate::roles;
use crate::rung::measure;

mod options;
#[cfg(test)]
mod tests;

/// Round trips to the stores at which overhead is measured, in microseconds.
const DISTANCES_US: [u64; 6] = [0, 1_000, 5_000, 15_000, 35_000, 70_000];
/// Rungs that are measured at every distance: one for each way to wait for the stores, and one that does not.
const DISTANCE_RUNGS: [RungName; 4] =
    [RungName::Blob, RungName::Pooled, RungName::WriteThrough, RungName::OneCall];
/// Rollouts behind each point of the curve: a median of 24.
const DISTANCE_ROLLOUTS: u64 = 24;
/// The latency model of a mock that answers at once.
const NO_LLM: &str = "none";
/// Normal quantile of an interval of 95 %.
const Z: f64 = 1.96;

/// An optimization, named by the rung that turns it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Optimization {
    rung: RungName,
    /// Its name added to `blob`, and taken from the whole.
    labels: (&'static str, &'static str),
}

const OPTIMIZATIONS: [Optimization; 8] = [
    optimization(RungName::Pooled, ("blob+pooled", "full-pooled")),
    optimization(RungName::WriteThrough, ("blob+write-through", "full-write-through")),
    optimization(RungName::WriteBack, ("blob+write-back", "full-write-back")),
    optimization(RungName::Logged, ("blob+logged", "full-logged")),
    optimization(RungName::Bounded, ("blob+bounded", "full-bounded")),
    optimization(RungName::OneCall, ("blob+one-call", "full-one-call")),
    optimization(RungName::Parallel, ("blob+parallel", "full-parallel")),
    optimization(RungName::SameRegion, ("blob+same-region", "full-same-region")),
];

const fn optimization(rung: RungName, labels: (&'static str, &'static str)) -> Optimization {
    Optimization { rung, labels }
}

impl Optimization {
    /// `blob` with nothing but this.
    fn alone(self) -> RungPlan {
        let blob = RungName::Blob.plan();
        let with = self.rung.plan();
        let plan = RungPlan { label: self.labels.0, title: "one optimization on the original", ..blob };
        match self.rung {
            RungName::Pooled => RungPlan { pooled: true, ..plan },
            RungName::OneCall => RungPlan { one_call: true, ..plan },
            RungName::Parallel => RungPlan { parallel: true, ..plan },
            RungName::SameRegion => RungPlan { link: RungLink::SameRegion, ..plan },
            _ => RungPlan { keeping: with.keeping, ..plan },
        }
    }

    /// The whole with nothing missing but this (and what rests on it).
    fn without(self) -> RungPlan {
        let plan = RungPlan { label: self.labels.1, title: "the whole without one optimization", ..full() };
        let keeping = |keeping| RungPlan { keeping, ..plan };
        match self.rung {
            RungName::Pooled => RungPlan { pooled: false, ..plan },
            RungName::OneCall => RungPlan { one_call: false, ..plan },
            RungName::Parallel => RungPlan { parallel: false, ..plan },
            RungName::SameRegion => RungPlan { link: RungLink::AsTold, ..plan },
            RungName::WriteThrough => keeping(Keeping::Blob),
            RungName::WriteBack => keeping(Keeping::WriteThrough),
            RungName::Logged => keeping(Keeping::WriteBack),
            _ => keeping(Keeping::Logged),
        }
    }
}

/// Everything turned on.
fn full() -> RungPlan {
    // Of `one-call` the number of rollouts; a rung's plan is otherwise that of the last.
    RungPlan {
        label: "full",
        name: RungName::OneCall,
        title: "everything turned on",
        ..RungName::SameRegion.plan()
    }
}

/// Measures on the bed that the ladder stood on. Cancelling `cancel` ends it early, with what there is.
pub(crate) async fn run(
    bed: &Bed<'_>,
    ladder: &[Rung],
    watcher: &dyn Watcher,
    cancel: &CancellationToken,
) -> Result<Ablation, Error> {
    let options = BenchOptions { loss: false, resources: false, ..bed.options.clone() };
    let bed = Bed { options: &options, ..*bed };
    let mut plans = vec![RungPlan { label: "blob", ..RungName::Blob.plan() }, full()];
    plans.extend(OPTIMIZATIONS.iter().map(|optimization| optimization.alone()));
    plans.extend(OPTIMIZATIONS.iter().map(|optimization| optimization.without()));
    let variants = all(&bed, &plans, watcher, cancel).await?;

    watcher.step("the ladder again, without an LLM's time");
    let silent = BenchOptions { llm: NO_LLM.to_owned(), ..options.clone() };
    let mock = roles::mock_llm(bed.fleet, &silent).await?;
    let silent_bed = Bed { options: &silent, mock: &mock, ..bed };
    let rungs: Vec<RungPlan> = options.rungs.iter().map(|rung| rung.plan()).collect();
    let without_llm = all(&silent_bed, &rungs, watcher, cancel).await?;

    let distance = distances(&silent_bed, watcher, cancel).await?;
    let rows = OPTIMIZATIONS.iter().map(|of| row(*of, ladder, &variants)).collect();
    let options = options::seed_options(ladder, &variants);
    Ok(Ablation { rows, options, distance, variants, without_llm })
}

async fn all(
    bed: &Bed<'_>,
    plans: &[RungPlan],
    watcher: &dyn Watcher,
    cancel: &CancellationToken,
) -> Result<Vec<Rung>, Error> {
    let mut rungs = Vec::with_capacity(plans.len());
    for (index, plan) in plans.iter().enumerate() {
        if cancel.is_cancelled() {
            break;
        }
        let progress: Arc<dyn Progress> = watcher.rung(plan.label, index, plans.len());
        rungs.push(Box::pin(measure(bed, plan, progress, cancel)).await?);
    }
    Ok(rungs)
}

/// Overhead at each distance. The LLM has no part in it.
async fn distances(
    bed: &Bed<'_>,
    watcher: &dyn Watcher,
    cancel: &CancellationToken,
) -> Result<Vec<DistancePoint>, Error> {
    let mut points = Vec::new();
    for rtt_us in DISTANCES_US {
        let options = BenchOptions {
            link: at_distance(rtt_us),
            rollouts: Some(DISTANCE_ROLLOUTS),
            history: 0,
            ..bed.options.clone()
        };
        watcher.step(&format!("stores {} ms away", rtt_us as f64 / 1e3));
        let bed = Bed { options: &options, ..*bed };
        let plans = DISTANCE_RUNGS.map(RungName::plan);
        for rung in all(&bed, &plans, watcher, cancel).await? {
            let (overhead_p50_us, samples) = (rung.overhead.p50_us, rung.overhead.count);
            points.push(DistancePoint { rtt_us, rung: rung.name, overhead_p50_us, samples });
        }
    }
    Ok(points)
}

fn at_distance(rtt_us: u64) -> LinkSpec {
    let profile = || Profile { rtt_us, ..Profile::default() };
    let name = format!("db={rtt_us}us,s3={rtt_us}us");
    LinkSpec { name, db: profile(), s3: profile(), fitted: false }
}

fn row(of: Optimization, ladder: &[Rung], variants: &[Rung]) -> AblationRow {
    let variant = |name: &str| variants.iter().find(|rung| rung.name == name);
    let place = ladder.iter().position(|rung| rung.name == of.rung.name());
    let step = place.filter(|at| *at > 0).and_then(|at| saving(&ladder[at - 1], &ladder[at]));
    // A step over a rung that was left out of the run is none of this optimization's.
    let below = RungName::ALL.iter().position(|rung| *rung == of.rung).and_then(|at| at.checked_sub(1));
    let below = below.and_then(|at| RungName::ALL.get(at)).map(|rung| rung.name());
    let ladder = step.filter(|_| place.is_some_and(|at| Some(ladder[at - 1].name.as_str()) == below));
    let alone = variant("blob").zip(variant(of.labels.0)).and_then(|(before, after)| saving(before, after));
    let last = variant(of.labels.1).zip(variant("full")).and_then(|(before, after)| saving(before, after));
    let seen: Vec<Saving> = [ladder, alone, last].into_iter().flatten().collect();
    AblationRow {
        optimization: of.rung.name().to_owned(),
        ladder,
        alone,
        last,
        order_matters: seen.iter().any(|one| seen.iter().any(|other| one.upper_us < other.lower_us)),
    }
}

/// What the overhead's median fell by from `before` to `after`.
pub(super) fn saving(before: &Rung, after: &Rung) -> Option<Saving> {
    let (was, is) = (median(&before.overhead)?, median(&after.overhead)?);
    Some(Saving {
        before_us: was.value_us,
        after_us: is.value_us,
        saved_us: was.value_us - is.value_us,
        lower_us: was.lower_us - is.upper_us,
        upper_us: was.upper_us - is.lower_us,
    })
}

/// A median with an interval of 95 %, from the ranks that a binomial leaves to chance.
struct Median {
    value_us: f64,
    lower_us: f64,
    upper_us: f64,
}

fn median(dist: &Dist) -> Option<Median> {
    let value_us = dist.p50_us?;
    let histogram = dist.decode().ok()?;
    let half_width = Z * 0.5 / (dist.count as f64).sqrt();
    let at = |quantile: f64| histogram.value_at_quantile(quantile.clamp(0.0, 1.0)) as f64 / 1e3;
    let (lower_us, upper_us) = (at(0.5 - half_width).min(value_us), at(0.5 + half_width).max(value_us));
    Some(Median { value_us, lower_us, upper_us })
}
