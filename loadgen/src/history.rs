//! Past rollouts, pushed by status calls alone: they name the candidate themselves, so no LLM is needed.

use std::sync::Arc;

use tokio::task::JoinSet;
use uuid::Uuid;

use crate::account::Failure;
use crate::client::Client;
use crate::error::Error;
use crate::options::Options;
use crate::session::{StatusBody, status_answer, status_request};
use crate::setup::{System, named};

/// Calls on their way to one system.
const IN_FLIGHT_PER_SYSTEM: u64 = 16;

struct Work {
    options: Options,
    systems: Vec<System>,
    client: Client,
    rollouts: u64,
}

/// Pushes `rollouts` past rollouts to each system, sixteen at a time: `reward_done` for candidate `baseline`, rewards 1 and 0
/// in the ratio 3 : 2, ids `<prefix>-h<seed>-<index>`. Gives how many the service acknowledged: all of them. Dropping the future
/// stops it, with some of them pushed.
///
/// # Errors
/// Without a target, when no HTTP client can be made, and on the first call that fails.
///
/// # Panics
/// When one of its own tasks does.
pub async fn history(options: &Options, systems: &[Uuid], rollouts: u64) -> Result<u64, Error> {
    let Some(target) = &options.target else {
        return Err(Error::Options("past rollouts need a target to push them to".to_owned()));
    };
    let lanes = IN_FLIGHT_PER_SYSTEM.min(rollouts);
    let work = Arc::new(Work {
        client: Client::new(options.timeout, lanes as usize * systems.len())?,
        systems: systems.iter().map(|id| named(options, target, *id)).collect(),
        options: options.clone(),
        rollouts,
    });
    let mut tasks = JoinSet::new();
    for system in 0..systems.len() {
        for lane in 0..lanes {
            tasks.spawn(push(Arc::clone(&work), system, lane));
        }
    }
    let mut acknowledged = 0;
    while let Some(joined) = tasks.join_next().await {
        let pushed = joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let action = "push a past rollout";
        acknowledged += pushed.map_err(|failure| Error::Setup { action, failure })?;
    }
    Ok(acknowledged)
}

/// One lane's share of one system's past.
async fn push(work: Arc<Work>, system: usize, lane: u64) -> Result<u64, Failure> {
    let mut acknowledged = 0;
    let mut index = lane;
    while index < work.rollouts {
        let rollout_id = format!("{}-h{}-{index:08}", work.options.rollout_prefix, work.options.seed);
        let body = StatusBody {
            rollout_id: &rollout_id,
            status: "reward_done",
            reward: Some(if index % 5 < 3 { 1.0 } else { 0.0 }),
            candidate_id: Some("baseline"),
        };
        let request = status_request(&work.client, &work.options, &work.systems[system], &body);
        status_answer(work.client.call(request).await.answer)?;
        acknowledged += 1;
        index += IN_FLIGHT_PER_SYSTEM;
    }
    Ok(acknowledged)
}
