//! The `systems` table in SQLite: for one machine, nothing to install.
//!
//! One connection, used on the blocking pool, one statement at a time: SQLite has one writer anyway, and its reads take
//! microseconds. WAL with `synchronous=FULL`, so that a row is on the disk when the call returns. There is no wire: the
//! stages are clocked, round trips are 0.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mipro_telemetry::{Ledger, Stage};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use uuid::Uuid;

use super::migrations::{CREATE_LEDGER, MIGRATIONS, READ_VERSION, newest};
use super::{
    PreviousState, RowMark, StoreError, SystemRow, SystemTable, WriteRule, checksum_from, checksum_text,
    storable,
};

const WHAT: &str = "the database (sqlite)";

const SELECT: &str = "SELECT system_id, org_id, status, mode, version, state_ref, updated_at,
        epoch, state_bytes, state_checksum, prev_ref, prev_version, prev_bytes, prev_checksum, claimed_by
    FROM systems WHERE system_id = ?1";

const SELECT_PAGE: &str = "SELECT system_id, org_id, status, mode, version, state_ref, updated_at,
        epoch, state_bytes, state_checksum, prev_ref, prev_version, prev_bytes, prev_checksum, claimed_by
    FROM systems WHERE ?1 IS NULL OR system_id > ?1 ORDER BY system_id LIMIT ?2";

const UPSERT: &str = "INSERT INTO systems
        (system_id, org_id, status, mode, version, state_ref, epoch, state_bytes, state_checksum, claimed_by)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
    ON CONFLICT (system_id) DO UPDATE SET
        org_id = excluded.org_id, status = excluded.status, mode = excluded.mode,
        prev_ref = NULL, prev_version = NULL, prev_bytes = NULL, prev_checksum = NULL,
        version = excluded.version, state_ref = excluded.state_ref, epoch = max(systems.epoch, excluded.epoch),
        state_bytes = excluded.state_bytes, state_checksum = excluded.state_checksum,
        updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";

const ADVANCE: &str = "INSERT INTO systems
        (system_id, org_id, status, mode, version, state_ref, epoch, state_bytes, state_checksum, claimed_by)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
    ON CONFLICT (system_id) DO UPDATE SET
        org_id = excluded.org_id, status = excluded.status, mode = excluded.mode,
        prev_ref = systems.state_ref, prev_version = systems.version,
        prev_bytes = systems.state_bytes, prev_checksum = systems.state_checksum,
        version = excluded.version, state_ref = excluded.state_ref, epoch = excluded.epoch,
        state_bytes = excluded.state_bytes, state_checksum = excluded.state_checksum,
        updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
    WHERE systems.epoch <= excluded.epoch AND systems.version < excluded.version";

const CLAIM: &str = "UPDATE systems SET epoch = ?4, claimed_by = ?5,
        prev_ref = CASE WHEN claimed_by <> ?5 THEN NULL ELSE prev_ref END
    WHERE system_id = ?1 AND epoch = ?2 AND version = ?3 AND epoch < ?4";

/// The `systems` table in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteTable {
    connection: Arc<Mutex<Option<Connection>>>,
}

impl SqliteTable {
    /// Opens (and makes, with its directory) the file at `path`, or a private database in memory for `:memory:`; migrates
    /// it. `busy_timeout` is how long a statement waits for another process's lock.
    ///
    /// # Errors
    /// The file can't be opened, is no database, or holds a newer schema.
    pub async fn open(path: &str, busy_timeout: Duration) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let connection = blocking(move || connect(&path, busy_timeout)).await?;
        Ok(Self { connection: Arc::new(Mutex::new(Some(connection))) })
    }

    /// Runs `work` on the blocking pool with the connection to itself. Waiting for it is `db.acquire`.
    async fn with<R: Send + 'static>(
        &self,
        ledger: &Ledger,
        work: impl FnOnce(&Connection, &Ledger) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let connection = Arc::clone(&self.connection);
        let ledger = ledger.clone();
        let acquire = ledger.enter(Stage::DbAcquire);
        blocking(move || {
            // A panic while it was held left at most an open statement behind, which its drop has reset.
            let held = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(connection) = held.as_ref() else {
                return Err(StoreError::Unavailable { what: WHAT, reason: "it is closed".to_owned() });
            };
            acquire.done();
            // There is no server elsewhere: what a statement takes, this process spends.
            ledger.working(|| work(connection, &ledger))
        })
        .await
    }
}

#[async_trait]
impl SystemTable for SqliteTable {
    async fn get(&self, system_id: Uuid, ledger: &Ledger) -> Result<Option<SystemRow>, StoreError> {
        self.with(ledger, move |connection, ledger| {
            let query = ledger.enter(Stage::DbQuery);
            let mut statement = connection.prepare_cached(SELECT).map_err(failed)?;
            let found = statement
                .query_row(params![system_id.to_string()], RawRow::read)
                .optional()
                .map_err(failed)?;
            query.done();
            let bytes = found.as_ref().map_or(0, RawRow::bytes);
            ledger.count(Stage::DbQuery, 1, bytes, 0);
            found.map(|raw| ledger.time(Stage::DbDecode, || raw.decode())).transpose()
        })
        .await
    }

    async fn upsert(&self, row: &SystemRow, rule: WriteRule, ledger: &Ledger) -> Result<bool, StoreError> {
        let row = row.clone();
        self.with(ledger, move |connection, ledger| {
            let (version, epoch) = (storable(row.version)?, storable(row.epoch)?);
            let state_bytes = row.state_bytes.map(storable).transpose()?;
            let sql = match rule {
                WriteRule::Overwrite => UPSERT,
                WriteRule::Advance => ADVANCE,
            };
            let query = ledger.enter(Stage::DbQuery);
            let mut statement = connection.prepare_cached(sql).map_err(failed)?;
            let changed = statement
                .execute(params![
                    row.system_id.to_string(),
                    row.org_id.to_string(),
                    row.status,
                    row.mode,
                    version,
                    row.state_ref,
                    epoch,
                    state_bytes,
                    row.state_checksum.as_ref().map(checksum_text),
                    row.claimed_by.map(|by| by.to_string()),
                ])
                .map_err(failed)?;
            query.done();
            let bytes = row.status.len() + row.mode.len() + row.state_ref.map_or(0, |key| key.len());
            ledger.count(Stage::DbQuery, 1, bytes as u64, 0);
            Ok(changed == 1)
        })
        .await
    }

    async fn claim(
        &self,
        system_id: Uuid,
        seen: RowMark,
        epoch: u64,
        by: Uuid,
        ledger: &Ledger,
    ) -> Result<bool, StoreError> {
        self.with(ledger, move |connection, ledger| {
            let (held, version, epoch) = (storable(seen.epoch)?, storable(seen.version)?, storable(epoch)?);
            let query = ledger.enter(Stage::DbQuery);
            let mut statement = connection.prepare_cached(CLAIM).map_err(failed)?;
            let changed = statement
                .execute(params![system_id.to_string(), held, version, epoch, by.to_string()])
                .map_err(failed)?;
            query.done();
            ledger.count(Stage::DbQuery, 1, 0, 0);
            Ok(changed == 1)
        })
        .await
    }

    async fn get_many(&self, systems: &[Uuid], ledger: &Ledger) -> Result<Vec<SystemRow>, StoreError> {
        let systems = systems.to_vec();
        self.with(ledger, move |connection, ledger| {
            let query = ledger.enter(Stage::DbQuery);
            let mut statement = connection.prepare_cached(SELECT).map_err(failed)?;
            let mut found = Vec::with_capacity(systems.len());
            for system in &systems {
                let row = statement.query_row(params![system.to_string()], RawRow::read).optional();
                found.extend(row.map_err(failed)?);
            }
            query.done();
            ledger.count(Stage::DbQuery, systems.len() as u64, found.iter().map(RawRow::bytes).sum(), 0);
            ledger.time(Stage::DbDecode, || found.into_iter().map(RawRow::decode).collect())
        })
        .await
    }

    async fn list(
        &self,
        after: Option<Uuid>,
        limit: usize,
        ledger: &Ledger,
    ) -> Result<Vec<SystemRow>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.with(ledger, move |connection, ledger| {
            let query = ledger.enter(Stage::DbQuery);
            let mut statement = connection.prepare_cached(SELECT_PAGE).map_err(failed)?;
            let rows = statement.query_map(params![after.map(|id| id.to_string()), limit], RawRow::read);
            let found = rows.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?;
            query.done();
            ledger.count(Stage::DbQuery, 1, found.iter().map(RawRow::bytes).sum(), 0);
            ledger.time(Stage::DbDecode, || found.into_iter().map(RawRow::decode).collect())
        })
        .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let ledger = Ledger::start(mipro_telemetry::Operation::Unknown);
        self.with(&ledger, |connection, _| {
            connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0)).map_err(failed).map(drop)
        })
        .await
    }

    async fn close(&self) {
        let connection = Arc::clone(&self.connection);
        let closing = move || {
            // Dropping a connection closes it; what its closing has to say changes nothing any more.
            drop(connection.lock().unwrap_or_else(PoisonError::into_inner).take());
            Ok(())
        };
        if let Err(error) = blocking(closing).await {
            tracing::warn!(%error, "closing the database failed");
        }
    }

    fn kind(&self) -> &'static str {
        "sqlite"
    }
}

/// The row as it lies in the database.
struct RawRow {
    system_id: String,
    org_id: String,
    status: String,
    mode: String,
    version: i64,
    state_ref: Option<String>,
    updated_at: String,
    epoch: i64,
    claimed_by: Option<String>,
    state: RawObject,
    previous: RawObject,
    previous_ref: Option<String>,
    previous_version: Option<i64>,
}

/// What a row knows of an object beside its key.
struct RawObject {
    bytes: Option<i64>,
    checksum: Option<String>,
}

impl RawObject {
    fn decode(self) -> Result<(Option<u64>, Option<[u8; 32]>), StoreError> {
        let bytes = self.bytes.map(|bytes| unsigned(bytes, "a negative length")).transpose()?;
        let checksum = checksum_from(self.checksum.as_deref())
            .map_err(|()| corrupt("a checksum that is no checksum"))?;
        Ok((bytes, checksum))
    }
}

impl RawRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            system_id: row.get(0)?,
            org_id: row.get(1)?,
            status: row.get(2)?,
            mode: row.get(3)?,
            version: row.get(4)?,
            state_ref: row.get(5)?,
            updated_at: row.get(6)?,
            epoch: row.get(7)?,
            state: RawObject { bytes: row.get(8)?, checksum: row.get(9)? },
            previous_ref: row.get(10)?,
            previous_version: row.get(11)?,
            previous: RawObject { bytes: row.get(12)?, checksum: row.get(13)? },
            claimed_by: row.get(14)?,
        })
    }

    fn bytes(&self) -> u64 {
        let texts = [&self.system_id, &self.org_id, &self.status, &self.mode, &self.updated_at];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        (texts + self.state_ref.as_ref().map_or(0, String::len) + size_of::<i64>()) as u64
    }

    fn decode(self) -> Result<SystemRow, StoreError> {
        let uuid = |text: &str| Uuid::parse_str(text).map_err(|_| corrupt("an id that is no UUID"));
        let (state_bytes, state_checksum) = self.state.decode()?;
        let previous = match self.previous_ref {
            None => None,
            Some(state_ref) => {
                let version = self.previous_version.ok_or_else(|| corrupt("a key without a version"))?;
                let (bytes, checksum) = self.previous.decode()?;
                let version = unsigned(version, "a negative version")?;
                Some(PreviousState { state_ref, version, bytes, checksum })
            }
        };
        Ok(SystemRow {
            system_id: uuid(&self.system_id)?,
            org_id: uuid(&self.org_id)?,
            status: self.status,
            mode: self.mode,
            version: unsigned(self.version, "a negative version")?,
            state_ref: self.state_ref,
            epoch: unsigned(self.epoch, "a negative epoch")?,
            claimed_by: self.claimed_by.as_deref().map(uuid).transpose()?,
            state_bytes,
            state_checksum,
            previous,
            updated_at: Some(self.updated_at),
        })
    }
}

fn connect(path: &str, busy_timeout: Duration) -> Result<Connection, StoreError> {
    let mut connection = if path == ":memory:" {
        Connection::open_in_memory().map_err(failed)?
    } else {
        let path = Path::new(path.strip_prefix("//").unwrap_or(path));
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(|e| {
                StoreError::Config(format!(
                    "the database's directory {} can't be made: {e}",
                    directory.display()
                ))
            })?;
        }
        Connection::open(path).map_err(|e| {
            StoreError::Config(format!("the database {} can't be opened: {}", path.display(), reason(&e)))
        })?
    };
    connection.busy_timeout(busy_timeout).map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    migrate(&mut connection)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    transaction.execute_batch(CREATE_LEDGER).map_err(failed)?;
    let found: i64 = transaction.query_row(READ_VERSION, [], |row| row.get(0)).map_err(failed)?;
    if found > newest() {
        return Err(StoreError::SchemaNewer { found, known: newest() });
    }
    for migration in MIGRATIONS.iter().filter(|m| m.version > found) {
        transaction.execute_batch(migration.sqlite).map_err(failed)?;
        transaction
            .execute(
                "INSERT INTO schema_migrations (version, name) VALUES (?1, ?2)",
                params![migration.version, migration.name],
            )
            .map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, StoreError> + Send + 'static,
) -> Result<R, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(StoreError::Unavailable { what: WHAT, reason: "its thread panicked or was stopped".to_owned() })
    })
}

#[expect(clippy::needless_pass_by_value, reason = "used as `map_err(failed)`")]
fn failed(error: rusqlite::Error) -> StoreError {
    StoreError::Unavailable { what: WHAT, reason: reason(&error) }
}

/// SQLite's own words for its error code: never a value, never a statement.
fn reason(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, _) => code.to_string(),
        _ => "a statement failed".to_owned(),
    }
}

fn unsigned(number: i64, problem: &str) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| corrupt(problem))
}

fn corrupt(problem: &str) -> StoreError {
    StoreError::Corrupt { what: WHAT, problem: problem.to_owned() }
}
