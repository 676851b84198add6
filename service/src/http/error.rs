//! The one shape of every error, and the one mapping of what went wrong to a status.
//!
//! The shape is OpenAI's: `{"error": {"message", "type", "param", "code"}}`, also for routes that are not OpenAI's, so that
//! a client needs one reader only.

use std::sync::LazyLock;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::auth::Denied;
use crate::clock::Contexts;
use crate::engine::EngineError;
use crate::engine::error::{LogTrouble, RETRY_AFTER as RETRY_SOONEST};
use crate::proxy;
use crate::system::Refusal;

/// Callers who are told to come back come within this many seconds, each at its own time: not as one herd.
const SOON_S: std::ops::RangeInclusive<u32> = 1..=3;

fn soon_s() -> u32 {
    static JITTER: LazyLock<Contexts> = LazyLock::new(Contexts::from_os);
    let span = u64::from(SOON_S.end() - SOON_S.start() + 1);
    SOON_S.start() + u32::try_from(JITTER.context().seed % span).unwrap_or(0)
}

/// An error on its way to a client.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
    retry_after_s: Option<u32>,
    close: bool,
}

/// What the log may say about a failed request; left in the response's extensions for the layer that logs.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) code: Option<&'static str>,
    pub(super) message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            kind,
            param: None,
            code: None,
            retry_after_s: None,
            close: false,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message).code("not_found")
    }

    /// A system that is not there, or not the caller's: nobody learns which.
    pub(crate) fn unknown_system() -> Self {
        Self::not_found("there is no such system").code("system_not_found")
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message)
            .code("unavailable")
            .retry_after_s(soon_s())
    }

    /// A request that a clean stop cut off.
    pub(crate) fn draining() -> Self {
        Self { close: true, ..Self::unavailable("the service is stopping; try again").code("draining") }
    }

    pub(crate) fn panicked() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal error").code("internal_error")
    }

    pub(crate) fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "not_implemented_error", message).code("not_implemented")
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    pub(crate) fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(crate) fn retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Asks the client to close the connection: its request was not read to the end.
    pub(crate) fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// Places a field named by the system's core within the body it came in.
    pub(crate) fn within(mut self, place: impl FnOnce(&str) -> String) -> Self {
        if let Some(field) = &self.param {
            let path = place(field);
            self.message = self.message.replacen(&format!("`{field}`"), &format!("`{path}`"), 1);
            self.param = Some(path);
        }
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        }});
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.extensions_mut().insert(Failure { code: self.code, message: self.message });
        response
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", denied.to_string())
            .code("invalid_api_key")
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        let retry_after_s = error.retry_after().map(|after| {
            u32::try_from(after.saturating_sub(RETRY_SOONEST).as_secs())
                .unwrap_or(u32::MAX)
                .saturating_add(soon_s())
        });
        let mut answer = match error {
            EngineError::NotFound => return Self::unknown_system(),
            EngineError::Refused(refusal) => return refusal.into(),
            EngineError::AlreadyExists => {
                Self::new(StatusCode::CONFLICT, "invalid_request_error", message).code("system_exists")
            }
            EngineError::Unavailable { .. } | EngineError::Timeout { .. } => Self::unavailable(message),
            EngineError::Overloaded { .. } => Self::unavailable(message).code("overloaded"),
            EngineError::Log(trouble) => Self::unavailable(message).code(match trouble {
                LogTrouble::Behind => "overloaded",
                LogTrouble::Full => "log_full",
                LogTrouble::Slow | LogTrouble::Stopped | LogTrouble::Blocked(_) => "unavailable",
            }),
            EngineError::TooMuch { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
                    .code("system_overloaded")
            }
            EngineError::TooLarge => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
                    .code("body_too_large")
            }
            EngineError::Draining => Self::draining(),
            EngineError::Corrupt { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message).code("state_unreadable")
            }
            EngineError::Overtaken => Self::unavailable(message).code("overtaken"),
            EngineError::OtherEngine => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message).code("wrong_engine")
            }
            EngineError::Internal { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message).code("internal_error")
            }
        };
        answer.retry_after_s = retry_after_s;
        answer
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let invalid = |status| Self::new(status, "invalid_request_error", message.clone());
        match refusal {
            Refusal::UnknownRollout(_) => {
                invalid(StatusCode::NOT_FOUND).code("rollout_not_found").param("rollout_id")
            }
            Refusal::UnknownCandidate(_) => {
                invalid(StatusCode::UNPROCESSABLE_ENTITY).code("candidate_not_found").param("candidate_id")
            }
            Refusal::CandidateMismatch { .. } => {
                invalid(StatusCode::CONFLICT).code("candidate_mismatch").param("candidate_id")
            }
            Refusal::RewardConflict { .. } => {
                invalid(StatusCode::CONFLICT).code("reward_conflict").param("reward")
            }
            Refusal::Failed(_) => invalid(StatusCode::CONFLICT).code("rollout_failed").param("reward"),
            Refusal::TooLate { .. } => invalid(StatusCode::CONFLICT).code("too_late").param("reward"),
            Refusal::AlreadyRewarded(_) => {
                invalid(StatusCode::CONFLICT).code("already_rewarded").param("status")
            }
            Refusal::Invalid { field, .. } => {
                invalid(StatusCode::BAD_REQUEST).code("invalid_value").param(field)
            }
            Refusal::CandidateIdTaken(_) => {
                invalid(StatusCode::CONFLICT).code("candidate_id_taken").param("candidate_id")
            }
            Refusal::Full { .. } => Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
                .code("system_full")
                .retry_after_s(60),
        }
    }
}

impl From<proxy::request::Error> for ApiError {
    fn from(error: proxy::request::Error) -> Self {
        use proxy::request::Error as E;
        let refusal = Self::bad_request(error.to_string());
        match error {
            E::Json(_) => refusal.code("invalid_json"),
            E::NotAnObject => refusal.code("invalid_type"),
            E::NoMessages => refusal.code("missing_field").param("messages"),
            E::BadMessages => refusal.code("invalid_type").param("messages"),
        }
    }
}

impl From<proxy::render::TooLarge> for ApiError {
    fn from(error: proxy::render::TooLarge) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", error.to_string())
            .code("prompt_too_large")
            .param("messages")
    }
}

impl From<proxy::upstream::Error> for ApiError {
    fn from(error: proxy::upstream::Error) -> Self {
        use proxy::upstream::Error as E;
        let status = match &error {
            E::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            E::UnknownProvider { .. } | E::Unreachable { .. } | E::Broken { .. } | E::TooLarge { .. } => {
                StatusCode::BAD_GATEWAY
            }
        };
        Self::new(status, "upstream_error", error.to_string()).code(error.code())
    }
}
