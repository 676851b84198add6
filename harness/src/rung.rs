//! One rung, from its service's start to its figures.
//!
//! The steps, in order: set the link; make systems that have a past; start the service; else make systems now; warm up; read
//! the counters; measure; read what the processes used, what the database says and how often the log was synced; stop the
//! service, which saves what it had not saved; read the counters again. What the emulated link counted beyond what callers
//! waited for is the background's.

use std::sync::Arc;

use mipro_allocations::Totals;
use mipro_bench_reports::{CountSet, DatabaseReport, Rung};
use mipro_loadgen::{Outcome, Progress};
use mipro_telemetry::clock;
use mipro_testbed::link::LinkSpec;
use mipro_testbed::stack::WireCounts;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bed::Bed;
use crate::ladder::{Keeping, RungLink, RungPlan};
use crate::meter::{Meter, Processes};
use crate::options::{Error, STOP_DEADLINE};
use crate::service_client::ServiceClient;
use crate::{growth, loss};

/// Measures one rung. Cancelling `cancel` ends it early, with what there is.
pub(crate) async fn measure(
    bed: &Bed<'_>,
    plan: &RungPlan,
    progress: Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<Rung, Error> {
    let failed = |source| Error::Load { rung: plan.name, source };
    // What is not measured need not wait for the link.
    bed.stack.set_link(&LinkSpec::loopback()).await?;
    // The past is made by a service of its own: of a log there is one user at a time.
    let past = past(bed, plan).await?;
    let service = bed.service(plan).await?;
    let mut load = bed.load(plan, service.as_ref().map(|s| &s.url));
    load.system_ids = match past {
        Some(systems) => systems,
        None if service.is_some() => mipro_loadgen::prepare(&load).await.map_err(failed)?,
        None => Vec::new(),
    };
    bed.stack.set_link(&link_of(bed, plan)).await?;

    let warm = mipro_loadgen::Options {
        rollouts: u64::from(load.concurrency),
        rollout_prefix: "warm".to_owned(),
        ..load.clone()
    };
    mipro_loadgen::run(warm, mipro_loadgen::silent(), cancel.clone()).await.map_err(failed)?;

    let before = Meter::read(bed, service.as_ref()).await?;
    bed.stack.reset_statements().await?;
    load.rollouts = bed.options.rollouts_of(plan.name);
    load.rollout_prefix = "run".to_owned();
    let began = clock::now();
    let outcome = mipro_loadgen::run(load.clone(), progress, cancel.clone()).await.map_err(failed)?;
    let used = Meter::processes(bed, service.as_ref()).since(&before.processes);
    let counted = Meter::counted(service.as_ref()).await?.since(before.counted);
    let database = DatabaseReport { server_execution_us: bed.stack.server_execution_us().await? };

    let mut rung = filled(plan, &outcome, used, database);
    rung.started_seconds = began.saturating_duration_since(bed.started).as_secs_f64();
    if let Some(service) = &service {
        let level = ServiceClient::new(&service.url)?.durability().await?;
        if level != rung.durability {
            doubt(&mut rung, format!("the service says that its durability is {level}"));
        }
        if !bed.fleet.stop(&service.child, STOP_DEADLINE).await.is_clean() {
            let reason = "the service did not stop cleanly, so what it had not saved may be lost";
            doubt(&mut rung, reason.to_owned());
        }
        let total = bed.stack.wire_counts().await?.since(&before.wire);
        background(&mut rung, plan, &total, counted.log_syncs);
        process(&mut rung, counted.allocated);
        if bed.options.loss && !cancel.is_cancelled() {
            rung.loss = loss::measure(bed, plan).await?;
        }
    }
    Ok(rung)
}

fn link_of(bed: &Bed<'_>, plan: &RungPlan) -> LinkSpec {
    match plan.link {
        RungLink::AsTold => bed.options.link.clone(),
        RungLink::SameRegion => LinkSpec::same_region(),
    }
}

/// Systems with past rollouts, where the run asks for such and the rung has a service.
async fn past(bed: &Bed<'_>, plan: &RungPlan) -> Result<Option<Vec<Uuid>>, Error> {
    if bed.options.history == 0 || plan.keeping == Keeping::None {
        return Ok(None);
    }
    growth::systems_with_a_past(bed, plan).await.map(Some)
}

fn filled(plan: &RungPlan, outcome: &Outcome, used: Processes, database: DatabaseReport) -> Rung {
    let mut rung = Rung {
        name: plan.label.to_owned(),
        title: plan.title.to_owned(),
        turns_on: plan.turns_on.to_owned(),
        durability: plan.keeping.durability().to_owned(),
        database,
        process: used.0,
        ..Rung::default()
    };
    outcome.fill(&mut rung);
    rung
}

fn doubt(rung: &mut Rung, reason: String) {
    rung.validity.reasons.push(reason);
    rung.validity.ok = false;
}

/// What the wire saw, less what callers waited for, per rollout that succeeded, as the critical counts are. A negative rest
/// means that the service claimed more than happened: the figures disagree and the rung is not valid. What failed and
/// unfinished rollouts asked for left no books and so ends up in the background.
fn background(rung: &mut Rung, plan: &RungPlan, total: &WireCounts, log_syncs: u64) {
    if rung.accounting.ok == 0 {
        return;
    }
    let rollouts = rung.accounting.ok as f64;
    if !plan.pooled {
        // Each query opens its own connection, so whoever waits for the query waits for that.
        rung.counts.critical.db_connections = total.db_connections as f64 / rollouts;
    }
    let critical = rung.counts.critical;
    let rest = |total: u64, critical: f64| total as f64 / rollouts - critical;
    let claims = [
        ("DB round trips", rest(total.db_round_trips, critical.db_round_trips)),
        ("S3 GETs", rest(total.s3_get, critical.s3_get)),
        ("S3 PUTs", rest(total.s3_put, critical.s3_put)),
    ];
    let slack = 0.5 / rollouts;
    for (what, left) in claims.into_iter().filter(|(_, left)| *left < -slack) {
        let many = -left;
        doubt(
            rung,
            format!("the service claims more {what} than the link carried ({many:.3} a rollout too many)"),
        );
    }
    let rest = |total: u64, critical: f64| rest(total, critical).max(0.0);
    rung.counts.background = CountSet {
        db_round_trips: rest(total.db_round_trips, critical.db_round_trips),
        db_statements: rest(total.db_statements, critical.db_statements),
        db_connections: rest(total.db_connections, critical.db_connections),
        s3_get: rest(total.s3_get, critical.s3_get),
        s3_put: rest(total.s3_put, critical.s3_put),
        s3_bytes: rest(total.s3_bytes, critical.s3_bytes),
        llm_calls: 0.0,
        log_syncs: log_syncs as f64 / rollouts,
    };
}

/// What the service's process asked its allocator for while the load ran, per rollout that succeeded. Not split: an allocation does
/// not know who waits for it. What it took to tell the first reading, less what was already in it, is among them.
fn process(rung: &mut Rung, allocated: Option<Totals>) {
    let Some(Totals { allocations, bytes }) = allocated.filter(|_| rung.accounting.ok > 0) else { return };
    let rollouts = rung.accounting.ok as f64;
    rung.counts.process.insert("allocations".to_owned(), allocations as f64 / rollouts);
    rung.counts.process.insert("allocated_bytes".to_owned(), bytes as f64 / rollouts);
}

#[cfg(test)]
mod tests;
