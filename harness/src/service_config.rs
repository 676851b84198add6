//! The service's configuration file for a rung: what a user would write to get the same thing.

use serde::Serialize;

use crate::ladder::{Keeping, RungPlan};

/// How many dirty events the write-back rungs gather before they save.
const SAVE_EVENTS_MAX: u32 = 500;
/// How long the write-back rungs may leave a change unsaved, in milliseconds.
const SAVE_DELAY_MS_MAX: u32 = 30_000;

#[derive(Debug, Serialize)]
struct File<'a> {
    listen: &'a str,
    engine: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<&'a str>,
    server_timing: bool,
    upstream: &'a str,
    database: Database<'a>,
    blobs: Blobs<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<Cache<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<Snapshot<'a>>,
}

#[derive(Debug, Serialize)]
struct Database<'a> {
    url: &'a str,
    pool: bool,
}

#[derive(Debug, Serialize)]
struct Blobs<'a> {
    url: &'a str,
    keep_alive: bool,
}

#[derive(Debug, Serialize)]
struct Cache<'a> {
    save: &'a str,
    save_events_max: u32,
    save_delay_ms_max: u32,
}

#[derive(Debug, Serialize)]
struct Snapshot<'a> {
    format: &'a str,
}

/// Where the service finds what it needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    /// Through the link.
    pub(crate) database_url: &'a str,
    /// Through the link.
    pub(crate) blobs_url: &'a str,
    /// The mock LLM's base, `/v1` included.
    pub(crate) upstream: &'a str,
}

/// The TOML text for `plan`; `None` for a rung without a service.
pub(crate) fn text(plan: &RungPlan, places: Places<'_>) -> Option<String> {
    let (engine, save, format) = match plan.keeping {
        Keeping::None => return None,
        Keeping::Blob => ("blob", None, None),
        Keeping::WriteThrough => ("cache", Some("through"), None),
        Keeping::WriteBack => ("cache", Some("back"), None),
        Keeping::Logged => ("actor", None, Some("json")),
        Keeping::Bounded => ("actor", None, Some("binary")),
    };
    let cache = save.map(|save| Cache {
        save,
        save_events_max: SAVE_EVENTS_MAX,
        save_delay_ms_max: SAVE_DELAY_MS_MAX,
    });
    let file = File {
        listen: "127.0.0.1:0",
        engine,
        // The other engines have one level only.
        durability: format.map(|_| plan.keeping.durability()),
        server_timing: true,
        upstream: places.upstream,
        database: Database { url: places.database_url, pool: plan.pooled },
        blobs: Blobs { url: places.blobs_url, keep_alive: plan.pooled },
        cache,
        snapshot: format.map(|format| Snapshot { format }),
    };
    Some(toml::to_string(&file).expect("plain strings, numbers and flags are TOML"))
}

#[cfg(test)]
mod tests;
