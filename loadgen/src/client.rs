//! The HTTP client: times each call from sending to the last byte, and says in which class it failed.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mipro_telemetry::clock;
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, redirect};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use url::Url;

use crate::account::{Class, Exhausted, Failure};
use crate::error::Error;

#[cfg(test)]
mod tests;

/// Largest answer that is read; a larger one is not what the contract says.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Connections to keep open, and how long a call may take.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A call that ended, one way or the other.
#[derive(Debug)]
pub(crate) struct Done {
    /// From just before sending to the last byte, or to the failure.
    pub(crate) service_ns: u64,
    pub(crate) answer: Result<Answer, Failure>,
}

impl Client {
    /// `timeout` bounds a whole call, connecting included. Proxies of the environment are not used: they would be measured.
    pub(crate) fn new(timeout: Duration, connections_max: usize) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(timeout)
            .connect_timeout(timeout)
            .pool_max_idle_per_host(connections_max)
            .tcp_nodelay(true)
            .build()
            .map_err(Error::Client)?;
        Ok(Self { http })
    }

    pub(crate) fn get(&self, url: Url) -> RequestBuilder {
        self.http.get(url)
    }

    pub(crate) fn post(&self, url: Url) -> RequestBuilder {
        self.http.post(url)
    }

    /// Sends and reads to the end. Dropping the future closes the connection.
    pub(crate) async fn call(&self, request: RequestBuilder) -> Done {
        let sent = clock::now();
        let answer = exchange(request).await;
        Done { service_ns: clock::as_ns(clock::now() - sent), answer }
    }
}

async fn exchange(request: RequestBuilder) -> Result<Answer, Failure> {
    let mut response = request.send().await.map_err(failure)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(failure)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Failure::invalid(format!("the answer has more than {ANSWER_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    let headers = std::mem::take(response.headers_mut());
    Ok(Answer { status: response.status().as_u16(), headers, body: body.freeze() })
}

impl Answer {
    /// A success as HTTP has it, or the failure that the status stands for.
    pub(crate) fn success(self) -> Result<Self, Failure> {
        let class = match self.status {
            200..=299 => return Ok(self),
            400..=499 => Class::Http4xx,
            500..=599 => Class::Http5xx,
            _ => Class::Invalid,
        };
        let detail = match message(&self.body) {
            Some(message) => format!("answer {}: {message}", self.status),
            None => format!("answer {}", self.status),
        };
        Err(Failure::new(class, detail))
    }

    /// The body of an answer that is 200 as the contract says, and of the form expected.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        if self.status != 200 {
            return Err(Failure::invalid(format!("answer {} where the contract says 200", self.status)));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            // Only what was expected and where: the text around it might hold anything.
            Failure::invalid(format!("the answer is not of the contract's form: {error}"))
        })
    }
}

/// What an error's body says, in one of the two usual shapes.
fn message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = value.pointer("/error/message").or_else(|| value.get("detail"))?;
    text.as_str().map(str::to_owned)
}

fn failure(error: reqwest::Error) -> Failure {
    let class = classify(&error);
    // The URL may be a capability.
    let error = error.without_url();
    let mut detail = error.to_string();
    if let Some(cause) = innermost(&error) {
        detail = format!("{detail}: {cause}");
    }
    Failure::new(class, detail).met(exhausted(&error))
}

/// Which limit of this machine an error comes from.
pub(crate) fn exhausted(error: &(dyn std::error::Error + 'static)) -> Option<Exhausted> {
    let code = io_errors(error).find_map(io::Error::raw_os_error)?;
    match Errno::from_raw_os_error(code) {
        Errno::MFILE | Errno::NFILE => Some(Exhausted::Descriptors),
        Errno::ADDRNOTAVAIL => Some(Exhausted::Ports),
        _ => None,
    }
}

fn innermost(error: &reqwest::Error) -> Option<String> {
    let mut cause = error.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}

fn classify(error: &reqwest::Error) -> Class {
    if error.is_timeout() {
        return Class::Timeout;
    }
    let kind = io_kind(error);
    if error.is_connect() {
        // A handshake that fails reports bad data, where a connection that fails reports the system's refusal.
        return if kind == Some(io::ErrorKind::InvalidData) { Class::Tls } else { Class::Connect };
    }
    match kind {
        Some(io::ErrorKind::BrokenPipe | io::ErrorKind::WriteZero) => Class::Write,
        _ => Class::Read,
    }
}

/// The kind of the outermost I/O error that is not merely "other".
pub(crate) fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    io_errors(error).map(io::Error::kind).find(|kind| *kind != io::ErrorKind::Other)
}

/// The I/O errors in an error's chain, outermost first.
fn io_errors<'a>(error: &'a (dyn std::error::Error + 'static)) -> impl Iterator<Item = &'a io::Error> {
    std::iter::successors(Some(error), |error| below(*error)).filter_map(|error| error.downcast_ref())
}

fn below<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a (dyn std::error::Error + 'static)> {
    // An I/O error's source is the source of what it wraps, so that the wrapped error itself must be asked for.
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match wrapped {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}
