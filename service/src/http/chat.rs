//! The proxy's route: `POST /api/mipro/v1/{system_id}/{rollout_id}/chat/completions`.
//!
//! The LLM is called while the log syncs, and its answer is let through only when the rollout's start is durable.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue};
use mipro_telemetry::{Ledger, Operation, Stage};

use super::body::Whole;
use super::durability::{self, Asked, Promise};
use super::error::ApiError;
use super::extract::{Books, system_id};
use super::observe::Streamed;
use super::{App, Shared};
use crate::auth::Admitted;
use crate::config::{OnLogFailure, ProxyAuth};
use crate::engine::{Access, EngineError, Executed, Gate, UnrecordedStart};
use crate::proxy::render;
use crate::proxy::request::ChatRequest;
use crate::proxy::upstream::{self, Answer, AnswerBody};
use crate::system::{Command, Reply, RolloutReply, SystemId};

const CANDIDATE_ID: HeaderName = HeaderName::from_static("x-mipro-candidate-id");
const ROLLOUT_ID: HeaderName = HeaderName::from_static("x-mipro-rollout-id");
/// The answer was given without a record of the rollout; the value says what was missing.
const UNRECORDED: HeaderName = HeaderName::from_static("x-mipro-unrecorded");
const PROMPT: HeaderName = HeaderName::from_static("x-mipro-prompt");

/// How many times the size of the largest request a candidate's prompt may come to.
const RENDERED_TIMES_MAX: usize = 2;

/// Bytes in a rollout's id.
const ROLLOUT_ID_BYTES_MAX: usize = 256;

/// Answers a chat completion with the rollout's candidate.
pub(super) async fn complete(
    State(app): State<Shared>,
    Books(ledger): Books,
    path: Result<Path<(String, String)>, PathRejection>,
    asked: Asked,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Response, ApiError> {
    ledger.set_operation(Operation::StartRollout);
    let Admitted { access, own_bearer } = admit(&app, &headers)?;
    let Path((system, rollout)) = path.map_err(|_| ApiError::unknown_system())?;
    ledger.set_rollout(&rollout);
    let system = system_id(&system)?;
    let rollout_header = rollout_header(&rollout)?;
    let request = ChatRequest::parse(&body)?;
    let start = UnrecordedStart { rollout_id: rollout, messages: request.messages() };
    let (reply, gate) = begin(&app, asked, system, access, start, &ledger).await?;
    let call = async {
        let Prepared { target, body } = Prepared::new(&app, &reply, &request, &ledger)?;
        let headers = upstream::forwarded(&headers, own_bearer);
        Ok::<_, ApiError>(app.upstreams.call(&target, headers, body, &ledger).await?)
    };
    // A gate that fails ends the call at once; a call that fails waits for the gate, as its error names the candidate.
    let opened = open(&app, asked, gate, &ledger);
    let (promise, answer) = tokio::try_join!(opened, async { Ok(call.await) })?;
    let mut response = match answer {
        Ok(answer) => respond(answer),
        Err(error) => error.into_response(),
    };
    let candidate = HeaderValue::from_str(&reply.candidate_id).map_err(|_| ApiError::panicked())?;
    let headers = response.headers_mut();
    headers.insert(CANDIDATE_ID, candidate);
    headers.insert(ROLLOUT_ID, rollout_header);
    if !reply.matched {
        headers.insert(PROMPT, HeaderValue::from_static("unmatched"));
    }
    match promise {
        Some(promise) => headers.insert(durability::HEADER, promise.header(Some(reply.version))),
        None => headers.insert(UNRECORDED, HeaderValue::from_static("log")),
    };
    Ok(response)
}

/// The rollout's candidate, and the gate of its start; no gate where the log could not take the start and the operator
/// prefers an answer that is not recorded to none.
async fn begin(
    app: &App,
    asked: Asked,
    system: SystemId,
    access: Access,
    start: UnrecordedStart,
    ledger: &Ledger,
) -> Result<(RolloutReply, Option<Gate>), ApiError> {
    let UnrecordedStart { rollout_id, messages } = start.clone();
    let command = Command::StartRollout { rollout_id, messages };
    match app.engine.execute(system, access, command, ledger).await {
        Ok(Executed { reply: Reply::Rollout(reply), gate }) => Ok((reply, Some(gate))),
        Ok(_) => Err(ApiError::panicked()),
        Err(EngineError::Log(_)) if serves_unrecorded(app, asked) => {
            Ok((app.engine.best_known(system, access, start, ledger).await?, None))
        }
        Err(error) => Err(error.into()),
    }
}

/// Waits for the rollout's gate; `None`: the answer goes out unrecorded.
async fn open(
    app: &App,
    asked: Asked,
    gate: Option<Gate>,
    ledger: &Ledger,
) -> Result<Option<Promise>, ApiError> {
    if let Some(gate) = gate {
        match asked.release_command(app, gate, ledger).await {
            Ok(promise) => return Ok(Some(promise)),
            Err(EngineError::Log(_)) if serves_unrecorded(app, asked) => {}
            Err(error) => return Err(error.into()),
        }
    }
    app.metrics.served_unrecorded();
    Ok(None)
}

/// Whether an answer without a record will do: for the operator, and for a caller who has not named a level.
fn serves_unrecorded(app: &App, asked: Asked) -> bool {
    app.options.on_log_failure == OnLogFailure::ServeUnrecorded && !asked.is_explicit()
}

/// Whoever may call: with the URL alone, or, where keys are required, with a key of the system's own org.
fn admit(app: &App, headers: &HeaderMap) -> Result<Admitted, ApiError> {
    match app.options.proxy_auth {
        ProxyAuth::Open => Ok(Admitted { access: Access::Capability, own_bearer: false }),
        ProxyAuth::Required => Ok(app.keys.admit_to_proxy(headers)?),
    }
}

fn rollout_header(rollout: &str) -> Result<HeaderValue, ApiError> {
    let refuse = |problem: &str| {
        ApiError::bad_request(format!("`rollout_id` {problem}")).code("invalid_value").param("rollout_id")
    };
    if rollout.len() > ROLLOUT_ID_BYTES_MAX {
        return Err(refuse(&format!("is longer than {ROLLOUT_ID_BYTES_MAX} bytes")));
    }
    if rollout.is_empty() || !rollout.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refuse("must be made of visible ASCII characters"));
    }
    HeaderValue::from_str(rollout).map_err(|_| refuse("can't be sent in a header"))
}

/// A call that is ready to be made.
struct Prepared {
    target: Arc<upstream::Target>,
    body: Bytes,
}

impl Prepared {
    fn new(
        app: &App,
        reply: &RolloutReply,
        request: &ChatRequest<'_>,
        ledger: &Ledger,
    ) -> Result<Self, ApiError> {
        let target = app.upstreams.target(&reply.spec.provider)?;
        let bytes_max = app.options.limits.body_bytes_max.saturating_mul(RENDERED_TIMES_MAX);
        let render = || render::render(reply, request.raw_messages(), bytes_max);
        let rendered = ledger.time(Stage::PromptRender, render)?;
        Ok(Self { target, body: request.with_messages(rendered.as_deref(), &reply.spec.model) })
    }
}

fn respond(answer: Answer) -> Response {
    let (body, streamed) = match answer.body {
        AnswerBody::Whole(bytes) => (Body::from(bytes), false),
        AnswerBody::Stream(stream) => (Body::new(*stream), true),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response.headers_mut().remove(CONTENT_LENGTH);
    if streamed {
        response.extensions_mut().insert(Streamed);
    }
    response
}
