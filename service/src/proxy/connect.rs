//! Times connecting to the LLM, for the request that waits for it.
//!
//! The client's pool connects within the task of the request that needs the connection, so a task-local tells whose it is.
//! A request that finds a kept connection has no `llm.connect` at all. One that began to connect and then got a connection
//! that had come free goes on with that; what it began is finished behind it, and shows for as long as the call lasts.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use mipro_telemetry::{Ledger, Stage};

tokio::task_local! {
    static LEDGER: Ledger;
}

/// Runs a request; connections it has to open are charged to `ledger`.
pub(super) async fn timed<F: Future>(ledger: &Ledger, request: F) -> F::Output {
    LEDGER.scope(ledger.clone(), request).await
}

/// A connector with a clock.
#[derive(Debug, Clone)]
pub(super) struct TimedConnector<S> {
    inner: S,
}

impl<S> TimedConnector<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, R> tower::Service<R> for TimedConnector<S>
where
    S: tower::Service<R>,
    S::Future: Send + 'static,
    S::Response: 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, destination: R) -> Self::Future {
        let stage = LEDGER.try_with(|ledger| ledger.enter(Stage::LlmConnect)).ok();
        let connecting = self.inner.call(destination);
        Box::pin(async move {
            let connection = connecting.await?;
            if let Some(stage) = stage {
                stage.done();
            }
            Ok(connection)
        })
    }
}
