//! Reading the layers: file, environment, flags.
//!
//! Each layer is laid over the last as a TOML table and read again, so that whatever is wrong is blamed on the file's line,
//! the variable or the flag that said it. Messages never quote a line of the file: it may hold a password.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};
use url::Url;

use super::{DurabilityLevel, EngineKind, Options, ProviderOptions, Secret};

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("can't read configuration file {path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML, or says what can't be.
    #[error("configuration file {path}, line {line}{key}: {message}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// The key on that line, quoted in parentheses, if there is one.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// A variable or flag says what can't be.
    #[error("{origin}: {message}")]
    Value {
        /// The variable's or flag's name.
        origin: String,
        /// What is wrong.
        message: String,
    },
    /// A value that reads well and can't be used.
    #[error("`{key}` {problem}")]
    Invalid {
        /// The configuration key.
        key: String,
        /// What is wrong and what is allowed, as the rest of a sentence.
        problem: String,
    },
}

/// What flags say; the command line fills it in. `None` leaves the lower layers alone.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config FILE`
    pub config: Option<PathBuf>,
    /// `--listen ADDR:PORT`
    pub listen: Option<String>,
    /// `--data-dir DIR`
    pub data_dir: Option<PathBuf>,
    /// `--database URL`
    pub database: Option<String>,
    /// `--blobs URL`
    pub blobs: Option<String>,
    /// `--engine blob|cache|actor`
    pub engine: Option<String>,
    /// `--durability memory|os|disk`
    pub durability: Option<String>,
    /// `--upstream URL`
    pub upstream: Option<String>,
    /// `--public-url URL`
    pub public_url: Option<String>,
    /// `--server-timing`; false leaves the lower layers alone.
    pub server_timing: bool,
    /// `--api-keys FILE`
    pub api_keys_file: Option<PathBuf>,
}

/// How a variable's text is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    Whole,
    Switch,
}

/// Variable → configuration key.
pub(super) const VARIABLES: &[(&str, &str, Kind)] = &[
    ("MIPRO_LISTEN", "listen", Kind::Text),
    ("MIPRO_PUBLIC_URL", "public_url", Kind::Text),
    ("MIPRO_DATA_DIR", "data_dir", Kind::Text),
    ("MIPRO_ENGINE", "engine", Kind::Text),
    ("MIPRO_DURABILITY", "durability", Kind::Text),
    ("MIPRO_ON_LOG_FAILURE", "on_log_failure", Kind::Text),
    ("MIPRO_GATE_WAIT_MS_MAX", "gate_wait_ms_max", Kind::Whole),
    ("MIPRO_SERVER_TIMING", "server_timing", Kind::Switch),
    ("MIPRO_UPSTREAM", "upstream", Kind::Text),
    ("MIPRO_SHUTDOWN_DEADLINE_MS", "shutdown_deadline_ms", Kind::Whole),
    ("MIPRO_PROXY_AUTH", "proxy_auth", Kind::Text),
    ("MIPRO_DATABASE", "database.url", Kind::Text),
    ("MIPRO_DATABASE_POOL", "database.pool", Kind::Switch),
    ("MIPRO_DATABASE_POOL_SIZE_MAX", "database.pool_size_max", Kind::Whole),
    ("MIPRO_DATABASE_CONNECT_TIMEOUT_MS", "database.connect_timeout_ms", Kind::Whole),
    ("MIPRO_DATABASE_QUERY_TIMEOUT_MS", "database.query_timeout_ms", Kind::Whole),
    ("MIPRO_BLOBS", "blobs.url", Kind::Text),
    ("MIPRO_BLOBS_KEEP_ALIVE", "blobs.keep_alive", Kind::Switch),
    ("MIPRO_BLOBS_TIMEOUT_MS", "blobs.timeout_ms", Kind::Whole),
    ("MIPRO_CACHE_SYSTEMS_MAX", "cache.systems_max", Kind::Whole),
    ("MIPRO_CACHE_SAVE", "cache.save", Kind::Text),
    ("MIPRO_CACHE_SAVE_EVENTS_MAX", "cache.save_events_max", Kind::Whole),
    ("MIPRO_CACHE_SAVE_DELAY_MS_MAX", "cache.save_delay_ms_max", Kind::Whole),
    ("MIPRO_LOG_DIR", "log.dir", Kind::Text),
    ("MIPRO_LOG_SEGMENT_BYTES", "log.segment_bytes", Kind::Whole),
    ("MIPRO_LOG_SEGMENT_AGE_MS_MAX", "log.segment_age_ms_max", Kind::Whole),
    ("MIPRO_LOG_QUEUE_BYTES_MAX", "log.queue_bytes_max", Kind::Whole),
    ("MIPRO_LOG_KEPT_BYTES_MAX", "log.kept_bytes_max", Kind::Whole),
    ("MIPRO_SNAPSHOT_FORMAT", "snapshot.format", Kind::Text),
    ("MIPRO_SNAPSHOT_EVENTS_MAX", "snapshot.events_max", Kind::Whole),
    ("MIPRO_SNAPSHOT_DELAY_MS_MAX", "snapshot.delay_ms_max", Kind::Whole),
    ("MIPRO_SNAPSHOT_TAIL_RATIO", "snapshot.tail_ratio", Kind::Whole),
    ("MIPRO_LIMITS_BODY_BYTES_MAX", "limits.body_bytes_max", Kind::Whole),
    ("MIPRO_LIMITS_HEADER_BYTES_MAX", "limits.header_bytes_max", Kind::Whole),
    ("MIPRO_LIMITS_HEADER_TIMEOUT_MS", "limits.header_timeout_ms", Kind::Whole),
    ("MIPRO_LIMITS_WRITE_TIMEOUT_MS", "limits.write_timeout_ms", Kind::Whole),
    ("MIPRO_LIMITS_CONNECTIONS_MAX", "limits.connections_max", Kind::Whole),
    ("MIPRO_LIMITS_REQUEST_TIMEOUT_MS", "limits.request_timeout_ms", Kind::Whole),
    ("MIPRO_LIMITS_EVENTS_LIMIT_MAX", "limits.events_limit_max", Kind::Whole),
    ("MIPRO_LIMITS_UPSTREAM_CONNECT_TIMEOUT_MS", "limits.upstream_connect_timeout_ms", Kind::Whole),
    ("MIPRO_LIMITS_UPSTREAM_IDLE_TIMEOUT_MS", "limits.upstream_idle_timeout_ms", Kind::Whole),
    ("MIPRO_LIMITS_UPSTREAM_BODY_BYTES_MAX", "limits.upstream_body_bytes_max", Kind::Whole),
    ("MIPRO_API_KEYS_FILE", "auth.keys_file", Kind::Text),
];

/// A segment holds at least one command's events, and its file some more.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Room for the events of a few commands at once.
const QUEUE_BYTES_MIN: u64 = 64 << 10;

/// Read where crash points are, which release builds don't have, as they have no planted faults.
const CRASH_AT: &str = "MIPRO_CRASH_AT";

/// `MIPRO_*` variables that are read elsewhere: no typing errors.
const ELSEWHERE: &[&str] = &[
    "MIPRO_CONFIG",
    "MIPRO_API_KEYS",
    "MIPRO_API_KEY",
    "MIPRO_UPSTREAM_API_KEY",
    "MIPRO_LOG",
    mipro_allocations::VARIABLE,
];

/// The images of `bench --stack containers`, whose services inherit its environment.
const ELSEWHERE_PREFIXES: [&str; 2] = ["MIPRO_POSTGRES_", "MIPRO_S3_"];

impl Options {
    /// Where the event log is: `log.dir`, or `log` in the data directory.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.log.dir.clone().unwrap_or_else(|| self.data_dir.join("log"))
    }

    /// Reads file, this process's environment and flags.
    ///
    /// # Errors
    /// When a layer can't be read or says what can't be; see [`Error`].
    pub fn load(flags: &Flags) -> Result<Self, Error> {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::load_with(flags, &std::env::vars_os().filter_map(text).collect())
    }

    /// Reads file, the given environment and flags.
    ///
    /// # Errors
    /// When a layer can't be read or says what can't be; see [`Error`].
    pub fn load_with(flags: &Flags, environment: &BTreeMap<String, String>) -> Result<Self, Error> {
        let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let file = flags.config.clone().or_else(|| variable("MIPRO_CONFIG").map(PathBuf::from));
        let mut table = file.as_deref().map_or_else(|| Ok(Table::new()), read_file)?;
        for (name, key, kind) in VARIABLES {
            if let Some(text) = variable(name) {
                let origin = format!("environment variable {name}");
                let value =
                    kind.read(text).map_err(|message| Error::Value { origin: origin.clone(), message })?;
                lay(&mut table, key, value, origin)?;
            }
        }
        for (flag, key, value) in flags.values() {
            lay(&mut table, key, value, flag.to_owned())?;
        }
        let mut options: Self = table.try_into().map_err(|e: toml::de::Error| Error::Value {
            origin: "configuration".into(),
            message: e.message().into(),
        })?;
        options.auth.keys = variable("MIPRO_API_KEYS").map(Secret::new);
        options.unknown_variables = unknown(environment);
        options.resolve(&variable)?;
        Ok(options)
    }

    /// Fills in what depends on other settings or on the environment, and checks what types don't.
    fn resolve<'a>(&mut self, variable: &impl Fn(&str) -> Option<&'a String>) -> Result<(), Error> {
        let data_dir = std::path::absolute(&self.data_dir)
            .map_err(|e| invalid("data_dir", format!("is not a usable path: {e}")))?;
        self.data_dir = data_dir;
        if self.database.url.is_empty() {
            self.database.url = Secret::new(format!("sqlite:{}", self.data_dir.join("mipro.db").display()));
        }
        if self.blobs.url.is_empty() {
            let url = Url::from_directory_path(self.data_dir.join("blobs"))
                .map_err(|()| invalid("data_dir", "can't be written as a URL".into()))?;
            self.blobs.url = Secret::new(url.as_str().trim_end_matches('/'));
        }
        let log_dir = std::path::absolute(self.log_dir())
            .map_err(|e| invalid("log.dir", format!("is not a usable path: {e}")))?;
        self.log.dir = Some(log_dir);
        if self.engine == EngineKind::Actor && self.durability.is_none() {
            self.durability = Some(DurabilityLevel::Disk);
        }
        for (name, provider) in ProviderOptions::known() {
            self.providers.entry(name).or_insert(provider);
        }
        for (name, provider) in &mut self.providers {
            provider.base_url = base_url(&format!("providers.{name}.base_url"), &provider.base_url)?;
            let key = provider.api_key_env.as_deref().and_then(variable);
            provider.api_key = key.map(Secret::new);
        }
        self.auth.upstream_api_key = variable(&self.upstream_api_key_env).map(Secret::new);
        if let Some(upstream) = &mut self.upstream {
            *upstream = base_url("upstream", upstream)?;
        }
        if let Some(public_url) = &mut self.public_url {
            *public_url = base_url("public_url", public_url)?;
        }
        self.check()
    }

    fn check(&self) -> Result<(), Error> {
        let port = self.listen.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            return Err(invalid(
                "listen",
                format!("is {:?}; it must be ADDR:PORT, such as 127.0.0.1:8090", self.listen),
            ));
        }
        let database = self.database.url.expose();
        let schemes = ["sqlite:", "postgres://", "postgresql://"];
        if !schemes.iter().any(|scheme| database.starts_with(scheme)) {
            return Err(invalid("database.url", "must be sqlite:PATH or postgres://…".into()));
        }
        let blobs = self.blobs.url.expose();
        if !["file:///", "s3://", "memory:"].iter().any(|scheme| blobs.starts_with(scheme)) {
            return Err(invalid(
                "blobs.url",
                "must be file:///DIR, s3://bucket/prefix?endpoint=… or memory:".into(),
            ));
        }
        self.check_durability()?;
        let limits = &self.limits;
        let at_least_one = [
            ("shutdown_deadline_ms", self.shutdown_deadline_ms),
            ("gate_wait_ms_max", self.gate_wait_ms_max),
            ("log.segment_age_ms_max", self.log.segment_age_ms_max),
            ("snapshot.events_max", self.snapshot.events_max),
            ("snapshot.delay_ms_max", self.snapshot.delay_ms_max),
            ("snapshot.tail_ratio", self.snapshot.tail_ratio),
            ("database.pool_size_max", self.database.pool_size_max as u64),
            ("database.connect_timeout_ms", self.database.connect_timeout_ms),
            ("database.query_timeout_ms", self.database.query_timeout_ms),
            ("blobs.timeout_ms", self.blobs.timeout_ms),
            ("cache.systems_max", self.cache.systems_max as u64),
            ("cache.save_events_max", self.cache.save_events_max),
            ("limits.connections_max", limits.connections_max as u64),
            ("limits.header_timeout_ms", limits.header_timeout_ms),
            ("limits.write_timeout_ms", limits.write_timeout_ms),
            ("limits.request_timeout_ms", limits.request_timeout_ms),
            ("limits.events_limit_max", limits.events_limit_max as u64),
            ("limits.upstream_connect_timeout_ms", limits.upstream_connect_timeout_ms),
            ("limits.upstream_idle_timeout_ms", limits.upstream_idle_timeout_ms),
        ];
        if let Some((key, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(invalid(key, "must be 1 or more".into()));
        }
        // Below 8 KiB the HTTP/1 parser can't be told to stop.
        if limits.header_bytes_max < 8 << 10 {
            return Err(invalid("limits.header_bytes_max", "must be 8192 or more".into()));
        }
        Ok(())
    }

    fn check_durability(&self) -> Result<(), Error> {
        let engine = self.engine.name();
        if self.engine != EngineKind::Actor
            && matches!(self.durability, Some(DurabilityLevel::Os | DurabilityLevel::Disk))
        {
            let problem = format!(
                "can't be given by the engine `{engine}`, which has no event log: take the engine `actor`, or leave it unsaid"
            );
            return Err(invalid("durability", problem));
        }
        let log = &self.log;
        for (key, value, least) in [
            ("log.segment_bytes", log.segment_bytes, SEGMENT_BYTES_MIN),
            ("log.queue_bytes_max", log.queue_bytes_max, QUEUE_BYTES_MIN),
            ("log.kept_bytes_max", log.kept_bytes_max, log.segment_bytes.saturating_mul(2)),
        ] {
            if value < least {
                return Err(invalid(key, format!("must be {least} or more")));
            }
        }
        Ok(())
    }
}

impl Flags {
    fn values(&self) -> Vec<(&'static str, &'static str, Value)> {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let texts = [
            ("--listen", "listen", self.listen.clone()),
            ("--data-dir", "data_dir", self.data_dir.as_ref().map(path)),
            ("--database", "database.url", self.database.clone()),
            ("--blobs", "blobs.url", self.blobs.clone()),
            ("--engine", "engine", self.engine.clone()),
            ("--durability", "durability", self.durability.clone()),
            ("--upstream", "upstream", self.upstream.clone()),
            ("--public-url", "public_url", self.public_url.clone()),
            ("--api-keys", "auth.keys_file", self.api_keys_file.as_ref().map(path)),
        ];
        let given = |(flag, key, text): (_, _, Option<String>)| Some((flag, key, Value::String(text?)));
        let mut values: Vec<_> = texts.into_iter().filter_map(given).collect();
        if self.server_timing {
            values.push(("--server-timing", "server_timing", Value::Boolean(true)));
        }
        values
    }
}

impl Kind {
    fn read(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Text => Ok(Value::String(text.into())),
            Self::Whole => match text.trim().parse::<i64>() {
                Ok(number) if number >= 0 => Ok(Value::Integer(number)),
                _ => Err("must be a whole number, 0 or more".into()),
            },
            Self::Switch => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "on" | "yes" => Ok(Value::Boolean(true)),
                "false" | "0" | "off" | "no" => Ok(Value::Boolean(false)),
                _ => Err("must be true or false".into()),
            },
        }
    }
}

fn read_file(path: &Path) -> Result<Table, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let blame = |e: &toml::de::Error| {
        let offset = e.span().map_or(0, |span| span.start).min(text.len());
        let (before, after) = text.split_at(floor_char_boundary(&text, offset));
        let line = before.matches('\n').count() + 1;
        let whole =
            format!("{}{}", before.rsplit('\n').next().unwrap_or(""), after.lines().next().unwrap_or(""));
        let key = whole.split_once('=').map_or_else(String::new, |(key, _)| format!(" (`{}`)", key.trim()));
        Error::File { path: path.into(), line, key, message: e.message().into() }
    };
    let table: Table = toml::from_str(&text).map_err(|e| blame(&e))?;
    toml::from_str::<Options>(&text).map_err(|e| blame(&e))?;
    Ok(table)
}

fn floor_char_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Sets a dotted key, and blames `origin` if the whole no longer reads.
fn lay(table: &mut Table, key: &str, value: Value, origin: String) -> Result<(), Error> {
    let (section, leaf) = key.split_once('.').map_or((None, key), |(section, leaf)| (Some(section), leaf));
    let target = match section {
        None => &mut *table,
        Some(section) => {
            let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            entry.as_table_mut().ok_or_else(|| invalid(section, "must be a table".into()))?
        }
    };
    target.insert(leaf.into(), value);
    match table.clone().try_into::<Options>() {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::Value { origin, message: e.message().to_owned() }),
    }
}

fn unknown(environment: &BTreeMap<String, String>) -> Vec<String> {
    let known = |name: &str| {
        ELSEWHERE.contains(&name)
            || [CRASH_AT, crate::plant::VARIABLE].contains(&name) && cfg!(debug_assertions)
            || ELSEWHERE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || VARIABLES.iter().any(|(variable, ..)| *variable == name)
    };
    environment.keys().filter(|name| name.starts_with("MIPRO_") && !known(name)).cloned().collect()
}

/// Checks an `http(s)://` base URL and drops slashes at its end.
fn base_url(key: &str, text: &str) -> Result<String, Error> {
    let allowed = "must be an http:// or https:// URL without a query";
    let url = Url::parse(text).map_err(|e| invalid(key, format!("{allowed} ({e})")))?;
    let plain = matches!(url.scheme(), "http" | "https") && url.has_host();
    if !plain || url.query().is_some() || url.fragment().is_some() {
        return Err(invalid(key, allowed.into()));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn invalid(key: &str, problem: String) -> Error {
    Error::Invalid { key: key.into(), problem }
}
