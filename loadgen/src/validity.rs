//! Whether a run's figures may be believed: what could have gone wrong with the generator and its machine, rather than with
//! what it measured.
//!
//! Every rule looks at what the generator did, none at how fast the answers were.

use std::time::{Duration, Instant};

use mipro_bench_reports::Recorder;
use mipro_bench_reports::dist::SAMPLES_BEYOND_MIN;
use mipro_telemetry::clock;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::account::{Exhausted, FailureCount};
use crate::error::Error;
use crate::outcome::Identity;
use crate::record::Sheet;
use crate::run::Offered;
use crate::session::Books;

#[cfg(test)]
mod tests;

/// A run with more failures than this share of its rollouts says too little about the rest.
const FAILED_SHARE_MAX: f64 = 0.01;

/// The generator kept up if it started nearly all rollouts within this …
const LAG_MAX_NS: u64 = 1_000_000;

/// … or within this share of a rollout's median service time.
const LAG_SHARE_MAX: f64 = 0.05;

/// The generator met its schedule if it sent this share while slots were free (and a few may be on their way to one).
const SENT_SHARE_MIN: f64 = 0.99;

/// A generator that uses more of its machine's cores than this measures itself.
const CPU_SHARE_MAX: f64 = 0.8;

/// Shorter runs say nothing about CPU: it is counted in hundredths of a second, and a run's start is not its rule.
const CPU_JUDGED_FROM: Duration = Duration::from_secs(1);

/// The wall clock may differ from the monotonic by this at once …
const CLOCK_STEP_MAX_US: i64 = 100_000;

/// … and drift by this share, which is twice what time daemons slew.
const CLOCK_DRIFT_MAX: f64 = 0.001;

/// Open files beside connections: standard streams, the runtime's own, logs.
const DESCRIPTORS_BESIDE: u64 = 64;

/// What the generator's process and machine went through during a run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Health {
    /// How long it was looked at.
    pub seconds: f64,
    /// Share of all cores that this process used; none where the system does not tell.
    pub cpu_share: Option<f64>,
    /// Largest departure of the wall clock from the monotonic one, in microseconds, beyond an allowance for drift.
    pub clock_step_us: i64,
}

/// Looks at the process and the clocks while a run goes on.
#[derive(Debug)]
pub(crate) struct Gauge {
    began: Instant,
    began_unix_us: u64,
    cpu: Option<Duration>,
    step_us: i64,
}

impl Gauge {
    pub(crate) fn start() -> Self {
        Self { began: clock::now(), began_unix_us: clock::unix_us(), cpu: process_cpu(), step_us: 0 }
    }

    /// Compares the clocks; to be called now and then.
    pub(crate) fn look(&mut self) {
        // The wall clock between two readings of the monotonic one: else being descheduled between them would look like a step.
        let before = clock::now();
        let unix_us = clock::unix_us();
        let after = clock::now();
        let wall_us = unix_us as i64 - self.began_unix_us as i64;
        let us = |instant: Instant| (instant - self.began).as_micros() as i64;
        let allowed_us = (us(after) as f64 * CLOCK_DRIFT_MAX) as i64;
        let step_us = match wall_us {
            early if early < us(before) => (early - us(before) + allowed_us).min(0),
            late if late > us(after) => (late - us(after) - allowed_us).max(0),
            _ => 0,
        };
        if step_us.abs() > self.step_us.abs() {
            self.step_us = step_us;
        }
    }

    pub(crate) fn finish(mut self) -> Health {
        self.look();
        let elapsed = clock::now() - self.began;
        let used = process_cpu().zip(self.cpu).map(|(after, before)| after.saturating_sub(before));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
        let seconds = elapsed.as_secs_f64();
        Health {
            seconds,
            cpu_share: used.map(|used| used.as_secs_f64() / (seconds.max(1e-9) * cores)),
            clock_step_us: self.step_us,
        }
    }
}

/// CPU time of this process, user and system.
pub(crate) fn process_cpu() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the program's name, may hold spaces and parentheses; user and system time are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let both = ticks.next()?.ok()? + ticks.next()?.ok()?;
    // The kernel counts in hundredths for programs, whatever it uses itself.
    Some(Duration::from_millis(both * 10))
}

/// Makes room for as many connections as `lanes` may hold, by raising this process's soft limit if need be.
///
/// # Errors
/// [`Error::Preflight`] when even the hard limit is too low.
pub(crate) fn descriptors(lanes: usize, connections_per_lane: usize) -> Result<(), Error> {
    let needed = (lanes * connections_per_lane) as u64 + DESCRIPTORS_BESIDE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= needed) {
        return Ok(());
    }
    let wanted = limit.maximum.map_or(needed, |hard| hard.min(needed));
    if wanted >= needed
        && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).is_ok()
    {
        return Ok(());
    }
    let most = limit.maximum.or(limit.current).unwrap_or(0);
    Err(Error::Preflight(format!(
        "{lanes} in flight need {needed} open files, and this process may have {most}: raise `ulimit -n` or lower the concurrency"
    )))
}

/// Little's law before the run: at this rate and the warm-up's median service time, would there be slots enough?
///
/// # Errors
/// [`Error::Preflight`] when there would not.
pub(crate) fn preflight_in_flight(
    rate: Option<f64>,
    service_p50_ns: Option<u64>,
    lanes: usize,
) -> Result<(), Error> {
    let (Some(rate), Some(service_ns)) = (rate, service_p50_ns) else { return Ok(()) };
    match too_few_slots(rate, service_ns, lanes) {
        Some(reason) => Err(Error::Preflight(format!("as the warm-up went, {reason}"))),
        None => Ok(()),
    }
}

fn too_few_slots(rate: f64, service_ns: u64, lanes: usize) -> Option<String> {
    let in_flight = rate * service_ns as f64 / 1e9;
    (in_flight > lanes as f64).then(|| {
        let ms = service_ns as f64 / 1e6;
        format!(
            "{rate:.1}/s × {ms:.1} ms keep {in_flight:.1} in flight, more than the {lanes} slots: what waits for a slot would be \
             this generator's cap; raise the concurrency or lower the rate"
        )
    })
}

/// What is known of a run.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) sheet: &'a Sheet,
    pub(crate) failures: &'a [FailureCount],
    pub(crate) identity: &'a Identity,
    pub(crate) interrupted: bool,
    pub(crate) books: Books,
    pub(crate) lanes: usize,
    pub(crate) health: Health,
    pub(crate) open: Option<Offered>,
}

impl Facts<'_> {
    /// Why the figures should not be believed; none: they may.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.interrupted {
            reasons.push("interrupted: the figures are partial".to_owned());
        }
        if !self.sheet.accounting.holds() {
            reasons.push("the accounting does not hold: some rollouts are nowhere".to_owned());
        }
        reasons.extend(self.failed());
        reasons.extend(self.disagreement());
        reasons.extend(self.machine());
        reasons.extend(match self.open {
            Some(offered) => self.schedule(offered),
            None => self.lag(&self.sheet.lag, "").into_iter().collect(),
        });
        reasons.extend(self.open.filter(|offered| !offered.slots_measured).and_then(|offered| {
            too_few_slots(offered.rate, self.sheet.service.quantile_ns(0.5)?, self.lanes)
        }));
        if self.sheet.accounting.ok == 0 && reasons.is_empty() {
            reasons.push("no rollout was made, so there is nothing to believe".to_owned());
        }
        reasons
    }

    /// Why the generator, rather than what it drove, gave out; none: it did not.
    pub(crate) fn generator(&self) -> Vec<String> {
        let mut reasons = self.machine();
        reasons.extend(self.open.into_iter().flat_map(|offered| self.schedule(offered)));
        reasons
    }

    fn failed(&self) -> Option<String> {
        let books = &self.sheet.accounting;
        let failed = books.errors() + books.in_flight_at_end;
        let sent = books.intended.saturating_sub(books.unsent);
        (failed as f64 > FAILED_SHARE_MAX * sent as f64).then(|| {
            let why = self.failures.first().map(|f| format!("; first {}: {}", f.step, f.failure));
            format!("{failed} of {sent} rollouts did not succeed{}", why.unwrap_or_default())
        })
    }

    /// The client's and the server's books against each other.
    fn disagreement(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let Identity { checked, client_below_server, sums_off, .. } = self.identity;
        if *client_below_server > 0 {
            reasons.push(format!(
                "{client_below_server} of {checked} calls took the client less time than the server says it spent"
            ));
        }
        if *sums_off > 0 {
            reasons.push(format!(
                "in {sums_off} of {checked} calls stages and other do not add up to the total"
            ));
        }
        let (ok, joined) = (self.sheet.accounting.ok, self.sheet.joined);
        let missed = match self.books {
            Books::NotExpected => false,
            Books::AllOrNone => joined > 0,
            Books::Expected => true,
        };
        if missed && joined < ok {
            reasons.push(format!(
                "{} of {ok} rollouts came without the service's times: start it with --server-timing",
                ok - joined
            ));
        }
        reasons
    }

    fn machine(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let Health { seconds, cpu_share, clock_step_us } = self.health;
        if let Some(share) =
            cpu_share.filter(|s| *s > CPU_SHARE_MAX && seconds >= CPU_JUDGED_FROM.as_secs_f64())
        {
            reasons.push(format!(
                "the generator used {:.0} % of this machine's cores, so it measured itself (allowed {:.0} %)",
                share * 100.0,
                CPU_SHARE_MAX * 100.0
            ));
        }
        if clock_step_us.abs() > CLOCK_STEP_MAX_US {
            reasons.push(format!(
                "the wall clock stepped by {} ms against the monotonic one",
                clock_step_us / 1_000
            ));
        }
        let met = |what: Exhausted| self.sheet.exhausted[what as usize];
        if met(Exhausted::Descriptors) > 0 {
            let count = met(Exhausted::Descriptors);
            reasons.push(format!(
                "{count} calls found no free file descriptor on this machine: raise `ulimit -n`"
            ));
        }
        if met(Exhausted::Ports) > 0 {
            let count = met(Exhausted::Ports);
            reasons.push(format!("{count} calls found no free local port on this machine"));
        }
        reasons
    }

    /// Whether the open model kept its schedule.
    fn schedule(&self, offered: Offered) -> Vec<String> {
        let mut reasons = Vec::new();
        let books = &self.sheet.accounting;
        if let Some((sent, free)) = offered.at_end
            && free > 0
            && (sent as f64) < SENT_SHARE_MIN * books.intended as f64
            && books.intended.saturating_sub(sent) >= SAMPLES_BEYOND_MIN
        {
            reasons.push(format!(
                "the generator missed its schedule: at its end {sent} of {} were sent, while {free} slots were free",
                books.intended
            ));
        }
        if offered.backlog_full {
            reasons.push("more arrivals waited for a slot than this generator keeps".to_owned());
        }
        let pacer = self.lag(&self.sheet.pacer_lag, " of the pacer");
        reasons.extend(pacer.or_else(|| self.lag(&self.sheet.own_lag, " with a free slot")));
        reasons
    }

    /// Looks at the highest percentile with enough samples beyond it: with a hundred rollouts a p99 is a single one, and a
    /// neighbour's burst on the machine would make every short run look invalid.
    fn lag(&self, lag: &Recorder, whose: &str) -> Option<String> {
        let beyond = |share: f64| lag.count() as f64 * share >= SAMPLES_BEYOND_MIN as f64;
        let (name, quantile) = match () {
            () if beyond(0.01) => ("p99", 0.99),
            () if beyond(0.1) => ("p90", 0.9),
            () => ("p50", 0.5),
        };
        let lag_ns = lag.quantile_ns(quantile)?;
        let service_ns = self.sheet.service.quantile_ns(0.5)?;
        let allowed_ns = LAG_MAX_NS.max((service_ns as f64 * LAG_SHARE_MAX) as u64);
        (lag_ns > allowed_ns).then(|| {
            let (lag_us, allowed_us) = (lag_ns / 1_000, allowed_ns / 1_000);
            format!("the generator fell behind: lag{whose} {name} {lag_us} µs, allowed {allowed_us} µs")
        })
    }
}
