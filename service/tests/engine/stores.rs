//! What every table and every object store promises, and what they say when they can't keep it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mipro_service::store::blobs::PutRule;
use mipro_service::store::{
    BlobOptions, Blobs, PreviousState, RowMark, S3Credentials, StoreError, SystemRow, SystemTable,
    TableOptions, WriteRule, open_table,
};
use mipro_telemetry::{Breakdown, Ledger, Operation, Phase, Stage};
use uuid::Uuid;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::Postgres;

fn ledger() -> Ledger {
    Ledger::start(Operation::Unknown)
}

/// Logs of two hosts.
const BY: Uuid = Uuid::from_u128(0xb1);
const BY_ANOTHER: Uuid = Uuid::from_u128(0xb2);

fn row(version: u64) -> SystemRow {
    SystemRow {
        system_id: Uuid::from_u128(1),
        org_id: Uuid::from_u128(2),
        status: "active".into(),
        mode: "online".into(),
        version,
        state_ref: Some(format!("systems/1/state-{version}.json")),
        epoch: 0,
        claimed_by: None,
        state_bytes: Some(1_000 + version),
        state_checksum: Some([u8::try_from(version).unwrap(); 32]),
        previous: None,
        updated_at: None,
    }
}

fn counts(breakdown: &Breakdown, stage: Stage) -> (u64, u64, u64) {
    let entry = breakdown.entries.iter().find(|entry| entry.stage == stage);
    entry.map_or((0, 0, 0), |entry| (entry.count, entry.bytes, entry.round_trips))
}

async fn table_conformance(table: &dyn SystemTable) {
    table.ping().await.unwrap();
    let id = Uuid::new_v4();
    let at = |version| SystemRow { system_id: id, claimed_by: Some(BY), ..row(version) };
    assert_eq!(table.get(id, &ledger()).await.unwrap(), None);
    assert!(table.upsert(&at(3), WriteRule::Advance, &ledger()).await.unwrap(), "nothing is in the way");
    let read = table.get(id, &ledger()).await.unwrap().unwrap();
    assert!(read.updated_at.as_deref().is_some_and(|at| at.starts_with("20")), "{read:?}");
    assert_eq!(SystemRow { updated_at: None, ..read }, at(3));
    assert!(!table.upsert(&at(3), WriteRule::Advance, &ledger()).await.unwrap(), "not to the same version");
    assert!(!table.upsert(&at(2), WriteRule::Advance, &ledger()).await.unwrap(), "and not back");
    assert!(table.upsert(&at(4), WriteRule::Advance, &ledger()).await.unwrap());
    epochs_and_previous(table, id).await;
    claims(table).await;
    let nameless = SystemRow { state_ref: None, state_bytes: None, state_checksum: None, epoch: 9, ..at(1) };
    assert!(
        table.upsert(&nameless, WriteRule::Overwrite, &ledger()).await.unwrap(),
        "the original took it back"
    );
    let read = table.get(id, &ledger()).await.unwrap().unwrap();
    assert_eq!(SystemRow { updated_at: None, ..read }, nameless, "and what was before is of another history");
    assert!(table.upsert(&at(2), WriteRule::Overwrite, &ledger()).await.unwrap());
    assert_eq!(table.get(id, &ledger()).await.unwrap().unwrap().epoch, 9, "an epoch never falls");
    many(table, id).await;
    table.close().await;
    table.close().await;
}

/// What the row is after versions 3 and 4 of epoch 0.
async fn epochs_and_previous(table: &dyn SystemTable, id: Uuid) {
    let at = |version, epoch| SystemRow { system_id: id, epoch, claimed_by: Some(BY), ..row(version) };
    let previous = |version| {
        let SystemRow { state_ref, state_bytes, state_checksum, .. } = row(version);
        PreviousState { state_ref: state_ref.unwrap(), version, bytes: state_bytes, checksum: state_checksum }
    };
    let advance = async |row: SystemRow| table.upsert(&row, WriteRule::Advance, &ledger()).await.unwrap();
    let now = async || SystemRow { updated_at: None, ..table.get(id, &ledger()).await.unwrap().unwrap() };
    assert_eq!(now().await, SystemRow { previous: Some(previous(3)), ..at(4, 0) }, "the one before is kept");
    assert!(advance(at(6, 8)).await, "a higher epoch");
    assert!(!advance(at(9, 7)).await, "a lower epoch is fenced, however new its version");
    assert!(!advance(at(6, 9)).await, "a higher epoch can't repeat a version");
    assert!(!advance(at(5, 9)).await, "nor go back");
    assert_eq!(
        now().await,
        SystemRow { previous: Some(previous(4)), ..at(6, 8) },
        "what is refused changes nothing"
    );
    assert!(advance(at(7, 8)).await, "the same epoch goes on");
    let foreign = SystemRow { previous: Some(previous(1)), ..at(8, 8) };
    assert!(advance(foreign).await);
    assert_eq!(
        now().await,
        SystemRow { previous: Some(previous(7)), ..at(8, 8) },
        "the database alone says what was before"
    );
}

/// A claim raises the epoch and says whose it is, where the row is as it was seen.
async fn claims(table: &dyn SystemTable) {
    let id = Uuid::new_v4();
    let at = |version, epoch| SystemRow { system_id: id, epoch, ..row(version) };
    let claim = async |epoch, version, new| {
        table.claim(id, RowMark { epoch, version }, new, BY, &ledger()).await.unwrap()
    };
    assert!(!claim(0, 0, 1).await, "there is no such row, and none is made");
    assert_eq!(table.get(id, &ledger()).await.unwrap(), None);
    assert!(table.upsert(&at(3, 1), WriteRule::Advance, &ledger()).await.unwrap());
    let before = table.get(id, &ledger()).await.unwrap().unwrap();
    for (epoch, version, new) in [(0, 3, 2), (1, 2, 2), (1, 4, 2), (1, 3, 1)] {
        assert!(!claim(epoch, version, new).await, "{epoch} {version} {new}");
    }
    assert!(claim(1, 3, 5).await);
    assert!(!claim(1, 3, 5).await, "once");
    let claimed = SystemRow { epoch: 5, claimed_by: Some(BY), ..before };
    assert_eq!(table.get(id, &ledger()).await.unwrap().unwrap(), claimed);
    assert!(!table.upsert(&at(9, 4), WriteRule::Advance, &ledger()).await.unwrap(), "overtaken");
    assert!(table.upsert(&at(9, 5), WriteRule::Advance, &ledger()).await.unwrap());

    // What the row named before stays with the host that knows what lies between.
    let row = async || table.get(id, &ledger()).await.unwrap().unwrap();
    assert!(claim(5, 9, 6).await);
    assert_eq!(
        (row().await.claimed_by, row().await.previous.map(|before| before.version)),
        (Some(BY), Some(3))
    );
    let another = RowMark { epoch: 6, version: 9 };
    assert!(table.claim(id, another, 7, BY_ANOTHER, &ledger()).await.unwrap());
    assert_eq!((row().await.claimed_by, row().await.previous), (Some(BY_ANOTHER), None));
    assert!(table.upsert(&at(10, 7), WriteRule::Advance, &ledger()).await.unwrap());
    assert_eq!(row().await.claimed_by, Some(BY_ANOTHER), "a save is no claim");
}

async fn many(table: &dyn SystemTable, id: Uuid) {
    let other = Uuid::new_v4();
    assert!(
        table.upsert(&SystemRow { system_id: other, ..row(5) }, WriteRule::Advance, &ledger()).await.unwrap()
    );
    let mut found = table.get_many(&[id, Uuid::new_v4(), other], &ledger()).await.unwrap();
    found.sort_by_key(|row| row.version);
    let found: Vec<_> = found.iter().map(|row| (row.system_id, row.version)).collect();
    assert_eq!(found, [(id, 2), (other, 5)], "those that are there");
    assert_eq!(table.get_many(&[], &ledger()).await.unwrap(), []);
}

#[tokio::test]
async fn the_sqlite_table_keeps_the_promises_and_its_file() {
    let home = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", home.path().join("made/on/demand/mipro.db").display());
    let options = TableOptions { url, ..TableOptions::default() };
    let table = open_table(&options).await.unwrap();
    assert!(table.upsert(&row(1), WriteRule::Overwrite, &ledger()).await.unwrap());
    table_conformance(&*table).await;
    assert!(matches!(table.ping().await, Err(StoreError::Unavailable { .. })), "closed is closed");
    let again = open_table(&options).await.unwrap();
    assert_eq!(
        again.get(row(1).system_id, &ledger()).await.unwrap().unwrap().version,
        1,
        "migrating twice is harmless"
    );
}

/// The schema as version 1 made it and a row as it wrote it, word for word.
const VERSION_1: &str = "CREATE TABLE schema_migrations (
        version bigint PRIMARY KEY, name text NOT NULL, applied_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP);
    INSERT INTO schema_migrations (version, name) VALUES (1, 'systems');
    CREATE TABLE systems (
        system_id TEXT PRIMARY KEY NOT NULL, org_id TEXT NOT NULL, status TEXT NOT NULL, mode TEXT NOT NULL,
        version INTEGER NOT NULL, state_ref TEXT,
        updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    ) WITHOUT ROWID;
    CREATE INDEX systems_org ON systems (org_id);
    INSERT INTO systems (system_id, org_id, status, mode, version, state_ref) VALUES
        ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002', 'active', 'online', 7,
         'systems/1/state-7.json');";

#[tokio::test]
async fn a_database_of_version_1_keeps_its_rows() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("mipro.db");
    rusqlite::Connection::open(&file).unwrap().execute_batch(VERSION_1).unwrap();
    let options = TableOptions { url: format!("sqlite:{}", file.display()), ..TableOptions::default() };
    let table = open_table(&options).await.unwrap();
    let old = SystemRow { state_bytes: None, state_checksum: None, ..row(7) };
    let read = table.get(old.system_id, &ledger()).await.unwrap().unwrap();
    assert_eq!(SystemRow { updated_at: None, ..read }, old);
    assert!(table.upsert(&SystemRow { epoch: 1, ..row(8) }, WriteRule::Advance, &ledger()).await.unwrap());
    let read = table.get(old.system_id, &ledger()).await.unwrap().unwrap();
    let kept = PreviousState { state_ref: old.state_ref.unwrap(), version: 7, bytes: None, checksum: None };
    assert_eq!(read.previous, Some(kept), "what the old build stored is what can be fallen back to");
}

#[tokio::test]
async fn a_database_of_a_newer_build_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("mipro.db");
    let options = TableOptions { url: format!("sqlite:{}", file.display()), ..TableOptions::default() };
    open_table(&options).await.unwrap().close().await;
    let newer = "INSERT INTO schema_migrations (version, name) VALUES (99, 'from the future')";
    rusqlite::Connection::open(&file).unwrap().execute(newer, []).unwrap();
    let refused = open_table(&options).await.unwrap_err();
    assert!(matches!(refused, StoreError::SchemaNewer { found: 99, .. }), "{refused}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_in_words() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("mipro.db");
    std::fs::write(&file, "a text, and long enough that it can't pass for an empty file ".repeat(20))
        .unwrap();
    let options = TableOptions { url: format!("sqlite:{}", file.display()), ..TableOptions::default() };
    let refused = open_table(&options).await.unwrap_err().to_string();
    assert!(refused.contains("not a database"), "{refused}");
}

#[tokio::test]
async fn the_postgres_table_keeps_the_promises_and_counts_its_round_trips() {
    let Some(postgres) = Postgres::start().await else { return };
    let both = [postgres.options(), postgres.options()];
    let (one, two) = tokio::join!(open_table(&both[0]), open_table(&both[1]));
    assert!(one.is_ok() && two.is_ok(), "two services may migrate at once");
    for pool in [true, false] {
        let table = open_table(&TableOptions { pool, ..postgres.options() }).await.unwrap();
        // (acquire, query) round trips: a start-up is one, a first or unprepared statement two, a prepared one is one.
        let expected = if pool { [(1, 2), (0, 1)] } else { [(1, 2), (1, 2)] };
        for (acquire, query) in expected {
            let ledger = ledger().in_phase(Phase::Load);
            table.get(Uuid::new_v4(), &ledger).await.unwrap();
            let closed = ledger.finish();
            let (statements, _, round_trips) = counts(&closed, Stage::DbQuery);
            assert_eq!(counts(&closed, Stage::DbAcquire).2, acquire, "pool: {pool}");
            assert_eq!((statements, round_trips), (1, query), "pool: {pool}");
        }
        table_conformance(&*table).await;
    }
    postgres.stop().await;
}

#[tokio::test]
async fn a_postgres_that_drops_or_holds_connections_is_survived() {
    let Some(postgres) = Postgres::start().await else { return };
    let options = TableOptions { query_timeout: Duration::from_millis(300), ..postgres.options() };
    let table = open_table(&options).await.unwrap();
    let (admin, connection) = tokio_postgres::connect(&options.url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let id = Uuid::new_v4();
    assert!(
        table.upsert(&SystemRow { system_id: id, ..row(1) }, WriteRule::Advance, &ledger()).await.unwrap()
    );

    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mipro'";
    assert_eq!(admin.query(kill, &[]).await.unwrap().len(), 1);
    assert_eq!(
        table.get(id, &ledger()).await.unwrap().unwrap().version,
        1,
        "a dead kept connection is replaced"
    );

    admin.batch_execute("BEGIN; LOCK TABLE systems IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let ledger_held = ledger();
    let held = table.get(id, &ledger_held).await.unwrap_err();
    assert!(matches!(held, StoreError::Timeout { .. }), "{held}");
    let closed = ledger_held.finish();
    let query = closed.entries.iter().find(|entry| entry.stage == Stage::DbQuery).unwrap();
    assert_eq!(query.cancelled, 1, "a timed-out query never passes for a fast one");
    admin.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(table.get(id, &ledger()).await.unwrap().unwrap().version, 1, "the late answer is nobody's");

    drop(admin);
    connection.await.unwrap().unwrap();
    postgres.stop().await;
    let gone = table.get(id, &ledger()).await.unwrap_err();
    assert!(matches!(gone, StoreError::Unavailable { .. } | StoreError::Timeout { .. }), "{gone}");
}

#[tokio::test]
async fn an_unreachable_postgres_is_named_without_its_password() {
    // A port that was free a moment ago; nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://mipro:hunter2@127.0.0.1:{port}/mipro");
    let options = TableOptions { url, connect_timeout: Duration::from_secs(2), ..TableOptions::default() };
    let error = open_table(&options).await.unwrap_err();
    let text = format!("{error} {error:?} {options:?}");
    assert!(text.contains("onnection refused") && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_server_that_never_answers_costs_the_timeout_and_no_more() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://mipro@127.0.0.1:{}/mipro", silent.local_addr().unwrap().port());
    let options =
        TableOptions { url, connect_timeout: Duration::from_millis(100), ..TableOptions::default() };
    let error = open_table(&options).await.unwrap_err();
    assert!(matches!(error, StoreError::Timeout { .. } | StoreError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn malformed_options_are_refused_in_words() {
    for (url, says) in [
        ("mysql://x", "postgres:// or sqlite:"),
        ("nonsense", "postgres:// or sqlite:"),
        ("postgres://host:port/", "malformed"),
        ("postgres://h/d?sslmode=maybe", "sslmode `maybe`"),
    ] {
        let error =
            open_table(&TableOptions { url: url.into(), ..TableOptions::default() }).await.unwrap_err();
        assert!(error.to_string().contains(says), "{url}: {error}");
    }
    for (url, says) in [
        ("ftp://x", "memory:, file:"),
        ("file://relative/path", "absolute directory"),
        ("s3://bucket", "AWS_ACCESS_KEY_ID"),
        ("s3:///prefix", "names no bucket"),
    ] {
        let error = Blobs::open(&BlobOptions { url: url.into(), ..BlobOptions::default() }).unwrap_err();
        assert!(error.to_string().contains(says), "{url}: {error}");
    }
}

async fn blob_conformance(blobs: &Blobs) {
    blobs.ping().await.unwrap();
    let key = "systems/x/state-1.json";
    let put =
        |bytes: &'static [u8], rule| blobs.put(key, Bytes::from_static(bytes), rule, Stage::S3Put, &LEDGER);
    assert!(matches!(blobs.get(key, &ledger()).await, Err(StoreError::NotFound)));
    put(b"one", PutRule::Create).await.unwrap();
    assert!(matches!(put(b"two", PutRule::Create).await, Err(StoreError::AlreadyExists)));
    assert_eq!(blobs.get(key, &ledger()).await.unwrap(), "one");
    put(b"three", PutRule::Overwrite).await.unwrap();
    let timed = ledger();
    assert_eq!(blobs.get(key, &timed).await.unwrap(), "three");
    assert_eq!(counts(&timed.finish(), Stage::S3Get), (1, 5, 0));
    assert_eq!(blobs.size(key).await.unwrap(), 5);
    let other = "systems/x/deep/er.idx";
    blobs.put(other, Bytes::new(), PutRule::Create, Stage::S3Put, &LEDGER).await.unwrap();
    blobs.put("systems/y/1", Bytes::new(), PutRule::Create, Stage::S3Put, &LEDGER).await.unwrap();
    assert_eq!(blobs.list("systems/x", 2).await.unwrap(), [other, key], "as they are asked for, sorted");
    assert!(blobs.list("systems/x", 1).await.is_err(), "half a listing passes for no whole one");
    assert_eq!(blobs.list("nothing/there", 1).await.unwrap(), Vec::<String>::new());
    for _ in 0..2 {
        blobs.delete(other).await.unwrap();
    }
    assert!(matches!(blobs.size(other).await, Err(StoreError::NotFound)));
    blobs.delete("systems/y/1").await.unwrap();
}

static LEDGER: std::sync::LazyLock<Ledger> = std::sync::LazyLock::new(ledger);

#[tokio::test]
async fn objects_in_memory_and_in_a_directory_keep_the_promises() {
    blob_conformance(&Blobs::open(&BlobOptions::default()).unwrap()).await;
    let home = tempfile::tempdir().unwrap();
    let url = format!("file://{}", home.path().join("made/on/demand").display());
    let options = BlobOptions { url, ..BlobOptions::default() };
    blob_conformance(&Blobs::open(&options).unwrap()).await;
    let again = Blobs::open(&options).unwrap();
    assert_eq!(again.get("systems/x/state-1.json", &ledger()).await.unwrap(), "three");
}

fn s3(server: &MockServer, keep_alive: bool) -> Blobs {
    let credentials = S3Credentials {
        access_key_id: "id".into(),
        secret_access_key: "hunter2".into(),
        session_token: None,
    };
    let url = format!("s3://bucket/a/prefix?endpoint={}&region=here", server.uri());
    let timeout = Duration::from_secs(10);
    Blobs::open(&BlobOptions { url, keep_alive, timeout, credentials: Some(credentials) }).unwrap()
}

#[tokio::test]
async fn s3_connections_are_kept_or_not_and_requests_are_counted() {
    for keep_alive in [true, false] {
        let server = MockServer::start().await;
        let body = ResponseTemplate::new(200)
            .insert_header("etag", "\"1\"")
            .insert_header("last-modified", "Tue, 15 Nov 1994 12:45:26 GMT")
            .set_body_bytes("state");
        Mock::given(method("GET"))
            .and(path("/bucket/a/prefix/systems/x"))
            .respond_with(body)
            .mount(&server)
            .await;
        let stored = ResponseTemplate::new(200).insert_header("etag", "\"2\"");
        Mock::given(method("PUT"))
            .and(path("/bucket/a/prefix/systems/x"))
            .respond_with(stored)
            .mount(&server)
            .await;
        let blobs = s3(&server, keep_alive);
        let ledger = ledger();
        for _ in 0..3 {
            assert_eq!(blobs.get("systems/x", &ledger).await.unwrap(), "state");
            blobs
                .put("systems/x", Bytes::from_static(b"new"), PutRule::Overwrite, Stage::S3Put, &ledger)
                .await
                .unwrap();
        }
        let closed = ledger.finish();
        assert_eq!(counts(&closed, Stage::S3Get), (3, 15, 3));
        assert_eq!(counts(&closed, Stage::S3Put), (3, 9, 3));
        let wire = blobs.wire().unwrap();
        assert_eq!((wire.requests, wire.connects), (6, if keep_alive { 1 } else { 6 }), "{wire:?}");
        assert!(wire.first_byte_ns >= wire.connect_ns && wire.connect_ns > 0 && wire.body_ns > 0, "{wire:?}");
        let requests = server.received_requests().await.unwrap();
        assert!(requests.iter().all(|r| r.headers.contains_key("authorization")), "every request is signed");
    }
}

#[tokio::test]
async fn s3_faults_are_retried_a_little_counted_and_told_without_the_key() {
    let server = MockServer::start().await;
    let calls = AtomicUsize::new(0);
    let flaky = move |_: &wiremock::Request| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => ResponseTemplate::new(503),
        _ => ResponseTemplate::new(200).insert_header("etag", "\"2\""),
    };
    Mock::given(method("PUT")).respond_with(flaky).mount(&server).await;
    let blobs = s3(&server, true);
    let ledger = ledger();
    let secret = "systems/5e3c0a52-secret/state-1.json";
    blobs.put(secret, Bytes::from_static(b"new"), PutRule::Overwrite, Stage::S3Put, &ledger).await.unwrap();
    assert_eq!(counts(&ledger.finish(), Stage::S3Put), (2, 3, 2), "two attempts, one payload");

    server.reset().await;
    Mock::given(method("GET")).respond_with(ResponseTemplate::new(500)).mount(&server).await;
    let error = blobs.get(secret, &ledger).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("status 500") && !text.contains("secret") && !text.contains("bucket"), "{text}");
    assert_eq!(server.received_requests().await.unwrap().len(), 3, "it gives up soon");

    server.reset().await;
    Mock::given(method("PUT")).respond_with(ResponseTemplate::new(412)).mount(&server).await;
    let taken = blobs.put(secret, Bytes::from_static(b"new"), PutRule::Create, Stage::S3Put, &ledger).await;
    assert!(matches!(taken, Err(StoreError::AlreadyExists)), "{taken:?}");
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests[0].headers["if-none-match"], "*");

    server.reset().await;
    Mock::given(method("HEAD")).respond_with(ResponseTemplate::new(403)).mount(&server).await;
    let refused = blobs.ping().await.unwrap_err().to_string();
    assert!(refused.contains("refuses these credentials"), "{refused}");
    drop(server);
}

#[tokio::test]
async fn a_dead_or_silent_s3_is_told_soon() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let credentials = S3Credentials {
        access_key_id: "id".into(),
        secret_access_key: "hunter2".into(),
        session_token: None,
    };
    for (port, timeout) in [(port, 10_000), (silent.local_addr().unwrap().port(), 100)] {
        let blobs = Blobs::open(&BlobOptions {
            url: format!("s3://bucket?endpoint=http://127.0.0.1:{port}"),
            keep_alive: true,
            timeout: Duration::from_millis(timeout),
            credentials: Some(credentials.clone()),
        })
        .unwrap();
        let ledger = ledger();
        let error = blobs.get("systems/secret", &ledger).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("secret") && !text.contains("127.0.0.1"), "{text}");
        let told = matches!(error, StoreError::Unavailable { .. } | StoreError::Timeout { .. });
        assert!(told, "{text}");
        let entry = ledger.finish().entries.into_iter().find(|entry| entry.stage == Stage::S3Get).unwrap();
        assert_eq!(entry.cancelled, 1, "a failure never passes for a fast success");
    }
}
