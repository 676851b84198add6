//! `POST /rollout`: one query, one call, one score.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use mipro_telemetry::clock;
use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

use super::info::split_of;
use super::llm_call::{self, LlmCall, Outcome};
use super::{TaskApp, prompt};
use crate::dataset::{Example, row_of};
use crate::openai::{self, ApiError, Message};

/// The model to ask unless told otherwise.
const MODEL_DEFAULT: &str = "gpt-4.1-nano";
/// What of the policy's configuration goes into the call as it is.
const PASSED_IN: [&str; 6] =
    ["temperature", "max_completion_tokens", "max_tokens", "top_p", "seed", "reasoning_effort"];

/// What a caller asks for.
struct Rollout<'a> {
    id: String,
    seed: i128,
    split: &'a str,
    row: usize,
    example: &'a Example,
    policy: &'a Map<String, Value>,
    /// May be a capability: shown to the caller, who gave it, and to nobody else.
    url: Url,
}

pub(super) async fn rollout(
    State(app): State<Arc<TaskApp>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let request = openai::object_of(&openai::body_of(body)?)?;
    let rollout = parse(&app, &request)?;
    let messages = prompt::messages(&rollout.example.text, &app.available_intents);
    let call = call(&rollout, &messages, headers.get("traceparent"))?;
    let start = clock::now();
    let outcome = llm_call::send(&app.client, call).await;
    let latency_ms = clock::now().duration_since(start).as_secs_f64() * 1e3;
    let body = report(&app, &rollout, &messages, &outcome, latency_ms);
    tracing::debug!(rollout = rollout.id, status = %body["success_status"], latency_ms, "rollout");
    Ok((outcome.passed_on, axum::Json(body)).into_response())
}

fn parse<'a>(app: &'a TaskApp, request: &'a Value) -> Result<Rollout<'a>, ApiError> {
    let policy = match request.pointer("/policy/config") {
        Some(Value::Object(policy)) => policy,
        Some(_) => return Err(ApiError::invalid("policy.config", "`policy.config` is not an object")),
        None => return Err(ApiError::invalid("policy.config", "`policy.config` is missing")),
    };
    let url = match policy.get("inference_url") {
        Some(Value::String(url)) => llm_call::endpoint(url).map_err(|why| {
            ApiError::invalid(
                "policy.config.inference_url",
                format!("`policy.config.inference_url` is {why}"),
            )
        })?,
        Some(_) => {
            return Err(ApiError::invalid(
                "policy.config.inference_url",
                "`policy.config.inference_url` is not text",
            ));
        }
        None => {
            return Err(ApiError::invalid(
                "policy.config.inference_url",
                "`policy.config.inference_url` is missing",
            ));
        }
    };
    let id = match request.get("trace_correlation_id") {
        Some(Value::String(id)) if !id.is_empty() => id.clone(),
        None | Some(Value::Null | Value::String(_)) => {
            llm_call::correlation_of(&url).unwrap_or_else(|| Uuid::new_v4().to_string())
        }
        Some(_) => {
            return Err(ApiError::invalid("trace_correlation_id", "`trace_correlation_id` is not text"));
        }
    };
    let seed = seed_of(request)?;
    let split = match request.pointer("/env/config/split").filter(|split| !split.is_null()) {
        Some(Value::String(split)) => split,
        Some(_) => return Err(ApiError::invalid("env.config.split", "`env.config.split` is not text")),
        None => "train",
    };
    let examples = split_of(app, split).map_err(|error| error.at("env.config.split"))?;
    let row = row_of(seed, examples);
    Ok(Rollout { id, seed, split, row, example: &examples[row], policy, url })
}

/// `env.seed`, else `env.config.seed`; any whole number.
fn seed_of(request: &Value) -> Result<i128, ApiError> {
    let at = |pointer| request.pointer(pointer).filter(|seed: &&Value| !seed.is_null());
    let seed = at("/env/seed").or_else(|| at("/env/config/seed"));
    let seed = seed.ok_or_else(|| ApiError::invalid("env.seed", "`env.seed` is missing"))?;
    let whole = seed.as_i64().map(i128::from).or_else(|| seed.as_u64().map(i128::from));
    whole.ok_or_else(|| ApiError::invalid("env.seed", "`env.seed` is not a whole number"))
}

fn call<'a>(
    rollout: &'a Rollout<'_>,
    messages: &[Message],
    traceparent: Option<&HeaderValue>,
) -> Result<LlmCall<'a>, ApiError> {
    let api_key = rollout.policy.get("api_key").and_then(Value::as_str).filter(|key| !key.is_empty());
    let headers = llm_call::headers(&rollout.id, api_key, traceparent)
        .map_err(|field| ApiError::invalid(field, format!("`{field}` can't stand in a header")))?;
    let model = rollout.policy.get("model").and_then(Value::as_str).unwrap_or(MODEL_DEFAULT);
    let mut body = json!({
        "model": model, "messages": messages, "tools": [prompt::tool()], "tool_choice": prompt::tool_choice(),
    });
    for name in PASSED_IN {
        if let Some(value) = rollout.policy.get(name).filter(|value| !value.is_null()) {
            body[name] = value.clone();
        }
    }
    Ok(LlmCall { url: &rollout.url, body: Bytes::from(body.to_string()), headers })
}

/// What the caller is told. A call that failed has no reward, so that no prompt is charged for it.
fn report(
    app: &TaskApp,
    rollout: &Rollout<'_>,
    messages: &[Message],
    outcome: &Outcome,
    latency_ms: f64,
) -> Value {
    let expected = app.dataset.label_of(rollout.example);
    let candidate = outcome.passed_on.get("x-mipro-candidate-id").and_then(|id| id.to_str().ok());
    let mut metadata = json!({
        "mipro_candidate_id": candidate, "seed": serde_json::Number::from_i128(rollout.seed), "split": rollout.split, "row": rollout.row,
    });
    let (reward_info, response, success_status, status_detail) = match &outcome.completion {
        Ok(completion) => {
            let prediction = prediction_of(completion);
            let reward = match &prediction {
                Ok(intent) if is_same_label(intent, expected) => 1.0,
                _ => 0.0,
            };
            let info = json!({
                "outcome_reward": reward,
                "outcome_objectives": {"reward": reward, "latency_ms": latency_ms},
                "instance_objectives": [{"reward": reward, "latency_ms": latency_ms}],
                "details": {"latency_ms": latency_ms, "prediction": prediction.as_ref().ok(), "expected": expected},
            });
            (info, completion.clone(), "success", prediction.err().map(ToOwned::to_owned))
        }
        Err(fault) => {
            let info = json!({
                "outcome_reward": null, "outcome_objectives": {"latency_ms": latency_ms}, "instance_objectives": [],
                "details": {"latency_ms": latency_ms},
            });
            metadata["llm_status"] = json!(fault.status.map(|status| status.as_u16()));
            (info, json!(fault.response), "failure", Some(fault.detail.clone()))
        }
    };
    json!({
        "trace_correlation_id": rollout.id,
        "reward_info": reward_info,
        "trace": {"inference": {"messages": messages, "response": response}},
        "metadata": metadata,
        "inference_url": rollout.url.as_str(),
        "success_status": success_status,
        "status_detail": status_detail,
    })
}

/// The intent that the model named, or what its answer lacks: that is the model's mistake, and scores 0.
fn prediction_of(completion: &Value) -> Result<String, &'static str> {
    let arguments = completion
        .pointer("/choices/0/message/tool_calls/0/function/arguments")
        .and_then(Value::as_str)
        .ok_or("the model made no tool call, so the reward is 0")?;
    let arguments: Value = serde_json::from_str(arguments)
        .map_err(|_| "the arguments of the tool call are not JSON, so the reward is 0")?;
    let intent = arguments.get("intent").and_then(Value::as_str);
    intent.map(ToOwned::to_owned).ok_or("the tool call names no intent, so the reward is 0")
}

fn is_same_label(a: &str, b: &str) -> bool {
    let plain = |label: &str| label.trim().to_lowercase().replace('_', " ");
    plain(a) == plain(b)
}
