//! A service and a task app in one, on a port of its own: answers at once, or as badly as a test wants.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use mipro_loadgen::Options;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, Semaphore};
use url::Url;

/// What the fake should do with one rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Good,
    Status(u16),
    NotJson,
    LlmFault,
    NoCandidate,
    NoTimes,
    /// Never answers.
    Hang,
    /// Answers when [`Fake::release`] has a permit.
    Held,
    /// Good, but the status call is refused.
    StatusRefused,
}

type Rule = dyn Fn(u64) -> Behaviour + Send + Sync;

pub(crate) struct Fake {
    pub(crate) url: Url,
    rule: Box<Rule>,
    /// Rollouts wait here for one another, if there is one.
    barrier: Option<Barrier>,
    /// One permit for every rollout that has arrived.
    pub(crate) arrived: Semaphore,
    pub(crate) release: Semaphore,
    pub(crate) seen: Mutex<Seen>,
}

/// What the fake was asked.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// (rollout id, dataset seed), in order of arrival.
    pub(crate) rollouts: Vec<(String, u64)>,
    /// (rollout id, status, reward).
    pub(crate) statuses: Vec<(String, String, Option<f64>)>,
    pub(crate) jobs: Vec<Value>,
    pub(crate) candidates: Vec<Value>,
    /// By system: in flight now, and at most.
    pub(crate) in_flight: BTreeMap<String, (u32, u32)>,
    pub(crate) inference_urls: Vec<String>,
    pub(crate) keys: Vec<Option<String>>,
}

const ROLLOUT_TIMES: &str = "db.query;dur=0.002;n=2;rt=3;phase=load, s3.get;dur=0.001;n=1;bytes=100;phase=load, \
    llm.first_byte;dur=0.004;n=1, other;dur=0.001, total;dur=0.008;op=start_rollout";
const STATUS_TIMES: &str =
    "s3.put;dur=0.002;n=1;bytes=200;phase=save, other;dur=0.001, total;dur=0.003;op=status_";
pub(crate) const PLANNED_US: u64 = 10;

impl Fake {
    /// Starts one whose rollout of index `i` behaves as `rule(i)` says.
    pub(crate) async fn start(
        rule: impl Fn(u64) -> Behaviour + Send + Sync + 'static,
        barrier: Option<usize>,
    ) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()).parse().unwrap(),
            rule: Box::new(rule),
            barrier: barrier.map(Barrier::new),
            arrived: Semaphore::new(0),
            release: Semaphore::new(0),
            seen: Mutex::default(),
        });
        let app = Router::new()
            .route("/info", get(info))
            .route("/rollout", post(rollout))
            .route("/plain", get(plain).post(plain))
            .route("/api/prompt-learning/online/jobs", post(create_job))
            .route("/api/prompt-learning/online/jobs/{id}", get(get_job))
            .route("/api/prompt-learning/online/mipro/systems/{id}/candidates", post(candidates))
            .route("/api/prompt-learning/online/mipro/systems/{id}/status", post(status))
            .with_state(Arc::clone(&fake));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        fake
    }

    /// Options that drive this fake.
    pub(crate) fn options(&self) -> Options {
        Options {
            target: Some(self.url.clone()),
            task_app: self.url.clone(),
            api_key: Some("k".to_owned()),
            timeout: Duration::from_secs(20),
            ..Options::default()
        }
    }
}

fn number(rollout_id: &str) -> u64 {
    rollout_id.rsplit('-').next().unwrap().parse().unwrap()
}

async fn info() -> Json<Value> {
    Json(json!({
        "initial_prompt": {"id": "p", "messages": [{"role": "system", "order": 0, "pattern": "x"}], "wildcards": {}},
        "example_candidates": [{"deltas": {"text": "a"}, "params": {"instruction": 1}}, {"deltas": {"text": "b"}}],
    }))
}

async fn create_job(
    State(fake): State<Arc<Fake>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Json<Value> {
    let mut seen = fake.seen.lock().unwrap();
    let key = headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
    seen.keys.push(key);
    seen.jobs.push(body);
    Json(json!({"job_id": format!("pl_{}", seen.jobs.len())}))
}

/// Tells the proxy URL only when asked a second time.
async fn get_job(State(fake): State<Arc<Fake>>, Path(id): Path<String>) -> Json<Value> {
    let mut seen = fake.seen.lock().unwrap();
    let asked = seen.in_flight.entry(id.clone()).or_default();
    asked.0 += 1;
    if asked.0 == 1 {
        return Json(json!({"job_id": id, "status": "running", "metadata": null}));
    }
    let number: u128 = id.strip_prefix("pl_").unwrap().parse().unwrap();
    let system = uuid::Uuid::from_u128(number);
    let proxy = format!("{}api/mipro/v1/{system}", fake.url);
    let metadata = json!({"mipro_system_id": system, "mipro_proxy_url": proxy});
    Json(json!({"job_id": id, "status": "succeeded", "metadata": metadata}))
}

async fn candidates(State(fake): State<Arc<Fake>>, Json(body): Json<Value>) -> Json<Value> {
    fake.seen.lock().unwrap().candidates.push(body);
    Json(json!({"candidate_id": "c", "version": 1}))
}

async fn rollout(State(fake): State<Arc<Fake>>, Json(body): Json<Value>) -> Response {
    let rollout_id = body["trace_correlation_id"].as_str().unwrap().to_owned();
    let inference_url = body["policy"]["config"]["inference_url"].as_str().unwrap().to_owned();
    let system = inference_url.split('/').nth(6).unwrap_or("").to_owned();
    {
        let mut seen = fake.seen.lock().unwrap();
        seen.rollouts.push((rollout_id.clone(), body["env"]["seed"].as_u64().unwrap()));
        seen.inference_urls.push(inference_url);
        let (now, most) = seen.in_flight.entry(system.clone()).or_default();
        *now += 1;
        *most = (*most).max(*now);
    }
    fake.arrived.add_permits(1);
    if let Some(barrier) = &fake.barrier {
        barrier.wait().await;
    }
    let behaviour = (fake.rule)(number(&rollout_id));
    match behaviour {
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Held => fake.release.acquire().await.unwrap().forget(),
        _ => {}
    }
    fake.seen.lock().unwrap().in_flight.get_mut(&system).unwrap().0 -= 1;
    answer(behaviour)
}

fn answer(behaviour: Behaviour) -> Response {
    let mut body = json!({
        "reward_info": {"outcome_reward": 1.0},
        "metadata": {"mipro_candidate_id": "baseline"},
        "success_status": "success",
    });
    match behaviour {
        Behaviour::Status(status) => {
            return (StatusCode::from_u16(status).unwrap(), Json(json!({"detail": "as told"})))
                .into_response();
        }
        Behaviour::NotJson => return "so so".into_response(),
        Behaviour::NoTimes => return Json(body).into_response(),
        Behaviour::LlmFault => {
            body["success_status"] = "error".into();
            body["status_detail"] = "the llm is gone".into();
        }
        Behaviour::NoCandidate => body["metadata"] = json!({}),
        _ => {}
    }
    let plan = format!("total_us={PLANNED_US};x=1");
    ([("server-timing", ROLLOUT_TIMES), ("x-mock-plan", &plan)], Json(body)).into_response()
}

async fn status(State(fake): State<Arc<Fake>>, Json(body): Json<Value>) -> Response {
    let rollout_id = body["rollout_id"].as_str().unwrap().to_owned();
    let status = body["status"].as_str().unwrap().to_owned();
    let refused = !rollout_id.contains("-h") && (fake.rule)(number(&rollout_id)) == Behaviour::StatusRefused;
    fake.seen.lock().unwrap().statuses.push((rollout_id.clone(), status.clone(), body["reward"].as_f64()));
    if refused && status != "reward" {
        return (StatusCode::CONFLICT, Json(json!({"detail": "another reward"}))).into_response();
    }
    let answer =
        json!({"candidate_id": "baseline", "rollout_id": rollout_id, "status": status, "version": 1});
    ([("server-timing", format!("{STATUS_TIMES}{status}"))], Json(answer)).into_response()
}

async fn plain() -> Response {
    ([("server-timing", "db.query;dur=0.001, total;dur=0.001;op=get_state")], "fine").into_response()
}
