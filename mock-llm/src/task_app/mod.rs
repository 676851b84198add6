//! The Banking77 task app: asks the LLM (through the proxy, mostly) to classify a customer's query, and scores it.
//!
//! `POST /rollout`, `GET /info`, `GET /task_info?seed=…`, `GET /health`. With an API key configured, everything but
//! `/health` wants it in `X-API-Key`.

mod candidates;
mod info;
mod llm_call;
pub(crate) mod prompt;
mod rollout;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use crate::dataset::Dataset;
use crate::openai::{self, ApiError};
use crate::{Error, Secret, server};
pub use candidates::{ExamplePrompt, example_prompts};

/// The port of the task app unless told otherwise.
pub const PORT_DEFAULT: u16 = 8016;
/// How long an LLM call may take unless told otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);

/// How the task app behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes any free one. Default 127.0.0.1:8016.
    pub listen: SocketAddr,
    /// The directory whose queries it asks about; the built-in set by default.
    pub dataset: Option<PathBuf>,
    /// What callers must send as `X-API-Key`. Default none: open to all.
    pub api_key: Option<Secret>,
    /// How long an LLM call may take, its whole answer included; then the rollout has failed. Default 120 s.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_DEFAULT)),
            dataset: None,
            api_key: None,
            timeout: TIMEOUT_DEFAULT,
        }
    }
}

/// Runs the task app until `shutdown` is cancelled and rollouts under way are answered (or 10 s have passed).
///
/// `ready` is called once, with the bound address, when connections are taken. Dropping the future breaks off.
///
/// # Errors
/// The data set can't be used, the HTTP client can't be made, or the address can't be listened on.
pub async fn run(
    options: Options,
    ready: impl FnOnce(SocketAddr),
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let app = TaskApp::new(&options)?;
    tracing::info!(dataset = app.dataset.name(), keyed = options.api_key.is_some(), "task app");
    server::serve(options.listen, router(Arc::new(app)), ready, shutdown).await
}

struct TaskApp {
    available_intents: String,
    dataset: Dataset,
    client: reqwest::Client,
    /// Hashed, so that comparing takes the same time whatever length is sent.
    api_key: Option<blake3::Hash>,
}

impl TaskApp {
    fn new(options: &Options) -> Result<Self, Error> {
        let dataset = Dataset::load_or_builtin(options.dataset.as_deref())?;
        Ok(Self {
            available_intents: prompt::available_intents(&dataset),
            dataset,
            client: llm_call::client(options.timeout).map_err(Error::Client)?,
            api_key: options.api_key.as_ref().map(|key| blake3::hash(key.expose().as_bytes())),
        })
    }

    fn admits(&self, request: &Request) -> Result<(), ApiError> {
        let Some(wanted) = self.api_key else { return Ok(()) };
        let refused = |why: &str| ApiError::new(StatusCode::UNAUTHORIZED, "authentication_error", why);
        let given =
            request.headers().get("x-api-key").ok_or_else(|| refused("the header X-API-Key is missing"))?;
        let same: bool = blake3::hash(given.as_bytes()).as_bytes().ct_eq(wanted.as_bytes()).into();
        if same { Ok(()) } else { Err(refused("the key in X-API-Key is wrong").code("invalid_api_key")) }
    }
}

fn router(app: Arc<TaskApp>) -> Router {
    Router::new()
        .route("/rollout", post(rollout::rollout))
        .route("/info", get(info::info))
        .route("/task_info", get(info::task_info))
        .fallback(openai::no_such_route)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), authorize))
        .route("/health", get(health))
        .method_not_allowed_fallback(openai::no_such_method)
        .with_state(app)
}

async fn authorize(State(app): State<Arc<TaskApp>>, request: Request, next: Next) -> Response {
    match app.admits(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn health() -> axum::Json<Value> {
    axum::Json(json!({"status": "ok"}))
}
