//! One endpoint over plain HTTP/1.1, as cheaply as can be: connections of our own, each driven by the task that uses it, and
//! a request that is written as it was made once.
//!
//! What a pool, a redirect policy, a header map or a task per connection would cost in CPU is what limits a generator that
//! sends the same request again and again; rollouts, which wait for LLMs, go through the ordinary [client](crate::client).

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mipro_telemetry::clock;
use reqwest::header::HeaderValue;
use tokio::net::TcpStream;
use url::{Host, Url};

use crate::account::{Class, Failure};
use crate::client::{Answer, Done, exhausted, io_kind};

mod line;
#[cfg(test)]
mod tests;

use line::Line;

/// In a URL: an id that no other request has.
const ROLLOUT_MARK: &str = "{rollout}";

/// The same, as a URL's path spells it.
const ROLLOUT_MARK_IN_PATH: &str = "%7Brollout%7D";

/// An endpoint, the request for it, and connections to it.
pub(crate) struct Wire {
    host: String,
    port: u16,
    request: Template,
    timeout: Duration,
    /// Connections that nobody uses, the one used last on top; never more than lanes.
    idle: Mutex<Vec<Line>>,
    idle_max: usize,
}

/// Text with places for an id.
pub(crate) struct Template {
    /// What stands between the places; one piece where there is no place.
    pieces: Vec<Vec<u8>>,
    prefix: String,
    next: AtomicU64,
}

/// Why an exchange gave no answer.
enum Broken {
    /// The connection was closed before it took the request: another one may.
    Unused,
    Failed(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Template {
    /// Ids are `<prefix>-<number>`.
    pub(crate) fn new(text: &str, prefix: &str) -> Self {
        let text = text.replace(ROLLOUT_MARK_IN_PATH, ROLLOUT_MARK);
        let pieces = text.split(ROLLOUT_MARK).map(|piece| piece.as_bytes().to_vec()).collect();
        Self { pieces, prefix: prefix.to_owned(), next: AtomicU64::new(0) }
    }

    /// The text, with the next id in all its places.
    pub(crate) fn next(&self) -> Cow<'_, [u8]> {
        match &self.pieces[..] {
            [whole] => Cow::Borrowed(whole),
            pieces => {
                let id = format!("{}-{:08}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed));
                Cow::Owned(pieces.join(id.as_bytes()))
            }
        }
    }
}

impl Wire {
    /// None where the URL or the key is not for this: encrypted, or not sendable as they are. Ids in the URL begin with
    /// `prefix`.
    pub(crate) fn new(
        url: &Url,
        body: &Bytes,
        api_key: Option<&str>,
        prefix: &str,
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
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let method = if body.is_empty() { "GET" } else { "POST" };
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\n");
        if !body.is_empty() {
            head += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        if let Some(key) = api_key {
            // What would not be a header's value would be another header.
            HeaderValue::try_from(key).ok()?;
            head += &format!("authorization: Bearer {key}\r\n");
        }
        head += "\r\n";
        let mut request = Template::new(&head, prefix);
        // The body is taken as it is, whatever it holds.
        request.pieces.last_mut()?.extend_from_slice(body);
        let port = url.port_or_known_default()?;
        Some(Self { host, port, request, timeout, idle: Mutex::default(), idle_max })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Line>> {
        // A panic while holding the lock leaves whole connections behind.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the request and reads the answer to its end. Of the answer's headers those are kept that are joined with the
    /// client's books, and its body where it is no success. Dropping the future closes the connection.
    pub(crate) async fn call(&self) -> Done {
        let sent = clock::now();
        let answer = tokio::time::timeout(self.timeout, self.exchange()).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(Failure::new(Class::Timeout, format!("no answer within {} s", self.timeout.as_secs_f64())))
        });
        Done { service_ns: clock::as_ns(clock::now() - sent), answer }
    }

    async fn exchange(&self) -> Result<Answer, Failure> {
        let request = self.request.next();
        loop {
            // The lock is let go before anything is waited for.
            let kept = self.idle().pop();
            let is_new = kept.is_none();
            let mut line = match kept {
                Some(line) => line,
                None => self.connect().await?,
            };
            match line.exchange(&request).await {
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
        Ok(Line::new(stream))
    }
}

fn failure(error: &io::Error) -> Failure {
    let class = match io_kind(error) {
        Some(io::ErrorKind::BrokenPipe | io::ErrorKind::WriteZero) => Class::Write,
        _ => Class::Read,
    };
    Failure::new(class, format!("the connection failed: {error}")).met(exhausted(error))
}
