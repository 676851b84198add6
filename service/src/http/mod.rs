//! The routes of the wire contract. The only place that knows axum, JSON bodies and status codes.
//!
//! Handlers are thin: read, ask the engine, await its gate, answer. [`observe`] stands around all of them: it keeps the
//! request's ledger, bounds its time, catches panics, and writes what may be written to the log.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use tokio_util::sync::CancellationToken;

use crate::auth::Keyring;
use crate::config::Options;
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::proxy::upstream::Upstreams;

mod body;
mod chat;
mod config_body;
mod durability;
mod error;
mod extract;
mod jobs;
mod json;
mod observe;
mod operator;
mod sessions;
mod systems;

/// What every handler may use.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) options: Arc<Options>,
    /// What proxy URLs start with; no slash at its end.
    pub(crate) public_url: String,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) keys: Keyring,
    pub(crate) upstreams: Upstreams,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stop: Stop,
}

type Shared = Arc<App>;

/// The steps of a clean stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// No new connections; requests in flight go on.
    pub(crate) draining: CancellationToken,
    /// Requests still in flight are cut off with 503.
    pub(crate) cutoff: CancellationToken,
    /// Connections are dropped, whatever they are doing.
    pub(crate) closed: CancellationToken,
}

/// All routes, their fallbacks, and the layer around them.
pub(crate) fn router(app: Shared) -> Router {
    const SYSTEM: &str = "/api/prompt-learning/online/mipro/systems/{system_id}";
    let system = |route: &str| format!("{SYSTEM}/{route}");
    Router::new()
        .route("/health", get(operator::health))
        .route("/readyz", get(operator::ready))
        .route("/metrics", get(operator::metrics))
        .route("/api/prompt-learning/online/jobs", post(jobs::create))
        .route("/api/prompt-learning/online/jobs/{job_id}", get(jobs::show))
        .route(&system("status"), post(systems::status))
        .route(&system("candidates"), post(systems::add_candidate))
        .route(&system("state"), get(systems::state))
        .route(&system("events"), get(systems::events))
        .route("/api/mipro/v1/{system_id}/{rollout_id}/chat/completions", post(chat::complete))
        .route("/api/mipro/v1/{system_id}/{rollout_id}/v1/chat/completions", post(chat::complete))
        .merge(sessions::routes())
        .fallback(operator::no_such_route)
        .method_not_allowed_fallback(operator::no_such_method)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), observe::observe))
        .with_state(app)
}
