//! Who asks, and about which system.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use mipro_telemetry::Ledger;
use uuid::Uuid;

use super::Shared;
use super::error::ApiError;
use crate::engine::Access;
use crate::system::{OrgId, SystemId};

/// A caller of the API, let in by its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(pub(super) OrgId);

impl Caller {
    pub(super) fn access(self) -> Access {
        Access::Org(self.0)
    }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        Ok(Self(app.keys.admit(&parts.headers)?))
    }
}

/// The request's ledger, opened by the outermost layer.
#[derive(Debug, Clone)]
pub(super) struct Books(pub(super) Ledger);

impl FromRequestParts<Shared> for Books {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        parts.extensions.get::<Ledger>().cloned().map(Self).ok_or_else(ApiError::panicked)
    }
}

/// The system a path names. What is no UUID names none: 404.
#[derive(Debug, Clone, Copy)]
pub(super) struct SystemPath(pub(super) SystemId);

impl FromRequestParts<Shared> for SystemPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        let Path(id) = path.map_err(|_| ApiError::unknown_system())?;
        system_id(&id).map(Self)
    }
}

/// Reads a system's id as proxy URLs and job answers spell it.
pub(super) fn system_id(text: &str) -> Result<SystemId, ApiError> {
    Uuid::from_str(text).map_err(|_| ApiError::unknown_system())
}

/// A request's query, read leniently: names that mean nothing are ignored, and the last of several counts.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl FromRequestParts<Shared> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

impl Query {
    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.trim())
            .filter(|v| !v.is_empty())
    }

    /// A switch; clients write `true`, `True` or `1`.
    pub(super) fn switch(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        let Some(text) = self.get(name) else { return Ok(default) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(invalid(name, "must be true or false")),
        }
    }

    pub(super) fn whole<T: FromStr>(&self, name: &str, default: T) -> Result<T, ApiError> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.parse().map_err(|_| invalid(name, "must be a whole number, 0 or more"))
    }
}

fn invalid(name: &str, problem: &str) -> ApiError {
    ApiError::bad_request(format!("`{name}` {problem}")).code("invalid_value").param(name)
}
