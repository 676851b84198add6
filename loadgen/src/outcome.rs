//! What came of a run, and how it fills a rung of the report.

use std::collections::BTreeMap;
use std::time::Duration;

use mipro_bench_reports::dist::SAMPLES_BEYOND_MIN;
use mipro_bench_reports::{
    Accounting, CountSet, Makespan, OperationReport, Recorder, Rung, StageReport, StateGrowth, Times,
};
use mipro_telemetry::{Group, Operation, Stage};

use crate::account::FailureCount;
use crate::record::{OperationSums, Sheet, StageSums};
use crate::run::Ran;
use crate::session::Step;

#[cfg(test)]
mod tests;

/// A run with more failures than this share of its rollouts says too little about the rest.
const FAILED_SHARE_MAX: f64 = 0.01;

/// The generator kept up if it started nearly all rollouts within this …
const LAG_MAX_NS: u64 = 1_000_000;

/// … or within this share of a rollout's median service time.
const LAG_SHARE_MAX: f64 = 0.05;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Whether it was cancelled: then the figures are partial.
    pub interrupted: bool,
    /// First intended start to last answer, warm-up left out.
    pub wall: Duration,
    /// Where every intended rollout went.
    pub accounting: Accounting,
    /// What rollouts failed of; the first sixteen different failures.
    pub failures: Vec<FailureCount>,
    /// Whether the client's and the server's times fit together.
    pub identity: Identity,
    /// Rewards that the service answered with 200, those of rollouts that failed later included.
    pub acknowledged: u64,
    /// Mean reward of the rollouts that got one.
    pub reward_mean: Option<f64>,
    /// The mock's planned delays laid out on the lanes; none unless every rollout was done and told its plan.
    pub planned: Option<Duration>,
    lanes: usize,
    systems: usize,
    history: u64,
    has_server: bool,
    sheet: Sheet,
}

/// Whether the client's and the server's times fit together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Identity {
    /// Answered calls that came with the server's books.
    pub checked: u64,
    /// Of those, how many took the client less time than the server says it spent; must be 0.
    pub client_below_server: u64,
    /// Of those, in how many the stages and `other` do not add up to the total; must be 0.
    pub sums_off: u64,
    /// By operation: the share of its time, LLM left out, that no stage claims.
    pub other_share: BTreeMap<String, f64>,
}

impl Outcome {
    pub(crate) fn new(ran: Ran, history: u64, systems: usize) -> Self {
        let Ran { sheet, wall, planned, interrupted, lanes, has_server } = ran;
        Self {
            interrupted,
            wall,
            accounting: sheet.accounting,
            failures: sheet.failures.clone(),
            identity: identity(&sheet),
            acknowledged: sheet.acknowledged,
            reward_mean: (sheet.rewards > 0).then(|| sheet.reward_sum / sheet.rewards as f64),
            planned: planned.filter(|_| sheet.accounting.ok == sheet.accounting.intended),
            systems,
            lanes,
            history,
            has_server,
            sheet,
        }
    }

    /// What the service added to a rollout.
    #[must_use]
    pub fn overhead(&self) -> &Recorder {
        &self.sheet.overhead
    }

    /// Whole rollouts, sent to done.
    #[must_use]
    pub fn service(&self) -> &Recorder {
        &self.sheet.service
    }

    /// Rollouts that succeeded, per second.
    #[must_use]
    pub fn rollouts_per_second(&self) -> f64 {
        self.accounting.ok as f64 / self.wall.as_secs_f64().max(1e-9)
    }

    /// Writes everything the generator knows into a rung: `rollouts`, `concurrency`, `systems`, `wall_seconds`, `accounting`,
    /// `rollout`, `overhead`, `steps`, `stages`, `stage_groups`, `operations`, `counts.critical` (without connections),
    /// `state_growth`, `makespan`, and reasons against its validity (added to those already there).
    pub fn fill(&self, rung: &mut Rung) {
        let sheet = &self.sheet;
        rung.rollouts = self.accounting.intended;
        rung.concurrency = u32::try_from(self.lanes).unwrap_or(u32::MAX);
        rung.systems = u32::try_from(self.systems).unwrap_or(u32::MAX);
        rung.wall_seconds = self.wall.as_secs_f64();
        rung.accounting = self.accounting;
        rung.rollout = Times {
            response: sheet.response.to_dist(),
            service: sheet.service.to_dist(),
            lag: Some(sheet.lag.to_dist()),
        };
        rung.overhead = sheet.overhead.to_dist();
        rung.steps = self.steps();
        rung.stages = self.stages();
        rung.stage_groups = self.groups();
        rung.operations = self.operations();
        let connections = rung.counts.critical.db_connections;
        rung.counts.critical = CountSet { db_connections: connections, ..self.counts() };
        rung.state_growth = self.growth();
        rung.makespan = self.makespan();
        rung.validity.reasons.extend(self.doubts());
        rung.validity.ok = rung.validity.reasons.is_empty();
    }

    fn steps(&self) -> BTreeMap<String, Times> {
        let seen = Step::ALL.iter().zip(&self.sheet.steps).filter(|(_, r)| !r.is_empty());
        seen.map(|(step, recorder)| {
            // In a session a step is due when the one before is done, so response and service are the same.
            let service = recorder.to_dist();
            (step.name().to_owned(), Times { response: service.clone(), service, lag: None })
        })
        .collect()
    }

    fn stages(&self) -> BTreeMap<String, StageReport> {
        let all = Stage::ALL.iter().zip(&self.sheet.stages);
        let seen = all.filter(|(_, sums)| sums.count > 0 || !sums.dist.is_empty());
        seen.map(|(stage, sums)| (stage.name().to_owned(), self.stage(sums))).collect()
    }

    fn groups(&self) -> BTreeMap<String, StageReport> {
        if self.sheet.groups[Group::Other as usize].count == 0 {
            return BTreeMap::new();
        }
        // All roll-ups, also those at zero: that a rung has no DB time any more is what the ladder shows.
        let shown = Group::ALL.iter().filter(|g| **g != Group::Background);
        shown.map(|g| (g.name().to_owned(), self.stage(&self.sheet.groups[*g as usize]))).collect()
    }

    fn stage(&self, sums: &StageSums) -> StageReport {
        StageReport {
            dist: sums.dist.to_dist(),
            per_rollout_us: self.per_rollout(sums.dist.sum_ns() as f64 / 1_000.0),
            calls_per_rollout: self.per_rollout(sums.count as f64),
            overlap_per_rollout_us: self.per_rollout(sums.overlap_ns as f64 / 1_000.0),
        }
    }

    fn operations(&self) -> BTreeMap<String, OperationReport> {
        let all = Operation::ALL.iter().zip(&self.sheet.operations);
        let seen = all.filter(|(_, sums)| !sums.total.is_empty());
        seen.map(|(operation, sums)| (operation.name().to_owned(), operation_report(sums))).collect()
    }

    fn counts(&self) -> CountSet {
        let sums = &self.sheet.counts;
        CountSet {
            db_round_trips: self.per_rollout(sums.db_round_trips as f64),
            db_statements: self.per_rollout(sums.db_statements as f64),
            s3_get: self.per_rollout(sums.s3_get as f64),
            s3_put: self.per_rollout(sums.s3_put as f64),
            s3_bytes: self.per_rollout(sums.s3_bytes as f64),
            llm_calls: self.per_rollout(sums.llm_calls as f64),
            ..CountSet::default()
        }
    }

    /// Stage figures come from the rollouts that succeeded, so they are what is divided by.
    fn per_rollout(&self, sum: f64) -> f64 {
        if self.accounting.ok == 0 { 0.0 } else { sum / self.accounting.ok as f64 }
    }

    fn growth(&self) -> Option<StateGrowth> {
        let p50_us = |stage: Stage| {
            let median = self.sheet.stages[stage as usize].dist.quantile_ns(0.5);
            median.map_or(0.0, |ns| ns as f64 / 1_000.0)
        };
        Some(StateGrowth {
            history: self.history,
            bytes_min: self.sheet.growth.bytes_min?,
            bytes_max: self.sheet.growth.bytes_max,
            bytes_per_rollout: self.sheet.growth.slope(),
            put_p50_us: p50_us(Stage::S3Put),
            get_p50_us: p50_us(Stage::S3Get),
        })
    }

    fn makespan(&self) -> Option<Makespan> {
        let planned_seconds = self.planned?.as_secs_f64();
        let measured_seconds = self.wall.as_secs_f64();
        // Without delays there is nothing to hold the run against.
        (planned_seconds > 0.0).then(|| {
            let ratio = measured_seconds / planned_seconds;
            Makespan { planned_seconds, measured_seconds, ratio }
        })
    }

    /// Why these figures should not be believed.
    fn doubts(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let books = &self.accounting;
        if self.interrupted {
            reasons.push("interrupted: the figures are partial".to_owned());
        }
        if !books.holds() {
            reasons.push("the accounting does not hold: some rollouts are nowhere".to_owned());
        }
        let failed = books.errors() + books.in_flight_at_end;
        let sent = books.intended - books.unsent;
        if failed as f64 > FAILED_SHARE_MAX * sent as f64 {
            let why = self.failures.first().map(|f| format!("; first {}: {}", f.step, f.failure));
            let why = why.unwrap_or_default();
            reasons.push(format!("{failed} of {sent} rollouts did not succeed{why}"));
        }
        let Identity { checked, client_below_server, sums_off, .. } = &self.identity;
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
        if self.has_server && self.sheet.joined < books.ok {
            let without = books.ok - self.sheet.joined;
            reasons.push(format!(
                "{without} of {} rollouts came without the service's times: start it with --server-timing",
                books.ok
            ));
        }
        reasons.extend(self.lag_doubt());
        if books.ok == 0 && reasons.is_empty() {
            reasons.push("no rollout was made, so there is nothing to believe".to_owned());
        }
        reasons
    }

    /// Looks at the highest percentile with enough samples beyond it: with a hundred rollouts a p99 is a single one, and a
    /// neighbour's burst on the machine would make every short run look invalid.
    fn lag_doubt(&self) -> Option<String> {
        let beyond = |share: f64| self.sheet.lag.count() as f64 * share >= SAMPLES_BEYOND_MIN as f64;
        let (name, quantile) = match () {
            () if beyond(0.01) => ("p99", 0.99),
            () if beyond(0.1) => ("p90", 0.9),
            () => ("p50", 0.5),
        };
        let lag_ns = self.sheet.lag.quantile_ns(quantile)?;
        let service_ns = self.sheet.service.quantile_ns(0.5)?;
        let allowed_ns = LAG_MAX_NS.max((service_ns as f64 * LAG_SHARE_MAX) as u64);
        (lag_ns > allowed_ns).then(|| {
            let (lag_us, allowed_us) = (lag_ns / 1_000, allowed_ns / 1_000);
            format!("the generator fell behind: lag {name} {lag_us} µs, allowed {allowed_us} µs")
        })
    }
}

fn identity(sheet: &Sheet) -> Identity {
    let shares = Operation::ALL.iter().zip(&sheet.operations).filter(|(_, sums)| sums.own_ns > 0);
    let other_share = shares
        .map(|(operation, sums)| {
            let other_ns = sums.stage_ns[Stage::Other as usize];
            (operation.name().to_owned(), other_ns as f64 / sums.own_ns as f64)
        })
        .collect();
    Identity {
        checked: sheet.identity.checked,
        client_below_server: sheet.identity.client_below_server,
        sums_off: sheet.identity.sums_off,
        other_share,
    }
}

fn operation_report(sums: &OperationSums) -> OperationReport {
    let calls = sums.total.count().max(1) as f64;
    let stages = Stage::ALL.iter().zip(&sums.stage_ns).filter(|(_, ns)| **ns > 0);
    let stage_mean_us = stages.map(|(s, ns)| (s.name().to_owned(), *ns as f64 / 1_000.0 / calls)).collect();
    OperationReport {
        load_db: sums.load_db.to_dist(),
        load_s3: sums.load_s3.to_dist(),
        save_s3: sums.save_s3.to_dist(),
        save_db: sums.save_db.to_dist(),
        other: sums.other.to_dist(),
        total: sums.total.to_dist(),
        stage_mean_us,
    }
}
