//! One rollout: the call to the task app, then the status calls, each timed and joined with the server's own books.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mipro_telemetry::Breakdown;
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::account::{Class, Failure};
use crate::client::{Answer, Client};
use crate::join;
use crate::options::{Options, StatusStyle};
use crate::recording::Replay;
use crate::runner::Slice;
use crate::schedule::Schedule;
use crate::setup::{System, authorized, join as join_url, system_url};

#[cfg(test)]
mod tests;

/// A part of a rollout that the client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// `POST /rollout` at the task app.
    Rollout,
    /// A status call `reward`.
    StatusReward,
    /// A status call `done`.
    StatusDone,
    /// A status call `reward_done`.
    StatusRewardDone,
    /// A request to a plain endpoint.
    Request,
}

impl Step {
    pub(crate) const ALL: [Self; 5] =
        [Self::Rollout, Self::StatusReward, Self::StatusDone, Self::StatusRewardDone, Self::Request];

    /// As in the report's `steps`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rollout => "rollout",
            Self::StatusReward => "status_reward",
            Self::StatusDone => "status_done",
            Self::StatusRewardDone => "status_reward_done",
            Self::Request => "request",
        }
    }
}

/// One call of a rollout that was answered, or not in time.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) step: Step,
    pub(crate) service_ns: u64,
    /// What the server says; empty when it says nothing.
    pub(crate) books: Vec<Breakdown>,
    /// How it failed, if it did.
    pub(crate) failure: Option<Failure>,
}

/// A rollout that came to its end.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(crate) calls: Vec<Call>,
    /// The reward that the task app gave.
    pub(crate) reward: Option<f64>,
    /// Whether the service has answered 200 to the reward.
    pub(crate) acknowledged: bool,
    /// What the mock planned for its part.
    pub(crate) planned_us: Option<u64>,
}

impl Finished {
    /// The call that ended the rollout before its time.
    pub(crate) fn failed(&self) -> Option<(Step, &Failure)> {
        self.calls.iter().find_map(|c| Some((c.step, c.failure.as_ref()?)))
    }

    /// Notes a call and gives its answer if it was one that the contract allows.
    pub(crate) fn note<T>(
        &mut self,
        step: Step,
        service_ns: u64,
        books: Vec<Breakdown>,
        outcome: Result<T, Failure>,
    ) -> Option<T> {
        let (value, failure) = match outcome {
            Ok(value) => (Some(value), None),
            Err(failure) => (None, Some(failure)),
        };
        self.calls.push(Call { step, service_ns, books, failure });
        value
    }
}

/// Whether answers should come with the server's books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Books {
    /// No server of ours is asked.
    NotExpected,
    /// Either all do, or the server keeps them to itself.
    AllOrNone,
    /// All do.
    Expected,
}

/// Something that lanes can do again and again.
pub(crate) trait Session: Send + Sync + 'static {
    /// Does it once. Dropping the future abandons it.
    fn once(&self, index: u64) -> impl Future<Output = Finished> + Send;

    /// Which system that was about, as a number below the number of systems.
    fn system(&self, index: u64) -> usize;

    /// Whose books are missed where an answer comes without.
    fn books(&self) -> Books;

    /// For a recording: the example it is about, and the pauses before its status calls in microseconds.
    fn about(&self, _index: u64) -> (Option<u32>, [u64; 2]) {
        (None, [0, 0])
    }

    /// Connections that one lane may hold open.
    const CONNECTIONS_PER_LANE: usize;
}

/// What rollouts are made with, again and again.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) options: Options,
    pub(crate) systems: Vec<System>,
    pub(crate) client: Client,
}

/// Rollouts through a task app: those of one slice.
#[derive(Debug)]
pub(crate) struct Rollouts {
    with: Arc<Prepared>,
    prefix: String,
    seed: u64,
    replay: Option<Replay>,
}

#[derive(Deserialize)]
struct TaskAnswer {
    #[serde(default)]
    reward_info: Option<RewardInfo>,
    #[serde(default)]
    metadata: Option<TaskMetadata>,
    #[serde(default)]
    success_status: Option<String>,
    #[serde(default)]
    status_detail: Option<String>,
}

#[derive(Deserialize)]
struct RewardInfo {
    /// Null where the LLM failed: then `success_status` says so.
    #[serde(default)]
    outcome_reward: Option<f64>,
}

#[derive(Deserialize)]
struct TaskMetadata {
    mipro_candidate_id: Option<String>,
}

#[derive(Deserialize)]
struct StatusAnswer {
    #[serde(rename = "candidate_id")]
    _candidate_id: String,
}

/// `<prefix>-<seed>-<index>`, the index with at least eight digits.
pub(crate) fn rollout_id(prefix: &str, seed: u64, index: u64) -> String {
    format!("{prefix}-{seed}-{index:08}")
}

/// The example a rollout is about: random, but the same for the same seed and index.
pub(crate) fn dataset_seed(seed: u64, index: u64) -> u32 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index);
    // Within the positive range of a 32-bit integer, whatever the task app reads it into.
    rng.next_u32() >> 1
}

impl Session for Rollouts {
    // One to the task app, one to the service.
    const CONNECTIONS_PER_LANE: usize = 2;

    async fn once(&self, index: u64) -> Finished {
        let mut finished = Finished::default();
        let rollout_id = rollout_id(&self.prefix, self.seed, index);
        let system = self.with.systems.get(self.system(index));
        let Some(reward) = self.task_app(&mut finished, system, &rollout_id, index).await else {
            return finished;
        };
        if let Some(system) = system {
            let think_ns = self.replay.as_ref().map_or([0, 0], |replay| replay.think_ns(index));
            self.report(&mut finished, system, &rollout_id, reward, think_ns).await;
        }
        finished
    }

    fn about(&self, index: u64) -> (Option<u32>, [u64; 2]) {
        let think_us = self.replay.as_ref().map_or([0, 0], |replay| replay.think_us(index));
        (Some(self.example(index)), think_us)
    }

    fn system(&self, index: u64) -> usize {
        (index % self.with.systems.len().max(1) as u64) as usize
    }

    fn books(&self) -> Books {
        match self.with.options.stages_expected {
            _ if self.with.systems.is_empty() => Books::NotExpected,
            true => Books::Expected,
            false => Books::AllOrNone,
        }
    }
}

impl Rollouts {
    pub(crate) fn new(with: Arc<Prepared>, slice: &Slice) -> Self {
        let replay = match &slice.schedule {
            Schedule::Replay(replay) => Some(replay.clone()),
            _ => None,
        };
        Self { with, prefix: slice.rollout_prefix.clone(), seed: slice.seed, replay }
    }

    /// The example that a rollout is about.
    fn example(&self, index: u64) -> u32 {
        let recorded = self.replay.as_ref().and_then(|replay| replay.seed(index));
        recorded.unwrap_or_else(|| dataset_seed(self.seed, index))
    }

    async fn task_app(
        &self,
        finished: &mut Finished,
        system: Option<&System>,
        rollout_id: &str,
        index: u64,
    ) -> Option<f64> {
        let body = self.rollout_body(system, rollout_id, index);
        let Prepared { options, client, .. } = &*self.with;
        let mut request = client.post(join_url(&options.task_app, "rollout")).json(&body);
        if let Some(key) = &options.task_app_key {
            request = request.header("x-api-key", key);
        }
        let done = client.call(request).await;
        let (mut books, mut fault) = (Vec::new(), false);
        let reward = done.answer.and_then(Answer::success).and_then(|answer| {
            books = join::books(&answer.headers);
            finished.planned_us = join::planned_us(&answer.headers);
            let answer: TaskAnswer = answer.json()?;
            fault = answer.success_status.as_deref().is_some_and(|s| s != "success");
            answer.reward(system.is_some())
        });
        let reward = finished.note(Step::Rollout, done.service_ns, books, reward);
        if let (true, Some(system)) = (fault, system) {
            // The contract's way to say that a fault of the infrastructure is not the prompt's; the rollout has failed anyway.
            client.call(self.status(system, rollout_id, "failed", None)).await;
        }
        finished.reward = reward;
        reward
    }

    async fn report(
        &self,
        finished: &mut Finished,
        system: &System,
        rollout_id: &str,
        reward: f64,
        think_ns: [u64; 2],
    ) {
        let calls: &[(Step, &str, bool)] = match self.with.options.status_calls {
            StatusStyle::RewardThenDone => {
                &[(Step::StatusReward, "reward", true), (Step::StatusDone, "done", false)]
            }
            StatusStyle::RewardDone => &[(Step::StatusRewardDone, "reward_done", true)],
        };
        for ((step, status, rewards), think_ns) in calls.iter().zip(think_ns) {
            if think_ns > 0 {
                tokio::time::sleep(Duration::from_nanos(think_ns)).await;
            }
            let request = self.status(system, rollout_id, status, rewards.then_some(reward));
            let done = self.with.client.call(request).await;
            let mut books = Vec::new();
            let answer = done.answer.and_then(Answer::success).and_then(|answer| {
                books = join::books(&answer.headers);
                answer.json::<StatusAnswer>()
            });
            if finished.note(*step, done.service_ns, books, answer).is_none() {
                return;
            }
            finished.acknowledged |= *rewards;
        }
    }

    fn status(&self, system: &System, rollout_id: &str, status: &str, reward: Option<f64>) -> RequestBuilder {
        status_request(
            &self.with.client,
            &self.with.options,
            system,
            &StatusBody { rollout_id, status, reward, candidate_id: None },
        )
    }

    fn rollout_body(&self, system: Option<&System>, rollout_id: &str, index: u64) -> Value {
        let options = &self.with.options;
        let seed = self.example(index);
        let inference_url: Option<Url> = match system {
            Some(system) => Some(join_url(&system.proxy_url, &format!("{rollout_id}/chat/completions"))),
            None => options.llm_url.as_ref().map(completions),
        };
        json!({
            "trace_correlation_id": rollout_id,
            "env": {"seed": seed, "config": {"seed": seed, "split": options.split}},
            "policy": {"config": {"model": options.model, "inference_url": inference_url.as_ref().map(Url::as_str)}},
        })
    }
}

/// The chat completions of an LLM that is given by its base, or by that very URL.
fn completions(llm: &Url) -> Url {
    if llm.path().trim_end_matches('/').ends_with("/chat/completions") {
        llm.clone()
    } else {
        join_url(llm, "chat/completions")
    }
}

/// What a status call says.
#[derive(serde::Serialize)]
pub(crate) struct StatusBody<'a> {
    pub(crate) rollout_id: &'a str,
    pub(crate) status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reward: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) candidate_id: Option<&'a str>,
}

pub(crate) fn status_request(
    client: &Client,
    options: &Options,
    system: &System,
    body: &StatusBody<'_>,
) -> RequestBuilder {
    // Without a target there are no systems, and so no status calls.
    let target = options.target.as_ref().unwrap_or(&options.task_app);
    authorized(client.post(system_url(target, system.id, "status")), options).json(body)
}

/// Whether a status call's answer is as the contract says.
pub(crate) fn status_answer(answer: Result<Answer, Failure>) -> Result<(), Failure> {
    answer.and_then(Answer::success)?.json::<StatusAnswer>().map(drop)
}

impl TaskAnswer {
    /// The reward, if everything about the answer is as the contract says.
    fn reward(self, through_service: bool) -> Result<f64, Failure> {
        if let Some(status) = self.success_status.filter(|s| s != "success") {
            let detail = self.status_detail.unwrap_or_default();
            return Err(Failure::new(Class::Invalid, format!("the task app says {status}: {detail}")));
        }
        let candidate = self.metadata.and_then(|m| m.mipro_candidate_id);
        if through_service && candidate.is_none() {
            return Err(Failure::invalid("the task app's answer names no metadata.mipro_candidate_id"));
        }
        let reward = self.reward_info.and_then(|info| info.outcome_reward);
        reward
            .filter(|r| r.is_finite())
            .ok_or_else(|| Failure::invalid("the task app's answer holds no reward_info.outcome_reward"))
    }
}
