//! What the harness itself asks a rung's service, besides the load: its level, its syncs, and what is there after a kill.

use std::collections::BTreeMap;
use std::time::Duration;

use mipro_allocations::Totals;
use mipro_telemetry::prometheus::{Name, names};
use mipro_testbed::history::{Event, Kind};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::bed::API_KEY;
use crate::options::Error;

const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Events asked for at a time.
const EVENTS_PER_PAGE: usize = 5_000;

/// A client of one service. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct ServiceClient {
    http: reqwest::Client,
    root: String,
    key: Option<String>,
}

impl ServiceClient {
    pub(crate) fn new(service: &Url) -> Result<Self, Error> {
        Self::with_key(service, Some(API_KEY.to_owned()))
    }

    /// For a service that was not started by us, and has keys of its own or none.
    pub(crate) fn with_key(service: &Url, key: Option<String>) -> Result<Self, Error> {
        let http = reqwest::Client::builder().timeout(CALL_TIMEOUT).no_proxy().build();
        let http = http.map_err(|error| Error::Unexpected(format!("no HTTP client: {error}")))?;
        Ok(Self { http, root: service.as_str().trim_end_matches('/').to_owned(), key })
    }

    fn system(&self, system: Uuid, route: &str) -> String {
        format!("{}/api/prompt-learning/online/mipro/systems/{system}/{route}", self.root)
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    async fn text(&self, what: &str, request: RequestBuilder) -> Result<String, Error> {
        let failed = |error: reqwest::Error| {
            Error::Unexpected(format!("{what} can't be read: {}", error.without_url()))
        };
        let answer = self.authorized(request).send().await.map_err(failed)?;
        answer.error_for_status().map_err(failed)?.text().await.map_err(failed)
    }

    async fn json(&self, what: &str, request: RequestBuilder) -> Result<Value, Error> {
        let text = self.text(what, request).await?;
        serde_json::from_str(&text).map_err(|error| Error::Unexpected(format!("{what}: {error}")))
    }

    /// The durability level the service says it has.
    pub(crate) async fn durability(&self) -> Result<String, Error> {
        let health =
            self.json("the service's health", self.http.get(format!("{}/health", self.root))).await?;
        let level = health["durability"].as_str().map(str::to_owned);
        level.ok_or_else(|| Error::Unexpected("the service's health names no durability".to_owned()))
    }

    /// What the service has counted since it started.
    pub(crate) async fn counted(&self) -> Result<Counted, Error> {
        let request = self.http.get(format!("{}/metrics", self.root));
        Ok(Counted::on(&self.text("the service's metrics", request).await?))
    }

    /// Requests in flight, this one among them; `None` where the service does not tell.
    pub(crate) async fn in_flight(&self) -> Option<u64> {
        let page =
            self.text("the service's metrics", self.http.get(format!("{}/metrics", self.root))).await.ok()?;
        sample(&page, names::REQUESTS_IN_FLIGHT)
    }

    /// Reports a rollout's reward and end. The version acknowledged, or `None` when it was not.
    pub(crate) async fn report(&self, system: Uuid, rollout_id: &str, reward: f64) -> Option<u64> {
        let body = json!({"rollout_id": rollout_id, "status": "reward_done", "reward": reward, "candidate_id": "baseline"});
        let request = self.http.post(self.system(system, "status")).json(&body);
        let answer =
            self.authorized(request).send().await.ok().filter(|answer| answer.status() == StatusCode::OK)?;
        let body: Value = answer.json().await.ok()?;
        Some(body["version"].as_u64().unwrap_or_default())
    }

    /// A field of the system's state that holds a count.
    pub(crate) async fn count(&self, system: Uuid, field: &str) -> Result<u64, Error> {
        let state = self.json("the state", self.http.get(self.system(system, "state"))).await?;
        state[field].as_u64().ok_or_else(|| Error::Unexpected(format!("the state has no {field}")))
    }

    /// Every reward of a system by its rollout, from the events route. A rollout with two has both.
    pub(crate) async fn rewards(&self, system: Uuid) -> Result<BTreeMap<String, Vec<f64>>, Error> {
        let mut rewards: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let mut since = 0;
        loop {
            let url = self.system(system, &format!("events?since_seq={since}&limit={EVENTS_PER_PAGE}"));
            let page = self.json("the events", self.http.get(url)).await?;
            let items = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            for item in items {
                let event = Event::read(item);
                let event = event.map_err(|error| Error::Unexpected(format!("the events: {error}")))?;
                since = since.max(event.seq);
                if let Kind::Rewarded { rollout, reward, .. } = event.kind {
                    rewards.entry(rollout).or_default().push(reward);
                }
            }
            if items.is_empty() {
                return Ok(rewards);
            }
        }
    }
}

/// What a service counts of itself, since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Syncs of its log; 0 where there is none.
    pub(crate) log_syncs: u64,
    /// What it asked its allocator for; `None` where it was not asked to count.
    pub(crate) allocated: Option<Totals>,
}

impl Counted {
    fn on(page: &str) -> Self {
        let allocated = sample(page, names::ALLOCATIONS).zip(sample(page, names::ALLOCATED_BYTES));
        let allocated = allocated.map(|(allocations, bytes)| Totals { allocations, bytes });
        Self { log_syncs: log_syncs(page), allocated }
    }

    /// What was counted between `before` and this.
    pub(crate) fn since(self, before: Self) -> Self {
        let allocated = self.allocated.zip(before.allocated).map(|(after, before)| Totals {
            allocations: after.allocations.saturating_sub(before.allocations),
            bytes: after.bytes.saturating_sub(before.bytes),
        });
        Self { log_syncs: self.log_syncs.saturating_sub(before.log_syncs), allocated }
    }
}

/// The sample of a metric without labels on a page of metrics.
fn sample(page: &str, metric: Name) -> Option<u64> {
    let line = page.lines().find_map(|line| line.strip_prefix(metric.name)?.strip_prefix(' '))?;
    line.trim().parse::<f64>().ok().map(|count| count as u64)
}

/// Syncs of the log on a page of metrics.
fn log_syncs(page: &str) -> u64 {
    let name = names::STAGE_SECONDS.name;
    let stage = format!("stage=\"{}\"", mipro_telemetry::Stage::LogSync.name());
    let counts = page.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with("_count{") && rest.contains(&stage))
    });
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

#[cfg(test)]
mod tests;
