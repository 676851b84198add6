//! One slice: some seconds of load on one side while the other stands still.
//!
//! The steps, in order: let the side go on; make fresh systems on an unhindered link, so that no slice carries another's past;
//! set the link; warm in; measure a fixed number of rollouts; wait until none is in flight; stop the side again. Both slices
//! of a pair make the same rollouts: the same seed and indices, and so the same payloads and the same delays of the mock.
//!
//! Before each pair both services are begun anew: other processes, from copies of their programs, on data directories that
//! nobody had. Two processes of one program differ for as long as they live, and two files of one program for as long as they
//! lie in the page cache; no number of slices of the same two would show by how much. With fresh ones for each pair it is part of what
//! the pairs differ by, and so of the interval (Kalibera and Jones, *Rigorous benchmarking in reasonable time*, 2013; Mytkowicz et
//! al., *Producing wrong data without doing anything obviously wrong*, 2009).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mipro_bench_reports::compare::Slice;
use mipro_bench_reports::{Rung, Side as Which};
use mipro_loadgen::{Options as Load, Outcome, Warmup};
use mipro_telemetry::clock;
use mipro_testbed::process::Usage;
use tokio_util::sync::CancellationToken;

use crate::environment::CpuTimes;
use crate::options::Error;
use crate::pacing::{self, Pacing};
use crate::pairs::{Driver, opposite};
use crate::side::{Ground, Side};

#[cfg(test)]
mod tests;

/// Requests that a slice should hold.
const REQUESTS_AIM: f64 = 200.0;
/// How long a slice may become to get there.
const SLICE_MAX: Duration = Duration::from_secs(5);
/// Rollouts that may do without a stage which is still one of every rollout.
const WITHOUT_MAX: f64 = 0.1;
/// What begins a slice and is thrown away.
const WARM_IN: Duration = Duration::from_millis(400);
/// Stolen time above which a slice says more about the hypervisor than about a side, in percent, unless told otherwise.
pub const STEAL_PCT_MAX: f64 = 10.0;

/// How much a slice does: the same on both sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Size {
    pub(crate) rollouts: u64,
    pub(crate) warm_in: u64,
    /// Rollouts that arrive a second; none: each starts when one has ended.
    pub(crate) rate: Option<f64>,
}

/// What a pilot found out about a side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    /// Rollouts a second.
    pub(crate) rate: f64,
    /// Requests a rollout.
    pub(crate) requests: f64,
}

impl Size {
    /// What arrives (under the closed model: what the slower side does) in `slice`; without one, in 2 s, or in up to 5 s where
    /// that makes a slice of 200 requests.
    ///
    /// # Errors
    /// When a rate is asked for that the slower side can't do.
    pub(crate) fn of(slice: Option<Duration>, paces: [Pace; 2], pacing: Pacing) -> Result<Self, Error> {
        let [a, b] = paces;
        let capacity = a.rate.min(b.rate).max(f64::MIN_POSITIVE);
        let arrivals = pacing.rate(capacity)?;
        let rate = arrivals.unwrap_or(capacity);
        let requests_rate = rate * a.requests.min(b.requests).max(1.0);
        let aim_s = (REQUESTS_AIM / requests_rate).clamp(2.0, SLICE_MAX.as_secs_f64());
        let seconds = slice.map_or(aim_s, |slice| slice.as_secs_f64());
        let count = |seconds: f64| (rate * seconds).round().max(1.0) as u64;
        Ok(Self { rollouts: count(seconds), warm_in: count(WARM_IN.as_secs_f64()), rate: arrivals })
    }
}

/// What a pilot saw of a side.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) rung: Rung,
    /// Stages that ran in nearly each rollout. Of others the median of what a rollout spends in them says nothing: most may do
    /// without.
    pub(crate) steady: BTreeSet<String>,
}

/// The stages among a generator's histograms of nanoseconds a rollout that more than nine rollouts of ten ran. Where one did not
/// run the sample is 1 ns ([`Outcome::histograms`]).
fn steady(histograms: &BTreeMap<String, Histogram<u64>>) -> BTreeSet<String> {
    let stages =
        histograms.iter().filter_map(|(name, samples)| Some((name.strip_prefix("stages.")?, samples)));
    stages
        .filter(|(_, samples)| samples.value_at_quantile(WITHOUT_MAX) > 1)
        .map(|(stage, _)| stage.to_owned())
        .collect()
}

/// A slice as the statistics see it, and as the report does.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) slice: Slice,
    pub(crate) rung: Rung,
}

/// Measures slices of two running sides.
pub(crate) struct Alternation<'a> {
    pub(crate) ground: &'a Ground<'a>,
    pub(crate) sides: &'a mut [Side; 2],
    pub(crate) size: Size,
    /// Rollouts in flight at most.
    pub(crate) lanes: u32,
    /// Stolen time above which a slice is set aside, in percent.
    pub(crate) steal_pct_max: f64,
    pub(crate) started: Instant,
    pub(crate) cancel: &'a CancellationToken,
    /// Told of each slice that begins.
    pub(crate) tell: &'a (dyn Fn(Which, u32) + Sync),
}

impl Driver for Alternation<'_> {
    type Slice = Measured;

    async fn renew(&mut self, first: Which) -> Result<(), Error> {
        // Both are ended before either begins, and begin in the order in which they are measured: so neither side keeps the
        // memory it had, and each is as often the one that had its choice.
        for side in self.sides.iter_mut() {
            side.end(self.ground).await?;
        }
        let [one, other] = [first, opposite(first)];
        let copies = match (self.side(one).copy().await, self.side(other).copy().await) {
            (Ok(one), Ok(other)) => [one, other],
            // One from memory and one from a file would be another comparison.
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "programs can't be copied: both sides are started from their files");
                [None, None]
            }
        };
        for (which, copy) in [one, other].into_iter().zip(&copies) {
            self.sides[which as usize].begin_anew(self.ground, copy.as_ref()).await?;
        }
        Ok(())
    }

    async fn slice(&mut self, which: Which, pair: u32) -> Result<Measured, Error> {
        (self.tell)(which, pair);
        let seed = self.ground.options.seed.wrapping_add(u64::from(pair));
        let load = Load {
            seed,
            rollout_prefix: format!("p{pair}"),
            warmup: Warmup::Rollouts(self.size.warm_in),
            rollouts: self.size.rollouts,
            schedule: pacing::schedule(self.size.rate, seed)?,
            // No reason to set a slice aside looks at how long anything took.
            slots_measured: true,
            ..self.side(which).load(self.ground, self.lanes)
        };
        let started_s = clock::now().saturating_duration_since(self.started).as_secs_f64();
        let unrest = self.side(opposite(which)).unrest(self.ground).await;
        let unclean = self.side(which).unclean.clone();
        let (outcome, used) = self.measure(which, load).await?;
        let mut rung = rung_of(self.side(which), &outcome);
        rung.validity.reasons.extend(unrest.into_iter().chain(unclean));
        rung.validity.reasons.extend(
            (used.steal_pct > self.steal_pct_max).then(|| {
                format!("{:.0} % of the machine's time was taken by the hypervisor", used.steal_pct)
            }),
        );
        let slice = Slice {
            invalid: rung.validity.reasons.clone(),
            steal_pct: used.steal_pct,
            cpu_pct: used.cpu_pct,
            started_s,
            length_s: outcome.wall.as_secs_f64(),
            ..Slice::new(which, pair, &outcome.histograms())
        };
        Ok(Measured { slice, rung })
    }

    fn is_interrupted(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// What a slice took of the machine.
#[derive(Debug, Clone, Copy)]
struct Used {
    steal_pct: f64,
    /// By this run's own processes, of all cores.
    cpu_pct: f64,
}

impl Alternation<'_> {
    fn side(&self, which: Which) -> &Side {
        &self.sides[which as usize]
    }

    /// A first look at a side, which no figure shows: how fast it goes under the closed model, and what its stages are.
    pub(crate) async fn pilot(&self, which: Which, length: Duration) -> Result<(Pace, Seen), Error> {
        let load = Load {
            rollout_prefix: "pilot".to_owned(),
            rollouts: 0,
            duration: Some(length),
            ..self.side(which).load(self.ground, self.lanes)
        };
        let (outcome, _) = self.measure(which, load).await?;
        let rung = rung_of(self.side(which), &outcome);
        if rung.accounting.ok == 0 {
            let why = rung.validity.reasons.join("; ");
            let label = &self.side(which).label;
            return Err(Error::Unexpected(format!(
                "{label}: not one rollout succeeded within {length:?}: {why}"
            )));
        }
        let requests = rung.steps.values().map(|step| step.service.count).sum::<u64>() as f64;
        let pace =
            Pace { rate: outcome.rollouts_per_second(), requests: requests / rung.accounting.ok as f64 };
        Ok((pace, Seen { steady: steady(&outcome.histograms()), rung }))
    }

    async fn measure(&self, which: Which, mut load: Load) -> Result<(Outcome, Used), Error> {
        let side = self.side(which);
        let failed = |source| Error::Side { side: side.label.clone(), source };
        side.resume();
        side.set_link(self.ground, false).await?;
        load.system_ids = mipro_loadgen::prepare(&load).await.map_err(failed)?;
        side.set_link(self.ground, true).await?;
        let (cpu, own_s, began) = (CpuTimes::read(), self.own_cpu_seconds(), clock::now());
        let outcome =
            mipro_loadgen::run(load, mipro_loadgen::silent(), self.cancel.clone()).await.map_err(failed)?;
        let wall_s = clock::now().saturating_duration_since(began).as_secs_f64();
        let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        let cpu_pct = (self.own_cpu_seconds() - own_s).max(0.0) * 100.0 / (wall_s * cores).max(1e-9);
        let used = Used { steal_pct: CpuTimes::read().steal_pct_since(cpu), cpu_pct };
        side.pause();
        Ok((outcome, used))
    }

    /// All that this run's processes have used, this one among them.
    fn own_cpu_seconds(&self) -> f64 {
        let children = self.ground.fleet.children();
        let children = children.iter().filter_map(|child| child.usage_tree());
        children.chain(Usage::of_this_process()).map(|usage| usage.cpu_s()).sum()
    }
}

fn rung_of(side: &Side, outcome: &Outcome) -> Rung {
    let mut rung = Rung {
        name: side.label.clone(),
        title: side.plan.map_or("a service that runs already", |plan| plan.title).to_owned(),
        turns_on: side.plan.map_or("as it is", |plan| plan.turns_on).to_owned(),
        durability: side.plan.map_or("as it says", |plan| plan.keeping.durability()).to_owned(),
        ..Rung::default()
    };
    outcome.fill(&mut rung);
    rung
}
