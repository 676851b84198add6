//! What stands before the S3 operations: counts, delays and faults, at the level of HTTP.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use s3s::service::S3Service;
use s3s::{Body, HttpError, S3Error, S3ErrorCode};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::faults::{Faults, Outcome};
use crate::httpd::{AtomicVerbCounts, Verb, VerbCounts};

/// What the server has seen since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Requests by verb, failed ones included.
    pub requests: VerbCounts,
    /// Bytes of request bodies received, without heads.
    pub bytes_in: u64,
    /// Bytes of response bodies sent, without heads.
    pub bytes_out: u64,
    /// Answers with a status of 400 to 499.
    pub errors_4xx: u64,
    /// Answers with a status of 500 to 599.
    pub errors_5xx: u64,
    /// Requests that were failed or stalled on purpose; the answers among them are in the two counts above as well.
    pub faults: u64,
}

impl Counts {
    /// What was counted after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.since(&earlier.requests),
            bytes_in: self.bytes_in.saturating_sub(earlier.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(earlier.bytes_out),
            errors_4xx: self.errors_4xx.saturating_sub(earlier.errors_4xx),
            errors_5xx: self.errors_5xx.saturating_sub(earlier.errors_5xx),
            faults: self.faults.saturating_sub(earlier.faults),
        }
    }
}

#[derive(Default)]
struct Counters {
    requests: AtomicVerbCounts,
    bytes_in: Arc<AtomicU64>,
    bytes_out: Arc<AtomicU64>,
    errors_4xx: AtomicU64,
    errors_5xx: AtomicU64,
    faults: AtomicU64,
}

/// Receives every request of the data listener.
pub(super) struct Front {
    service: S3Service,
    faults: watch::Sender<Arc<Faults>>,
    counters: Counters,
    seed: u64,
    stop: CancellationToken,
}

impl Front {
    pub(super) fn new(service: S3Service, seed: u64, stop: CancellationToken) -> Self {
        let (faults, _) = watch::channel(Arc::new(Faults::default()));
        Self { service, faults, counters: Counters::default(), seed, stop }
    }

    pub(super) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults.borrow())
    }

    /// Replaces all faults, and lets stalled requests go on.
    pub(super) fn set_faults(&self, faults: Faults) {
        self.faults.send_replace(Arc::new(faults));
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            requests: self.counters.requests.read(),
            bytes_in: read(&self.counters.bytes_in),
            bytes_out: read(&self.counters.bytes_out),
            errors_4xx: read(&self.counters.errors_4xx),
            errors_5xx: read(&self.counters.errors_5xx),
            faults: read(&self.counters.faults),
        }
    }

    /// Answers one request, or fails or stalls it as planned.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Counted<Body>>, HttpError> {
        let verb = Verb::from(request.method());
        let n = self.counters.requests.add(verb);
        let mut changes = self.faults.subscribe();
        let plan = changes.borrow_and_update().plan(self.seed, verb, n);
        if plan.outcome != Outcome::Serve {
            self.counters.faults.fetch_add(1, Ordering::Relaxed);
        }
        let request = request.map(|body| Counted { body, bytes: Arc::clone(&self.counters.bytes_in) });
        let response = match plan.outcome {
            Outcome::Serve => self.serve(request).await?,
            Outcome::Fail { status, applied } => {
                if applied {
                    self.serve(request).await?;
                } else {
                    // The body is read, so that the connection stays good for the next request.
                    let mut body = request.into_body();
                    while let Some(Ok(_)) = body.frame().await {}
                }
                injected(status)?
            }
            Outcome::Stall { applied: true } => {
                let response = self.serve(request).await?;
                self.stall(&mut changes).await;
                response
            }
            Outcome::Stall { applied: false } => {
                self.stall(&mut changes).await;
                self.serve(request).await?
            }
        };
        if !plan.delay.is_zero() {
            tokio::time::sleep(plan.delay).await;
        }
        if response.status().is_client_error() {
            self.counters.errors_4xx.fetch_add(1, Ordering::Relaxed);
        } else if response.status().is_server_error() {
            self.counters.errors_5xx.fetch_add(1, Ordering::Relaxed);
        }
        Ok(response.map(|body| Counted { body, bytes: Arc::clone(&self.counters.bytes_out) }))
    }

    async fn serve(&self, request: Request<Counted<Incoming>>) -> Result<Response<Body>, HttpError> {
        self.service.call(request.map(Body::http_body)).await
    }

    /// Waits until the faults are replaced or the server stops.
    async fn stall(&self, changes: &mut watch::Receiver<Arc<Faults>>) {
        tokio::select! {
            _ = changes.changed() => {}
            () = self.stop.cancelled() => {}
        }
    }
}

fn injected(status: StatusCode) -> Result<Response<Body>, HttpError> {
    let code = match status {
        StatusCode::INTERNAL_SERVER_ERROR => S3ErrorCode::InternalError,
        StatusCode::SERVICE_UNAVAILABLE => S3ErrorCode::SlowDown,
        StatusCode::FORBIDDEN => S3ErrorCode::AccessDenied,
        StatusCode::NOT_FOUND => S3ErrorCode::NoSuchKey,
        StatusCode::PRECONDITION_FAILED => S3ErrorCode::PreconditionFailed,
        _ => S3ErrorCode::Custom("InjectedFault".into()),
    };
    let mut error = S3Error::with_message(code, "a fault that was asked for");
    error.set_status_code(status);
    error.to_http_response().map_err(|error| HttpError::new(Box::new(error)))
}

/// A body whose bytes are counted as they pass.
pub(super) struct Counted<B> {
    body: B,
    bytes: Arc<AtomicU64>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
