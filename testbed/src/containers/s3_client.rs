//! The few S3 calls that tell whether a server can be used: one connection a call, each with a time limit.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::net::TcpStream;

use super::settings::Keys;
use super::signature::{ToSign, sha256_hex};

/// SeaweedFS was seen not to answer at all under a race.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 1 << 20;
const REGION: &str = "us-east-1";

/// Calls one S3 server, path-style, over plain HTTP.
#[derive(Debug, Clone)]
pub(super) struct S3Client {
    pub(super) addr: SocketAddr,
    pub(super) keys: Keys,
}

/// What a server said.
#[derive(Debug)]
pub(super) struct S3Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl S3Answer {
    /// The status with the server's own code for it, for an error's text.
    pub(super) fn said(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let code = body.split_once("<Code>").and_then(|(_, rest)| Some(rest.split_once("</Code>")?.0));
        code.map_or_else(|| self.status.to_string(), |code| format!("{} {code}", self.status.as_u16()))
    }
}

impl S3Client {
    /// One signed request. `only_new` makes a PUT conditional: `If-None-Match: *`.
    ///
    /// The error is a text: the caller tells it, or tries again.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: &'static [u8],
        only_new: bool,
    ) -> Result<S3Answer, String> {
        let request = self.signed(method, path, body, only_new)?;
        match tokio::time::timeout(CALL_TIMEOUT, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer in {} s", CALL_TIMEOUT.as_secs())),
        }
    }

    fn signed(
        &self,
        method: Method,
        path: &str,
        body: &'static [u8],
        only_new: bool,
    ) -> Result<Request<Full<Bytes>>, String> {
        let (host, body_sha256) = (self.addr.to_string(), sha256_hex(body));
        let seconds = i64::try_from(mipro_telemetry::clock::unix_us() / 1_000_000).unwrap_or_default();
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let now = OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| error.to_string())?;
        let timestamp = now.format(&format).map_err(|error| error.to_string())?;
        let authorization = ToSign {
            method: method.as_str(),
            path,
            host: &host,
            timestamp: &timestamp,
            region: REGION,
            body_sha256: &body_sha256,
        }
        .authorization(&self.keys.access_key, &self.keys.secret_key.0);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &host)
            .header(header::CONNECTION, "close")
            .header("x-amz-date", timestamp)
            .header("x-amz-content-sha256", body_sha256)
            .header(header::AUTHORIZATION, authorization);
        if only_new {
            request = request.header(header::IF_NONE_MATCH, "*");
        }
        request.body(Full::new(Bytes::from_static(body))).map_err(|error| error.to_string())
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<S3Answer, String> {
        let text = |error: hyper::Error| super::engine::root_cause(&error);
        let socket = TcpStream::connect(self.addr).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(text)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(text)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok(S3Answer { status: head.status, headers: head.headers, body })
        };
        // Driven beside the call, not in a task of its own, so that dropping the call ends both.
        let (mut connection, mut answer) = (std::pin::pin!(connection), std::pin::pin!(answer));
        tokio::select! {
            answer = &mut answer => answer,
            driven = &mut connection => {
                driven.map_err(text)?;
                answer.await
            }
        }
    }
}
