//! A plain HTTP endpoint instead of rollouts: the same request again and again, accounted for in the same way.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::account::Failure;
use crate::client::{Answer, Client, Done};
use crate::error::Error;
use crate::join;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::runner::Runner;
use crate::session::{Books, Finished, Session, Step};
use crate::wire::{Template, Wire};

/// What to send where.
#[derive(Clone)]
pub struct Options {
    /// The endpoint. `{rollout}` in its path or query becomes an id in each request that no other has:
    /// `<load.rollout_prefix>-<number>`.
    pub url: Url,
    /// Sent by POST as JSON; empty: a GET without a body.
    pub body: Bytes,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
    /// How often and how many at once: `concurrency`, `rollouts` (each a request), `duration`, `warmup`, `timeout`, `drain`,
    /// `deadline`, `schedule` and `rollout_prefix` count, the other fields do not.
    pub load: crate::Options,
}

impl fmt::Debug for Options {
    /// Leaves out the key and the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("load", &self.load).finish_non_exhaustive()
    }
}

pub(crate) struct Endpoint {
    by: By,
    urls: Template,
    body: Bytes,
    api_key: Option<String>,
}

/// How it is asked: as cheaply as can be, or (where the connection is encrypted) by the ordinary client.
enum By {
    Wire(Box<Wire>),
    Client(Client),
}

impl fmt::Debug for Endpoint {
    /// Shows nothing of the key and the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").finish_non_exhaustive()
    }
}

impl Endpoint {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let Options { url, body, api_key, load } = options;
        let lanes = load.concurrency as usize;
        let prefix = &load.rollout_prefix;
        let by = match Wire::new(url, body, api_key.as_deref(), prefix, load.timeout, lanes) {
            Some(wire) => By::Wire(Box::new(wire)),
            None => By::Client(Client::new(load.timeout, lanes)?),
        };
        let urls = Template::new(url.as_str(), prefix);
        Ok(Self { by, urls, body: body.clone(), api_key: api_key.clone() })
    }

    async fn call(&self) -> Done {
        match &self.by {
            By::Wire(wire) => wire.call().await,
            By::Client(client) => match self.request(client) {
                Ok(request) => client.call(request).await,
                Err(failure) => Done { service_ns: 0, answer: Err(failure) },
            },
        }
    }

    fn request(&self, client: &Client) -> Result<RequestBuilder, Failure> {
        let url = String::from_utf8_lossy(&self.urls.next()).parse();
        // A prefix that makes no URL is the caller's; the message would hold it.
        let url = url.map_err(|_| Failure::invalid("an id makes no URL of the one that was told"))?;
        let request = if self.body.is_empty() {
            client.get(url)
        } else {
            let json = HeaderValue::from_static("application/json");
            client.post(url).header(CONTENT_TYPE, json).body(self.body.clone())
        };
        Ok(match &self.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        })
    }
}

impl Session for Endpoint {
    const CONNECTIONS_PER_LANE: usize = 1;

    async fn once(&self, _index: u64) -> Finished {
        let mut finished = Finished::default();
        let done = self.call().await;
        let mut books = Vec::new();
        let answer = done.answer.and_then(Answer::success);
        if let Ok(answer) = &answer {
            books = join::books(&answer.headers);
            finished.planned_us = join::planned_us(&answer.headers);
        }
        finished.note(Step::Request, done.service_ns, books, answer);
        finished
    }

    fn system(&self, _index: u64) -> usize {
        0
    }

    fn books(&self) -> Books {
        Books::NotExpected
    }
}

/// Makes the requests; ends, cancels and accounts as [`crate::run()`] does. The report's rollouts are requests. For slice
/// after slice: [`Runner::plain`].
///
/// # Errors
/// When the options make no request, no HTTP client can be made, or the machine rules out a valid measurement. Failing
/// requests are accounted for.
pub async fn run(
    options: Options,
    progress: Arc<dyn Progress>,
    cancel: CancellationToken,
) -> Result<Outcome, Error> {
    let runner = Runner::plain(&options)?;
    runner.run(runner.slice(), progress, cancel).await
}
