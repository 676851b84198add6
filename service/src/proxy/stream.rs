//! An LLM's event stream, passed on chunk by chunk as it comes: nothing is buffered, nothing is parsed.
//!
//! A stream that breaks off ends in an error, which breaks the client's connection, too: half an answer must not look like
//! a whole one. A client that leaves drops the stream, and with it the connection to the LLM.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use mipro_telemetry::{Ledger, Stage, StageGuard};
use tokio::time::{Instant, Sleep};

use super::upstream::reason;

/// Why a stream ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The LLM or the network broke it off.
    #[error("the LLM's stream broke off: {0}")]
    Broken(String),
    /// The LLM fell silent.
    #[error("the LLM's stream was silent for {0} ms")]
    Silent(u128),
}

/// A stream on its way through. `llm.body` lasts from its head to its end, the client's own slowness included.
#[derive(Debug)]
pub struct StreamedAnswer {
    inner: reqwest::Body,
    ledger: Ledger,
    stage: Option<StageGuard>,
    bytes: u64,
    idle_timeout: Duration,
    idle: Pin<Box<Sleep>>,
    /// The client wants more and the LLM has none: only then does its silence count.
    waiting: bool,
}

impl StreamedAnswer {
    pub(super) fn new(inner: reqwest::Body, ledger: &Ledger, idle_timeout: Duration) -> Self {
        let stage = Some(ledger.enter(Stage::LlmBody));
        let idle = Box::pin(tokio::time::sleep(idle_timeout));
        Self { inner, ledger: ledger.clone(), stage, bytes: 0, idle_timeout, idle, waiting: false }
    }

    fn end(&mut self) {
        if let Some(stage) = self.stage.take() {
            stage.done();
            self.ledger.count(Stage::LlmBody, 1, self.bytes, 0);
        }
    }
}

impl Body for StreamedAnswer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(frame) => {
                    self.waiting = false;
                    frame
                }
                Poll::Pending => {
                    if !self.waiting {
                        self.waiting = true;
                        let deadline = Instant::now() + self.idle_timeout;
                        self.idle.as_mut().reset(deadline);
                    }
                    return match self.idle.as_mut().poll(cx) {
                        Poll::Pending => Poll::Pending,
                        Poll::Ready(()) => {
                            Poll::Ready(Some(Err(Error::Silent(self.idle_timeout.as_millis()))))
                        }
                    };
                }
            };
            let data = match frame {
                None => {
                    self.end();
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(Error::Broken(reason(&error))))),
                Some(Ok(frame)) => frame.into_data(),
            };
            // Trailers speak of the LLM's connection and are dropped.
            let Ok(data) = data else { continue };
            self.bytes += data.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
