//! Reading a request's body, within bounds of size and time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;

use super::Shared;
use super::error::ApiError;

/// How long a client may take to send its whole body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that is still sending can't read our refusal, and closing on it resets the connection before it does. So the
/// rest of a body that is too large is read and dropped, up to this many times the limit.
const DROPPED_TIMES_MAX: usize = 16;

/// A request's whole body, at most `limits.body_bytes_max` long, whatever its content type says.
#[derive(Debug)]
pub(super) struct Whole(pub(super) Bytes);

impl FromRequest<Shared> for Whole {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, ApiError> {
        let limit = app.options.limits.body_bytes_max;
        let (parts, body) = request.into_parts();
        let waits = parts.headers.contains_key(EXPECT);
        if waits && content_length(&parts.headers).is_some_and(|length| length > limit) {
            return Err(too_large(limit).close());
        }
        match tokio::time::timeout(READ_TIMEOUT, read(body, limit)).await {
            Ok(result) => result.map(Self),
            Err(_) => {
                let message = format!("the body did not arrive within {} s", READ_TIMEOUT.as_secs());
                let late = ApiError::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", message);
                Err(late.code("request_timeout").close())
            }
        }
    }
}

async fn read(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            ApiError::bad_request("the connection broke before the whole body had come")
                .code("incomplete_body")
                .close()
        })?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length > limit.saturating_mul(DROPPED_TIMES_MAX) {
            return Err(too_large(limit).close());
        }
        if length <= limit {
            whole.extend_from_slice(&data);
        } else {
            whole = BytesMut::new();
        }
    }
    if length > limit { Err(too_large(limit)) } else { Ok(whole.freeze()) }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(limit: usize) -> ApiError {
    let message = format!("the body is larger than {limit} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message).code("body_too_large")
}
