//! A cluster lives as long as its keeper, and leaves no process and no directory behind.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests may unwrap")]

#[path = "support/skip.rs"]
mod skip;
mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use mipro_testbed::postgres::{self, Options, Ready, StatementKind};
use mipro_testbed::process::{Child, Fleet, Spec, shutdown_on_request};
use rustix::process::{Pid, Signal, kill_process};
use skip::has_postgres;
use support::{PATIENCE, gone, role_args, role_program};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;

async fn keep(shutdown: CancellationToken) -> (Ready, JoinHandle<Result<(), postgres::Error>>) {
    let (tell, told) = oneshot::channel();
    let keeper = tokio::spawn(postgres::run(Options::default(), |ready| drop(tell.send(ready)), shutdown));
    let ready = tokio::time::timeout(PATIENCE, told).await.unwrap();
    match ready {
        Ok(ready) => (ready, keeper),
        Err(_) => panic!("the keeper ended: {:?}", keeper.await),
    }
}

fn server_pid(dir: &Path) -> i32 {
    let text = std::fs::read_to_string(dir.join("data/postmaster.pid")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

async fn one(url: &str, query: &str) -> String {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let row = client.query_one(query, &[]).await.unwrap();
    driver.abort();
    row.get(0)
}

#[tokio::test]
async fn a_stopped_keeper_leaves_nothing() {
    if !has_postgres() {
        return;
    }
    let shutdown = CancellationToken::new();
    let (ready, keeper) = keep(shutdown.clone()).await;
    let pid = server_pid(&ready.dir);
    assert!(ready.url.ends_with("/mipro"), "{}", ready.url);
    assert_eq!(one(&ready.url, "SHOW server_version").await, ready.version);
    assert_eq!(one(&ready.url, "SHOW fsync").await, "on");
    assert_eq!(one(&ready.url, "SHOW server_encoding").await, "UTF8");
    assert_eq!(postgres::version(&ready.url).await.unwrap(), ready.version);

    // A client that stays connected must not hold up the stop.
    let (_client, connection) = tokio_postgres::connect(&ready.url, NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    shutdown.cancel();
    keeper.await.unwrap().unwrap();
    gone(pid).await;
    assert!(!ready.dir.exists());
    driver.abort();
}

#[tokio::test]
async fn a_dropped_keeper_leaves_nothing() {
    if !has_postgres() {
        return;
    }
    let (ready, keeper) = keep(CancellationToken::new()).await;
    let pid = server_pid(&ready.dir);
    keeper.abort();
    assert!(keeper.await.unwrap_err().is_cancelled());
    gone(pid).await;
    assert!(!ready.dir.exists());
}

#[tokio::test]
async fn a_shutdown_during_the_start_leaves_nothing() {
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let ran = postgres::run(Options::default(), |ready| panic!("it was ready: {ready:?}"), shutdown).await;
    ran.unwrap();
}

#[tokio::test]
async fn a_server_that_dies_is_told_and_cleared_away() {
    if !has_postgres() {
        return;
    }
    let (ready, keeper) = keep(CancellationToken::new()).await;
    let pid = Pid::from_raw(server_pid(&ready.dir)).unwrap();
    kill_process(pid, Signal::QUIT).unwrap();
    let error = keeper.await.unwrap().unwrap_err();
    assert!(error.to_string().starts_with("the Postgres server ended by itself"), "{error}");
    assert!(!ready.dir.exists());
}

#[tokio::test]
async fn the_server_counts_statements_by_kind() {
    if !has_postgres() {
        return;
    }
    let shutdown = CancellationToken::new();
    let (ready, keeper) = keep(shutdown.clone()).await;
    if !ready.has_statements {
        skip::say("no pg_stat_statements (it is not installed)");
        shutdown.cancel();
        keeper.await.unwrap().unwrap();
        return;
    }
    let url = postgres::create_database(&ready.url, "rung_blob").await.unwrap();
    assert!(url.ends_with("/rung_blob"), "{url}");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, a int)").await.unwrap();
    postgres::reset_statements(&url).await.unwrap();
    for id in 0..3 {
        let upsert = "INSERT INTO t VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET a = 2";
        client.execute(upsert, &[&id]).await.unwrap();
        client.query("SELECT a FROM t WHERE id = $1", &[&id]).await.unwrap();
    }
    client.query("SELECT count(*) FROM t", &[]).await.unwrap();
    let stats = postgres::server_statements(&url).await.unwrap();
    let calls: Vec<_> = stats.iter().map(|stats| (stats.kind, stats.calls, stats.rows)).collect();
    assert_eq!(calls, [(StatementKind::Select, 4, 4), (StatementKind::Upsert, 3, 3)], "{stats:?}");
    assert!(stats.iter().all(|stats| stats.exec_ms_mean() > 0.0), "{stats:?}");
    assert!(postgres::create_database(&ready.url, "rung_blob").await.is_err(), "it is there already");
    assert!(postgres::create_database(&ready.url, "x\"; DROP").await.is_err());
    driver.abort();
    shutdown.cancel();
    keeper.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let options = Options { pg_bin: Some("/no/such/dir".into()), ..Options::default() };
    let error = postgres::run(options, |_| {}, CancellationToken::new()).await.unwrap_err();
    insta::assert_snapshot!(error, @"/no/such/dir (from --pg-bin) has no program initdb; name the directory that has both initdb and postgres");
}

/// Not a test but a role: a keeper in a process of its own.
#[tokio::test]
async fn role_keeper() {
    if role_args().is_none() {
        return;
    }
    let shutdown = shutdown_on_request(true).unwrap();
    let ready = |ready: Ready| {
        drop(writeln!(std::io::stderr(), "dir {}", ready.dir.display()));
        println!("\nlistening on {}", ready.url);
    };
    postgres::run(Options::default(), ready, shutdown).await.unwrap();
}

async fn keeper_process(dir: &Path) -> (Fleet, Child, PathBuf) {
    let fleet = Fleet::new(dir);
    let keeper = fleet.start(Spec::role("postgres", &role_program(dir, "role_keeper"))).await.unwrap();
    let tail = keeper.output_tail();
    let home = tail.lines().find_map(|line| line.strip_prefix("dir ")).unwrap().into();
    (fleet, keeper, home)
}

#[tokio::test]
async fn a_keeper_whose_parent_is_gone_leaves_nothing() {
    if !has_postgres() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (_fleet, keeper, home) = keeper_process(dir.path()).await;
    let pid = server_pid(&home);
    assert!(keeper.usage_tree().unwrap().processes > 3, "the server is the keeper's child");
    // What the kernel does to the pipe when the parent is killed.
    keeper.close_stdin();
    assert!(keeper.wait().await.status.success(), "{}", keeper.output_tail());
    gone(pid).await;
    assert!(!home.exists());
}

#[tokio::test]
async fn a_killed_keeper_takes_its_server_along_and_the_next_one_sweeps() {
    if !has_postgres() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (_fleet, keeper, home) = keeper_process(dir.path()).await;
    let pid = server_pid(&home);
    keeper.kill_now();
    keeper.wait().await;
    // With setpriv the kernel ends the server; without, the next keeper does.
    let (_fleet, next, next_home) = keeper_process(dir.path()).await;
    gone(pid).await;
    assert!(!home.exists());
    assert!(next_home.exists());
    next.terminate(PATIENCE).await;
    assert!(!next_home.exists());
}
