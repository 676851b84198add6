//! What operators and their machines ask: health, readiness, metrics. And the answers to what nobody serves.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use mipro_telemetry::prometheus;
use serde_json::{Value, json};

use super::Shared;
use super::error::ApiError;
use super::extract::Caller;
use crate::config::OnLogFailure;
use crate::engine::EngineError;

/// How long the stores may take to say that they are there.
const READY_TIMEOUT: Duration = Duration::from_secs(3);

/// `GET /health`: the process lives. Never asks the stores.
pub(super) async fn health(State(app): State<Shared>) -> Json<Value> {
    Json(json!({
        "status": if app.stop.draining.is_cancelled() { "stopping" } else { "ok" },
        "version": env!("CARGO_PKG_VERSION"),
        "engine": app.options.engine.name(),
        "durability": app.engine.durability().name(),
    }))
}

/// `GET /readyz`: whether traffic should come here.
pub(super) async fn ready(State(app): State<Shared>) -> Response {
    let (mut reasons, mut degraded) = (Vec::new(), Vec::new());
    if app.stop.draining.is_cancelled() {
        reasons.push("the service is stopping".to_owned());
    }
    match tokio::time::timeout(READY_TIMEOUT, app.engine.ready()).await {
        Ok(Ok(())) => {}
        // Whoever serves without a record wants the traffic that comes without one.
        Ok(Err(error @ EngineError::Log(_)))
            if app.options.on_log_failure == OnLogFailure::ServeUnrecorded =>
        {
            degraded.push(error.to_string());
        }
        Ok(Err(error)) => reasons.push(error.to_string()),
        Err(_) => reasons.push(format!("the stores did not answer within {} s", READY_TIMEOUT.as_secs())),
    }
    if reasons.is_empty() {
        let mut body = json!({"status": "ready"});
        if !degraded.is_empty() {
            body["degraded"] = json!(degraded);
        }
        return Json(body).into_response();
    }
    let error =
        json!({"message": reasons.join("; "), "type": "server_error", "param": null, "code": "unready"});
    let body = json!({"status": "unready", "reasons": reasons, "error": error});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

/// `GET /metrics`, for a scraper that sends a key.
pub(super) async fn metrics(State(app): State<Shared>, _: Caller) -> Response {
    let page =
        app.metrics.page(app.stop.draining.is_cancelled(), app.options.engine.name(), &app.engine.figures());
    let mut response = page.finish().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(prometheus::CONTENT_TYPE));
    response
}

pub(super) async fn no_such_route() -> ApiError {
    ApiError::not_found("there is no such route")
}

pub(super) async fn no_such_method() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "invalid_request_error",
        "this route does not take that method; the `Allow` header says which it takes",
    )
    .code("method_not_allowed")
}
