//! What will happen to a call, decided before anything of it happens.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use crate::draw::hash64;
use crate::faults::{Fault, Faults};
use crate::latency::{Delay, Latency};

/// The request header that names the rollout.
pub(crate) const CORRELATION_HEADER: &str = "x-trace-correlation-id";
/// The response header that tells the plan.
pub(crate) const PLAN_HEADER: &str = "x-mock-plan";
/// Client libraries count their retries here; each draws its own fault.
const RETRY_HEADER: &str = "x-stainless-retry-count";

/// The plan of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) delay: Delay,
    pub(crate) fault: Fault,
    /// Whether the answer is right; `None` where no known query was asked.
    pub(crate) correct: Option<bool>,
}

impl Plan {
    pub(crate) fn new(latency: Latency, faults: &Faults, seed: u64, call: Call) -> Self {
        let delay = latency.delay(seed, call.key);
        let fault = faults.draw(seed, call.key, call.attempt);
        let later = |by: Duration| {
            let by_us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
            Delay { first_byte_us: delay.first_byte_us + by_us, total_us: delay.total_us + by_us }
        };
        let delay = match fault {
            Fault::None | Fault::Cut => delay,
            // A limiter refuses before any work is done; a failure shows when the answer was about to start.
            Fault::RateLimit => Delay { first_byte_us: 0, total_us: 0 },
            Fault::Error => Delay { total_us: delay.first_byte_us, ..delay },
            Fault::Stall => later(faults.stall_for),
            Fault::Slow => later(faults.slow_by),
        };
        Self { delay, fault, correct: None }
    }

    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::try_from(self.to_string()).expect("a plan is printed in visible ASCII")
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Delay { first_byte_us, total_us } = self.delay;
        write!(f, "total_us={total_us};first_byte_us={first_byte_us};fault={}", self.fault.name())?;
        match self.correct {
            Some(correct) => write!(f, ";correct={}", u8::from(correct)),
            None => Ok(()),
        }
    }
}

/// What a call's plan is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// The same for the same rollout of every rung; see [`Call::of`].
    pub(crate) key: u64,
    /// 0 for the first try.
    pub(crate) attempt: u32,
}

impl Call {
    /// The rollout's number, where its id ends in `-<digits>`, so that rollout 17 meets the same fate whatever run it
    /// belongs to; else the hash of its id; without an id, of the body.
    pub(crate) fn of(headers: &HeaderMap, body: &[u8]) -> Self {
        let id = headers.get(CORRELATION_HEADER).map(HeaderValue::as_bytes).filter(|id| !id.is_empty());
        let key = id.map_or_else(|| hash64(body), |id| number_of(id).unwrap_or_else(|| hash64(id)));
        let attempt =
            headers.get(RETRY_HEADER).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
        Self { key, attempt }
    }
}

fn number_of(id: &[u8]) -> Option<u64> {
    let (_, digits) = std::str::from_utf8(id).ok()?.rsplit_once('-')?;
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
