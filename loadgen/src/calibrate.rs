//! What this generator can do on this machine, against a server that does nothing: its ceiling and its noise floor.

use std::fmt;
use std::time::Duration;

use mipro_bench_reports::Recorder;
use tokio_util::sync::CancellationToken;

use crate::arrivals::{Arrivals, Rate, Shape};
use crate::error::Error;
use crate::null::NullServer;
use crate::options::{Options, Warmup};
use crate::outcome::Outcome;
use crate::plain;
use crate::progress::silent;
use crate::runner::{Runner, Slice};
use crate::schedule::Schedule;
use crate::validity::process_cpu;

#[cfg(test)]
mod tests;

/// How long connections are warmed up.
const WARM_UP: Duration = Duration::from_millis(300);

/// What to try.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// In flight for the ceiling, and slots for the pacing.
    pub concurrency: u32,
    /// Arrivals per second for the pacing.
    pub rate: f64,
    /// How long each of the three stages lasts.
    pub each: Duration,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// One at a time: what this generator, the kernel and a server that does nothing make of a request.
    pub floor: Spread,
    /// In flight for the ceiling.
    pub concurrency: u32,
    /// Requests per second at that.
    pub ceiling_per_second: f64,
    /// Requests per second of CPU time that the generator used (the server's is not counted); none where the system does not tell.
    pub per_cpu_second: Option<f64>,
    /// Arrivals per second that were paced.
    pub rate: f64,
    /// Intended start to released by the pacer.
    pub pacer_lag: Spread,
    /// Intended start to sent.
    pub lag: Spread,
    /// Intended start to done.
    pub response: Spread,
    /// Why the paced stage would not be believed; empty: it would.
    pub doubts: Vec<String>,
}

/// Three quantiles, in nanoseconds, and how many samples they come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// Samples.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// 99.9th percentile.
    pub p99_9_ns: u64,
}

impl Spread {
    fn of(recorder: &Recorder) -> Self {
        let at = |quantile| recorder.quantile_ns(quantile).unwrap_or(0);
        Self { count: recorder.count(), p50_ns: at(0.5), p99_ns: at(0.99), p99_9_ns: at(0.999) }
    }
}

/// Measures. Cancelling ends it early, with [`Error::Options`].
///
/// # Errors
/// When the server or the generator cannot start, or the plan makes no request.
pub async fn calibrate(plan: Plan, cancel: CancellationToken) -> Result<Calibration, Error> {
    let server = NullServer::start().await.map_err(Error::NullServer)?;
    let load = Options {
        rollouts: 0,
        duration: Some(plan.each),
        concurrency: plan.concurrency,
        warmup: Warmup::Time(WARM_UP),
        drain: Duration::from_secs(1),
        ..Options::default()
    };
    let options = plain::Options { url: server.url.clone(), body: "".into(), api_key: None, load };
    let runner = Runner::plain(&options)?;
    let run = async |change: &dyn Fn(&mut Slice)| {
        let mut slice = runner.slice();
        change(&mut slice);
        let outcome = runner.run(slice, silent(), cancel.clone()).await?;
        match outcome.interrupted {
            true => Err(Error::Options("interrupted: a calibration has to be whole".to_owned())),
            false => Ok(outcome),
        }
    };
    let floor = run(&|slice| slice.concurrency = 1).await?;

    let own = || Some(process_cpu()?.saturating_sub(server.cpu()?));
    let before = own();
    let ceiling = run(&|slice| slice.warmup = Warmup::default()).await?;
    let used = own().zip(before).map(|(after, before)| after.saturating_sub(before).as_secs_f64());

    let arrivals = Arrivals::new(Shape::Constant, Rate::Constant(plan.rate), 1)?;
    let paced = run(&|slice| slice.schedule = Schedule::Open(arrivals.clone())).await?;
    Ok(Calibration::of(plan, &floor, (&ceiling, used), &paced))
}

impl Calibration {
    fn of(
        plan: Plan,
        floor: &Outcome,
        (ceiling, cpu_seconds): (&Outcome, Option<f64>),
        paced: &Outcome,
    ) -> Self {
        let done = ceiling.accounting.ok as f64;
        Self {
            floor: Spread::of(floor.service()),
            concurrency: plan.concurrency,
            ceiling_per_second: ceiling.rollouts_per_second(),
            per_cpu_second: cpu_seconds.filter(|s| *s > 0.0).map(|seconds| done / seconds),
            rate: plan.rate,
            pacer_lag: Spread::of(paced.pacer_lag()),
            lag: Spread::of(paced.lag()),
            response: Spread::of(paced.response()),
            doubts: paced.invalid(),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |ns: u64| ns as f64 / 1_000.0;
        let (p50, p99, p99_9) = (us(self.p50_ns), us(self.p99_ns), us(self.p99_9_ns));
        write!(f, "p50 {p50:.1} µs, p99 {p99:.1} µs, p99.9 {p99_9:.1} µs ({} samples)", self.count)
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "This machine and this generator, against a server that does nothing:")?;
        writeln!(f, "noise floor, one at a time   {}", self.floor)?;
        write!(
            f,
            "ceiling, {} in flight        {:.0} requests/s",
            self.concurrency, self.ceiling_per_second
        )?;
        match self.per_cpu_second {
            Some(rate) => writeln!(f, ", {rate:.0} per second of the generator's CPU")?,
            None => writeln!(f)?,
        }
        writeln!(f, "paced at {}/s:", self.rate)?;
        writeln!(f, "  the pacer's lag            {}", self.pacer_lag)?;
        writeln!(f, "  lag until sent             {}", self.lag)?;
        writeln!(f, "  response                   {}", self.response)?;
        match self.doubts.is_empty() {
            true => writeln!(f, "  a measurement at this rate would be valid"),
            false => {
                writeln!(f, "  a measurement at this rate would not be valid: {}", self.doubts.join("; "))
            }
        }
    }
}
