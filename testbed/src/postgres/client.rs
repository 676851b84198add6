//! What the harness asks a server: its version, and what it says it spent.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::Error;

pub(super) const CREATE_STATEMENTS: &str = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The server's sums by query text. Ours are the ones of the current database, without the asking itself.
const READ_STATEMENTS: &str = "
    SELECT s.query, s.calls, s.total_exec_time, s.rows
    FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
    WHERE d.datname = current_database() AND s.query NOT ILIKE '%pg_stat_statements%'";

/// What a statement does, by its first words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StatementKind {
    /// `SELECT`, or `WITH … SELECT`.
    Select,
    /// `INSERT`.
    Insert,
    /// `INSERT … ON CONFLICT`.
    Upsert,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
    /// Everything else: transactions, settings, tables made.
    Other,
}

impl StatementKind {
    /// The kind of a query.
    #[must_use]
    pub fn of(query: &str) -> Self {
        let query = query.to_ascii_lowercase();
        let mut words = query.split_ascii_whitespace();
        match words.next() {
            Some("select") => Self::Select,
            Some("insert") if query.contains("on conflict") => Self::Upsert,
            Some("insert") => Self::Insert,
            Some("update") => Self::Update,
            Some("delete") => Self::Delete,
            Some("with") => Self::of_with(&query),
            _ => Self::Other,
        }
    }

    /// A statement behind `WITH` is what it does to rows: the first verb that is a word of its own (`inserted` is a name).
    fn of_with(query: &str) -> Self {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut words = query.split(|c| !is_part(c));
        match words.find(|word| ["insert", "update", "delete"].contains(word)) {
            Some("insert") if query.contains("on conflict") => Self::Upsert,
            Some("insert") => Self::Insert,
            Some("update") => Self::Update,
            Some("delete") => Self::Delete,
            _ => Self::Select,
        }
    }

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Upsert => "upsert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Other => "other",
        }
    }
}

/// What the server says all statements of one kind took since the last reset, by its own clock.
#[derive(Debug, Clone, PartialEq)]
pub struct StatementStats {
    /// The kind.
    pub kind: StatementKind,
    /// How often they were executed.
    pub calls: u64,
    /// Their execution time, in milliseconds, together. Planning and the wire are not in it.
    pub exec_ms_total: f64,
    /// Rows returned or affected, together.
    pub rows: u64,
}

impl StatementStats {
    /// The mean execution time of one call, in milliseconds; 0 if there were none.
    #[must_use]
    pub fn exec_ms_mean(&self) -> f64 {
        // A count fits a float exactly up to 2^53.
        if self.calls == 0 { 0.0 } else { self.exec_ms_total / self.calls as f64 }
    }

    /// What came after `earlier`, of the same kind.
    #[must_use]
    pub fn since(&self, earlier: Option<&Self>) -> Self {
        let Some(earlier) = earlier else { return self.clone() };
        Self {
            kind: self.kind,
            calls: self.calls.saturating_sub(earlier.calls),
            exec_ms_total: (self.exec_ms_total - earlier.exec_ms_total).max(0.0),
            rows: self.rows.saturating_sub(earlier.rows),
        }
    }
}

/// What the server of a database spent on its statements, by kind, in the order of [`StatementKind`].
///
/// Use the database's direct URL: this is not traffic to be counted.
///
/// # Errors
/// [`Error::Query`] when the server can't be reached or has no `pg_stat_statements`.
pub async fn server_statements(url: &str) -> Result<Vec<StatementStats>, Error> {
    let connection = Connection::open(url).await?;
    let rows = connection
        .client
        .query(READ_STATEMENTS, &[])
        .await
        .map_err(|source| Error::Query { action: "read the server's statement statistics", source })?;
    let mut kinds: Vec<StatementStats> = Vec::new();
    for row in rows {
        let stats = StatementStats {
            kind: StatementKind::of(row.get::<_, &str>(0)),
            calls: row.get::<_, i64>(1).unsigned_abs(),
            exec_ms_total: row.get(2),
            rows: row.get::<_, i64>(3).unsigned_abs(),
        };
        match kinds.iter_mut().find(|known| known.kind == stats.kind) {
            Some(known) => {
                known.calls += stats.calls;
                known.exec_ms_total += stats.exec_ms_total;
                known.rows += stats.rows;
            }
            None => kinds.push(stats),
        }
    }
    kinds.sort_by_key(|stats| stats.kind);
    Ok(kinds)
}

/// Sets the statistics of [`server_statements`] to zero, for the whole server.
///
/// # Errors
/// [`Error::Query`] when the server can't be reached, has no `pg_stat_statements`, or does not let us.
pub async fn reset_statements(url: &str) -> Result<(), Error> {
    let connection = Connection::open(url).await?;
    connection.execute("reset the server's statement statistics", "SELECT pg_stat_statements_reset()").await
}

/// Makes statement statistics readable, where the server collects them. Where it doesn't, asking for them says so.
pub(crate) async fn create_statements(url: &str) {
    let created = match Connection::open(url).await {
        Ok(connection) => connection.execute("create the extension", CREATE_STATEMENTS).await,
        Err(error) => Err(error),
    };
    if let Err(error) = created {
        tracing::warn!(%error, "no statement statistics from the server");
    }
}

/// The server's version, as it says it.
///
/// # Errors
/// [`Error::Query`] when the server can't be reached.
pub async fn version(url: &str) -> Result<String, Error> {
    Connection::open(url).await?.version().await
}

/// Creates another database beside that of `url`, with statement statistics if the server has them, and tells its URL.
/// `name` must be lowercase letters, digits and underscores.
///
/// # Errors
/// [`Error::Query`] when the server can't be reached, or has a database of that name; [`Error::Url`] for a bad name.
pub async fn create_database(url: &str, name: &str) -> Result<String, Error> {
    let is_plain =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let parsed = url::Url::parse(url).ok().filter(|_| is_plain);
    let Some(mut with_name) = parsed else {
        return Err(Error::Url { reason: format!("a database called {name:?} on that server") });
    };
    with_name.set_path(name);
    let server = Connection::open(url).await?;
    server.execute("create a database", &format!("CREATE DATABASE \"{name}\"")).await?;
    let has_statements = server
        .client
        .query_opt("SELECT 1 FROM pg_extension WHERE extname = 'pg_stat_statements'", &[])
        .await
        .is_ok_and(|row| row.is_some());
    if has_statements {
        let database = Connection::open(with_name.as_str()).await?;
        database.execute("create the extension", CREATE_STATEMENTS).await?;
    }
    Ok(with_name.into())
}

/// A connection and the task that drives it; both end with it.
pub(super) struct Connection {
    client: Client,
    driver: JoinHandle<()>,
}

impl Connection {
    pub(super) async fn open(url: &str) -> Result<Self, Error> {
        let config = Config::from_str(url).map_err(|error| Error::Url { reason: error.to_string() })?;
        Self::connect(config).await
    }

    pub(super) async fn open_socket(dir: &Path, port: u16, database: &str) -> Result<Self, Error> {
        let mut config = Config::new();
        config.host_path(dir).port(port).user("postgres").dbname(database);
        Self::connect(config).await
    }

    async fn connect(mut config: Config) -> Result<Self, Error> {
        config.connect_timeout(CONNECT_TIMEOUT).application_name("mipro-testbed");
        let (client, connection) = config
            .connect(NoTls)
            .await
            .map_err(|source| Error::Query { action: "connect to Postgres", source })?;
        let driver = tokio::spawn(async move {
            // What ends a connection is told to whoever uses its client.
            let _ = connection.await;
        });
        Ok(Self { client, driver })
    }

    pub(super) async fn execute(&self, action: &'static str, statement: &str) -> Result<(), Error> {
        self.client.batch_execute(statement).await.map_err(|source| Error::Query { action, source })
    }

    pub(super) async fn version(&self) -> Result<String, Error> {
        let answer = self.client.simple_query("SHOW server_version").await;
        let messages =
            answer.map_err(|source| Error::Query { action: "ask for the server's version", source })?;
        let version = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        Ok(version.unwrap_or("unknown").to_owned())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
