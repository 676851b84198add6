//! `mipro compare`: two sides, interleaved, and a verdict.
//!
//! The steps, in order: build what has to be built; start the ground and both sides; look at each side once (a pilot, which no
//! figure shows) to know how fast it goes and what there is to compare; fix the rules; alternate slices until a look has seen
//! enough; put slices, verdicts and the machine's noise floor into a report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mipro_bench_reports::compare::{self, Endpoint, Rules};
use mipro_bench_reports::{
    CompareVerdict, Comparison, Environment, NoiseFloor, Report, Rung, SCHEMA, Side as Which, Verdict, hlog,
};
use mipro_telemetry::clock;
use mipro_testbed::process::Fleet;
use tokio_util::sync::CancellationToken;

use crate::bench::{Finished, Watcher};
use crate::environment::{CpuTimes, filesystem_of, load_1m, machine, noise_sentence};
use crate::ground::{environment, run_entry, start_stack};
use crate::options::{BenchOptions, Error, STOP_DEADLINE};
use crate::pacing::Pacing;
use crate::pairs::{self, Ended, Looks};
use crate::side::{Ground, Side};
use crate::slice::{Alternation, Measured, Seen, Size};
use crate::subject::{self, Subject};
use crate::{merge, roles};

pub(crate) mod rules;
#[cfg(test)]
mod tests;

/// Slower by this share is still the same, unless told otherwise.
pub const MARGIN_DEFAULT: f64 = 0.10;
/// One-sided error probability over all looks.
pub(crate) const ALPHA: f64 = 0.05;
pub use crate::slice::STEAL_PCT_MAX;

/// How long a pilot looks at a side.
const PILOT: Duration = Duration::from_secs(2);
/// Every how many pairs it is told how far it is.
const TOLD_EVERY: u32 = 5;

/// What happens where a look shows neither one thing nor the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnInconclusive {
    /// It counts as passed; one look.
    Pass,
    /// It counts as failed; one look.
    Fail,
    /// More pairs, up to three looks in all; then it stays inconclusive.
    #[default]
    Extend,
}

/// Everything `mipro compare` may be told.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// What both sides stand on. Rungs, rollouts and losses in it are not looked at.
    pub bench: BenchOptions,
    /// The side held against.
    pub a: Subject,
    /// The side in question.
    pub b: Subject,
    /// Pairs of the first look (of three: two thirds of them).
    pub pairs: u32,
    /// A slice's length on the slower side; `None`: 2 s, up to 5 s where rollouts are slow.
    pub slice: Option<Duration>,
    /// Rollouts in flight at most.
    pub lanes: u32,
    /// How rollouts arrive.
    pub pacing: Pacing,
    /// A pair is set aside where the hypervisor took more of the machine's time than this, in percent.
    pub steal_pct_max: f64,
    /// B may take this share longer.
    pub margin: f64,
    /// What an inconclusive look leads to.
    pub on_inconclusive: OnInconclusive,
    /// What services that run already take as a key.
    pub api_key: Option<String>,
    /// What is asked; `None`: what the pilots show to be worth asking.
    pub rules: Option<Rules>,
    /// This machine's noise, where `mipro aa` has measured it.
    pub noise: Option<NoiseFloor>,
}

impl CompareOptions {
    fn looks(&self) -> Looks {
        match self.on_inconclusive {
            OnInconclusive::Extend => Looks::extended(self.pairs),
            OnInconclusive::Pass | OnInconclusive::Fail => Looks::once(self.pairs),
        }
    }
}

/// Compares two sides. Everything it starts is stopped before it returns, also on errors. Cancelling `cancel` ends it after
/// the slice that is being measured: the report then holds what there is, and no verdict. `scratch` must exist and is the
/// caller's to remove.
///
/// # Errors
/// When a revision does not build, or something could not be started or stopped answering.
pub async fn run(
    options: &CompareOptions,
    scratch: &Path,
    watcher: &dyn Watcher,
    cancel: &CancellationToken,
) -> Result<Finished, Error> {
    let exes = executables(options, watcher).await?;
    let fleet = Fleet::new(scratch);
    let work = async {
        let mut bench = Box::pin(Bench::start(options, &exes, scratch, &fleet, watcher)).await?;
        bench.compare(options, watcher, cancel).await
    };
    let outcome = match fleet.guard(Box::pin(work)).await {
        Ok(outcome) => outcome,
        Err(death) => Err(Error::Unexpected(death.to_string())),
    };
    fleet.drain(STOP_DEADLINE).await;
    outcome
}

/// The binary of a side, built where it has to be; `own` is this program's.
pub(crate) async fn executable(side: &Subject, own: &Path, watcher: &dyn Watcher) -> Result<PathBuf, Error> {
    match side {
        Subject::Binary { path, .. } => Ok(path.clone()),
        Subject::Revision { revision, .. } => {
            watcher.step(&format!("building {revision}, unless it was built before"));
            Ok(subject::build(Path::new("."), revision).await?)
        }
        Subject::Rung { .. } | Subject::Service { .. } => Ok(own.to_owned()),
    }
}

/// The binary of each side, built where it has to be.
pub(crate) async fn executables(
    options: &CompareOptions,
    watcher: &dyn Watcher,
) -> Result<[PathBuf; 2], Error> {
    let mut exes = Vec::with_capacity(2);
    for side in [&options.a, &options.b] {
        exes.push(executable(side, &options.bench.exe, watcher).await?);
    }
    let [a, b] = <[PathBuf; 2]>::try_from(exes)
        .map_err(|_| Error::Unexpected("a comparison has two sides".to_owned()))?;
    Ok([a, b])
}

/// Two sides, ready to be measured, and what they stand on.
pub(crate) struct Bench<'a> {
    ground: Ground<'a>,
    sides: [Side; 2],
    started_us: u64,
    started: std::time::Instant,
    cpu: CpuTimes,
}

impl<'a> Bench<'a> {
    /// Starts everything. Both services are there when this returns, and stopped.
    pub(crate) async fn start(
        options: &'a CompareOptions,
        exes: &[PathBuf; 2],
        scratch: &'a Path,
        fleet: &'a Fleet,
        watcher: &dyn Watcher,
    ) -> Result<Self, Error> {
        let (started_us, started, cpu) = (clock::unix_us(), clock::now(), CpuTimes::read());
        let bench = &options.bench;
        let (mut stack, mut mock) = (None, None);
        if !(options.a.is_running() && options.b.is_running()) {
            watcher.step("starting Postgres, S3 and the link between");
            stack = Some(start_stack(bench, scratch, fleet).await?);
            mock = Some(roles::mock_llm(fleet, bench).await?);
        }
        let task_app = roles::task_app(fleet, bench).await?;
        let api_key = options.api_key.clone();
        let ground = Ground { options: bench, fleet, dir: scratch, stack, mock, task_app, api_key };
        watcher.step("starting both sides");
        let a = Side::start(&ground, Which::A, &options.a, &exes[0]).await?;
        a.pause();
        let b = Side::start(&ground, Which::B, &options.b, &exes[1]).await?;
        b.pause();
        Ok(Self { ground, sides: [a, b], started_us, started, cpu })
    }

    fn alternation<'b>(
        &'b mut self,
        options: &CompareOptions,
        cancel: &'b CancellationToken,
        tell: &'b (dyn Fn(Which, u32) + Sync),
    ) -> Alternation<'b>
    where
        'a: 'b,
    {
        Alternation {
            ground: &self.ground,
            sides: &mut self.sides,
            size: Size { rollouts: 1, warm_in: 1, rate: None },
            lanes: options.lanes,
            steal_pct_max: options.steal_pct_max,
            started: self.started,
            cancel,
            tell,
        }
    }

    /// A look at each side, before any rule is fixed.
    pub(crate) async fn pilot(
        &mut self,
        options: &CompareOptions,
        cancel: &CancellationToken,
    ) -> Result<Pilot, Error> {
        let mut alternation = self.alternation(options, cancel, &|_, _| {});
        // What is looked at is what will be measured.
        pairs::Driver::renew(&mut alternation, Which::A).await?;
        let length = options.slice.unwrap_or(PILOT).min(PILOT);
        let (pace_a, seen_a) = alternation.pilot(Which::A, length).await?;
        let (pace_b, seen_b) = alternation.pilot(Which::B, length).await?;
        let size = Size::of(options.slice, [pace_a, pace_b], options.pacing)?;
        Ok(Pilot { size, seen: [seen_a, seen_b] })
    }

    /// Slices of both sides, until a look finds everything decided by `rules`.
    pub(crate) async fn alternate(
        &mut self,
        options: &CompareOptions,
        size: Size,
        (looks, rules): (&Looks, &Rules),
        watcher: &dyn Watcher,
        cancel: &CancellationToken,
    ) -> Result<(Vec<Measured>, Ended), Error> {
        let tell = |which: Which, pair: u32| {
            if pair.is_multiple_of(TOLD_EVERY) && which == pairs::first_of(options.bench.seed, pair) {
                watcher.step(&format!("pair {}", pair + 1));
            }
        };
        let mut alternation = Alternation { size, ..self.alternation(options, cancel, &tell) };
        let judge = |slices: &[Measured]| judge(slices, rules).is_ok_and(|found| found.is_concluded());
        pairs::run(&mut alternation, looks, options.bench.seed, judge).await
    }

    async fn compare(
        &mut self,
        options: &CompareOptions,
        watcher: &dyn Watcher,
        cancel: &CancellationToken,
    ) -> Result<Finished, Error> {
        let looks = options.looks();
        let pilot = self.pilot(options, cancel).await?;
        let rules = match &options.rules {
            Some(rules) => with_noise(Rules { looks_max: looks.count(), ..rules.clone() }, options),
            None => rules_of(
                rules::endpoints(&pilot.seen, options.margin, options.pacing),
                options,
                looks.count(),
            ),
        };
        let (slices, ended) = self.alternate(options, pilot.size, (&looks, &rules), watcher, cancel).await?;
        let mut comparison = judge(&slices, &rules)?;
        comparison.a.clone_from(&self.sides[0].label);
        comparison.b.clone_from(&self.sides[1].label);
        comparison.rung = self.shared_rung();
        let interrupted = ended == Ended::Interrupted;
        if interrupted {
            comparison.verdict = CompareVerdict::Inconclusive {
                more_pairs: None,
                reason: "interrupted before the look that decides".to_owned(),
            };
        }
        let verdict = verdict_of(&comparison, options.on_inconclusive);
        let report = Report {
            schema: SCHEMA.to_owned(),
            run: run_entry(&options.bench.command, options.bench.seed, self.started_us, interrupted),
            environment: Environment { noise_floor: options.noise.clone(), ..self.environment() },
            rungs: rungs(&slices),
            comparisons: vec![comparison],
            verdicts: vec![verdict],
            ..Report::default()
        };
        let slices: Vec<_> = slices.into_iter().map(|measured| measured.slice).collect();
        let logs = hlog::of_slices(&slices, &report.run.started_at);
        Ok(Finished { report, config: self.config(options), logs })
    }

    /// What both sides are configured as, where that is the same and not their name.
    fn shared_rung(&self) -> String {
        let [a, b] = &self.sides;
        match (a.plan, b.plan) {
            (Some(one), Some(other)) if one == other && a.label != one.name.name() => {
                one.name.name().to_owned()
            }
            _ => String::new(),
        }
    }

    pub(crate) fn environment(&self) -> Environment {
        let steal_pct = CpuTimes::read().steal_pct_since(self.cpu);
        let filesystem = filesystem_of(self.ground.dir);
        if let Some(stack) = &self.ground.stack {
            return environment(self.ground.options, stack, steal_pct, filesystem);
        }
        environment_of_theirs(steal_pct)
    }

    pub(crate) fn config(&self, options: &CompareOptions) -> String {
        let mut text = format!("# {}\n", options.bench.command);
        for side in &self.sides {
            let (name, label, anew) = (side.which.name(), &side.label, &side.anew);
            text.push_str(&format!("\n# side {name}: {label}\n{anew}{}", side.config));
        }
        text
    }
}

/// Where both sides run already: this machine, and what stands behind them is theirs.
pub(crate) fn environment_of_theirs(steal_pct: f64) -> Environment {
    let machine = machine();
    let theirs = |what: &str| what.to_owned();
    Environment {
        steal_pct,
        noise: noise_sentence(load_1m(), machine.cores),
        stack: theirs("the services' own"),
        database: theirs("their databases"),
        object_store: theirs("their object stores"),
        link: theirs("as it is"),
        llm: theirs("as it is"),
        dataset: theirs("built-in"),
        ..machine
    }
}

/// What is known before the rules are fixed.
#[derive(Debug)]
pub(crate) struct Pilot {
    pub(crate) size: Size,
    pub(crate) seen: [Seen; 2],
}

/// The rules of a comparison of `endpoints`. An interval's part in the error probability is that of one of `looks_max` looks.
pub(crate) fn rules_of(endpoints: Vec<Endpoint>, options: &CompareOptions, looks_max: u32) -> Rules {
    let aa_half_width = compare::AA_HALF_WIDTH_DEFAULT;
    with_noise(Rules { endpoints, alpha: ALPHA, looks_max, aa_half_width, seed: options.bench.seed }, options)
}

/// The same rules, with what is known of how each endpoint differs from itself.
fn with_noise(mut rules: Rules, options: &CompareOptions) -> Rules {
    if let Some(floor) = &options.noise {
        for endpoint in &mut rules.endpoints {
            endpoint.aa_half_width = floor.half_width(&endpoint.name, endpoint.quantile);
        }
    }
    rules
}

pub(crate) fn judge(slices: &[Measured], rules: &Rules) -> Result<Comparison, Error> {
    let slices: Vec<_> = slices.iter().map(|measured| measured.slice.clone()).collect();
    compare::compare(&slices, rules)
        .map_err(|error| Error::Unexpected(format!("the comparison's rules: {error}")))
}

/// Each side's slices as one rung; those of pairs that were set aside are in it, too, with their reasons.
fn rungs(slices: &[Measured]) -> Vec<Rung> {
    let of = |which: Which| merge::merge(slices.iter().filter(|m| m.slice.side == which).map(|m| &m.rung));
    [Which::A, Which::B].into_iter().filter_map(of).collect()
}

/// The comparison's verdict as the report's list of checks has it.
pub(crate) fn verdict_of(comparison: &Comparison, on_inconclusive: OnInconclusive) -> Verdict {
    let (outcome, detail) = match (&comparison.verdict, on_inconclusive) {
        (CompareVerdict::Pass { .. } | CompareVerdict::Shown, _) => ("pass", String::new()),
        (CompareVerdict::Regress, _) => ("fail", String::new()),
        (CompareVerdict::Invalid { .. }, _) => ("invalid", comparison.verdict.detail()),
        (CompareVerdict::Inconclusive { .. }, policy) => {
            let told = match policy {
                OnInconclusive::Pass => ", which was asked to count as passed",
                OnInconclusive::Fail => ", which was asked to count as failed",
                OnInconclusive::Extend => "",
            };
            ("inconclusive", format!("{}{told}", comparison.verdict.detail()))
        }
    };
    let worst = comparison
        .endpoints
        .iter()
        .filter(|e| e.verdict == comparison.verdict)
        .map(|e| format!("{} {}", e.title(), e.seen()));
    let detail = if detail.is_empty() { worst.collect::<Vec<_>>().join("; ") } else { detail };
    let name = format!("{} is no slower than {}", comparison.b, comparison.a);
    Verdict { name, outcome: outcome.to_owned(), detail }
}
