//! Sends an answer at its planned pace: nothing before the first byte is due, the last byte when the whole is.

use std::io;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::Value;

use crate::latency::Delay;

/// When the parts of an answer are due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) start: Instant,
    pub(super) delay: Delay,
    /// Break the connection off halfway through the body.
    pub(super) cut: bool,
}

impl Pace {
    /// When part `i` of `parts` is due, in microseconds after the start: spread evenly from first byte to total.
    fn due_us(&self, i: usize, parts: usize) -> u64 {
        let Delay { first_byte_us, total_us } = self.delay;
        match parts {
            0 | 1 => total_us,
            _ => first_byte_us + (total_us - first_byte_us) * i as u64 / (parts as u64 - 1),
        }
    }
}

/// Waits until so long after the start; returns at once where that has passed, or is the start.
pub(super) async fn sleep_until(start: Instant, us: u64) {
    if us > 0 {
        tokio::time::sleep_until((start + Duration::from_micros(us)).into()).await;
    }
}

/// A JSON answer: the first half when the first byte is due, the rest when the whole is.
pub(super) async fn json(pace: Pace, value: &Value) -> Response {
    let bytes = Bytes::from(value.to_string());
    let headers = [(CONTENT_TYPE, "application/json".to_owned()), (CONTENT_LENGTH, bytes.len().to_string())];
    let half = bytes.len() / 2;
    let parts = vec![bytes.slice(..half), bytes.slice(half..)];
    let instant = pace.delay.total_us == 0 && !pace.cut;
    let body = if instant { Body::from(bytes) } else { body(pace, parts).await };
    (headers, body).into_response()
}

/// A stream of server-sent events.
pub(super) async fn events(pace: Pace, events: Vec<String>) -> Response {
    let parts = events.into_iter().map(|event| Bytes::from(event + "\n\n")).collect();
    let headers = [(CONTENT_TYPE, "text/event-stream; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
    (headers, body(pace, parts).await).into_response()
}

/// Resolves when the first byte is due, so that the head doesn't leave before it.
async fn body(pace: Pace, parts: Vec<Bytes>) -> Body {
    sleep_until(pace.start, pace.delay.first_byte_us).await;
    let sent_max = if pace.cut { parts.len().div_ceil(2) } else { parts.len() };
    Body::from_stream(stream::unfold((0, parts), move |(i, parts)| async move {
        if i < sent_max {
            sleep_until(pace.start, pace.due_us(i, parts.len())).await;
            let part = parts[i].clone();
            return Some((Ok(part), (i + 1, parts)));
        }
        if pace.cut && i == sent_max {
            // Lets the connection write out what it has before it breaks.
            tokio::task::yield_now().await;
            return Some((Err(io::Error::other("cut by plan")), (i + 1, parts)));
        }
        None
    }))
}
