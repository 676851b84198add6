//! A plain HTTP endpoint instead of rollouts: the same request again and again, accounted for in the same way.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::client::{Answer, Client};
use crate::error::Error;
use crate::join;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::run::{Pass, run_pass, warm_up};
use crate::session::{Finished, Session, Step};

/// What to send where.
#[derive(Clone)]
pub struct Options {
    /// The endpoint.
    pub url: Url,
    /// Sent by POST as JSON; empty: a GET without a body.
    pub body: Bytes,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
    /// How often and how many at once: `concurrency`, `rollouts` (each a request), `duration`, `warmup`, `timeout`, `drain` and
    /// `schedule` count, the other fields do not.
    pub load: crate::Options,
}

impl fmt::Debug for Options {
    /// Leaves out the key and the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("load", &self.load).finish_non_exhaustive()
    }
}

struct Endpoint {
    client: Client,
    url: Url,
    body: Bytes,
    api_key: Option<String>,
}

impl Endpoint {
    fn request(&self) -> RequestBuilder {
        let request = if self.body.is_empty() {
            self.client.get(self.url.clone())
        } else {
            let json = HeaderValue::from_static("application/json");
            self.client.post(self.url.clone()).header(CONTENT_TYPE, json).body(self.body.clone())
        };
        match &self.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }
}

impl Session for Endpoint {
    async fn once(&self, _index: u64) -> Finished {
        let mut finished = Finished::default();
        let done = self.client.call(self.request()).await;
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

    fn has_server(&self) -> bool {
        false
    }
}

/// Makes the requests; ends, cancels and accounts as [`crate::run()`] does. The report's rollouts are requests.
///
/// # Errors
/// When the options make no request, or no HTTP client can be made. Failing requests are accounted for.
pub async fn run(
    options: Options,
    progress: Arc<dyn Progress>,
    cancel: CancellationToken,
) -> Result<Outcome, Error> {
    let Options { url, body, api_key, load } = options;
    load.check_ends()?;
    let client = Client::new(load.timeout, load.concurrency as usize)?;
    let measured = Pass {
        first: load.warmup,
        count: (load.rollouts > 0).then_some(load.rollouts),
        lanes: load.concurrency as usize,
        fixed: false,
        systems: 0,
        duration: load.duration,
        drain: load.drain,
        schedule: load.schedule,
    };
    let session = Arc::new(Endpoint { client, url, body, api_key });
    warm_up(&measured, load.warmup, &session, &cancel).await;
    let ran = run_pass(measured, session, progress, cancel).await;
    Ok(Outcome::new(ran, 0, 0))
}
