//! The pieces of the OpenAI wire shape that both servers speak.

use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

/// A chat message as far as prompts care: its role and its plain text.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, …
    pub role: String,
    /// Its text; the text parts joined where the content came in parts.
    pub content: String,
}

impl Message {
    /// A message.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// An error in the OpenAI shape: `{"error": {"message", "type", "param", "code"}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
    pub(crate) code: Option<&'static str>,
}

impl ApiError {
    /// 400: the request is wrong, here.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message).at(param)
    }

    /// 400: the body is not JSON.
    pub(crate) fn not_json(error: &serde_json::Error) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            format!("the body is not valid JSON: {error}"),
        )
    }

    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), param: None, code: None }
    }

    pub(crate) fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error =
            json!({"message": self.message, "type": self.kind, "param": self.param, "code": self.code});
        (self.status, axum::Json(json!({"error": error}))).into_response()
    }
}

/// The body, or why it could not be read: too large, or the connection broke.
pub(crate) fn body_of(body: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    body.map_err(|rejection| {
        let message = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            format!("the body is larger than {} bytes", crate::server::BODY_BYTES_MAX)
        } else {
            rejection.body_text()
        };
        ApiError::new(rejection.status(), "invalid_request_error", message)
    })
}

/// A JSON object, or a 400.
pub(crate) fn object_of(body: &[u8]) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_slice(body).map_err(|error| ApiError::not_json(&error))?;
    if value.is_object() {
        return Ok(value);
    }
    Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", "the body is not a JSON object"))
}

/// For every path that isn't served.
pub(crate) async fn no_such_route(method: http::Method, uri: http::Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "invalid_request_error",
        format!("no such route: {method} {}", uri.path()),
    )
    .code("unknown_url")
}

/// For every path that is served, but not this way.
pub(crate) async fn no_such_method(method: http::Method, uri: http::Uri) -> ApiError {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message)
}
