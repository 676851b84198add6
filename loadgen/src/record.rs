//! The sums of a run, in constant memory: what lanes write while they go, and what is merged at the end.

use mipro_bench_reports::{Accounting, Recorder};
use mipro_telemetry::{Breakdown, Group, Operation, Phase, Stage, StageEntry};

use crate::account::{self, Class, FailureCount, note};
use crate::join;
use crate::session::{Call, Finished, Step};

#[cfg(test)]
mod tests;

/// Everything that is kept of rollouts. Figures of stages, operations and counts come from rollouts that succeeded, so that
/// quick failures flatter nothing.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    pub(crate) accounting: Accounting,
    pub(crate) failures: Vec<FailureCount>,
    pub(crate) lag: Recorder,
    /// Open model: the parts of the lag.
    pub(crate) pacer_lag: Recorder,
    pub(crate) slot_wait: Recorder,
    /// Open model: the lag of rollouts for which a slot was free, so that nobody but the generator made them wait.
    pub(crate) own_lag: Recorder,
    pub(crate) service: Recorder,
    pub(crate) response: Recorder,
    pub(crate) overhead: Recorder,
    pub(crate) steps: [Recorder; Step::ALL.len()],
    pub(crate) stages: [StageSums; Stage::ALL.len()],
    pub(crate) groups: [StageSums; Group::ALL.len()],
    pub(crate) per_rollout: PerRollout,
    pub(crate) operations: [OperationSums; Operation::ALL.len()],
    pub(crate) counts: CountSums,
    pub(crate) identity: IdentitySums,
    pub(crate) growth: Growth,
    /// Rollouts all of whose calls came with the server's books.
    pub(crate) joined: u64,
    pub(crate) acknowledged: u64,
    pub(crate) rewards: u64,
    pub(crate) reward_sum: f64,
    /// Failures that were this machine's: open files, local ports.
    pub(crate) exhausted: [u64; 2],
}

/// One stage's, or one roll-up's, sums.
#[derive(Debug, Default)]
pub(crate) struct StageSums {
    /// Exclusive time per call in which it ran.
    pub(crate) dist: Recorder,
    pub(crate) count: u64,
    pub(crate) overlap_ns: u64,
}

/// Exclusive time by stage and by roll-up, summed over all calls of one rollout: a sample for each rollout in which it ran.
/// From rollouts all of whose calls came with books, so that those in which it did not run are the rest of
/// [`Sheet::joined`].
#[derive(Debug, Default)]
pub(crate) struct PerRollout {
    pub(crate) stages: [Recorder; Stage::ALL.len()],
    pub(crate) groups: [Recorder; Group::ALL.len()],
}

/// One operation's sums, in the rows of the seed table.
#[derive(Debug, Default)]
pub(crate) struct OperationSums {
    pub(crate) load_db: Recorder,
    pub(crate) load_s3: Recorder,
    pub(crate) save_s3: Recorder,
    pub(crate) save_db: Recorder,
    pub(crate) other: Recorder,
    pub(crate) total: Recorder,
    /// Exclusive time by stage, `other` among them.
    pub(crate) stage_ns: [u64; Stage::ALL.len()],
    /// Totals less the LLM.
    pub(crate) own_ns: u64,
}

/// Counts over all rollouts that succeeded.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct CountSums {
    pub(crate) db_round_trips: u64,
    pub(crate) db_statements: u64,
    pub(crate) s3_get: u64,
    pub(crate) s3_put: u64,
    pub(crate) s3_bytes: u64,
    pub(crate) llm_calls: u64,
}

/// Whether the two sides' times fit together.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct IdentitySums {
    pub(crate) checked: u64,
    pub(crate) client_below_server: u64,
    pub(crate) sums_off: u64,
}

/// A rollout's instants, all on the client's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Intended start to sent.
    pub(crate) lag_ns: u64,
    /// Sent to done (or to now, where it was cut off).
    pub(crate) service_ns: u64,
    /// Open model only.
    pub(crate) released: Option<Released>,
}

/// What the pacer did for a rollout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Released {
    /// Intended start to released.
    pub(crate) pacer_lag_ns: u64,
    /// Whether a slot was free then.
    pub(crate) slot_free: bool,
}

impl Sheet {
    /// A sheet for runs over that many systems.
    pub(crate) fn new(systems: usize) -> Self {
        Self { growth: Growth::new(systems), ..Self::default() }
    }

    /// Adds a rollout that ended. `place` is its system and its ordinal among that system's rollouts.
    pub(crate) fn finished(&mut self, times: Times, finished: &Finished, place: (usize, u64)) {
        self.lag(times);
        self.acknowledged += u64::from(finished.acknowledged);
        if let Some(reward) = finished.reward {
            self.rewards += 1;
            self.reward_sum += reward;
        }
        for call in &finished.calls {
            self.check(call);
            // A timeout counts with the time that was waited; other failures say nothing of the time of a success.
            if call.failure.as_ref().is_none_or(|f| f.class == Class::Timeout) {
                self.steps[call.step as usize].record_ns(call.service_ns);
            }
        }
        match finished.failed() {
            None => {
                self.accounting.ok += 1;
                self.times(times);
                self.success(finished, place);
            }
            Some((step, failure)) => {
                failure.class.count(&mut self.accounting);
                if let Some(exhausted) = failure.exhausted {
                    self.exhausted[exhausted as usize] += 1;
                }
                note(&mut self.failures, step.name(), failure, 1);
                if failure.class == Class::Timeout {
                    self.times(times);
                }
            }
        }
    }

    /// Adds a rollout that still ran when the run ended: it took at least this long.
    pub(crate) fn cut_off(&mut self, times: Times) {
        self.lag(times);
        self.accounting.in_flight_at_end += 1;
        self.times(times);
    }

    /// Adds a rollout that was given up when its deadline had passed: it took at least this long.
    pub(crate) fn past_deadline(&mut self, times: Times) {
        self.lag(times);
        self.accounting.deadline += 1;
        self.times(times);
    }

    /// Adds a rollout whose deadline had passed before a slot was free: it was not sent, and waited this long.
    pub(crate) fn expired(&mut self, waited_ns: u64) {
        self.accounting.deadline += 1;
        self.response.record_ns(waited_ns);
    }

    /// Adds a rollout that was due and never sent; it would have taken longer than this. (Accounted for at the end, with those
    /// that were never due.)
    pub(crate) fn unsent(&mut self, waited_ns: u64) {
        // What was to begin at the very end has not waited, nor has what was released after it.
        if waited_ns > 0 {
            self.response.record_ns(waited_ns);
        }
    }

    fn lag(&mut self, times: Times) {
        self.lag.record_ns(times.lag_ns);
        if let Some(released) = times.released {
            self.pacer_lag.record_ns(released.pacer_lag_ns);
            self.slot_wait.record_ns(times.lag_ns.saturating_sub(released.pacer_lag_ns));
            if released.slot_free {
                self.own_lag.record_ns(times.lag_ns);
            }
        }
    }

    fn times(&mut self, times: Times) {
        self.service.record_ns(times.service_ns);
        self.response.record_ns(times.service_ns.saturating_add(times.lag_ns));
    }

    fn check(&mut self, call: &Call) {
        if call.books.is_empty() {
            return;
        }
        let server_ns: u64 = call.books.iter().map(|b| b.total_ns).sum();
        self.identity.checked += 1;
        self.identity.client_below_server += u64::from(call.service_ns < server_ns);
        self.identity.sums_off += u64::from(call.books.iter().any(join::sum_is_off));
    }

    fn success(&mut self, finished: &Finished, place: (usize, u64)) {
        for books in finished.calls.iter().flat_map(|c| &c.books) {
            self.books(books);
        }
        if finished.planned_us.is_some() && finished.calls.iter().all(|c| c.books.is_empty()) {
            // No service tells, but a mock LLM has been asked: the floor's rollouts have their call, too.
            self.counts.llm_calls += 1;
        }
        if finished.calls.iter().any(|c| c.books.is_empty()) {
            return;
        }
        self.joined += 1;
        let own_ns = |b: &Breakdown| b.total_ns.saturating_sub(join::llm_ns(b));
        let all = finished.calls.iter().flat_map(|c| &c.books);
        self.overhead.record_ns(all.clone().map(own_ns).sum());
        self.per_rollout.add(all.clone());
        let puts = all.flat_map(|b| &b.entries).filter(|e| e.stage == Stage::S3Put && e.count > 0);
        let sizes = puts.map(|e| e.bytes / e.count);
        if let Some(last) = self.growth.sizes(sizes) {
            self.growth.point(place.0, place.1 as f64, last as f64);
        }
    }

    /// Adds one request's books.
    fn books(&mut self, books: &Breakdown) {
        self.counts.add(&books.entries);
        for stage in Stage::ALL {
            self.stages[*stage as usize].add(books.entries.iter().filter(|e| e.stage == *stage));
        }
        for group in Group::ALL {
            self.groups[*group as usize].add(books.entries.iter().filter(|e| e.stage.group() == *group));
        }
        for other in [&mut self.stages[Stage::Other as usize], &mut self.groups[Group::Other as usize]] {
            other.dist.record_ns(books.other_ns);
            other.count += 1;
        }
        self.operations[books.operation as usize].add(books);
    }

    /// Adds another sheet's rollouts.
    pub(crate) fn merge(&mut self, other: &Self) {
        account::add(&mut self.accounting, &other.accounting);
        for failure in &other.failures {
            note(&mut self.failures, failure.step, &failure.failure, failure.count);
        }
        self.lag.merge(&other.lag);
        self.pacer_lag.merge(&other.pacer_lag);
        self.slot_wait.merge(&other.slot_wait);
        self.own_lag.merge(&other.own_lag);
        self.exhausted.iter_mut().zip(other.exhausted).for_each(|(a, b)| *a += b);
        self.service.merge(&other.service);
        self.response.merge(&other.response);
        self.overhead.merge(&other.overhead);
        self.steps.iter_mut().zip(&other.steps).for_each(|(a, b)| a.merge(b));
        self.stages.iter_mut().zip(&other.stages).for_each(|(a, b)| a.merge(b));
        self.groups.iter_mut().zip(&other.groups).for_each(|(a, b)| a.merge(b));
        self.per_rollout.merge(&other.per_rollout);
        self.operations.iter_mut().zip(&other.operations).for_each(|(a, b)| a.merge(b));
        self.counts.merge(&other.counts);
        self.identity.checked += other.identity.checked;
        self.identity.client_below_server += other.identity.client_below_server;
        self.identity.sums_off += other.identity.sums_off;
        self.growth.merge(&other.growth);
        self.joined += other.joined;
        self.acknowledged += other.acknowledged;
        self.rewards += other.rewards;
        self.reward_sum += other.reward_sum;
    }
}

impl StageSums {
    /// Adds the entries that one call has of this stage; nothing when it did not run.
    fn add<'a>(&mut self, entries: impl Iterator<Item = &'a StageEntry>) {
        let (mut ran, mut exclusive_ns) = (false, 0);
        for entry in entries {
            ran = true;
            exclusive_ns += entry.exclusive_ns;
            self.count += entry.count;
            self.overlap_ns += entry.overlap_ns;
        }
        if ran {
            self.dist.record_ns(exclusive_ns);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.dist.merge(&other.dist);
        self.count += other.count;
        self.overlap_ns += other.overlap_ns;
    }
}

impl PerRollout {
    /// Adds one rollout's books.
    fn add<'a>(&mut self, books: impl Iterator<Item = &'a Breakdown>) {
        let (mut stages, mut groups) = ([None; Stage::ALL.len()], [None; Group::ALL.len()]);
        let mut charge = |stage: Stage, ns: u64| {
            for place in [&mut stages[stage as usize], &mut groups[stage.group() as usize]] {
                *place = Some(place.unwrap_or(0) + ns);
            }
        };
        for book in books {
            book.entries.iter().for_each(|e| charge(e.stage, e.exclusive_ns));
            charge(Stage::Other, book.other_ns);
        }
        let record = |(recorder, ns): (&mut Recorder, Option<u64>)| {
            if let Some(ns) = ns {
                recorder.record_ns(ns);
            }
        };
        self.stages.iter_mut().zip(stages).for_each(record);
        self.groups.iter_mut().zip(groups).for_each(record);
    }

    fn merge(&mut self, other: &Self) {
        self.stages.iter_mut().zip(&other.stages).for_each(|(a, b)| a.merge(b));
        self.groups.iter_mut().zip(&other.groups).for_each(|(a, b)| a.merge(b));
    }
}

impl OperationSums {
    fn add(&mut self, books: &Breakdown) {
        let rows = [
            (&mut self.load_db, Phase::Load, Group::Db),
            (&mut self.load_s3, Phase::Load, Group::S3),
            (&mut self.save_s3, Phase::Save, Group::S3),
            (&mut self.save_db, Phase::Save, Group::Db),
        ];
        for (recorder, phase, group) in rows {
            if books.entries.iter().any(|e| e.phase == Some(phase) && e.stage.group() == group) {
                recorder.record_ns(books.phase_group_ns(phase, group));
            }
        }
        self.other.record_ns(books.other_ns);
        self.total.record_ns(books.total_ns);
        self.own_ns += books.total_ns.saturating_sub(join::llm_ns(books));
        for entry in &books.entries {
            self.stage_ns[entry.stage as usize] += entry.exclusive_ns;
        }
        self.stage_ns[Stage::Other as usize] += books.other_ns;
    }

    fn merge(&mut self, other: &Self) {
        self.load_db.merge(&other.load_db);
        self.load_s3.merge(&other.load_s3);
        self.save_s3.merge(&other.save_s3);
        self.save_db.merge(&other.save_db);
        self.other.merge(&other.other);
        self.total.merge(&other.total);
        self.own_ns += other.own_ns;
        self.stage_ns.iter_mut().zip(&other.stage_ns).for_each(|(a, b)| *a += b);
    }
}

impl CountSums {
    fn add(&mut self, entries: &[StageEntry]) {
        for entry in entries {
            match entry.stage.group() {
                Group::Db => self.db_round_trips += entry.round_trips,
                Group::S3 => self.s3_bytes += entry.bytes,
                _ => {}
            }
            match entry.stage {
                Stage::DbQuery => self.db_statements += entry.count,
                Stage::S3Get => self.s3_get += entry.count,
                Stage::S3Put => self.s3_put += entry.count,
                Stage::LlmFirstByte => self.llm_calls += entry.count,
                _ => {}
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.db_round_trips += other.db_round_trips;
        self.db_statements += other.db_statements;
        self.s3_get += other.s3_get;
        self.s3_put += other.s3_put;
        self.s3_bytes += other.s3_bytes;
        self.llm_calls += other.llm_calls;
    }
}

/// How whole-state PUTs grow: a straight line through (rollout of its system, bytes), one slope for all systems, each with a
/// level of its own.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    pub(crate) bytes_min: Option<u64>,
    pub(crate) bytes_max: u64,
    lines: Vec<Line>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Line {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Growth {
    fn new(systems: usize) -> Self {
        Self { lines: vec![Line::default(); systems.max(1)], ..Self::default() }
    }

    /// Notes one rollout's PUTs and gives the last one's size.
    fn sizes(&mut self, sizes: impl Iterator<Item = u64>) -> Option<u64> {
        let mut last = None;
        for bytes in sizes {
            self.bytes_min = Some(self.bytes_min.map_or(bytes, |min| min.min(bytes)));
            self.bytes_max = self.bytes_max.max(bytes);
            last = Some(bytes);
        }
        last
    }

    fn point(&mut self, system: usize, x: f64, y: f64) {
        if let Some(line) = self.lines.get_mut(system) {
            line.n += 1.0;
            line.x += x;
            line.y += y;
            line.xx += x * x;
            line.xy += x * y;
        }
    }

    /// Bytes per rollout by least squares; 0 until two rollouts of one system were seen.
    pub(crate) fn slope(&self) -> f64 {
        let seen = || self.lines.iter().filter(|l| l.n > 0.0);
        let sxx: f64 = seen().map(|l| l.xx - l.x * l.x / l.n).sum();
        let sxy: f64 = seen().map(|l| l.xy - l.x * l.y / l.n).sum();
        if sxx > 0.0 { sxy / sxx } else { 0.0 }
    }

    fn merge(&mut self, other: &Self) {
        self.bytes_min = match (self.bytes_min, other.bytes_min) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.bytes_max = self.bytes_max.max(other.bytes_max);
        for (mine, theirs) in self.lines.iter_mut().zip(&other.lines) {
            mine.n += theirs.n;
            mine.x += theirs.x;
            mine.y += theirs.y;
            mine.xx += theirs.xx;
            mine.xy += theirs.xy;
        }
    }
}
