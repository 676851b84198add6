//! The call to the LLM: where it goes, what is passed on, and what its failures are called.
//!
//! Headers that speak of one connection, and those meant for us, stay behind; all others travel, both ways. Nothing is
//! retried: a rollout is one call, and a client that wants another asks for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use mipro_telemetry::{Ledger, Stage, server_timing};

use super::connect::{self, TimedConnector};
use super::stream::StreamedAnswer;
use crate::config::{Options, Secret};

/// The provider of jobs that name none.
const PROVIDER_DEFAULT: &str = "openai";

/// Connections to one LLM kept open while idle.
const IDLE_PER_HOST_MAX: usize = 256;

/// How long they are kept: less than servers keep theirs, so that no call goes out on a connection that is being closed,
/// which the client would see as a 502. Common servers (uvicorn, Node) close theirs after 5 s.
const IDLE_KEPT: Duration = Duration::from_secs(4);

/// Why there is no answer of the LLM to pass on. Messages go to clients: they name the provider, never its address.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The job names a provider that the service has no address for.
    #[error("the job's provider `{name}` is not configured here; known: {known}")]
    UnknownProvider {
        /// As the job names it.
        name: String,
        /// The configured ones.
        known: String,
    },
    /// No connection.
    #[error("the LLM of provider `{provider}` can't be reached: {reason}")]
    Unreachable {
        /// Which one.
        provider: Arc<str>,
        /// Why.
        reason: String,
    },
    /// It was silent for too long.
    #[error("the LLM of provider `{provider}` did not answer within {after_ms} ms")]
    Timeout {
        /// Which one.
        provider: Arc<str>,
        /// The limit.
        after_ms: u64,
    },
    /// It broke off, or was no HTTP.
    #[error("the answer of provider `{provider}` broke off: {reason}")]
    Broken {
        /// Which one.
        provider: Arc<str>,
        /// Why.
        reason: String,
    },
    /// It said too much.
    #[error("the answer of provider `{provider}` is larger than {bytes_max} bytes")]
    TooLarge {
        /// Which one.
        provider: Arc<str>,
        /// The limit.
        bytes_max: usize,
    },
}

impl Error {
    /// The error's name for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownProvider { .. } => "unknown_provider",
            Self::Unreachable { .. } => "upstream_unreachable",
            Self::Timeout { .. } => "upstream_timeout",
            Self::Broken { .. } => "upstream_broken",
            Self::TooLarge { .. } => "upstream_too_large",
        }
    }
}

/// Where calls go.
#[derive(Debug, Clone)]
pub struct Target {
    provider: Arc<str>,
    url: String,
    key: Option<Secret>,
}

/// All LLMs, behind one pool of connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Upstreams {
    client: reqwest::Client,
    only: Option<Arc<Target>>,
    by_provider: Arc<BTreeMap<String, Arc<Target>>>,
    idle_timeout: Duration,
    body_bytes_max: usize,
}

/// What the LLM said.
#[derive(Debug)]
pub struct Answer {
    /// Its status, whatever it is.
    pub status: StatusCode,
    /// Its end-to-end headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: AnswerBody,
}

/// An answer's body.
#[derive(Debug)]
pub enum AnswerBody {
    /// Here in whole.
    Whole(Bytes),
    /// Still coming.
    Stream(Box<StreamedAnswer>),
}

impl Upstreams {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// When the machine's TLS roots can't be read.
    pub fn new(options: &Options) -> Result<Self, reqwest::Error> {
        let limits = &options.limits;
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_millis(limits.upstream_connect_timeout_ms))
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .pool_idle_timeout(IDLE_KEPT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .connector_layer(tower::layer::layer_fn(TimedConnector::new))
            .build()?;
        let target = |name: &str, base_url: &str, key: &Option<Secret>| {
            Arc::new(Target {
                provider: name.into(),
                url: format!("{base_url}/chat/completions"),
                key: key.clone(),
            })
        };
        let only =
            options.upstream.as_deref().map(|url| target("upstream", url, &options.auth.upstream_api_key));
        let providers = options.providers.iter();
        let by_provider =
            providers.map(|(name, p)| (name.clone(), target(name, &p.base_url, &p.api_key))).collect();
        Ok(Self {
            client,
            only,
            by_provider: Arc::new(by_provider),
            idle_timeout: Duration::from_millis(limits.upstream_idle_timeout_ms),
            body_bytes_max: limits.upstream_body_bytes_max,
        })
    }

    /// Where the calls of a job's provider go.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`]
    pub fn target(&self, provider: &str) -> Result<Arc<Target>, Error> {
        if let Some(only) = &self.only {
            return Ok(Arc::clone(only));
        }
        let name = if provider.is_empty() { PROVIDER_DEFAULT } else { provider };
        self.by_provider.get(name).cloned().ok_or_else(|| {
            let known = self.by_provider.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Error::UnknownProvider { name: name.chars().take(64).collect(), known }
        })
    }

    /// Calls the LLM. Answers that are event streams come back at their first byte, all others in whole.
    /// Dropping the future, or a streamed answer, closes the connection to the LLM.
    ///
    /// # Errors
    /// When there is no whole answer to pass on; an answer with an error status is none of them.
    pub async fn call(
        &self,
        target: &Target,
        headers: HeaderMap,
        body: Bytes,
        ledger: &Ledger,
    ) -> Result<Answer, Error> {
        let sent_bytes = body.len() as u64;
        let request = self.client.post(&target.url).headers(target.authorize(headers)).body(body);
        let waiting = ledger.enter(Stage::LlmFirstByte);
        ledger.count(Stage::LlmFirstByte, 1, sent_bytes, 1);
        let head = tokio::time::timeout(self.idle_timeout, connect::timed(ledger, request.send()));
        let response = head.await.map_err(|_| self.silent(target))?.map_err(|e| target.no_answer(e, self))?;
        waiting.done();
        // Nobody asked it to: passed on, it would have the client speak another protocol with us.
        if response.status().is_informational() {
            let reason = format!("it answered with status {}", response.status().as_u16());
            return Err(Error::Broken { provider: Arc::clone(&target.provider), reason });
        }
        let (parts, body) = http::Response::from(response).into_parts();
        let headers = end_to_end(parts.headers);
        let body = if is_event_stream(&headers) {
            AnswerBody::Stream(Box::new(StreamedAnswer::new(body, ledger, self.idle_timeout)))
        } else {
            AnswerBody::Whole(self.read(target, body, ledger).await?)
        };
        Ok(Answer { status: parts.status, headers, body })
    }

    async fn read(&self, target: &Target, mut body: reqwest::Body, ledger: &Ledger) -> Result<Bytes, Error> {
        let reading = ledger.enter(Stage::LlmBody);
        let provider = &target.provider;
        let mut whole = BytesMut::new();
        loop {
            let frame = tokio::time::timeout(self.idle_timeout, body.frame()).await;
            let Some(frame) = frame.map_err(|_| self.silent(target))? else { break };
            let frame =
                frame.map_err(|e| Error::Broken { provider: Arc::clone(provider), reason: reason(&e) })?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > self.body_bytes_max {
                return Err(Error::TooLarge {
                    provider: Arc::clone(provider),
                    bytes_max: self.body_bytes_max,
                });
            }
            whole.extend_from_slice(&data);
        }
        reading.done();
        ledger.count(Stage::LlmBody, 1, whole.len() as u64, 0);
        Ok(whole.freeze())
    }

    fn silent(&self, target: &Target) -> Error {
        let after_ms = u64::try_from(self.idle_timeout.as_millis()).unwrap_or(u64::MAX);
        Error::Timeout { provider: Arc::clone(&target.provider), after_ms }
    }
}

impl Target {
    /// The configured key stands in where the client sent none.
    fn authorize(&self, mut headers: HeaderMap) -> HeaderMap {
        if let (false, Some(key)) = (headers.contains_key(AUTHORIZATION), &self.key)
            && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
        {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        headers
    }

    fn no_answer(&self, error: reqwest::Error, upstreams: &Upstreams) -> Error {
        let provider = Arc::clone(&self.provider);
        if error.is_connect() {
            return Error::Unreachable { provider, reason: reason(&error.without_url()) };
        }
        if error.is_timeout() {
            return upstreams.silent(self);
        }
        // It was reached, so it may have done (and charged for) what was asked.
        Error::Broken { provider, reason: reason(&error.without_url()) }
    }
}

/// The innermost cause, which says more than "error sending request" and names no URL.
pub(super) fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.trim_start().get(..17).is_some_and(|start| start.eq_ignore_ascii_case("text/event-stream"))
}

/// A client's headers, as the LLM gets them. `own_bearer`: the Bearer is a key of ours and stays here.
#[must_use]
pub fn forwarded(headers: &HeaderMap, own_bearer: bool) -> HeaderMap {
    let mut headers = end_to_end(headers.clone());
    for name in [HOST, EXPECT] {
        headers.remove(name);
    }
    headers.remove("x-api-key");
    if own_bearer {
        headers.remove(AUTHORIZATION);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

/// Drops what speaks of one connection or of one encoding of the message, and what only we may say.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let hop_by_hop = [
        CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        CONTENT_LENGTH,
    ];
    for name in named.into_iter().chain(hop_by_hop) {
        headers.remove(name);
    }
    for name in
        ["keep-alive", "proxy-connection", "x-mipro-candidate-id", "x-mipro-rollout-id", "x-mipro-prompt"]
    {
        headers.remove(name);
    }
    headers.remove(server_timing::HEADER);
    headers
}
