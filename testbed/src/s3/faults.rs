//! Faults and delays, set while the server runs.
//!
//! What befalls the n-th request of a verb is a function of the seed, the verb, n and the rule in force, so it does
//! not depend on how requests of different verbs interleave.

use std::time::Duration;

use http::StatusCode;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::httpd::Verb;

/// All faults in force. The default is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Every request is answered 503, whatever the rules say.
    pub down: bool,
    /// The first rule that fits a request's verb is the one that counts.
    pub rules: Vec<FaultRule>,
}

/// What may befall requests of one verb, or of any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultRule {
    /// The verb it is for; `None` for any.
    pub verb: Option<Verb>,
    /// Share of requests answered with `error_status`, 0 to 1.
    pub error_rate: f64,
    /// The status of such answers, 400 to 599.
    pub error_status: u16,
    /// Whether requests that fail or stall take effect first: the caller then can't know the outcome.
    pub applied: bool,
    /// Wait before the first byte of every answer, in milliseconds.
    pub delay_ms: u64,
    /// A uniform extra wait of 0 to this, in milliseconds.
    pub delay_jitter_ms: u64,
    /// Share of requests that get no answer until the faults are replaced or the server stops, 0 to 1.
    pub stall_rate: f64,
}

impl Default for FaultRule {
    fn default() -> Self {
        Self {
            verb: None,
            error_rate: 0.0,
            error_status: 503,
            applied: false,
            delay_ms: 0,
            delay_jitter_ms: 0,
            stall_rate: 0.0,
        }
    }
}

/// Why a set of faults is refused.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum FaultsError {
    /// A rate outside 0 to 1.
    #[error("{name} is {value}: a rate is 0 to 1")]
    Rate {
        /// The field.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A status that is no error.
    #[error("error_status is {0}: an error is 400 to 599")]
    Status(u16),
}

/// What befalls one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) delay: Duration,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Serve,
    Fail { status: StatusCode, applied: bool },
    Stall { applied: bool },
}

impl Faults {
    /// Refuses rates and statuses that make no sense.
    ///
    /// # Errors
    /// Names the first bad field.
    pub fn check(&self) -> Result<(), FaultsError> {
        for rule in &self.rules {
            for (name, value) in [("error_rate", rule.error_rate), ("stall_rate", rule.stall_rate)] {
                if !(0.0..=1.0).contains(&value) {
                    return Err(FaultsError::Rate { name, value });
                }
            }
            if !(400..=599).contains(&rule.error_status) {
                return Err(FaultsError::Status(rule.error_status));
            }
        }
        Ok(())
    }

    /// The plan for request number `n` (from 0) of a verb.
    pub(super) fn plan(&self, seed: u64, verb: Verb, n: u64) -> Plan {
        if self.down {
            let outcome = Outcome::Fail { status: StatusCode::SERVICE_UNAVAILABLE, applied: false };
            return Plan { delay: Duration::ZERO, outcome };
        }
        let Some(rule) = self.rules.iter().find(|rule| rule.verb.is_none_or(|of| of == verb)) else {
            return Plan { delay: Duration::ZERO, outcome: Outcome::Serve };
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Eight streams a request leave each verb its own.
        rng.set_stream(n.wrapping_mul(8).wrapping_add(verb.index() as u64));
        let (fails, stalls, jitter) = (rng.random::<f64>(), rng.random::<f64>(), rng.random::<f64>());
        let jitter = Duration::from_millis(rule.delay_jitter_ms).mul_f64(jitter);
        let status = StatusCode::from_u16(rule.error_status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let outcome = if stalls < rule.stall_rate {
            Outcome::Stall { applied: rule.applied }
        } else if fails < rule.error_rate {
            Outcome::Fail { status, applied: rule.applied }
        } else {
            Outcome::Serve
        };
        Plan { delay: Duration::from_millis(rule.delay_ms) + jitter, outcome }
    }
}
