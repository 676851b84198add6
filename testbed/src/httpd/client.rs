//! The admin listener's client: one connection a call, so that nothing is kept open between measurements.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::admin::Refusal;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why an admin call failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nothing listens there (any more).
    #[error("failed to connect to the admin listener at {addr}")]
    Connect {
        /// Where it was looked for.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The connection broke, or did not speak HTTP.
    #[error("failed to talk to the admin listener at {addr}")]
    Http {
        /// Where it listens.
        addr: SocketAddr,
        /// What hyper said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in 10 s.
    #[error("the admin listener at {addr} gave no answer in {CALL_TIMEOUT:?}")]
    Timeout {
        /// Where it listens.
        addr: SocketAddr,
    },
    /// It answered with another status than 200.
    #[error("the admin listener at {addr} refused {path} with {status}: {message}")]
    Refused {
        /// Where it listens.
        addr: SocketAddr,
        /// The route.
        path: &'static str,
        /// The status.
        status: StatusCode,
        /// Its reason.
        message: String,
    },
    /// The two sides disagree on the format, so they are of different builds.
    #[error("the admin listener at {addr} answered {path} with something else than expected")]
    Decode {
        /// Where it listens.
        addr: SocketAddr,
        /// The route.
        path: &'static str,
        /// What serde said.
        source: serde_json::Error,
    },
}

/// Calls one admin listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdminClient {
    addr: SocketAddr,
}

impl AdminClient {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self { addr }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &'static str) -> Result<T, AdminError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &'static str,
        body: &B,
    ) -> Result<T, AdminError> {
        let body = serde_json::to_vec(body).map_err(|source| AdminError::Decode {
            addr: self.addr,
            path,
            source,
        })?;
        self.call(Method::POST, path, body.into()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &'static str,
        body: Bytes,
    ) -> Result<T, AdminError> {
        let addr = self.addr;
        let (status, body) = tokio::time::timeout(CALL_TIMEOUT, self.exchange(method, path, body))
            .await
            .map_err(|_| AdminError::Timeout { addr })??;
        if status != StatusCode::OK {
            let message =
                serde_json::from_slice::<Refusal>(&body).map_or_else(|_| String::new(), |r| r.error);
            return Err(AdminError::Refused { addr, path, status, message });
        }
        serde_json::from_slice(&body).map_err(|source| AdminError::Decode { addr, path, source })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &'static str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), AdminError> {
        let addr = self.addr;
        let http = |source: hyper::Error| AdminError::Http { addr, source: Box::new(source) };
        let socket = TcpStream::connect(addr).await.map_err(|source| AdminError::Connect { addr, source })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(http)?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = http::Uri::from_static(path);
        let host = HeaderValue::try_from(addr.to_string()).expect("an address is ASCII");
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        let answer = async {
            let response = sender.send_request(request).await.map_err(http)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
            let body = body.collect().await.map_err(|source| AdminError::Http { addr, source })?;
            Ok((status, body.to_bytes()))
        };
        // The connection is driven beside the call, not in a task of its own, so that dropping the call ends both.
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            driven = &mut connection => {
                driven.map_err(http)?;
                answer.await
            }
        }
    }
}
