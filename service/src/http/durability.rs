//! The last step of every answer: its gate, what it promises, and what the promise is called.
//!
//! A caller may ask for a stronger level than the one in force with the header `Mipro-Durability: <level>`. Whether it can be
//! given is known before the command runs: nothing is done by halves and then refused.

use axum::Json;
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use mipro_telemetry::Ledger;
use serde_json::Value;

use super::error::ApiError;
use super::{App, Shared};
use crate::crash;
use crate::durability::Level;
use crate::engine::{EngineError, Gate, gate::Seen};

/// Asks for a level in requests, names the one given in answers.
pub(super) const HEADER: HeaderName = HeaderName::from_static("mipro-durability");

/// A body that may leave, with its promise as a header.
pub(super) type Durable = ([(HeaderName, HeaderValue); 1], Json<Value>);

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// The level, if it is stronger than the one in force and can be given.
    raised: Option<Level>,
    /// It names a level, be it the one in force: it wants a record, or none of this.
    explicit: bool,
}

impl FromRequestParts<Shared> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(HEADER) else { return Ok(Self::NOTHING) };
        let level = value.to_str().ok().and_then(|text| text.trim().parse::<Level>().ok());
        let level = level.ok_or_else(|| {
            let message =
                "`Mipro-Durability` names no level; levels are memory, os, disk, postgres, object (D0 to D4), stored";
            ApiError::bad_request(message).code("invalid_value").param("Mipro-Durability")
        })?;
        let in_force = app.engine.durability();
        if level <= in_force {
            return Ok(Self { raised: None, explicit: true });
        }
        if app.engine.gives(level) {
            return Ok(Self { raised: Some(level), explicit: true });
        }
        let message =
            format!("this service can't give the durability level `{level}`; its level is `{in_force}`");
        Err(ApiError::new(StatusCode::PRECONDITION_FAILED, "invalid_request_error", message)
            .code("durability_unavailable")
            .param("Mipro-Durability"))
    }
}

impl Asked {
    /// The level in force will do.
    pub(super) const NOTHING: Self = Self { raised: None, explicit: false };

    /// Whether the request names a level. An answer that promises none is not for it.
    pub(super) const fn is_explicit(self) -> bool {
        self.explicit
    }

    /// Waits until what an answer could have seen is durable at the level asked for.
    pub(super) async fn release(
        self,
        app: &App,
        gate: Gate,
        ledger: &Ledger,
    ) -> Result<Promise, EngineError> {
        let level = self.raised.unwrap_or_else(|| app.engine.durability());
        let seen = gate.seen();
        let gate = match self.raised {
            Some(level) => gate.raised(level)?,
            None => gate,
        };
        gate.wait(ledger).await?;
        Ok(Promise { level, seen })
    }

    /// [`Asked::release`] for the answer to a command: the last thing that happens before it leaves.
    pub(super) async fn release_command(
        self,
        app: &App,
        gate: Gate,
        ledger: &Ledger,
    ) -> Result<Promise, EngineError> {
        let promise = self.release(app, gate, ledger).await?;
        crash::point("replied");
        Ok(promise)
    }
}

/// What an answer promises.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promise {
    pub(super) level: Level,
    seen: Option<Seen>,
}

impl Promise {
    /// `disk; seq=17; epoch=3`. Engines without epochs name `version`, if the answer has one.
    pub(super) fn header(&self, version: Option<u64>) -> HeaderValue {
        let mut text = self.level.name().to_owned();
        if let Some(seq) = self.seen.map(|seen| seen.seq).or(version) {
            text += &format!("; seq={seq}");
        }
        if let Some(seen) = self.seen {
            text += &format!("; epoch={}", seen.epoch);
        }
        HeaderValue::from_str(&text).expect("names and numbers are visible ASCII")
    }

    /// The answer that may leave.
    pub(super) fn over(&self, body: Value) -> Durable {
        let version = body.get("version").and_then(Value::as_u64);
        ([(HEADER, self.header(version))], Json(body))
    }
}
