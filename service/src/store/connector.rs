//! The HTTP client under `object_store`: hyper, with connects, first bytes and bodies clocked, and with connections kept
//! or not, as the rung wants.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::Uri;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use mipro_telemetry::{Ledger, Stage, clock};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use tower::Service;

use super::{StoreError, tls};

/// How long an idle connection is kept.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// What travels with a request through `object_store` (in the request's extensions): whose time it is, and what the
/// store said last.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) ledger: Ledger,
    pub(crate) stage: Stage,
    /// The newest HTTP status, 0 before the first: errors name it, since the client's own texts name the URL.
    pub(crate) status: Arc<AtomicU16>,
}

/// What the wire did, summed over the process's life.
#[derive(Debug, Default)]
pub struct WireTimes {
    requests: AtomicU64,
    connects: AtomicU64,
    connect_ns: AtomicU64,
    first_byte_ns: AtomicU64,
    body_ns: AtomicU64,
    failures: AtomicU64,
}

/// A reading of [`WireTimes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WireReading {
    /// Requests sent, retries among them.
    pub requests: u64,
    /// Connections opened.
    pub connects: u64,
    /// Time spent opening them (name, TCP, TLS), nanoseconds.
    pub connect_ns: u64,
    /// Time from sending a request to its answer's head, connecting included, nanoseconds.
    pub first_byte_ns: u64,
    /// Time from the head to the end of the body, nanoseconds.
    pub body_ns: u64,
    /// Requests that got no answer.
    pub failures: u64,
}

impl WireTimes {
    /// The sums now.
    #[must_use]
    pub fn read(&self) -> WireReading {
        WireReading {
            requests: self.requests.load(Ordering::Relaxed),
            connects: self.connects.load(Ordering::Relaxed),
            connect_ns: self.connect_ns.load(Ordering::Relaxed),
            first_byte_ns: self.first_byte_ns.load(Ordering::Relaxed),
            body_ns: self.body_ns.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}

fn add_since(sum: &AtomicU64, start: Instant) {
    sum.fetch_add(clock::as_ns(clock::now().saturating_duration_since(start)), Ordering::Relaxed);
}

/// Makes the client; see [`WireConnector::new`].
#[derive(Debug, Clone)]
pub(crate) struct WireConnector {
    client: Client<ClockedConnector, HttpRequestBody>,
    times: Arc<WireTimes>,
}

impl WireConnector {
    /// `https`: whether certificates will be needed. `keep_alive = false`: every request opens a connection of its own.
    pub(crate) fn new(https: bool, keep_alive: bool, connect_timeout: Duration) -> Result<Self, StoreError> {
        let config = if https { tls::native_client_config()? } else { tls::rootless_client_config()? };
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let inner = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let times = Arc::<WireTimes>::default();
        let connector = ClockedConnector { inner, times: Arc::clone(&times) };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(if keep_alive { usize::MAX } else { 0 })
            .build(connector);
        Ok(Self { client, times })
    }

    pub(crate) fn times(&self) -> Arc<WireTimes> {
        Arc::clone(&self.times)
    }
}

impl HttpConnector for WireConnector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for WireConnector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let call = request.extensions().get::<Call>().cloned();
        if let Some(call) = &call {
            call.ledger.count(call.stage, 1, 0, 1);
        }
        self.times.requests.fetch_add(1, Ordering::Relaxed);
        let sent = clock::now();
        let answer = self.client.request(request).await.map_err(|error| {
            self.times.failures.fetch_add(1, Ordering::Relaxed);
            HttpError::new(kind(&error), error)
        })?;
        add_since(&self.times.first_byte_ns, sent);
        let (head, body) = answer.into_parts();
        if let Some(call) = &call {
            call.status.store(head.status.as_u16(), Ordering::Relaxed);
        }
        let body = ClockedBody { inner: body, since: clock::now(), times: Arc::clone(&self.times) };
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

/// Decides what `object_store` may retry: what never reached the store, and what broke off.
fn kind(error: &hyper_util::client::legacy::Error) -> HttpErrorKind {
    if error.is_connect() {
        return HttpErrorKind::Connect;
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_timeout() {
                return HttpErrorKind::Timeout;
            }
            if error.is_closed() || error.is_incomplete_message() || error.is_canceled() {
                return HttpErrorKind::Request;
            }
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return match error.kind() {
                std::io::ErrorKind::TimedOut => HttpErrorKind::Timeout,
                _ => HttpErrorKind::Interrupted,
            };
        }
        cause = error.source();
    }
    HttpErrorKind::Unknown
}

/// Opens connections and clocks it.
#[derive(Debug, Clone)]
struct ClockedConnector {
    inner: HttpsConnector<TcpConnector>,
    times: Arc<WireTimes>,
}

type Opened = <HttpsConnector<TcpConnector> as Service<Uri>>::Response;
type BoxError = Box<dyn StdError + Send + Sync>;

impl Service<Uri> for ClockedConnector {
    type Response = Opened;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Opened, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let start = clock::now();
        let opening = self.inner.call(uri);
        let times = Arc::clone(&self.times);
        Box::pin(async move {
            let opened = opening.await?;
            times.connects.fetch_add(1, Ordering::Relaxed);
            add_since(&times.connect_ns, start);
            Ok(opened)
        })
    }
}

/// A response body that clocks itself until it is dropped, which is at its end or when nobody wants the rest.
#[derive(Debug)]
struct ClockedBody {
    inner: Incoming,
    since: Instant,
    times: Arc<WireTimes>,
}

impl Body for ClockedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(|e| HttpError::new(HttpErrorKind::Interrupted, e))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ClockedBody {
    fn drop(&mut self) {
        add_since(&self.times.body_ns, self.since);
    }
}
