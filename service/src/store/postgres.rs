//! The `systems` table in Postgres.
//!
//! Statements are shaped as the original's (`to_jsonb`, upsert with `RETURNING`). With `pool` off every query opens a
//! connection and sends an unprepared statement, as the original did: TCP connect, start-up, parse and describe, bind
//! and execute. Round trips are counted as the server's `ReadyForQuery` answers; the TCP (and TLS) handshakes of a new
//! connection come on top and show in `db.acquire`'s time.

use std::error::Error as _;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{
    Connect, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType,
};
use mipro_telemetry::{Ledger, Operation, Stage};
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Client, Config, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;
use uuid::Uuid;

use super::migrations::{CREATE_LEDGER, MIGRATIONS, READ_VERSION, newest};
use super::{
    PreviousState, RowMark, StoreError, SystemRow, SystemTable, TableOptions, WriteRule, checksum_from,
    checksum_text, storable, tls,
};

const WHAT: &str = "the database (postgres)";

/// Held while migrating, so that two services that start together don't both migrate. Any constant will do.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(7142903319846215)";

const SELECT: &str = "SELECT to_jsonb(t) AS payload \
    FROM (SELECT * FROM systems WHERE system_id = $1::uuid LIMIT 1) t";

/// As many rows as there are, in one answer.
const SELECT_MANY: &str = "SELECT COALESCE(jsonb_agg(to_jsonb(t)), '[]'::jsonb) AS payload \
    FROM (SELECT * FROM systems WHERE system_id = ANY($1::uuid[])) t";

/// A page of them, by id.
const SELECT_PAGE: &str = "SELECT COALESCE(jsonb_agg(to_jsonb(t) ORDER BY t.system_id), '[]'::jsonb) AS payload \
    FROM (SELECT * FROM systems WHERE $1::uuid IS NULL OR system_id > $1::uuid ORDER BY system_id LIMIT $2) t";

const UPSERT: &str = "WITH inserted AS (
        INSERT INTO systems
            (system_id, org_id, status, mode, version, state_ref, epoch, state_bytes, state_checksum,
            claimed_by)
        VALUES ($1::uuid, $2::uuid, $3, $4, $5, $6, $7, $8, $9, $10::uuid)
        ON CONFLICT (system_id) DO UPDATE SET
            org_id = EXCLUDED.org_id, status = EXCLUDED.status, mode = EXCLUDED.mode,
            prev_ref = NULL, prev_version = NULL, prev_bytes = NULL, prev_checksum = NULL,
            version = EXCLUDED.version, state_ref = EXCLUDED.state_ref,
            epoch = GREATEST(systems.epoch, EXCLUDED.epoch),
            state_bytes = EXCLUDED.state_bytes, state_checksum = EXCLUDED.state_checksum, updated_at = now()
        RETURNING *
    ) SELECT to_jsonb(inserted) AS payload FROM inserted";

const ADVANCE: &str = "WITH inserted AS (
        INSERT INTO systems
            (system_id, org_id, status, mode, version, state_ref, epoch, state_bytes, state_checksum,
            claimed_by)
        VALUES ($1::uuid, $2::uuid, $3, $4, $5, $6, $7, $8, $9, $10::uuid)
        ON CONFLICT (system_id) DO UPDATE SET
            org_id = EXCLUDED.org_id, status = EXCLUDED.status, mode = EXCLUDED.mode,
            prev_ref = systems.state_ref, prev_version = systems.version,
            prev_bytes = systems.state_bytes, prev_checksum = systems.state_checksum,
            version = EXCLUDED.version, state_ref = EXCLUDED.state_ref, epoch = EXCLUDED.epoch,
            state_bytes = EXCLUDED.state_bytes, state_checksum = EXCLUDED.state_checksum, updated_at = now()
        WHERE systems.epoch <= EXCLUDED.epoch AND systems.version < EXCLUDED.version
        RETURNING *
    ) SELECT to_jsonb(inserted) AS payload FROM inserted";

const CLAIM: &str = "UPDATE systems SET epoch = $4, claimed_by = $5::uuid,
        prev_ref = CASE WHEN claimed_by <> $5::uuid THEN NULL ELSE prev_ref END
    WHERE system_id = $1::uuid AND epoch = $2 AND version = $3 AND epoch < $4
    RETURNING epoch";

/// The `systems` table in Postgres.
#[derive(Debug)]
pub struct PostgresTable {
    source: Source,
    connect_timeout: Duration,
    query_timeout: Duration,
}

/// Where connections come from.
#[derive(Debug)]
enum Source {
    Pool(Pool),
    Fresh { config: Box<Config>, dialer: Dialer },
}

/// A connection for one query.
enum Lease {
    Pooled(deadpool_postgres::Object),
    Fresh(Client),
}

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

impl PostgresTable {
    /// Connects and migrates. Options as [`super::open_table`] has them.
    ///
    /// # Errors
    /// The URL is malformed, the server can't be reached or refuses, or it holds a newer schema.
    pub async fn connect(options: &TableOptions) -> Result<Self, StoreError> {
        let (config, dialer) = configure(options)?;
        let limit = options.connect_timeout;
        let mut first = dial(&dialer, &config, limit).await.map_err(|e| at(e, &config))?;
        timeout(options.query_timeout, migrate(&mut first))
            .await
            .map_err(|_| StoreError::Timeout { what: WHAT, after: options.query_timeout })??;
        let source = if options.pool {
            let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
            let pool = Pool::builder(Manager::from_connect(config, dialer, recycle))
                .max_size(options.pool_size_max.max(1))
                .runtime(Runtime::Tokio1)
                .wait_timeout(Some(limit))
                .create_timeout(Some(limit))
                .build()
                .map_err(|e| StoreError::Config(format!("the connection pool can't be made: {e}")))?;
            Source::Pool(pool)
        } else {
            Source::Fresh { config: Box::new(config), dialer }
        };
        Ok(Self { source, connect_timeout: limit, query_timeout: options.query_timeout })
    }

    async fn acquire(&self, ledger: &Ledger) -> Result<Lease, StoreError> {
        let stage = ledger.enter(Stage::DbAcquire);
        let (lease, round_trips) = match &self.source {
            Source::Pool(pool) => {
                let object = pool.get().await.map_err(|e| self.pool_failed(e))?;
                // A kept connection costs nothing to take (its recycling asks the server nothing); a new one starts up.
                let new = deadpool_postgres::Object::metrics(&object).recycle_count == 0;
                (Lease::Pooled(object), u64::from(new))
            }
            Source::Fresh { config, dialer } => {
                (Lease::Fresh(dial(dialer, config, self.connect_timeout).await?), 1)
            }
        };
        stage.done();
        ledger.count(Stage::DbAcquire, 1, 0, round_trips);
        Ok(lease)
    }

    fn pool_failed(&self, error: PoolError) -> StoreError {
        match error {
            PoolError::Timeout(TimeoutType::Wait) => StoreError::Unavailable {
                what: WHAT,
                reason: format!(
                    "no connection of the pool came free within {} ms",
                    self.connect_timeout.as_millis()
                ),
            },
            PoolError::Timeout(_) => StoreError::Timeout { what: WHAT, after: self.connect_timeout },
            PoolError::Backend(error) => failed(&error),
            other => StoreError::Unavailable { what: WHAT, reason: other.to_string() },
        }
    }

    /// Runs a statement that gives at most one row, on a connection of its own or of the pool.
    async fn run(&self, sql: &str, params: Params<'_>, ledger: &Ledger) -> Result<Option<Row>, StoreError> {
        let lease = self.acquire(ledger).await?;
        let stage = ledger.enter(Stage::DbQuery);
        let (row, round_trips) = match lease {
            Lease::Pooled(object) => self.run_pooled(object, sql, params).await?,
            Lease::Fresh(client) => self.run_fresh(client, sql, params).await?,
        };
        stage.done();
        let bytes = row.as_ref().map_or(0, Row::raw_size_bytes);
        ledger.count(Stage::DbQuery, 1, bytes as u64, round_trips);
        Ok(row)
    }

    async fn run_pooled(
        &self,
        object: deadpool_postgres::Object,
        sql: &str,
        params: Params<'_>,
    ) -> Result<(Option<Row>, u64), StoreError> {
        let known = object.statement_cache.size();
        let work = async {
            let statement = object.prepare_cached(sql).await?;
            object.query_opt(&statement, params).await
        };
        let result = match timeout(self.query_timeout, work).await {
            Ok(result) => result.map_err(|e| failed(&e)),
            Err(_) => Err(StoreError::Timeout { what: WHAT, after: self.query_timeout }),
        };
        match result {
            Ok(row) => {
                let prepared = object.statement_cache.size().saturating_sub(known);
                Ok((row, 1 + prepared as u64))
            }
            Err(error) => {
                // It may be dying, or its answer may still come: nobody else may have this connection.
                drop(deadpool_postgres::Object::take(object));
                Err(error)
            }
        }
    }

    async fn run_fresh(
        &self,
        client: Client,
        sql: &str,
        params: Params<'_>,
    ) -> Result<(Option<Row>, u64), StoreError> {
        let work = async {
            let statement = client.prepare(sql).await?;
            let row = client.query_opt(&statement, params).await;
            // The connection goes first: a statement that is dropped before it would cost one more round trip.
            drop(client);
            drop(statement);
            row
        };
        let result = timeout(self.query_timeout, work)
            .await
            .map_err(|_| StoreError::Timeout { what: WHAT, after: self.query_timeout })?;
        result.map(|row| (row, 2)).map_err(|e| failed(&e))
    }
}

#[async_trait]
impl SystemTable for PostgresTable {
    async fn get(&self, system_id: Uuid, ledger: &Ledger) -> Result<Option<SystemRow>, StoreError> {
        let mut result = self.run(SELECT, &[&system_id], ledger).await;
        if matches!((&result, &self.source), (Err(StoreError::Unavailable { .. }), Source::Pool(_))) {
            // The kept connection may have died while it lay idle (a restart, a limit); reading again is harmless.
            result = self.run(SELECT, &[&system_id], ledger).await;
        }
        let row = result?;
        row.map(|row| ledger.time(Stage::DbDecode, || decode(&row))).transpose()
    }

    async fn upsert(&self, row: &SystemRow, rule: WriteRule, ledger: &Ledger) -> Result<bool, StoreError> {
        let version = storable(row.version)?;
        let epoch = storable(row.epoch)?;
        let bytes = row.state_bytes.map(storable).transpose()?;
        let checksum = row.state_checksum.as_ref().map(checksum_text);
        let sql = match rule {
            WriteRule::Overwrite => UPSERT,
            WriteRule::Advance => ADVANCE,
        };
        let params: Params<'_> = &[
            &row.system_id,
            &row.org_id,
            &row.status,
            &row.mode,
            &version,
            &row.state_ref,
            &epoch,
            &bytes,
            &checksum,
            &row.claimed_by,
        ];
        let written = self.run(sql, params, ledger).await?;
        let written = written.map(|row| ledger.time(Stage::DbDecode, || decode(&row))).transpose()?;
        Ok(written.is_some_and(|now| now.version == row.version))
    }

    async fn claim(
        &self,
        system_id: Uuid,
        seen: RowMark,
        epoch: u64,
        by: Uuid,
        ledger: &Ledger,
    ) -> Result<bool, StoreError> {
        let (held, version, epoch) = (storable(seen.epoch)?, storable(seen.version)?, storable(epoch)?);
        let moved = self.run(CLAIM, &[&system_id, &held, &version, &epoch, &by], ledger).await?;
        Ok(moved.is_some())
    }

    async fn get_many(&self, systems: &[Uuid], ledger: &Ledger) -> Result<Vec<SystemRow>, StoreError> {
        let Some(row) = self.run(SELECT_MANY, &[&systems], ledger).await? else { return Ok(Vec::new()) };
        ledger.time(Stage::DbDecode, || decode_many(&row))
    }

    async fn list(
        &self,
        after: Option<Uuid>,
        limit: usize,
        ledger: &Ledger,
    ) -> Result<Vec<SystemRow>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let Some(row) = self.run(SELECT_PAGE, &[&after, &limit], ledger).await? else {
            return Ok(Vec::new());
        };
        ledger.time(Stage::DbDecode, || decode_many(&row))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let ledger = Ledger::start(Operation::Unknown);
        self.run("SELECT 1", &[], &ledger).await.map(drop)
    }

    async fn close(&self) {
        if let Source::Pool(pool) = &self.source {
            pool.close();
        }
    }

    fn kind(&self) -> &'static str {
        "postgres"
    }
}

/// The row as `to_jsonb` shows it.
#[derive(Debug, Deserialize)]
struct Payload {
    system_id: Uuid,
    org_id: Uuid,
    status: String,
    mode: String,
    version: u64,
    state_ref: Option<String>,
    epoch: u64,
    claimed_by: Option<Uuid>,
    state_bytes: Option<u64>,
    state_checksum: Option<String>,
    prev_ref: Option<String>,
    prev_version: Option<u64>,
    prev_bytes: Option<u64>,
    prev_checksum: Option<String>,
    updated_at: String,
}

impl Payload {
    fn decode(self) -> Result<SystemRow, StoreError> {
        let checksum = |text: Option<&str>| checksum_from(text).map_err(|()| not_of_this_schema());
        let previous = match self.prev_ref {
            None => None,
            Some(state_ref) => Some(PreviousState {
                state_ref,
                version: self.prev_version.ok_or_else(not_of_this_schema)?,
                bytes: self.prev_bytes,
                checksum: checksum(self.prev_checksum.as_deref())?,
            }),
        };
        Ok(SystemRow {
            system_id: self.system_id,
            org_id: self.org_id,
            status: self.status,
            mode: self.mode,
            version: self.version,
            state_ref: self.state_ref,
            epoch: self.epoch,
            claimed_by: self.claimed_by,
            state_bytes: self.state_bytes,
            state_checksum: checksum(self.state_checksum.as_deref())?,
            previous,
            updated_at: Some(self.updated_at),
        })
    }
}

fn not_of_this_schema() -> StoreError {
    StoreError::Corrupt { what: WHAT, problem: "a row of `systems` is not of this schema".to_owned() }
}

fn decode(row: &Row) -> Result<SystemRow, StoreError> {
    let Json(payload) = row.try_get::<_, Json<Payload>>("payload").map_err(|_| not_of_this_schema())?;
    payload.decode()
}

fn decode_many(row: &Row) -> Result<Vec<SystemRow>, StoreError> {
    let Json(payloads) = row.try_get::<_, Json<Vec<Payload>>>("payload").map_err(|_| not_of_this_schema())?;
    payloads.into_iter().map(Payload::decode).collect()
}

/// Opens connections, with or without TLS.
#[derive(Clone)]
enum Dialer {
    Plain { lifetime: Option<Duration> },
    Tls { connector: MakeRustlsConnect, lifetime: Option<Duration> },
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain { .. } => "Plain",
            Self::Tls { .. } => "Tls",
        })
    }
}

type Dialed<'a> = std::pin::Pin<
    Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>,
>;

impl Connect for Dialer {
    fn connect(&self, config: &Config) -> Dialed<'_> {
        let config = config.clone();
        Box::pin(async move {
            match self {
                Self::Plain { lifetime } => {
                    let (client, connection) = config.connect(NoTls).await?;
                    Ok((client, drive(connection, *lifetime)))
                }
                Self::Tls { connector, lifetime } => {
                    let (client, connection) = config.connect(connector.clone()).await?;
                    Ok((client, drive(connection, *lifetime)))
                }
            }
        })
    }
}

/// Moves a connection's bytes until its client is dropped, or for its lifetime: a one-query connection whose peer is
/// gone must not be waited for for ever.
fn drive<C>(connection: C, lifetime: Option<Duration>) -> JoinHandle<()>
where
    C: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
{
    tokio::spawn(async move {
        let ended = match lifetime {
            Some(lifetime) => timeout(lifetime, connection).await.unwrap_or(Ok(())),
            None => connection.await,
        };
        if let Err(error) = ended {
            tracing::debug!(reason = %describe(&error), "a database connection ended");
        }
    })
}

async fn dial(dialer: &Dialer, config: &Config, limit: Duration) -> Result<Client, StoreError> {
    let (client, _driver) = timeout(limit, dialer.connect(config))
        .await
        .map_err(|_| StoreError::Timeout { what: WHAT, after: limit })?
        .map_err(|e| failed(&e))?;
    Ok(client)
}

/// Reads the URL. `sslmode` is ours to judge: the driver knows fewer modes than the servers' own clients do.
fn configure(options: &TableOptions) -> Result<(Config, Dialer), StoreError> {
    let malformed = || {
        StoreError::Config(
            "the database URL is malformed: postgres://user:password@host:port/database?sslmode=require"
                .to_owned(),
        )
    };
    let mut url = Url::parse(&options.url).map_err(|_| malformed())?;
    let mut mode = "disable".to_owned();
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, value)| {
            if name == "sslmode" {
                mode = value.clone().into_owned();
            }
            name != "sslmode" && name != "sslrootcert"
        })
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    let mut config: Config = url.as_str().parse().map_err(|_| malformed())?;
    config.application_name("mipro").connect_timeout(options.connect_timeout);
    // A one-query connection lives for its start-up and its query, and a moment for the goodbye.
    let lifetime =
        (!options.pool).then(|| options.connect_timeout + options.query_timeout + Duration::from_secs(1));
    let dialer = match mode.as_str() {
        "disable" | "allow" | "prefer" => {
            config.ssl_mode(SslMode::Disable);
            Dialer::Plain { lifetime }
        }
        "require" | "verify" | "verify-ca" | "verify-full" => {
            config.ssl_mode(SslMode::Require);
            Dialer::Tls { connector: MakeRustlsConnect::new(tls::native_client_config()?), lifetime }
        }
        other => {
            return Err(StoreError::Config(format!(
                "sslmode `{other}` is not known: use disable, require or verify-full"
            )));
        }
    };
    Ok((config, dialer))
}

async fn migrate(client: &mut Client) -> Result<(), StoreError> {
    let run = async {
        let transaction = client.transaction().await?;
        transaction.batch_execute(MIGRATION_LOCK).await?;
        transaction.batch_execute(CREATE_LEDGER).await?;
        let found: i64 = transaction.query_one(READ_VERSION, &[]).await?.try_get(0)?;
        for migration in MIGRATIONS.iter().filter(|m| m.version > found) {
            transaction.batch_execute(migration.postgres).await?;
            let record = "INSERT INTO schema_migrations (version, name) VALUES ($1, $2)";
            transaction.execute(record, &[&migration.version, &migration.name]).await?;
        }
        transaction.commit().await?;
        Ok(found)
    };
    let found = run.await.map_err(|e: tokio_postgres::Error| failed(&e))?;
    if found > newest() {
        return Err(StoreError::SchemaNewer { found, known: newest() });
    }
    Ok(())
}

/// Says at a start where the server was looked for: host and port, never user or password.
fn at(error: StoreError, config: &Config) -> StoreError {
    let StoreError::Unavailable { what, reason } = error else { return error };
    let host = |host: &Host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    let hosts: Vec<String> = config.get_hosts().iter().map(host).collect();
    let ports: Vec<String> = config.get_ports().iter().map(u16::to_string).collect();
    let place = format!("{}:{}", hosts.join(","), ports.join(","));
    StoreError::Unavailable { what, reason: format!("{reason}; is it running at {place}?") }
}

fn failed(error: &tokio_postgres::Error) -> StoreError {
    StoreError::Unavailable { what: WHAT, reason: describe(error) }
}

/// The server's code and message, or the driver's words and their cause: never a parameter, never the URL.
fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
