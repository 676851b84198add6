//! What came of a run, and how it fills a rung of the report.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use mipro_bench_reports::{
    Accounting, CountSet, Makespan, OperationReport, Recorder, Rung, StageReport, StateGrowth, Times,
};
use mipro_telemetry::{Group, Operation, Stage};

use crate::account::FailureCount;
use crate::record::{OperationSums, Sheet, StageSums};
use crate::recording::Recording;
use crate::run::{Offered, Ran};
use crate::session::{Books, Step};
use crate::validity::{Facts, Health};

#[cfg(test)]
mod tests;

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
    /// What the generator's process and machine went through.
    pub health: Health,
    offered: Option<Offered>,
    recording: Option<Recording>,
    lanes: usize,
    systems: usize,
    history: u64,
    books: Books,
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
        let Ran { sheet, wall, planned, interrupted, lanes, books, health, open, recording } = ran;
        Self {
            interrupted,
            wall,
            accounting: sheet.accounting,
            failures: sheet.failures.clone(),
            identity: identity(&sheet),
            acknowledged: sheet.acknowledged,
            reward_mean: (sheet.rewards > 0).then(|| sheet.reward_sum / sheet.rewards as f64),
            planned: planned.filter(|_| sheet.accounting.ok == sheet.accounting.intended),
            health,
            offered: open,
            recording,
            systems,
            lanes,
            history,
            books,
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

    /// Whole rollouts, intended start to done. In the open model also those that were due and not done at the end, as having
    /// taken until then.
    #[must_use]
    pub fn response(&self) -> &Recorder {
        &self.sheet.response
    }

    /// Intended start to sent, of what was sent.
    #[must_use]
    pub fn lag(&self) -> &Recorder {
        &self.sheet.lag
    }

    /// The part of the lag that is the pacer's; empty in the closed model.
    #[must_use]
    pub fn pacer_lag(&self) -> &Recorder {
        &self.sheet.pacer_lag
    }

    /// The part of the lag that is waiting for a slot; empty in the closed model.
    #[must_use]
    pub fn slot_wait(&self) -> &Recorder {
        &self.sheet.slot_wait
    }

    /// Arrivals per second that the open model offered, as the schedule came out; none in the closed model.
    #[must_use]
    pub fn offered_per_second(&self) -> Option<f64> {
        self.offered.map(|offered| offered.rate)
    }

    /// What was recorded of the rollouts that were sent, if that was asked for ([`crate::Options::record`]).
    #[must_use]
    pub fn recording(&self) -> Option<&Recording> {
        self.recording.as_ref()
    }

    /// Reasons against believing the figures; [`Outcome::fill`] writes the same into the report.
    #[must_use]
    pub fn invalid(&self) -> Vec<String> {
        self.doubts()
    }

    /// Those of [`Outcome::invalid`] by which the generator or its machine gave out: nothing is known then of what it drove.
    #[must_use]
    pub fn generator_limits(&self) -> Vec<String> {
        self.facts().generator()
    }

    /// What was measured, by endpoint, in nanoseconds: `rollout.response`, `rollout.service`, `rollout.lag`, `overhead`,
    /// `steps.<step>.service`, and for rollouts all of whose calls came with the service's books, one sample a rollout:
    /// `stages.<stage>` and `groups.<group>` (exclusive time summed over the rollout's calls). A stage that never ran is left
    /// out; a group never is. Where one did not run in a rollout the sample is 1 ns, the least there is.
    #[must_use]
    pub fn histograms(&self) -> BTreeMap<String, Histogram<u64>> {
        let sheet = &self.sheet;
        let mut all = BTreeMap::new();
        let mut put = |name: String, recorder: &Recorder| {
            if !recorder.is_empty() {
                all.insert(name, recorder.histogram());
            }
        };
        put("rollout.response".to_owned(), &sheet.response);
        put("rollout.service".to_owned(), &sheet.service);
        put("rollout.lag".to_owned(), &sheet.lag);
        put("overhead".to_owned(), &sheet.overhead);
        for (step, recorder) in Step::ALL.iter().zip(&sheet.steps) {
            put(format!("steps.{}.service", step.name()), recorder);
        }
        if sheet.joined == 0 {
            return all;
        }
        let stages = Stage::ALL.iter().zip(&sheet.per_rollout.stages).filter(|(_, r)| !r.is_empty());
        let stages = stages.map(|(stage, r)| (format!("stages.{}", stage.name()), r));
        let groups = Group::ALL.iter().zip(&sheet.per_rollout.groups);
        let groups = groups.filter(|(group, _)| **group != Group::Background);
        let groups = groups.map(|(group, r)| (format!("groups.{}", group.name()), r));
        for (name, recorder) in stages.chain(groups) {
            let mut histogram = recorder.histogram();
            // Cannot fail: 1 ns fits every histogram.
            let _ = histogram.record_n(1, sheet.joined - recorder.count());
            all.insert(name, histogram);
        }
        all
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
            pacer_lag: self.offered.map(|_| sheet.pacer_lag.to_dist()),
            slot_wait: self.offered.map(|_| sheet.slot_wait.to_dist()),
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
            (step.name().to_owned(), Times { response: service.clone(), service, ..Times::default() })
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
        self.facts().doubts()
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            sheet: &self.sheet,
            failures: &self.failures,
            identity: &self.identity,
            interrupted: self.interrupted,
            books: self.books,
            lanes: self.lanes,
            health: self.health,
            open: self.offered,
        }
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
