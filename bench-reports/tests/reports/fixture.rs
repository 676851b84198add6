//! A report such as a full ladder on the cross-region link gives: made up, but of the right sizes, the same every time.

use std::collections::BTreeMap;

use mipro_bench_reports::{
    Accounting, CountSet, Counts, DatabaseReport, Dist, Environment, InvalidPair, Loss, LossCount, Makespan,
    OperationReport, ProcessReport, Recorder, Report, ResourcePoint, Run, Rung, SCHEMA, Speedup, StageReport,
    StateGrowth, Times, Validity, Verdict, seed_table,
};
use mipro_telemetry::{Group, Stage};

mod ablation;
mod comparisons;
mod flames;
mod plans;
mod profile;

pub(crate) use flames::{flamegraph, hostile_flamegraph};
pub(crate) use profile::profiled;

use Stage::{DbAcquire, DbQuery, Other, S3Get, S3Put};
use plans::{Cost, PLANS, Plan};

/// `count` samples around `mean_ms`: evenly spread quantiles of a skewed curve, in an order that hides their rank.
fn samples(mean_ms: f64, spread: f64, count: usize, salt: usize) -> Vec<f64> {
    let step = if count.is_multiple_of(7) { 3 } else { 7 };
    (0..count)
        .map(|index| {
            let rank = (index * step + salt) % count;
            let p = (rank as f64 + 0.5) / count as f64;
            mean_ms * (spread * (p / (1.0 - p)).ln()).exp()
        })
        .collect()
}

fn dist(values_ms: &[f64]) -> Dist {
    values_ms.iter().map(|ms| (ms * 1e6) as u64).collect::<Recorder>().to_dist()
}

fn mean_us(values_ms: &[f64]) -> f64 {
    (values_ms.iter().sum::<f64>() / values_ms.len() as f64 * 1e6).round() / 1e3
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn add(into: &mut Vec<f64>, values: &[f64]) {
    into.resize(values.len().max(into.len()), 0.0);
    into.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

#[derive(Default)]
struct Sums {
    stages: BTreeMap<Stage, Vec<f64>>,
    calls: BTreeMap<Stage, usize>,
    overhead: Vec<f64>,
    llm: Vec<f64>,
}

fn operation(name: &str, cost: Cost, count: usize, sums: &mut Sums) -> OperationReport {
    let (mut report, mut total, mut by_row) =
        (OperationReport::default(), Vec::new(), BTreeMap::<&str, Vec<f64>>::new());
    for (stage, mean_ms) in cost {
        let is_llm = stage.group() == Group::Llm;
        let spread = if is_llm { 0.11 } else { 0.08 };
        let values = samples(*mean_ms, spread, count, name.len() * 5 + *stage as usize);
        report.stage_mean_us.insert(stage.name().to_owned(), mean_us(&values));
        add(&mut total, &values);
        add(if is_llm { &mut sums.llm } else { &mut sums.overhead }, &values);
        add(sums.stages.entry(*stage).or_default(), &values);
        *sums.calls.entry(*stage).or_default() += 1;
        let half: Vec<f64> = values.iter().map(|ms| ms / 2.0).collect();
        match stage {
            DbAcquire | DbQuery => {
                add(by_row.entry("load_db").or_default(), &half);
                add(by_row.entry("save_db").or_default(), &half);
            }
            S3Get => add(by_row.entry("load_s3").or_default(), &values),
            S3Put => add(by_row.entry("save_s3").or_default(), &values),
            Other => report.other = dist(&values),
            _ => {}
        }
    }
    let mut row = |name: &str| by_row.remove(name).map(|values| dist(&values)).unwrap_or_default();
    (report.load_db, report.load_s3) = (row("load_db"), row("load_s3"));
    (report.save_s3, report.save_db) = (row("save_s3"), row("save_db"));
    report.total = dist(&total);
    report
}

fn stage_report(values: &[f64], calls: usize) -> StageReport {
    StageReport {
        dist: dist(values),
        per_rollout_us: mean_us(values),
        calls_per_rollout: calls as f64,
        overlap_per_rollout_us: 0.0,
    }
}

fn count_set([db_round_trips, db_statements, s3_get, s3_put, s3_bytes]: [f64; 5]) -> CountSet {
    CountSet { db_round_trips, db_statements, s3_get, s3_put, s3_bytes, ..CountSet::default() }
}

fn rung(plan: &Plan, started_seconds: f64) -> Rung {
    let count = plan.rollouts;
    let mut sums = Sums::default();
    let mut rung = Rung {
        name: plan.name.to_owned(),
        title: format!("rung {}", plan.name),
        turns_on: plan.turns_on.to_owned(),
        durability: plan.durability.to_owned(),
        rollouts: count as u64,
        concurrency: plan.concurrency,
        systems: 1,
        started_seconds,
        accounting: Accounting { intended: count as u64, ok: count as u64, ..Accounting::default() },
        validity: Validity { ok: true, reasons: vec![] },
        ..Rung::default()
    };
    for (name, cost) in plan.calls {
        rung.operations.insert((*name).to_owned(), operation(name, cost, count, &mut sums));
    }
    let mut rollout = samples(9.4, 0.05, count, 3);
    if plan.calls.is_empty() {
        add(&mut rollout, &samples(1998.0, 0.11, count, 71));
    } else {
        add(&mut rollout, &sums.overhead);
        add(&mut rollout, &sums.llm);
        rung.overhead = dist(&sums.overhead);
        group_up(&mut rung, &sums);
        rung.counts = Counts {
            critical: count_set(plan.counts[0]),
            background: count_set(plan.counts[1]),
            ..Counts::default()
        };
        rung.counts.critical.llm_calls = 1.0;
        rung.counts.background.log_syncs = if plan.durability == "disk" { 2.71 } else { 0.0 };
    }
    rung.wall_seconds = rounded(rollout.iter().sum::<f64>() / 1000.0 / f64::from(plan.concurrency));
    rung.rollout = Times {
        response: dist(&rollout),
        service: dist(&rollout),
        lag: Some(dist(&samples(0.02, 0.3, count, 1))),
        ..Times::default()
    };
    rung.steps.insert("rollout".to_owned(), rung.rollout.clone());
    processes(&mut rung, plan);
    rung
}

fn group_up(rung: &mut Rung, sums: &Sums) {
    let mut groups: BTreeMap<Group, (Vec<f64>, usize)> = BTreeMap::new();
    for (stage, values) in &sums.stages {
        rung.stages.insert(stage.name().to_owned(), stage_report(values, sums.calls[stage]));
        let group = groups.entry(stage.group()).or_default();
        add(&mut group.0, values);
        group.1 += sums.calls[stage];
    }
    for (group, (values, calls)) in groups {
        rung.stage_groups.insert(group.name().to_owned(), stage_report(&values, calls));
    }
}

fn processes(rung: &mut Rung, plan: &Plan) {
    let through = !plan.calls.is_empty();
    if through {
        let service =
            ProcessReport { cpu_seconds: 0.4 + plan.counts[0][0] * 0.02, rss_max_bytes: 31_457_280 };
        rung.process.insert("service".to_owned(), service);
    }
    rung.process.insert("loadgen".to_owned(), ProcessReport { cpu_seconds: 0.11, rss_max_bytes: 18_874_368 });
    rung.process.insert("mock".to_owned(), ProcessReport { cpu_seconds: 0.21, rss_max_bytes: 22_020_096 });
    if plan.counts[0][0] > 0.0 {
        let says = [("select".to_owned(), 61.0), ("upsert".to_owned(), 118.0)];
        rung.database = DatabaseReport { server_execution_us: says.into_iter().collect() };
    }
    if plan.counts[0][2] > 0.0 || plan.name == "write-through" {
        rung.state_growth = Some(StateGrowth {
            history: 0,
            bytes_min: 9_412,
            bytes_max: 61_031,
            bytes_per_rollout: 1_291.4,
            put_p50_us: 104_000.0,
            get_p50_us: 117_000.0,
        });
    }
    if plan.concurrency > 1 {
        rung.makespan = Some(Makespan { planned_seconds: 20.11, measured_seconds: 20.42, ratio: 1.0154 });
    }
    if through {
        // A service with history in its state grows with its clients; one with bounded state hardly does.
        let each_bytes = if plan.durability == "stored" { 400_000 } else { 60_000 };
        rung.resources = [1_u32, 10, 50]
            .map(|clients| ResourcePoint {
                clients,
                cpu_pct: rounded(0.4 + 0.31 * f64::from(clients)),
                rss_bytes: 30_408_704 + u64::from(clients) * each_bytes,
            })
            .to_vec();
    }
    let count = |lost, acknowledged| LossCount { acknowledged, recovered: acknowledged - lost, lost };
    rung.loss = plan.lost.map(|[killed, gone, racing]| Loss {
        process_killed: Some(count(killed, 60)),
        host_gone: Some(count(gone, 60)),
        concurrent_calls: Some(count(racing, 1000)),
    });
}
/// The whole report.
pub(crate) fn report() -> Report {
    let mut rungs: Vec<Rung> = Vec::new();
    let mut started = 4.0;
    for plan in &PLANS {
        let mut rung = rung(plan, started);
        started = rounded(started + rung.wall_seconds + 2.0);
        let first = rungs.iter().find(|rung| rung.overhead.count > 0).unwrap_or(&rung);
        if let (Some(before), Some(after)) = (first.overhead.p50_us, rung.overhead.p50_us) {
            let rollout = first.rollout.response.p50_us.unwrap() / rung.rollout.response.p50_us.unwrap();
            rung.speedup = Some(Speedup { overhead: rounded(before / after), rollout: rounded(rollout) });
        }
        rungs.push(rung);
    }
    let seed_rows = seed_table::compare(rungs.iter().find(|rung| rung.name == "blob").unwrap());
    Report {
        schema: SCHEMA.to_owned(),
        run: Run {
            id: "20260302T101502Z-3f1c2ab".to_owned(),
            started_at: "2026-03-02T10:15:02.000Z".to_owned(),
            finished_at: "2026-03-02T10:21:44.000Z".to_owned(),
            commit: "3f1c2ab".to_owned(),
            dirty: false,
            command: "bench --rungs all --link cross-region --llm seed --stack auto".to_owned(),
            seed: 42,
            interrupted: false,
        },
        environment: environment(),
        profile: None,
        ablation: Some(ablation::ablation(&rungs)),
        rungs,
        seed_rows,
        comparisons: vec![comparisons::revisions(), comparisons::rungs()],
        verdicts: vec![
            Verdict {
                name: "stages + other = total, every operation".to_owned(),
                outcome: "pass".to_owned(),
                detail: "largest difference 0.004 ms".to_owned(),
            },
            Verdict {
                name: "client total ≥ server total, every request".to_owned(),
                outcome: "pass".to_owned(),
                detail: "1,140 requests compared".to_owned(),
            },
        ],
    }
}

fn environment() -> Environment {
    Environment {
        cpu: "Example CPU 9000 @ 2.60GHz".to_owned(),
        cores: 2,
        memory_bytes: 8 << 30,
        kernel: "6.1.0".to_owned(),
        os: "Debian GNU/Linux 12".to_owned(),
        steal_pct: 1.3,
        noise: "A 10 ms sleep overslept by 0.2 ms at p50 and 1.9 ms at p99.".to_owned(),
        stack: "native".to_owned(),
        database: "PostgreSQL 15.8".to_owned(),
        object_store: "mipro testbed S3 0.1.0".to_owned(),
        link: "cross-region (DB RTT 70 ms, S3 100 ms, up 10 Mbit/s; fitted to the seed's table)".to_owned(),
        llm: "seed (1,300–2,800 ms, clipped lognormal)".to_owned(),
        dataset: "built-in (77 intents)".to_owned(),
        log_filesystem: "ext4".to_owned(),
        noise_floor: Some(ablation::noise_floor()),
    }
}

/// A report whose every text tries to break out of where it is put.
pub(crate) fn hostile() -> Report {
    let mut report = report();
    let bad = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"' onload='alert(3) &amp; \u{1b}[31mred\u{7}";
    let set = |text: &mut String| bad.clone_into(text);
    let environment = &mut report.environment;
    for text in [
        &mut environment.cpu,
        &mut environment.kernel,
        &mut environment.os,
        &mut environment.noise,
        &mut environment.stack,
        &mut environment.database,
        &mut environment.object_store,
        &mut environment.link,
        &mut environment.llm,
        &mut environment.dataset,
        &mut environment.log_filesystem,
        &mut report.run.id,
        &mut report.run.started_at,
        &mut report.run.finished_at,
        &mut report.run.commit,
        &mut report.run.command,
    ] {
        set(text);
    }
    for rung in &mut report.rungs {
        set(&mut rung.name);
        set(&mut rung.title);
        set(&mut rung.turns_on);
        set(&mut rung.durability);
        rung.validity = Validity { ok: false, reasons: vec![bad.to_owned()] };
        let operations = std::mem::take(&mut rung.operations);
        rung.operations = operations.into_values().map(|operation| (bad.to_owned(), operation)).collect();
        rung.stages.insert(bad.to_owned(), StageReport::default());
        rung.steps.insert(bad.to_owned(), Times::default());
        rung.process.insert(bad.to_owned(), ProcessReport::default());
        rung.database.server_execution_us.insert(bad.to_owned(), 1.0);
    }
    for comparison in &mut report.comparisons {
        [&mut comparison.a, &mut comparison.b, &mut comparison.rung].into_iter().for_each(set);
        comparison.endpoints.iter_mut().for_each(|endpoint| set(&mut endpoint.name));
        comparison.slices.iter_mut().for_each(|slice| slice.invalid.push(bad.to_owned()));
        comparison.pairs_invalid.push(InvalidPair { pair: 99, reasons: vec![bad.to_owned()] });
        comparison.invalidate(bad.to_owned());
    }
    ablation::spoil(report.ablation.as_mut().unwrap(), bad);
    let floor = report.environment.noise_floor.as_mut().unwrap();
    set(&mut floor.measured_at);
    floor.fresh.iter_mut().for_each(|noise| set(&mut noise.endpoint));
    for row in &mut report.seed_rows {
        set(&mut row.operation);
        set(&mut row.row);
    }
    for verdict in &mut report.verdicts {
        set(&mut verdict.name);
        set(&mut verdict.outcome);
        set(&mut verdict.detail);
    }
    report
}

/// A report of a run that did nothing at all.
pub(crate) fn empty() -> Report {
    Report {
        rungs: vec![],
        seed_rows: vec![],
        comparisons: vec![],
        ablation: None,
        verdicts: vec![],
        environment: Environment::default(),
        ..report()
    }
}
