//! The mock LLM: OpenAI-compatible chat completions and responses, with seeded delays, faults and answers.
//!
//! `POST /v1/chat/completions` and `POST /v1/responses` (JSON, or SSE with `stream: true`), `GET /v1/models`,
//! `GET /health`. Each answer tells in `x-mock-plan` what was planned for the call:
//! `total_us=1834000;first_byte_us=1290000;fault=none;correct=1`; times count from the moment the whole request was
//! there, and `correct` is absent where no known query was asked. The plan is a pure function of the seed and the
//! rollout that `x-trace-correlation-id` names (its number, where it ends in `-<digits>`).

mod answer;
mod chat;
mod paced;
mod plan;
mod responses;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mipro_telemetry::clock;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::accuracy::Accuracy;
use crate::dataset::{Dataset, QueryIndex};
use crate::faults::{Fault, Faults};
use crate::latency::Latency;
use crate::openai::{self, ApiError};
use crate::{Error, server};
use paced::Pace;
pub(crate) use plan::{CORRELATION_HEADER, PLAN_HEADER};
use plan::{Call, Plan};

/// The port of the mock LLM unless told otherwise.
pub const PORT_DEFAULT: u16 = 8088;
/// The models that `GET /v1/models` lists. Any other name is answered too.
const MODELS: [&str; 3] = ["gpt-4.1-nano", "gpt-4.1-mini", "gpt-4o-mini"];
/// When the listed models were made, in seconds since the epoch: some fixed past.
const MODELS_CREATED: u64 = 1_744_000_000;

/// How the mock LLM behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes any free one. Default 127.0.0.1:8088.
    pub listen: SocketAddr,
    /// The directory whose queries it knows; the built-in set by default.
    pub dataset: Option<PathBuf>,
    /// How long calls take. Default none.
    pub latency: Latency,
    /// Decides delays, faults, and which prompts and queries are easy. Default 1.
    pub seed: u64,
    /// What goes wrong. Default nothing.
    pub faults: Faults,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_DEFAULT)),
            dataset: None,
            latency: Latency::None,
            seed: 1,
            faults: Faults::default(),
        }
    }
}

/// Runs the mock LLM until `shutdown` is cancelled and calls under way are answered (or 10 s have passed).
///
/// `ready` is called once, with the bound address, when connections are taken. Dropping the future breaks off.
///
/// # Errors
/// The data set can't be used, or the address can't be listened on.
pub async fn run(
    options: Options,
    ready: impl FnOnce(SocketAddr),
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let mock = Mock::new(&options)?;
    tracing::info!(
        dataset = mock.dataset.name(), latency = %options.latency, faults = %options.faults, seed = options.seed,
        "mock LLM"
    );
    server::serve(options.listen, router(Arc::new(mock)), ready, shutdown).await
}

/// All that a call needs to know.
struct Mock {
    dataset: Dataset,
    index: QueryIndex,
    accuracy: Accuracy,
    latency: Latency,
    seed: u64,
    faults: Faults,
}

impl Mock {
    fn new(options: &Options) -> Result<Self, Error> {
        let dataset = Dataset::load_or_builtin(options.dataset.as_deref())?;
        Ok(Self {
            index: QueryIndex::new(&dataset),
            dataset,
            accuracy: Accuracy::new(options.seed),
            latency: options.latency,
            seed: options.seed,
            faults: options.faults,
        })
    }

    /// What both POST routes share: read, plan, fail where planned, else answer at the planned pace.
    async fn call(
        &self,
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
        answer: impl FnOnce(&Self, &Value, Call, &mut Plan) -> Result<Reply, ApiError>,
    ) -> Result<Response, ApiError> {
        let start = clock::now();
        let body = openai::body_of(body)?;
        let request = openai::object_of(&body)?;
        let call = Call::of(headers, &body);
        let mut plan = Plan::new(self.latency, &self.faults, self.seed, call);
        let reply = answer(self, &request, call, &mut plan)?;
        tracing::debug!(
            rollout = headers.get(CORRELATION_HEADER).and_then(|id| id.to_str().ok()),
            traceparent = headers.get("traceparent").and_then(|id| id.to_str().ok()),
            %plan,
            "call"
        );
        let mut response = match refusal(plan.fault) {
            Some(error) => refuse(start, &plan, error).await,
            None => reply.send(start, &plan).await,
        };
        response.headers_mut().insert(PLAN_HEADER, plan.header());
        Ok(response)
    }
}

/// An answer, ready to be sent at its pace.
enum Reply {
    Json(Value),
    /// Server-sent events, each without its blank line.
    Events(Vec<String>),
}

impl Reply {
    async fn send(self, start: Instant, plan: &Plan) -> Response {
        let pace = Pace { start, delay: plan.delay, cut: plan.fault == Fault::Cut };
        match self {
            Self::Json(value) => paced::json(pace, &value).await,
            Self::Events(events) => paced::events(pace, events).await,
        }
    }
}

fn refusal(fault: Fault) -> Option<ApiError> {
    match fault {
        Fault::RateLimit => Some(
            ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "requests",
                "rate limit reached for requests (a planned fault of the mock); try again in 1 s",
            )
            .code("rate_limit_exceeded"),
        ),
        Fault::Error => Some(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "the server had an error while processing the request (a planned fault of the mock)",
        )),
        Fault::None | Fault::Cut | Fault::Stall | Fault::Slow => None,
    }
}

async fn refuse(start: Instant, plan: &Plan, error: ApiError) -> Response {
    paced::sleep_until(start, plan.delay.first_byte_us).await;
    let limited = error.status == StatusCode::TOO_MANY_REQUESTS;
    let mut response = error.into_response();
    if limited {
        response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    }
    response
}

fn router(mock: Arc<Mock>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/responses", post(create_response))
        .route("/v1/models", get(models))
        .route("/health", get(health))
        .fallback(openai::no_such_route)
        .method_not_allowed_fallback(openai::no_such_method)
        .with_state(mock)
}

async fn chat_completions(
    State(mock): State<Arc<Mock>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    mock.call(&headers, body, chat::complete).await
}

async fn create_response(
    State(mock): State<Arc<Mock>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    mock.call(&headers, body, responses::respond).await
}

async fn models() -> axum::Json<Value> {
    let data: Vec<Value> = MODELS
        .iter()
        .map(|id| json!({"id": id, "object": "model", "created": MODELS_CREATED, "owned_by": "mipro-mock-llm"}))
        .collect();
    axum::Json(json!({"object": "list", "data": data}))
}

async fn health() -> axum::Json<Value> {
    axum::Json(json!({"status": "ok"}))
}

/// Wall time in seconds, as `created` fields have it.
fn unix_s() -> u64 {
    clock::unix_us() / 1_000_000
}
