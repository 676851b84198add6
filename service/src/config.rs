//! What an operator can set, with its default and the effect of each direction.
//!
//! Layers, later ones winning: the defaults here, a TOML file, `MIPRO_*` environment variables, flags. See [`load`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

mod durable;
mod load;
#[cfg(test)]
mod tests;

pub use durable::{DurabilityLevel, LogOptions, OnLogFailure, SnapshotFormat, SnapshotOptions};
pub use load::{Error, Flags};

/// Where `mipro serve` listens unless told otherwise.
pub const LISTEN: &str = "127.0.0.1:8090";
/// Where SQLite and files go unless told otherwise.
pub const DATA_DIR: &str = "./mipro-data";
/// How long a clean stop may take, in milliseconds.
pub const SHUTDOWN_DEADLINE_MS: u64 = 10_000;

/// A text that is never shown: `Debug` prints `***`, and there is no `Display`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that must send or parse it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to hide.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Everything `mipro serve` can be told.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// `host:port` to accept connections on; port 0 takes any free one. Default: [`LISTEN`].
    pub listen: String,
    /// What proxy URLs start with, without a slash at the end. Default: the bound address, which is right only for
    /// clients on this machine.
    pub public_url: Option<String>,
    /// The directory of the default database and blobs. Default: [`DATA_DIR`].
    pub data_dir: PathBuf,
    /// How state is kept. Default: `actor`.
    pub engine: EngineKind,
    /// What a 200 promises. Default: `disk` with the engine `actor`; the other engines have a promise of their own, and leave
    /// this unsaid. Lower answers sooner and loses more.
    pub durability: Option<DurabilityLevel>,
    /// What the proxy does when the log can't take a rollout's start. Default: `refuse`.
    pub on_log_failure: OnLogFailure,
    /// How long an answer may wait for the log. Higher rides out slower disks; callers wait as long. Default: 10,000.
    pub gate_wait_ms_max: u64,
    /// Sends `Server-Timing` with every answer. Tells outsiders about the inside, so it is off by default.
    pub server_timing: bool,
    /// An OpenAI-compatible base URL (`…/v1`) all LLM calls go to. Default: the base URL of the job's provider.
    pub upstream: Option<String>,
    /// The environment variable with the key for [`Options::upstream`], used when a client sends none. A provider's own key
    /// is never sent there. Default: `MIPRO_UPSTREAM_API_KEY`.
    pub upstream_api_key_env: String,
    /// How long a clean stop may take, saving included. Higher loses less when the stores are slow; lower stops sooner.
    /// Default: [`SHUTDOWN_DEADLINE_MS`].
    pub shutdown_deadline_ms: u64,
    /// Whether the proxy asks for one of our keys. Default: `open`, as the URL is a capability.
    pub proxy_auth: ProxyAuth,
    /// The table of systems.
    pub database: DatabaseOptions,
    /// The objects that hold states.
    pub blobs: BlobOptions,
    /// The engine `cache`, and the saving of `actor` at the level `memory`.
    pub cache: CacheOptions,
    /// The event log.
    pub log: LogOptions,
    /// The saving of `actor` at the levels `os` and `disk`.
    pub snapshot: SnapshotOptions,
    /// Bounds on what one caller may take.
    pub limits: Limits,
    /// LLM providers by the name jobs use. `openai`, `groq`, `google` and `openrouter` are there by default.
    pub providers: BTreeMap<String, ProviderOptions>,
    /// API keys.
    pub auth: AuthOptions,
    /// `MIPRO_*` variables that mean nothing here: warned about at start, as one of them may be a typing error.
    #[serde(skip)]
    pub unknown_variables: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: LISTEN.into(),
            public_url: None,
            data_dir: DATA_DIR.into(),
            engine: EngineKind::Actor,
            durability: None,
            on_log_failure: OnLogFailure::Refuse,
            gate_wait_ms_max: 10_000,
            server_timing: false,
            upstream: None,
            upstream_api_key_env: "MIPRO_UPSTREAM_API_KEY".into(),
            shutdown_deadline_ms: SHUTDOWN_DEADLINE_MS,
            proxy_auth: ProxyAuth::Open,
            database: DatabaseOptions::default(),
            blobs: BlobOptions::default(),
            cache: CacheOptions::default(),
            log: LogOptions::default(),
            snapshot: SnapshotOptions::default(),
            limits: Limits::default(),
            providers: BTreeMap::new(),
            auth: AuthOptions::default(),
            unknown_variables: Vec::new(),
        }
    }
}

/// How state is kept; see [`crate::engine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// Loads and saves everything at every call: the original, kept to be measured against.
    Blob,
    /// States in an LRU cache, saved at once or behind; see [`CacheOptions::save`].
    Cache,
    /// Shard actors with an event log and an output gate.
    Actor,
}

impl EngineKind {
    /// The name, as in flags and `/health`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Cache => "cache",
            Self::Actor => "actor",
        }
    }
}

/// Whether the proxy asks for one of our keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyAuth {
    /// Whoever knows the URL may call; the Bearer header is passed on unread.
    Open,
    /// A key of the system's own org is needed, as `X-API-Key` or as Bearer; a Bearer that is ours is not passed on.
    Required,
}

/// The table of systems.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseOptions {
    /// `sqlite:PATH` or `postgres://…`; may hold a password. Default: `sqlite:<data_dir>/mipro.db`.
    pub url: Secret,
    /// Keeps connections and prepared statements. Off: a new connection and an unprepared statement for each query, as
    /// the original did. Default: true.
    pub pool: bool,
    /// Most connections at once. Higher serves more queries side by side and costs the server memory. Default: 16.
    pub pool_size_max: usize,
    /// How long connecting may take. Default: 5,000.
    pub connect_timeout_ms: u64,
    /// How long one query may take, the wait for the answer included. Default: 10,000.
    pub query_timeout_ms: u64,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            pool: true,
            pool_size_max: 16,
            connect_timeout_ms: 5_000,
            query_timeout_ms: 10_000,
        }
    }
}

/// The objects that hold states.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlobOptions {
    /// `file:///DIR`, `s3://bucket/prefix?endpoint=…&region=…`, or `memory:`. Default: `file:///<data_dir>/blobs`.
    /// S3 credentials come from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    pub url: Secret,
    /// Reuses connections. Off: a new one for each request, as the original did. Default: true.
    pub keep_alive: bool,
    /// How long one request may take. Default: 30,000.
    pub timeout_ms: u64,
}

impl Default for BlobOptions {
    fn default() -> Self {
        Self { url: Secret::default(), keep_alive: true, timeout_ms: 30_000 }
    }
}

/// When cached states are saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Save {
    /// Behind the answer, after so many events or so long. What was not saved is lost with the process.
    Back,
    /// Before the answer.
    Through,
}

/// The engine `cache`, and the saving of `actor` at the level `memory`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheOptions {
    /// Most states in memory. Higher loads less often and takes more memory. Default: 1,024.
    pub systems_max: usize,
    /// When a changed state is saved. Default: `back`.
    pub save: Save,
    /// With `back`: save after this many unsaved events. Lower loses less and writes more. Default: 500.
    pub save_events_max: u64,
    /// With `back`: save when the oldest unsaved event is this old. Lower loses less and writes more. Default: 30,000.
    pub save_delay_ms_max: u64,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self { systems_max: 1_024, save: Save::Back, save_events_max: 500, save_delay_ms_max: 30_000 }
    }
}

/// Bounds on what one caller may take.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest request body; larger ones are answered 413. Default: 8 MiB.
    pub body_bytes_max: usize,
    /// Largest request head, URL included. Default: 64 KiB.
    pub header_bytes_max: usize,
    /// How long a client may take to send its request head, the wait for its first byte included. Default: 15,000.
    pub header_timeout_ms: u64,
    /// How long a client may take nothing of an answer that waits for it; then it is let go. Default: 60,000.
    pub write_timeout_ms: u64,
    /// Most open connections; further ones wait to be accepted. Default: 4,096.
    pub connections_max: usize,
    /// How long a request may take until its answer begins. Higher suits slow models. Default: 120,000.
    pub request_timeout_ms: u64,
    /// Most events one answer holds. Default: 5,000.
    pub events_limit_max: usize,
    /// How long connecting to an LLM may take. Default: 10,000.
    pub upstream_connect_timeout_ms: u64,
    /// Longest silence of an LLM, before or within its answer. Default: 110,000.
    pub upstream_idle_timeout_ms: u64,
    /// Largest answer of an LLM that is not a stream; larger ones are answered 502. Default: 32 MiB.
    pub upstream_body_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 8 << 20,
            header_bytes_max: 64 << 10,
            header_timeout_ms: 15_000,
            write_timeout_ms: 60_000,
            connections_max: 4_096,
            request_timeout_ms: 120_000,
            events_limit_max: 5_000,
            upstream_connect_timeout_ms: 10_000,
            upstream_idle_timeout_ms: 110_000,
            upstream_body_bytes_max: 32 << 20,
        }
    }
}

/// Where a provider's models are.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderOptions {
    /// OpenAI-compatible base URL, `/v1` included.
    pub base_url: String,
    /// The environment variable that holds its key, used when a client sends none. Default: none.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// The key found there.
    #[serde(skip)]
    pub api_key: Option<Secret>,
}

impl ProviderOptions {
    /// The providers known without configuration.
    #[must_use]
    pub fn known() -> BTreeMap<String, Self> {
        let known = [
            ("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
            ("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
            ("google", "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
            ("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        ];
        let provider = |(name, base_url, env): (&str, &str, &str)| {
            let options = Self { base_url: base_url.into(), api_key_env: Some(env.into()), api_key: None };
            (name.to_owned(), options)
        };
        known.into_iter().map(provider).collect()
    }
}

/// API keys. None at all: open mode.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthOptions {
    /// A file of keys, one `key` or `key:org-uuid` a line; `#` begins a comment. Default: none.
    pub keys_file: Option<PathBuf>,
    /// `key1:org-uuid,key2` from `MIPRO_API_KEYS`; never from a file that is easily shared.
    #[serde(skip)]
    pub keys: Option<Secret>,
    /// The key for [`Options::upstream`], from the variable named by [`Options::upstream_api_key_env`].
    #[serde(skip)]
    pub upstream_api_key: Option<Secret>,
}
