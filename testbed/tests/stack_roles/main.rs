//! Stacks start their parts as processes, say where they are, and leave nothing behind.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests may unwrap")]

mod containers;
#[path = "../support/objects.rs"]
mod objects;
#[path = "../support/skip.rs"]
mod skip;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use mipro_testbed::containers::run_warden;
use mipro_testbed::link::{self, LinkSpec, Protocol};
use mipro_testbed::postgres;
use mipro_testbed::process::{Drained, Fleet, shutdown_on_request};
use mipro_testbed::s3;
use mipro_testbed::stack::{Plan, Request, S3_SECRET_ENV, Stack, StackKind, resolve};
use skip::has_postgres;
use support::{PATIENCE, gone, role_args, role_program};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::NoTls;

/// Not a test but the roles of the binary, as its command line would start them.
#[tokio::test]
async fn role_mipro() {
    let Some(args) = role_args() else { return };
    let flag = |name: &str| args.iter().position(|arg| arg == name).map(|at| args[at + 1].clone());
    let address = |name: &str| -> SocketAddr { flag(name).unwrap().parse().unwrap() };
    let number = |name: &str| flag(name).map(|value| value.parse::<u64>().unwrap());
    assert_eq!((args[0].as_str(), args.iter().any(|arg| arg == "--die-with-stdin")), ("testbed", true));
    let shutdown = shutdown_on_request(true).unwrap();
    match args[1].as_str() {
        "postgres" => {
            let ready = |ready: postgres::Ready| println!("\nlistening on {}", ready.url);
            postgres::run(postgres::Options::default(), ready, shutdown).await.unwrap();
        }
        "s3" => {
            let options = s3::Options {
                listen: address("--listen"),
                admin_listen: Some(address("--admin-listen")),
                bucket: flag("--bucket").unwrap(),
                backend: s3::Backend::Dir(flag("--dir").unwrap().into()),
                secret_key: std::env::var(S3_SECRET_ENV).unwrap(),
                seed: number("--seed").unwrap(),
                ..s3::Options::default()
            };
            let ready = |ready: s3::Ready| {
                println!("\nlistening on http://{} admin http://{}", ready.addr, ready.admin_addr.unwrap());
            };
            s3::run(options, ready, shutdown).await.unwrap();
        }
        "warden" => {
            let run = flag("--run").unwrap().parse().unwrap();
            let ready = || println!("\nlistening on containers://localhost:0");
            run_warden(run, ready, shutdown).await.unwrap();
        }
        "link" => {
            let protocol = match flag("--protocol").unwrap().as_str() {
                "postgres" => Protocol::Postgres,
                "http" => Protocol::Http,
                _ => Protocol::Raw,
            };
            let options = link::Options {
                listen: address("--listen"),
                admin_listen: Some(address("--admin-listen")),
                profile: link::Profile {
                    rtt_us: number("--rtt-us").unwrap(),
                    jitter_us: number("--jitter-us").unwrap(),
                    up_bits_per_second: number("--up-bps"),
                    down_bits_per_second: number("--down-bps"),
                },
                seed: number("--seed").unwrap(),
                ..link::Options::new(address("--upstream"), protocol)
            };
            let ready = |ready: link::Ready| {
                println!("\nlistening on tcp://{} admin http://{}", ready.addr, ready.admin_addr.unwrap());
            };
            link::run(options, ready, shutdown).await.unwrap();
        }
        other => panic!("unknown role {other}"),
    }
}

struct Run {
    dir: tempfile::TempDir,
    fleet: Fleet,
    exe: PathBuf,
}

impl Run {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let exe = role_program(dir.path(), "role_mipro");
        Self { fleet: Fleet::new(dir.path()), exe, dir }
    }

    async fn start(&self, plan: Plan, link: &LinkSpec) -> Stack {
        Stack::start(plan, &self.exe, self.dir.path(), link, 7, &self.fleet).await.unwrap()
    }

    async fn end(self) {
        let drained = self.fleet.drain(PATIENCE).await;
        assert!(drained.iter().all(Drained::is_clean), "{drained:?}");
    }
}

async fn select(url: &str, times: usize) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    for _ in 0..times {
        let row = client.query_one("SELECT 40 + $1::int", &[&2]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 42);
    }
    driver.abort();
}

/// An unsigned request: the server refuses it, and the wire carries it.
async fn refused_get(blobs_url: &str) {
    let address = blobs_url.split_once("endpoint=http://").unwrap().1;
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /mipro/key HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test]
async fn a_native_stack_counts_both_wires_and_changes_its_links() {
    if !has_postgres() {
        return;
    }
    let run = Run::new();
    let plan = resolve(&Request { kind: StackKind::Native, ..Request::default() }).unwrap();
    let stack = run.start(plan, &"db=2ms,s3=3ms".parse().unwrap()).await;
    assert_eq!(stack.kind(), StackKind::Native);
    assert!(stack.database_version().starts_with("PostgreSQL "), "{}", stack.database_version());
    assert_ne!(stack.database_url(), stack.database_direct_url());
    let names: Vec<&str> = stack.children().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["postgres", "s3", "link-db", "link-s3"]);

    let before = stack.wire_counts().await.unwrap();
    stack.reset_statements().await.unwrap();
    assert!(stack.server_execution_us().await.unwrap().is_empty(), "nothing was executed since the reset");
    select(stack.database_url(), 3).await;
    // Questions by the direct way are no traffic.
    select(stack.database_direct_url(), 2).await;
    refused_get(stack.blobs_url()).await;
    let counts = stack.wire_counts().await.unwrap().since(&before);
    assert_eq!((counts.db_connections, counts.db_statements), (1, 3), "{counts:?}");
    assert!(counts.db_round_trips >= 3 && counts.db_bytes > 0, "{counts:?}");
    assert_eq!((counts.s3_get, counts.s3_put, counts.s3_connections), (1, 0, 1), "{counts:?}");
    let executed = stack.server_execution_us().await.unwrap();
    let kinds: Vec<&str> = executed.keys().map(String::as_str).collect();
    if kinds.is_empty() {
        skip::say("no pg_stat_statements (it is not installed)");
    } else {
        assert_eq!(kinds, ["select"], "{executed:?}");
        assert!(executed["select"] > 0.0, "{executed:?}");
    }

    let status = stack.database_link().unwrap().status().await.unwrap();
    assert_eq!(status.profile.rtt_us, 2_000);
    let same_region: LinkSpec = "same-region".parse().unwrap();
    stack.set_link(&same_region).await.unwrap();
    assert_eq!(stack.link(), same_region);
    let status = stack.blobs_link().unwrap().status().await.unwrap();
    assert_eq!(status.profile, same_region.s3);
    run.end().await;
}

#[tokio::test]
async fn an_embedded_stack_has_no_wire_to_the_database() {
    let run = Run::new();
    let stack = run.start(Plan::Embedded, &"cross-region".parse().unwrap()).await;
    assert_eq!(stack.database_url(), format!("sqlite:{}/mipro.db", run.dir.path().display()));
    assert!(stack.database_link().is_none());
    assert_eq!(stack.blobs_link().unwrap().status().await.unwrap().profile, LinkSpec::cross_region().s3);
    stack.set_link(&LinkSpec::loopback()).await.unwrap();
    stack.reset_statements().await.unwrap();
    assert!(stack.server_execution_us().await.unwrap().is_empty());
    refused_get(stack.blobs_url()).await;
    let counts = stack.wire_counts().await.unwrap();
    assert_eq!((counts.db_round_trips, counts.s3_get), (0, 1), "{counts:?}");
    run.end().await;
}

#[tokio::test]
async fn the_s3_secret_is_on_no_command_line_and_in_no_debug_text() {
    let run = Run::new();
    let stack = run.start(Plan::Embedded, &LinkSpec::loopback()).await;
    let env = stack.service_env();
    let secret = &env.iter().find(|(name, _)| name == "AWS_SECRET_ACCESS_KEY").unwrap().1;
    assert!(secret.len() >= 32);
    for (name, child) in stack.children() {
        let line = std::fs::read(format!("/proc/{}/cmdline", child.pid())).unwrap();
        assert!(!String::from_utf8_lossy(&line).contains(secret.as_str()), "{name}");
        assert!(!child.output_tail().contains(secret.as_str()), "{name}");
    }
    assert!(!format!("{stack:?}").contains(secret.as_str()));
    run.end().await;
}

#[tokio::test]
async fn an_external_database_on_this_machine_gets_a_link() {
    if !has_postgres() {
        return;
    }
    let run = Run::new();
    let plan = Plan::Native { fetch_postgres: false };
    let native = run.start(plan, &LinkSpec::loopback()).await;
    let database_url = native.database_direct_url().to_owned();
    let external = Some((database_url.clone(), "memory:".to_owned()));
    let plan = resolve(&Request { kind: StackKind::External, external, ..Request::default() }).unwrap();
    let stack = run.start(plan, &LinkSpec::loopback()).await;
    assert!(stack.database_version().starts_with("external PostgreSQL 1"), "{}", stack.database_version());
    assert_eq!(stack.object_store_version(), "external memory, no emulated link");
    assert_eq!((stack.database_direct_url(), stack.blobs_url()), (database_url.as_str(), "memory:"));
    assert!(stack.service_env().is_empty() && stack.blobs_link().is_none());
    select(stack.database_url(), 1).await;
    assert_eq!(stack.wire_counts().await.unwrap().db_statements, 1);
    run.end().await;
}

#[tokio::test]
async fn bad_external_urls_are_named_without_their_passwords() {
    let run = Run::new();
    for (database, blobs, expected) in [
        ("mysql://u:hush@h/d", "memory:", "cannot use the database URL: expected postgres://… or sqlite:…"),
        ("hush", "memory:", "cannot use the database URL: it is no URL"),
        (
            "sqlite:x.db",
            "ftp://h/p",
            "cannot use the blobs URL: expected s3://bucket/prefix?endpoint=…, file:///… or memory:",
        ),
    ] {
        let plan = Plan::External { database_url: database.to_owned(), blobs_url: blobs.to_owned() };
        let started =
            Stack::start(plan, &run.exe, run.dir.path(), &LinkSpec::loopback(), 1, &run.fleet).await;
        assert_eq!(started.unwrap_err().to_string(), expected);
    }
}

#[tokio::test]
async fn a_part_that_fails_says_why_and_the_others_go() {
    let run = Run::new();
    // An s3 role that is fine, and a link that is not.
    let exe = run.dir.path().join("broken.sh");
    let text = format!(
        "#!/bin/sh\ncase \"$2\" in link) echo error: no such protocol >&2; exit 2;; esac\nexec {} \"$@\"\n",
        run.exe.display()
    );
    std::fs::write(&exe, text).unwrap();
    make_executable(&exe);
    let started =
        Stack::start(Plan::Embedded, &exe, run.dir.path(), &LinkSpec::loopback(), 1, &run.fleet).await;
    insta::assert_snapshot!(started.unwrap_err(), @r"
    link-s3 ended before it was ready (exit status: 2); its last lines:
    error: no such protocol
    ");
    let s3 = run.fleet.children().pop().unwrap();
    assert_eq!(s3.name(), "s3");
    let pid = s3.pid();
    drop(run);
    gone(pid).await;
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
