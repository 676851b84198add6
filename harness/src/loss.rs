//! What a rung loses: rewards that a caller was told are recorded, and that are not there afterwards. Measured, not argued.
//!
//! Two trials, each on systems of its own and on an unhindered link (what is lost does not depend on how long it took):
//! many status calls on one system at once, and a SIGKILL right after the last acknowledgement of serial calls.

use std::sync::Arc;
use std::time::Duration;

use mipro_bench_reports::{Loss, LossCount};
use mipro_testbed::link::LinkSpec;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use url::Url;
use uuid::Uuid;

use crate::bed::{API_KEY, Bed};
use crate::ladder::RungPlan;
use crate::options::{Error, STOP_DEADLINE};
use crate::roles::Server;

/// Status calls made at once on one system.
pub(crate) const CONCURRENT_CALLS: u64 = 1_000;
/// The same with `--quick`.
pub(crate) const CONCURRENT_CALLS_QUICK: u64 = 200;
/// Of those, how many are on the wire together: the database refuses more connections than it has slots, and a refusal is
/// no loss.
const IN_FLIGHT_MAX: usize = 256;
/// Serial calls before the kill, on each system.
const CALLS_BEFORE_KILL: u64 = 25;
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs both trials; `None` for the rung without a service.
pub(crate) async fn measure(bed: &Bed<'_>, plan: &RungPlan) -> Result<Option<Loss>, Error> {
    let link = bed.stack.link();
    bed.stack.set_link(&LinkSpec::loopback()).await?;
    let loss = on_loopback(bed, plan).await;
    bed.stack.set_link(&link).await?;
    loss
}

async fn on_loopback(bed: &Bed<'_>, plan: &RungPlan) -> Result<Option<Loss>, Error> {
    let Some(service) = bed.service(plan).await? else { return Ok(None) };
    let load =
        mipro_loadgen::Options { systems: 4, system_ids: Vec::new(), ..bed.load(plan, Some(&service.url)) };
    let failed = |source| Error::Load { rung: plan.name, source };
    let systems = mipro_loadgen::prepare(&load).await.map_err(failed)?;
    let [crowded, killed @ ..] = systems.as_slice() else {
        return Err(Error::Unexpected("no system was made for the loss trials".to_owned()));
    };

    let client = Client::new(&service.url)?;
    let calls = if bed.options.quick { CONCURRENT_CALLS_QUICK } else { CONCURRENT_CALLS };
    let concurrent_calls = crowd(&client, *crowded, calls).await?;

    let acknowledged = serial(&client, killed).await?;
    service.child.kill_now();
    service.child.wait().await;
    let again = restarted(bed, plan).await?;
    let client = Client::new(&again.url)?;
    let mut recovered = 0;
    for system in killed {
        recovered += client.rewards(*system).await?;
    }
    bed.fleet.stop(&again.child, STOP_DEADLINE).await;
    Ok(Some(Loss {
        process_killed: Some(count(acknowledged, recovered)),
        host_gone: None,
        concurrent_calls: Some(concurrent_calls),
    }))
}

fn count(acknowledged: u64, recovered: u64) -> LossCount {
    LossCount { acknowledged, recovered, lost: acknowledged.saturating_sub(recovered) }
}

async fn restarted(bed: &Bed<'_>, plan: &RungPlan) -> Result<Server, Error> {
    let service = bed.service(plan).await?;
    service.ok_or_else(|| Error::Unexpected("the rung's service is gone".to_owned()))
}

async fn crowd(client: &Client, system: Uuid, calls: u64) -> Result<LossCount, Error> {
    let slots = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut running = JoinSet::new();
    for index in 0..calls {
        let (client, slots) = (client.clone(), Arc::clone(&slots));
        running.spawn(async move {
            let _slot = slots.acquire_owned().await;
            client.report(system, &format!("crowd-{index}")).await
        });
    }
    let mut acknowledged = 0;
    while let Some(answer) = running.join_next().await {
        acknowledged += u64::from(answer.unwrap_or(false));
    }
    Ok(count(acknowledged, client.rewards(system).await?))
}

async fn serial(client: &Client, systems: &[Uuid]) -> Result<u64, Error> {
    let mut running = JoinSet::new();
    for &system in systems {
        let client = client.clone();
        running.spawn(async move {
            let mut acknowledged = 0;
            for index in 0..CALLS_BEFORE_KILL {
                acknowledged += u64::from(client.report(system, &format!("kill-{index}")).await);
            }
            acknowledged
        });
    }
    let mut acknowledged = 0;
    while let Some(answers) = running.join_next().await {
        acknowledged +=
            answers.map_err(|error| Error::Unexpected(format!("a trial's client failed: {error}")))?;
    }
    Ok(acknowledged)
}

#[derive(Debug, Clone)]
struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    fn new(service: &Url) -> Result<Self, Error> {
        let http = reqwest::Client::builder().timeout(CALL_TIMEOUT).no_proxy().build();
        let http = http.map_err(|error| Error::Unexpected(format!("no HTTP client: {error}")))?;
        let base =
            format!("{}/api/prompt-learning/online/mipro/systems", service.as_str().trim_end_matches('/'));
        Ok(Self { http, base })
    }

    /// Whether the reward was acknowledged.
    async fn report(&self, system: Uuid, rollout_id: &str) -> bool {
        let body = json!({"rollout_id": rollout_id, "status": "reward_done", "reward": 1.0, "candidate_id": "baseline"});
        let request =
            self.http.post(format!("{}/{system}/status", self.base)).bearer_auth(API_KEY).json(&body);
        request.send().await.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    /// Rewards the service knows of.
    async fn rewards(&self, system: Uuid) -> Result<u64, Error> {
        let request = self.http.get(format!("{}/{system}/state", self.base)).bearer_auth(API_KEY);
        let unexpected = |error: reqwest::Error| {
            Error::Unexpected(format!("the state could not be read: {}", error.without_url()))
        };
        let answer =
            request.send().await.and_then(reqwest::Response::error_for_status).map_err(unexpected)?;
        let state: Value = answer.json().await.map_err(unexpected)?;
        state["reward_count"]
            .as_u64()
            .ok_or_else(|| Error::Unexpected("the state has no reward_count".to_owned()))
    }
}
