//! Where state rests: a row per system that points at an object, and the objects.
//!
//! - [`SystemTable`] is the `systems` table, in [`postgres`] or in [`sqlite`]; [`migrations`] keep its shape.
//! - [`blobs`] are the objects, through `object_store` with our own HTTP [`connector`].
//!
//! The row is the only thing that moves: an object is written first, then the row is made to name it, so that a crash
//! in between leaves an orphan and never a row that names nothing.

pub mod blobs;
pub mod connector;
pub mod migrations;
pub mod postgres;
pub mod sqlite;
pub(crate) mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mipro_telemetry::Ledger;
use uuid::Uuid;

pub use blobs::{BlobOptions, Blobs, S3Credentials};

/// What can go wrong with a store. No message carries a URL, a password, a key or a system id.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It can't be reached or refuses to work; trying again later may help.
    #[error("{what} is unavailable: {reason}")]
    Unavailable {
        /// Which store.
        what: &'static str,
        /// Why, as far as it can be told.
        reason: String,
    },
    /// It did not answer in time. Whether a write happened is not known.
    #[error("{what} did not answer within {} ms", .after.as_millis())]
    Timeout {
        /// Which store.
        what: &'static str,
        /// The limit.
        after: Duration,
    },
    /// There is no such object.
    #[error("the object does not exist")]
    NotFound,
    /// A conditional put found an object of that key.
    #[error("an object of that key exists")]
    AlreadyExists,
    /// What came back can't be what was written.
    #[error("{what} holds something unreadable: {problem}")]
    Corrupt {
        /// Which store.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A newer build has been at this database.
    #[error(
        "the database has schema version {found}, this build knows {known}: start a build at least as new as the one that migrated it"
    )]
    SchemaNewer {
        /// The database's version.
        found: i64,
        /// The newest version this build knows.
        known: i64,
    },
    /// The options make no sense.
    #[error("{0}")]
    Config(String),
}

/// A row of the `systems` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemRow {
    /// Which system.
    pub system_id: Uuid,
    /// Whose it is.
    pub org_id: Uuid,
    /// `active`, …
    pub status: String,
    /// `online`, …
    pub mode: String,
    /// Sequence number of the newest event in the state that `state_ref` names.
    pub version: u64,
    /// The key of the stored state.
    pub state_ref: Option<String>,
    /// The highest fencing epoch under which the system was claimed ([`SystemTable::claim`]) or `state_ref` written; 0 before
    /// there were epochs. Never falls.
    pub epoch: u64,
    /// The log of the host that claimed it last ([`SystemTable::claim`]), which moves with claims alone: `None` until the first
    /// one. A host whose own log it is not must not take what that holds for what followed the stored state.
    pub claimed_by: Option<Uuid>,
    /// Length of the object that `state_ref` names, in bytes; unknown in rows of schema version 1.
    pub state_bytes: Option<u64>,
    /// BLAKE3 of that object, where its writer made one: kept outside the object, it tells a misdirected or an old object
    /// from the right one.
    pub state_checksum: Option<[u8; 32]>,
    /// What the row named before. [`WriteRule::Advance`] moves it there by itself; in a row that is to be written it is
    /// not looked at.
    pub previous: Option<PreviousState>,
    /// When the row was written, as the database's clock has it (RFC 3339). `None` in a row that is yet to be written.
    pub updated_at: Option<String>,
}

impl SystemRow {
    /// What a claim must find unchanged.
    #[must_use]
    pub const fn mark(&self) -> RowMark {
        RowMark { epoch: self.epoch, version: self.version }
    }
}

/// How far a row was when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowMark {
    /// Its epoch.
    pub epoch: u64,
    /// Its version.
    pub version: u64,
}

/// The stored state that a row named before the one it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousState {
    /// The object's key.
    pub state_ref: String,
    /// Sequence number of the newest event in it.
    pub version: u64,
    /// Its length in bytes, where known.
    pub bytes: Option<u64>,
    /// Its BLAKE3, where its writer made one.
    pub checksum: Option<[u8; 32]>,
}

/// When a write may replace a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteRule {
    /// Always, as the original did: of two writers the later one wins, whatever it has seen. The row then has no previous
    /// state: what it named before may be of another history.
    Overwrite,
    /// Only if the row's epoch is not higher and its version is lower: a late or foreign write never takes the row back.
    /// The statement itself keeps what the row named as its previous state.
    Advance,
}

/// The `systems` table. Every call is bounded in time by the store's own options. Dropping a call's future may leave a
/// write done or not done, never half done.
#[async_trait]
pub trait SystemTable: Send + Sync + fmt::Debug {
    /// The row of a system, if there is one. Repeating it is harmless.
    async fn get(&self, system_id: Uuid, ledger: &Ledger) -> Result<Option<SystemRow>, StoreError>;

    /// Inserts a row, or replaces it where `rule` lets it; whose it is (`claimed_by`) is written only with a new row, after that
    /// [`SystemTable::claim`] alone says so. Gives whether the row is now the one given: `false` means
    /// that `rule` forbade it. After an error the row may or may not have been written.
    async fn upsert(&self, row: &SystemRow, rule: WriteRule, ledger: &Ledger) -> Result<bool, StoreError>;

    /// Claims a system for the host whose log is `by` (nil: one that keeps none): raises its row's epoch to `epoch`, which must be
    /// higher, if the row is still as it was `seen`. Where another host had claimed it, the row forgets what it named before:
    /// between that and what it names now lies what only the other host's log may have. Of two who saw the same, one is told `true`. `false`: it has moved, or an earlier try of our own, whose answer was lost, has
    /// moved it; whoever hears that reads the row anew. After an error it may have been done or not. What the row names stays
    /// as it is, and so does its time.
    async fn claim(
        &self,
        system_id: Uuid,
        seen: RowMark,
        epoch: u64,
        by: Uuid,
        ledger: &Ledger,
    ) -> Result<bool, StoreError>;

    /// The rows of those of `systems` that have one, in no order. Give it some hundreds at a time.
    async fn get_many(&self, systems: &[Uuid], ledger: &Ledger) -> Result<Vec<SystemRow>, StoreError> {
        let mut rows = Vec::with_capacity(systems.len());
        for system in systems {
            rows.extend(self.get(*system, ledger).await?);
        }
        Ok(rows)
    }

    /// The first `limit` rows after the system `after`, in the order of ids: for those who look at all, a page at a time.
    async fn list(
        &self,
        after: Option<Uuid>,
        limit: usize,
        ledger: &Ledger,
    ) -> Result<Vec<SystemRow>, StoreError> {
        let _ = (after, limit, ledger);
        Err(StoreError::Config("this table can't be listed".to_owned()))
    }

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Closes kept connections. Calls after it fail. Repeating it is harmless.
    async fn close(&self);

    /// `postgres` or `sqlite`: for reports and `/health`.
    fn kind(&self) -> &'static str;
}

/// How to reach the `systems` table.
#[derive(Clone)]
pub struct TableOptions {
    /// `postgres://user:password@host:port/database?sslmode=require`, `sqlite:<path>` or `sqlite::memory:`.
    /// `sslmode`: `disable` (default; `prefer` and `allow` mean it too, since they promise nothing) or `require`,
    /// `verify-ca`, `verify-full`, which all verify the certificate against the machine's roots.
    pub url: String,
    /// Keep connections and prepared statements. `false`: a new connection and an unprepared statement for each query.
    pub pool: bool,
    /// Most kept connections; a query waits for one when all are busy.
    pub pool_size_max: usize,
    /// Longest wait for a new connection, or for one of the pool.
    pub connect_timeout: Duration,
    /// Longest wait for a query's answer.
    pub query_timeout: Duration,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            url: "sqlite::memory:".to_owned(),
            pool: true,
            pool_size_max: 16,
            connect_timeout: Duration::from_secs(5),
            query_timeout: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for TableOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.url.split(':').next().unwrap_or_default();
        f.debug_struct("TableOptions")
            .field("scheme", &scheme)
            .field("pool", &self.pool)
            .field("pool_size_max", &self.pool_size_max)
            .field("connect_timeout", &self.connect_timeout)
            .field("query_timeout", &self.query_timeout)
            .finish_non_exhaustive()
    }
}

/// Connects to the database that the URL names and migrates it.
///
/// # Errors
/// The database can't be reached, or holds a newer schema, or the URL is not one of the known kinds.
pub async fn open_table(options: &TableOptions) -> Result<Arc<dyn SystemTable>, StoreError> {
    match options.url.split_once(':') {
        Some(("postgres" | "postgresql", _)) => {
            Ok(Arc::new(postgres::PostgresTable::connect(options).await?))
        }
        Some(("sqlite", path)) => Ok(Arc::new(sqlite::SqliteTable::open(path, options.query_timeout).await?)),
        _ => Err(StoreError::Config(
            "the database URL must begin with postgres:// or sqlite: (sqlite:/path/to/file.db)".to_owned(),
        )),
    }
}

/// A checksum as both databases keep it: 64 hex digits.
fn checksum_text(checksum: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*checksum).to_hex().to_string()
}

/// Reads a checksum back; `Err` where it is none.
fn checksum_from(text: Option<&str>) -> Result<Option<[u8; 32]>, ()> {
    text.map(|text| blake3::Hash::from_hex(text).map(Into::into).map_err(drop)).transpose()
}

/// A number as both databases keep it.
fn storable(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Config("a number beyond 2^63 can't be stored".to_owned()))
}

/// The two stores an engine stands on.
#[derive(Debug, Clone)]
pub struct Stores {
    /// The rows.
    pub table: Arc<dyn SystemTable>,
    /// The objects.
    pub blobs: Blobs,
}
