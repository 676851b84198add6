//! One endpoint over plain HTTP/1.1, as cheaply as can be: connections of our own, each driven by the task that uses it.
//!
//! What a pool, a redirect policy or a task per connection would cost in CPU is what limits a generator that sends the same
//! request again and again; rollouts, which wait for LLMs, go through the ordinary [client](crate::client).

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use mipro_telemetry::clock;
use tokio::net::TcpStream;
use url::{Host, Url};

use crate::account::{Class, Failure};
use crate::client::{ANSWER_BYTES_MAX, Answer, Done, exhausted, io_kind};

#[cfg(test)]
mod tests;

/// An endpoint, the request for it, and connections to it.
pub(crate) struct Wire {
    host: String,
    port: u16,
    request: Request<Full<Bytes>>,
    timeout: Duration,
    /// Connections that nobody uses, the one used last on top; never more than lanes.
    idle: Mutex<Vec<Line>>,
    idle_max: usize,
}

/// A connection, and what makes it move: it does so only while somebody waits for an answer on it.
struct Line {
    sender: http1::SendRequest<Full<Bytes>>,
    moves: Pin<Box<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
}

/// Why an exchange gave no answer.
enum Broken {
    /// The connection was closed before it took the request: another one may.
    Unused,
    Failed(Failure),
}

impl Wire {
    /// None where the URL or the key is not for this: encrypted, or not sendable as they are.
    pub(crate) fn new(
        url: &Url,
        body: &Bytes,
        api_key: Option<&str>,
        timeout: Duration,
        idle_max: usize,
    ) -> Option<Self> {
        if url.scheme() != "http" {
            return None;
        }
        let host = match url.host()? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let path = url[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let mut request = Request::builder().uri(path).header(HOST, authority);
        if !body.is_empty() {
            let json = HeaderValue::from_static("application/json");
            request = request.method(Method::POST).header(CONTENT_TYPE, json);
        }
        if let Some(key) = api_key {
            let mut value = HeaderValue::try_from(format!("Bearer {key}")).ok()?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::new(body.clone())).ok()?;
        let port = url.port_or_known_default()?;
        Some(Self { host, port, request, timeout, idle: Mutex::default(), idle_max })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Line>> {
        // A panic while holding the lock leaves whole connections behind.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the request and reads the answer to its end. Dropping the future closes the connection.
    pub(crate) async fn call(&self) -> Done {
        let sent = clock::now();
        let answer = tokio::time::timeout(self.timeout, self.exchange()).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(Failure::new(Class::Timeout, format!("no answer within {} s", self.timeout.as_secs_f64())))
        });
        Done { service_ns: clock::as_ns(clock::now() - sent), answer }
    }

    async fn exchange(&self) -> Result<Answer, Failure> {
        loop {
            // The lock is let go before anything is waited for.
            let kept = self.idle().pop();
            let is_new = kept.is_none();
            let mut line = match kept {
                Some(line) => line,
                None => self.connect().await?,
            };
            match line.exchange(self.request.clone()).await {
                Ok((answer, reusable)) => {
                    let mut idle = self.idle();
                    if reusable && idle.len() < self.idle_max {
                        idle.push(line);
                    }
                    return Ok(answer);
                }
                // The server closed it while nobody looked; that is no answer to this request.
                Err(Broken::Unused) if !is_new => {}
                Err(Broken::Unused) => {
                    return Err(Failure::new(Class::Read, "the server closed a new connection"));
                }
                Err(Broken::Failed(failure)) => return Err(failure),
            }
        }
    }

    async fn connect(&self) -> Result<Line, Failure> {
        let failed = |error: &io::Error| {
            Failure::new(Class::Connect, format!("cannot connect: {error}")).met(exhausted(error))
        };
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|e| failed(&e))?;
        stream.set_nodelay(true).map_err(|e| failed(&e))?;
        let made = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| failure(&error))?;
        Ok(Line { sender, moves: Box::pin(connection) })
    }
}

impl Line {
    /// One request and its answer; says whether the connection takes another.
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<(Answer, bool), Broken> {
        let Self { sender, moves } = self;
        let exchange = async {
            let response =
                sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
                    Some(_) => Broken::Unused,
                    None => Broken::Failed(failure(error.error())),
                })?;
            read(response).await.map_err(Broken::Failed)
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            biased;
            answer = &mut exchange => {
                // What the answer asked of the connection is known once it has moved to its rest.
                let closed = std::future::poll_fn(|cx| std::task::Poll::Ready(moves.as_mut().poll(cx).is_ready())).await;
                Ok((answer?, !closed))
            }
            // Closed; an answer may have come with that.
            _ = moves.as_mut() => Ok((exchange.await?, false)),
        }
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, Failure> {
    let (head, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| failure(&error))?.into_data() else { continue };
        if bytes.len() + data.len() > ANSWER_BYTES_MAX {
            return Err(Failure::invalid(format!("the answer has more than {ANSWER_BYTES_MAX} bytes")));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: bytes.freeze() })
}

fn failure(error: &hyper::Error) -> Failure {
    let class = match io_kind(error) {
        _ if error.is_parse() => Class::Invalid,
        Some(io::ErrorKind::BrokenPipe | io::ErrorKind::WriteZero) => Class::Write,
        _ => Class::Read,
    };
    let detail = match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    Failure::new(class, detail).met(exhausted(error))
}
