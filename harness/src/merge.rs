//! Many slices of one side as one rung of the report.

use std::collections::BTreeMap;

use mipro_bench_reports::{
    Accounting, CountSet, Dist, OperationReport, Recorder, Rung, StageReport, Times, Validity,
};

#[cfg(test)]
mod tests;

/// All of `slices` together: distributions merged, counts and times a rollout weighted by the rollouts that succeeded. What
/// only a whole run has (processes, losses, makespan) is left empty. `None` without slices.
pub(crate) fn merge<'a>(slices: impl IntoIterator<Item = &'a Rung>) -> Option<Rung> {
    let slices: Vec<&Rung> = slices.into_iter().collect();
    let first = *slices.first()?;
    let ok: u64 = slices.iter().map(|slice| slice.accounting.ok).sum();
    let mut reasons: Vec<String> = slices.iter().flat_map(|slice| slice.validity.reasons.clone()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let counts = |of: fn(&CountSet) -> f64| weighted(&slices, ok, |slice| of(&slice.counts.critical));
    let mut rung = Rung {
        rollouts: slices.iter().map(|slice| slice.rollouts).sum(),
        wall_seconds: slices.iter().map(|slice| slice.wall_seconds).sum(),
        accounting: slices.iter().fold(Accounting::default(), |sum, slice| add(sum, &slice.accounting)),
        validity: Validity { ok: reasons.is_empty(), reasons },
        rollout: Times {
            response: dists(&slices, |slice| Some(&slice.rollout.response)),
            service: dists(&slices, |slice| Some(&slice.rollout.service)),
            lag: Some(dists(&slices, |slice| slice.rollout.lag.as_ref())),
            pacer_lag: some_dists(&slices, |slice| slice.rollout.pacer_lag.as_ref()),
            slot_wait: some_dists(&slices, |slice| slice.rollout.slot_wait.as_ref()),
        },
        overhead: dists(&slices, |slice| Some(&slice.overhead)),
        steps: keys(&slices, |slice| &slice.steps).map(|name| (name.clone(), step(&slices, &name))).collect(),
        stages: stages(&slices, ok, |slice| &slice.stages),
        stage_groups: stages(&slices, ok, |slice| &slice.stage_groups),
        operations: keys(&slices, |slice| &slice.operations)
            .map(|name| (name.clone(), operation(&slices, &name)))
            .collect(),
        ..Rung { makespan: None, state_growth: None, ..first.clone() }
    };
    rung.counts.critical = CountSet {
        db_round_trips: counts(|c| c.db_round_trips),
        db_statements: counts(|c| c.db_statements),
        db_connections: counts(|c| c.db_connections),
        s3_get: counts(|c| c.s3_get),
        s3_put: counts(|c| c.s3_put),
        s3_bytes: counts(|c| c.s3_bytes),
        llm_calls: counts(|c| c.llm_calls),
        log_syncs: counts(|c| c.log_syncs),
    };
    Some(rung)
}

fn weighted(slices: &[&Rung], ok: u64, of: impl Fn(&Rung) -> f64) -> f64 {
    let sum: f64 = slices.iter().map(|slice| of(slice) * slice.accounting.ok as f64).sum();
    if ok == 0 { 0.0 } else { sum / ok as f64 }
}

fn dists<'a>(slices: &[&'a Rung], of: impl Fn(&'a Rung) -> Option<&'a Dist>) -> Dist {
    let mut all = Recorder::new();
    for dist in slices.iter().filter_map(|slice| of(slice)) {
        // What the generator just wrote can be read; if it can't, its samples are missing from the count, too.
        if let Ok(recorder) = Recorder::from_dist(dist) {
            all.merge(&recorder);
        }
    }
    all.to_dist()
}

/// The same of what only some have: `None` where none has it.
fn some_dists<'a>(slices: &[&'a Rung], of: impl Fn(&'a Rung) -> Option<&'a Dist>) -> Option<Dist> {
    slices.iter().any(|slice| of(slice).is_some()).then(|| dists(slices, of))
}

/// Every key of a map that any slice has.
fn keys<'a, T: 'a>(
    slices: &[&'a Rung],
    map: impl Fn(&'a Rung) -> &'a BTreeMap<String, T>,
) -> impl Iterator<Item = String> {
    let mut all: Vec<String> = slices.iter().flat_map(|slice| map(slice).keys().cloned()).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter()
}

fn step(slices: &[&Rung], name: &str) -> Times {
    Times {
        response: dists(slices, |slice| slice.steps.get(name).map(|step| &step.response)),
        service: dists(slices, |slice| slice.steps.get(name).map(|step| &step.service)),
        ..Times::default()
    }
}

type Stages = BTreeMap<String, StageReport>;

fn stages<'a>(slices: &[&'a Rung], ok: u64, map: impl Fn(&'a Rung) -> &'a Stages + Copy) -> Stages {
    let one = |name: &str| {
        let per_rollout = |of: fn(&StageReport) -> f64| {
            let sum: f64 = slices
                .iter()
                .filter_map(|slice| Some(of(map(slice).get(name)?) * slice.accounting.ok as f64))
                .sum();
            if ok == 0 { 0.0 } else { sum / ok as f64 }
        };
        StageReport {
            dist: dists(slices, |slice| map(slice).get(name).map(|stage| &stage.dist)),
            per_rollout_us: per_rollout(|stage| stage.per_rollout_us),
            calls_per_rollout: per_rollout(|stage| stage.calls_per_rollout),
            overlap_per_rollout_us: per_rollout(|stage| stage.overlap_per_rollout_us),
        }
    };
    keys(slices, map).map(|name| (name.clone(), one(&name))).collect()
}

fn operation(slices: &[&Rung], name: &str) -> OperationReport {
    let of =
        |dist: fn(&OperationReport) -> &Dist| dists(slices, |slice| slice.operations.get(name).map(dist));
    let calls = |operation: &OperationReport| operation.total.count as f64;
    let all: f64 = slices.iter().filter_map(|slice| slice.operations.get(name).map(calls)).sum();
    let mut stage_mean_us: BTreeMap<String, f64> = BTreeMap::new();
    for operation in slices.iter().filter_map(|slice| slice.operations.get(name)) {
        for (stage, mean_us) in &operation.stage_mean_us {
            *stage_mean_us.entry(stage.clone()).or_default() += mean_us * calls(operation) / all.max(1.0);
        }
    }
    OperationReport {
        load_db: of(|o| &o.load_db),
        load_s3: of(|o| &o.load_s3),
        save_s3: of(|o| &o.save_s3),
        save_db: of(|o| &o.save_db),
        other: of(|o| &o.other),
        total: of(|o| &o.total),
        stage_mean_us,
    }
}

fn add(a: Accounting, b: &Accounting) -> Accounting {
    Accounting {
        intended: a.intended + b.intended,
        ok: a.ok + b.ok,
        http_4xx: a.http_4xx + b.http_4xx,
        http_5xx: a.http_5xx + b.http_5xx,
        invalid: a.invalid + b.invalid,
        connect: a.connect + b.connect,
        tls: a.tls + b.tls,
        write: a.write + b.write,
        read: a.read + b.read,
        timeout: a.timeout + b.timeout,
        deadline: a.deadline + b.deadline,
        unsent: a.unsent + b.unsent,
        in_flight_at_end: a.in_flight_at_end + b.in_flight_at_end,
    }
}
