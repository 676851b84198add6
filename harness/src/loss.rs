//! What a rung loses: rewards that a caller was told are recorded, and that are not there afterwards. Measured, not argued.
//!
//! Three trials, each on systems of its own and on an unhindered link (what is lost does not depend on how long it took):
//! - many status calls on one system at once, and nothing killed;
//! - SIGKILL while several clients call, inside the window in which a rung that saves behind has not saved; then a start on
//!   the same data directory;
//! - the same, but the data directory is deleted before the start: the host is gone, database and object store are not.
//!
//! After the start each acknowledged reward is looked for by its rollout: it has to be there once, with its value.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mipro_bench_reports::{Loss, LossCount};
use mipro_testbed::link::LinkSpec;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bed::Bed;
use crate::ladder::RungPlan;
use crate::options::{Error, STOP_DEADLINE};
use crate::roles::Server;
use crate::service_client::ServiceClient;

/// Status calls made at once on one system.
pub(crate) const CONCURRENT_CALLS: u64 = 1_000;
/// The same with `--quick`.
pub(crate) const CONCURRENT_CALLS_QUICK: u64 = 200;
/// Of those, how many are on the wire together: the database refuses more connections than it has slots, and a refusal is
/// no loss.
const IN_FLIGHT_MAX: usize = 256;
/// Systems under load when the kill falls, each with one client: what clients of one system do to each other is the first
/// trial's.
const SYSTEMS_KILLED: usize = 8;
/// Rewards acknowledged in all when the kill falls. A system has then some 120 events, fewer than make a rung that saves
/// behind save.
const ACKNOWLEDGED_BEFORE_KILL: u32 = 240;
/// The kill falls even if there are not that many by then.
const KILL_DEADLINE: Duration = Duration::from_secs(20);

/// Runs all trials; `None` for the rung without a service.
pub(crate) async fn measure(bed: &Bed<'_>, plan: &RungPlan) -> Result<Option<Loss>, Error> {
    let link = bed.stack.link();
    bed.stack.set_link(&LinkSpec::loopback()).await?;
    let loss = on_loopback(bed, plan).await;
    bed.stack.set_link(&link).await?;
    loss
}

async fn on_loopback(bed: &Bed<'_>, plan: &RungPlan) -> Result<Option<Loss>, Error> {
    let Some(service) = bed.service(plan).await? else { return Ok(None) };
    let load = mipro_loadgen::Options {
        systems: 1 + 2 * u32::try_from(SYSTEMS_KILLED).unwrap_or(u32::MAX),
        system_ids: Vec::new(),
        ..bed.load(plan, Some(&service.url))
    };
    let failed = |source| Error::Load { rung: plan.name, source };
    let systems = mipro_loadgen::prepare(&load).await.map_err(failed)?;
    let Some((crowded, rest)) = systems.split_first() else {
        return Err(Error::Unexpected("no system was made for the loss trials".to_owned()));
    };
    let (killed, gone) = rest.split_at(SYSTEMS_KILLED.min(rest.len()));

    let calls = if bed.options.quick { CONCURRENT_CALLS_QUICK } else { CONCURRENT_CALLS };
    let concurrent_calls = crowd(&ServiceClient::new(&service.url)?, *crowded, calls).await?;

    let acknowledged = until_killed(&service, killed).await?;
    let service = start(bed, plan).await?;
    let process_killed = find(&service, acknowledged).await?;

    let acknowledged = until_killed(&service, gone).await?;
    lose_host(bed.data_dir(plan))?;
    let service = start(bed, plan).await?;
    let host_gone = find(&service, acknowledged).await?;

    bed.fleet.stop(&service.child, STOP_DEADLINE).await;
    Ok(Some(Loss {
        process_killed: Some(process_killed),
        host_gone: Some(host_gone),
        concurrent_calls: Some(concurrent_calls),
    }))
}

fn count(acknowledged: u64, recovered: u64) -> LossCount {
    LossCount { acknowledged, recovered, lost: acknowledged.saturating_sub(recovered) }
}

/// Deletes what was on the service's host; a rung that keeps nothing there has no directory.
fn lose_host(data_dir: PathBuf) -> Result<(), Error> {
    match std::fs::remove_dir_all(&data_dir) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::Remove { path: data_dir, source }),
        _ => Ok(()),
    }
}

async fn start(bed: &Bed<'_>, plan: &RungPlan) -> Result<Server, Error> {
    let service = bed.service(plan).await?;
    service.ok_or_else(|| Error::Unexpected("the rung's service is gone".to_owned()))
}

async fn crowd(client: &ServiceClient, system: Uuid, calls: u64) -> Result<LossCount, Error> {
    let slots = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut running = JoinSet::new();
    for index in 0..calls {
        let (client, slots) = (client.clone(), Arc::clone(&slots));
        running.spawn(async move {
            let _slot = slots.acquire_owned().await;
            client.report(system, &format!("crowd-{index}"), 1.0).await.is_some()
        });
    }
    let mut acknowledged = 0;
    while let Some(answer) = running.join_next().await {
        acknowledged += u64::from(answer.unwrap_or(false));
    }
    Ok(count(acknowledged, client.count(system, "reward_count").await?))
}

/// A reward that was acknowledged.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    rollout_id: String,
    reward: f64,
}

/// What one system's client was told.
#[derive(Debug)]
struct Acknowledged {
    system: Uuid,
    rewards: Vec<Told>,
}

/// Has a client for each system call until its call fails, and kills the service in the middle of it.
async fn until_killed(service: &Server, systems: &[Uuid]) -> Result<Vec<Acknowledged>, Error> {
    let client = ServiceClient::new(&service.url)?;
    let acks = Arc::new(Semaphore::new(0));
    let mut running = JoinSet::new();
    for &system in systems {
        running.spawn(call_until_cut(client.clone(), system, Arc::clone(&acks)));
    }
    // On time-out the kill falls all the same, on what there is.
    let _ = tokio::time::timeout(KILL_DEADLINE, acks.acquire_many(ACKNOWLEDGED_BEFORE_KILL)).await;
    service.child.kill_now();
    service.child.wait().await;
    let mut told = Vec::with_capacity(systems.len());
    while let Some(ended) = running.join_next().await {
        told.push(ended.map_err(|error| Error::Unexpected(format!("a trial's client failed: {error}")))?);
    }
    Ok(told)
}

async fn call_until_cut(client: ServiceClient, system: Uuid, acks: Arc<Semaphore>) -> Acknowledged {
    let mut rewards = Vec::new();
    for index in 0_u32.. {
        let told = Told { rollout_id: format!("kill-{index}"), reward: f64::from(index % 8) / 8.0 };
        if client.report(system, &told.rollout_id, told.reward).await.is_none() {
            break;
        }
        rewards.push(told);
        acks.add_permits(1);
    }
    Acknowledged { system, rewards }
}

/// Looks for each acknowledged reward.
async fn find(service: &Server, acknowledged: Vec<Acknowledged>) -> Result<LossCount, Error> {
    let client = ServiceClient::new(&service.url)?;
    let (mut told, mut found) = (0, 0);
    for Acknowledged { system, rewards } in acknowledged {
        told += rewards.len() as u64;
        found += match client.rewards(system).await {
            Ok(there) => {
                rewards.iter().filter(|told| there.get(&told.rollout_id) == Some(&vec![told.reward])).count()
                    as u64
            }
            // The history's beginning may be gone with the host: then the state is asked.
            Err(_) => known(&client, system, &rewards).await?,
        };
    }
    Ok(count(told, found))
}

/// How many rewards the state knows: repeated, a call about one of them changes nothing.
async fn known(client: &ServiceClient, system: Uuid, rewards: &[Told]) -> Result<u64, Error> {
    let mut version = client.count(system, "version").await?;
    let mut known = 0;
    for told in rewards {
        let after = client.report(system, &told.rollout_id, told.reward).await;
        let after = after.ok_or_else(|| Error::Unexpected("a repeated call was refused".to_owned()))?;
        known += u64::from(after == version);
        version = after;
    }
    Ok(known)
}
