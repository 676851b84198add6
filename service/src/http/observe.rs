//! The layer around every handler: ledger, time limit, panics, drain, `Server-Timing`, and the log.
//!
//! The log names routes as the router knows them (`/api/mipro/v1/{system_id}/…`) and never as they were asked for: a proxy
//! URL is a capability. Headers and bodies are never logged.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{TE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use http_body::{Frame, SizeHint};
use mipro_telemetry::{Breakdown, Group, Ledger, Operation, server_timing};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::Shared;
use super::error::{ApiError, Failure};
use crate::metrics::{CLIENT_CLOSED_REQUEST, Counted};

/// A request that takes longer than this, the LLM's part not counted, is told in the log.
const SLOW: Duration = Duration::from_secs(5);

/// Marks a response whose body is a stream: its books stay open until the stream ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streamed;

/// Runs a request under observation.
pub(super) async fn observe(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let books = OpenBooks::open(&app, &request);
    request.extensions_mut().insert(books.ledger.clone());
    let limit = Duration::from_millis(app.options.limits.request_timeout_ms);
    let answer = AssertUnwindSafe(books.ledger.watch(next.run(request))).catch_unwind();
    let mut response = tokio::select! {
        biased;
        answer = answer => answer.unwrap_or_else(|_| books.panicked()),
        () = app.stop.cutoff.cancelled() => ApiError::draining().into_response(),
        () = tokio::time::sleep(limit) => late(limit).into_response(),
    };
    if response.extensions_mut().remove::<Streamed>().is_some() {
        return stream(response, books);
    }
    let failure = response.extensions_mut().remove::<Failure>();
    let breakdown = books.close(response.status().as_u16(), failure.as_ref());
    if app.options.server_timing {
        announce(response.headers_mut(), &breakdown);
    }
    response
}

fn late(limit: Duration) -> ApiError {
    let message = format!("the request was not answered within {} ms", limit.as_millis());
    ApiError::new(StatusCode::GATEWAY_TIMEOUT, "server_error", message).code("request_timeout")
}

fn announce(headers: &mut HeaderMap, breakdown: &Breakdown) {
    if let Ok(value) = HeaderValue::from_str(&server_timing::write(breakdown)) {
        headers.insert(HeaderName::from_static(server_timing::HEADER), value);
    }
}

fn stream(response: Response, books: OpenBooks) -> Response {
    let app = Arc::clone(&books.app);
    let (mut parts, body) = response.into_parts();
    if books.wants_trailer {
        parts.headers.insert(TRAILER, HeaderValue::from_static(server_timing::HEADER));
    }
    let status = parts.status.as_u16();
    let cutoff = Box::pin(app.stop.cutoff.clone().cancelled_owned());
    Response::from_parts(parts, Body::new(ObservedBody { inner: body, books: Some(books), status, cutoff }))
}

/// HTTP/1 clients say `TE: trailers`; in HTTP/2 trailers are part of every stream.
fn reads_trailers(request: &Request) -> bool {
    let te = request.headers().get(TE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    request.version() == Version::HTTP_2
        || te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// A request's books, until they are closed. Dropped open, the client has left: recorded as such.
struct OpenBooks {
    app: Shared,
    ledger: Ledger,
    method: Method,
    route: Option<MatchedPath>,
    /// A stream's books go out as a trailer: asked for by the operator, and the client can read one.
    wants_trailer: bool,
    closed: bool,
    _in_flight: Counted,
}

impl OpenBooks {
    fn open(app: &Shared, request: &Request) -> Self {
        Self {
            app: Arc::clone(app),
            ledger: Ledger::start(Operation::Unknown),
            method: request.method().clone(),
            route: request.extensions().get::<MatchedPath>().cloned(),
            wants_trailer: app.options.server_timing && reads_trailers(request),
            closed: false,
            _in_flight: app.metrics.request(),
        }
    }

    fn route(&self) -> &str {
        self.route.as_ref().map_or("(no such route)", MatchedPath::as_str)
    }

    fn panicked(&self) -> Response {
        self.app.metrics.panicked();
        ApiError::panicked().into_response()
    }

    fn close(mut self, status: u16, failure: Option<&Failure>) -> Breakdown {
        self.record(status, failure)
    }

    fn record(&mut self, status: u16, failure: Option<&Failure>) -> Breakdown {
        self.closed = true;
        let breakdown = self.ledger.finish();
        self.app.metrics.record(&breakdown, status);
        let total_ms = breakdown.total_ns / 1_000_000;
        let own_ns = breakdown.total_ns.saturating_sub(breakdown.group_ns(Group::Llm));
        let (method, route, operation) = (&self.method, self.route(), breakdown.operation.name());
        let code = failure.and_then(|f| f.code).unwrap_or("");
        let reason = failure.map_or("", |f| f.message.as_str());
        if status >= 500 && status != 501 {
            tracing::warn!(%method, route, operation, status, total_ms, code, reason, "request failed");
        } else if u128::from(own_ns) > SLOW.as_nanos() {
            tracing::warn!(%method, route, operation, status, total_ms, "slow request");
        } else {
            tracing::debug!(%method, route, operation, status, total_ms, code, "request");
        }
        breakdown
    }
}

impl Drop for OpenBooks {
    fn drop(&mut self) {
        if !self.closed {
            self.ledger.abandon();
            self.record(CLIENT_CLOSED_REQUEST, None);
        }
    }
}

/// A streamed body under observation. A clean end closes the books and, where asked for, tells them in a trailer; anything
/// else breaks the connection, so that nobody takes a piece for the whole.
struct ObservedBody {
    inner: Body,
    books: Option<OpenBooks>,
    status: u16,
    cutoff: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let Some(books) = &this.books else { return Poll::Ready(None) };
        let polled = books.ledger.working(|| Pin::new(&mut this.inner).poll_frame(cx));
        let frame = match polled {
            Poll::Ready(frame) => frame,
            Poll::Pending if self.cutoff.as_mut().poll(cx).is_ready() => {
                Some(Err(axum::Error::new("the service is stopping")))
            }
            Poll::Pending => return Poll::Pending,
        };
        match frame {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => {
                self.fail(&error);
                Poll::Ready(Some(Err(error)))
            }
            None => Poll::Ready(self.end().map(Ok)),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl ObservedBody {
    fn fail(&mut self, error: &axum::Error) {
        if let Some(books) = self.books.take() {
            let failure = Failure { code: Some("stream_broken"), message: error.to_string() };
            books.close(StatusCode::BAD_GATEWAY.as_u16(), Some(&failure));
        }
    }

    fn end(&mut self) -> Option<Frame<Bytes>> {
        let books = self.books.take()?;
        let wanted = books.wants_trailer;
        let breakdown = books.close(self.status, None);
        let mut trailers = HeaderMap::new();
        announce(&mut trailers, &breakdown);
        wanted.then(|| Frame::trailers(trailers))
    }
}
