//! What a rung's service takes of the machine as clients are added: CPU, and memory that stays.
//!
//! One service for all levels, on systems of its own, after everything else of the rung has been counted. Levels rise, so that
//! each one's memory holds what the ones before left behind, as it does where a service lives long. Clients call one after
//! the other without pause (closed model): a level is as many rollouts as so many clients get done.

use std::time::Duration;

use mipro_bench_reports::ResourcePoint;
use mipro_telemetry::clock;
use mipro_testbed::link::LinkSpec;
use mipro_testbed::process::Usage;
use tokio_util::sync::CancellationToken;

use crate::bed::Bed;
use crate::ladder::RungPlan;
use crate::options::{Error, STOP_DEADLINE};
use crate::roles::Server;

/// Clients at once: the levels of the plan that this project began with.
pub(crate) const CLIENTS: [u32; 3] = [1, 10, 50];
/// How long rollouts are started on a level; those in flight then are waited for.
const LEVEL: Duration = Duration::from_secs(2);

/// One point for each level, in rising order; none for the rung without a service. Cancelling `cancel` ends it early, with
/// the levels that were whole.
pub(crate) async fn measure(
    bed: &Bed<'_>,
    plan: &RungPlan,
    link: &LinkSpec,
    cancel: &CancellationToken,
) -> Result<Vec<ResourcePoint>, Error> {
    let Some(service) = bed.service(plan).await? else { return Ok(Vec::new()) };
    let mut points = Vec::with_capacity(CLIENTS.len());
    for clients in CLIENTS {
        let point = level(bed, plan, &service, (clients, link), cancel).await?;
        if cancel.is_cancelled() {
            break;
        }
        points.extend(point);
    }
    bed.fleet.stop(&service.child, STOP_DEADLINE).await;
    Ok(points)
}

/// None where the system does not tell what a process uses.
async fn level(
    bed: &Bed<'_>,
    plan: &RungPlan,
    service: &Server,
    (clients, link): (u32, &LinkSpec),
    cancel: &CancellationToken,
) -> Result<Option<ResourcePoint>, Error> {
    let failed = |source| Error::Load { rung: plan.name, source };
    let mut load = mipro_loadgen::Options {
        systems: if plan.parallel { 1 } else { clients },
        concurrency: clients,
        rollouts: 0,
        duration: Some(LEVEL),
        rollout_prefix: format!("clients{clients}"),
        ..bed.load(plan, Some(&service.url))
    };
    bed.stack.set_link(&LinkSpec::loopback()).await?;
    load.system_ids = mipro_loadgen::prepare(&load).await.map_err(failed)?;
    bed.stack.set_link(link).await?;
    let (before, began) = (service.child.usage(), clock::now());
    mipro_loadgen::run(load, mipro_loadgen::silent(), cancel.clone()).await.map_err(failed)?;
    let wall = clock::now().saturating_duration_since(began);
    Ok(before.zip(service.child.usage()).map(|(before, after)| point(clients, before, after, wall)))
}

fn point(clients: u32, before: Usage, after: Usage, wall: Duration) -> ResourcePoint {
    let cpu_s = (after.cpu_s() - before.cpu_s()).max(0.0);
    let cpu_pct = 100.0 * cpu_s / wall.as_secs_f64().max(f64::MIN_POSITIVE);
    ResourcePoint { clients, cpu_pct, rss_bytes: after.rss_bytes }
}

#[cfg(test)]
mod tests;
