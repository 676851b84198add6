//! The call to the LLM: where it goes, what it carries, and what came back.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use url::Url;

use crate::llm::{CORRELATION_HEADER, PLAN_HEADER};
use crate::server::BODY_BYTES_MAX;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What the task app's caller gets to see of the LLM's answer.
pub(super) const PASSED_ON: [HeaderName; 5] = [
    HeaderName::from_static("server-timing"),
    HeaderName::from_static(PLAN_HEADER),
    HeaderName::from_static("x-mipro-candidate-id"),
    HeaderName::from_static("x-mipro-rollout-id"),
    HeaderName::from_static("x-mipro-prompt"),
];
/// So much of an error that isn't in the OpenAI shape is shown.
const SHOWN_CHARS_MAX: usize = 300;

/// A call, ready to be sent.
pub(super) struct LlmCall<'a> {
    /// The whole URL. It may be a capability: never log it.
    pub(super) url: &'a Url,
    pub(super) body: Bytes,
    pub(super) headers: HeaderMap,
}

/// What came back.
pub(super) struct Outcome {
    /// The headers of [`PASSED_ON`] that were there.
    pub(super) passed_on: HeaderMap,
    /// A chat completion, or why there is none.
    pub(super) completion: Result<Value, Fault>,
}

/// Why there is no completion.
pub(super) struct Fault {
    /// For people; names no capability.
    pub(super) detail: String,
    /// What the LLM answered, if it did.
    pub(super) status: Option<StatusCode>,
    /// The body it answered with, if that was JSON.
    pub(super) response: Option<Value>,
}

/// The client that all calls share. It follows no redirects: keys and capabilities go nowhere else.
pub(super) fn client(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .no_proxy()
        .build()
}

/// The URL to call: `/chat/completions` is appended where the path doesn't end in it; a query stays.
pub(super) fn endpoint(inference_url: &str) -> Result<Url, String> {
    let mut url = Url::parse(inference_url).map_err(|error| format!("not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("not an http or https URL".to_owned());
    }
    let path = url.path().trim_end_matches('/');
    if !path.ends_with("/chat/completions") {
        let longer = format!("{path}/chat/completions");
        url.set_path(&longer);
    }
    Ok(url)
}

/// The correlation id that stands in the URL's query, if one does.
pub(super) fn correlation_of(url: &Url) -> Option<String> {
    let named = |wanted: &str| url.query_pairs().find(|(name, value)| name == wanted && !value.is_empty());
    named("trace_correlation_id").or_else(|| named("cid")).map(|(_, id)| id.into_owned())
}

/// The headers of a call: who asks for which rollout.
///
/// # Errors
/// Names the field that can't stand in a header.
pub(super) fn headers(
    rollout_id: &str,
    api_key: Option<&str>,
    traceparent: Option<&HeaderValue>,
) -> Result<HeaderMap, &'static str> {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let rollout = HeaderValue::try_from(rollout_id).map_err(|_| "trace_correlation_id")?;
    headers.insert(CORRELATION_HEADER, rollout);
    if let Some(key) = api_key {
        let mut bearer =
            HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| "policy.config.api_key")?;
        bearer.set_sensitive(true);
        headers.insert(http::header::AUTHORIZATION, bearer);
    }
    headers.insert("traceparent", traceparent.cloned().unwrap_or_else(|| derived_traceparent(rollout_id)));
    Ok(headers)
}

/// A trace context that follows from the rollout alone, so that every log tells the same id.
fn derived_traceparent(rollout_id: &str) -> HeaderValue {
    let hex = blake3::hash(rollout_id.as_bytes()).to_hex();
    let text = format!("00-{}-{}-01", &hex[..32], &hex[32..48]);
    HeaderValue::try_from(text).expect("hex digits and hyphens are visible ASCII")
}

/// Sends the call and reads the whole answer. Dropping it closes the connection, which stops the LLM.
pub(super) async fn send(client: &reqwest::Client, call: LlmCall<'_>) -> Outcome {
    let host = authority(call.url);
    let request = client.post(call.url.clone()).headers(call.headers).body(call.body);
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => {
            let detail = describe("the LLM", &host, error);
            let fault = Fault { detail, status: None, response: None };
            return Outcome { passed_on: HeaderMap::new(), completion: Err(fault) };
        }
    };
    let status = response.status();
    let mut passed_on = HeaderMap::new();
    for name in PASSED_ON {
        for value in response.headers().get_all(&name) {
            passed_on.append(name.clone(), value.clone());
        }
    }
    let completion = match read(response).await {
        Ok(body) => judge(status, &body),
        Err(Unread::TooLarge) => {
            let detail = format!("the LLM's answer is larger than {BODY_BYTES_MAX} bytes");
            Err(Fault { detail, status: Some(status), response: None })
        }
        Err(Unread::Broken(error)) => {
            let detail = describe("the LLM's answer", &host, error);
            Err(Fault { detail, status: Some(status), response: None })
        }
    };
    Outcome { passed_on, completion }
}

enum Unread {
    TooLarge,
    Broken(reqwest::Error),
}

async fn read(mut response: reqwest::Response) -> Result<Bytes, Unread> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(Unread::Broken)? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(Unread::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn judge(status: StatusCode, body: &[u8]) -> Result<Value, Fault> {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let message = parsed.as_ref().and_then(|v| v.pointer("/error/message")).and_then(Value::as_str);
    let detail = if !status.is_success() {
        let shown = message.map_or_else(|| shorten(&String::from_utf8_lossy(body)), ToOwned::to_owned);
        format!("the LLM answered {}: {shown}", status.as_u16())
    } else if let Some(message) = message {
        format!("the LLM answered with an error: {message}")
    } else {
        match parsed {
            Some(completion) if completion.pointer("/choices/0").is_some() => return Ok(completion),
            Some(_) => "the LLM's answer has no choices".to_owned(),
            None => "the LLM's answer is not JSON".to_owned(),
        }
    };
    Err(Fault { detail, status: Some(status), response: parsed })
}

fn shorten(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        return "an empty body".to_owned();
    }
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

/// What went wrong on the way, without the URL, which may be a capability.
fn describe(what: &str, host: &str, error: reqwest::Error) -> String {
    let error = error.without_url();
    let kind = if error.is_connect() {
        "can't be reached"
    } else if error.is_timeout() {
        "took too long"
    } else {
        "broke off"
    };
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    format!("{what} at {host} {kind}: {cause}")
}

/// Host and port of a URL, without what may be secret in it.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests;
