//! Servers in containers: they serve, they suffer what is done to them, and they are gone when their run is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use mipro_testbed::containers::{Containers, Error, Overrides, ServerOverrides, Settings, available};
use mipro_testbed::link::LinkSpec;
use mipro_testbed::process::{Child, Spec};
use mipro_testbed::stack::{self, BUCKET, Plan, Stack};
use object_store::aws::AmazonS3;
use object_store::path::Path as Key;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload};
use rustix::process::{Pid, Signal, kill_process};
use testcontainers::bollard::Docker;
use testcontainers::bollard::query_parameters::{InspectContainerOptions, WaitContainerOptionsBuilder};
use testcontainers::core::client::docker_client_instance;
use tokio::sync::Barrier;
use tokio_postgres::NoTls;

use super::support::{PATIENCE, role_args, role_program};
use super::{Run, objects, select, skip};

/// How long nothing must happen before we take a server for frozen.
const FROZEN: Duration = Duration::from_millis(500);

/// The images of `scripts/build-images`, unless the environment names others; `None` says what is missing.
async fn images() -> Option<Settings> {
    let image = |variable: &str, built: &str| {
        let image = std::env::var(variable).unwrap_or_else(|_| built.to_owned());
        ServerOverrides { image: Some(image), ..ServerOverrides::default() }
    };
    let settings = Settings::new(&Overrides {
        postgres: image("MIPRO_POSTGRES_IMAGE", "local/mipro-postgres:15"),
        s3: image("MIPRO_S3_IMAGE", "local/mipro-s3:dev"),
        ..Overrides::default()
    });
    let settings = settings.unwrap();
    match available(&settings).await {
        Ok(()) => return Some(settings),
        Err(error @ Error::NoEngine { .. }) => skip::say(&error.to_string()),
        Err(error @ Error::NoImage { .. }) => skip::say(&format!("no images ({error})")),
        Err(error) => panic!("{error}"),
    }
    None
}

async fn docker() -> Docker {
    docker_client_instance().await.unwrap()
}

async fn exists(id: &str) -> bool {
    docker().await.inspect_container(id, None::<InspectContainerOptions>).await.is_ok()
}

/// Waits until the engine has removed a container.
async fn removed(id: &str) {
    let docker = docker().await;
    let options = WaitContainerOptionsBuilder::new().condition("removed").build();
    let mut end = std::pin::pin!(docker.wait_container(id, Some(options)));
    // Its exit code comes as an error if it is not 0; a container that is gone already is one, too.
    let ended = tokio::time::timeout(PATIENCE, end.next()).await;
    assert!(ended.is_ok(), "the container is still there");
    assert!(!exists(id).await);
}

fn ids(containers: &Containers) -> [String; 2] {
    [containers.postgres(), containers.s3()].map(|server| server.container_id().to_owned())
}

fn endpoint(stack: &Stack) -> SocketAddr {
    stack.blobs_url().split_once("endpoint=http://").unwrap().1.parse().unwrap()
}

fn s3_client(stack: &Stack) -> AmazonS3 {
    let env = stack.service_env();
    objects::client(endpoint(stack), BUCKET, &env[0].1, &env[1].1)
}

/// Writes with `If-None-Match: *`; whether this writer was the one.
async fn create(client: &AmazonS3, key: &Key, bytes: &'static str) -> bool {
    let put = client.put_opts(key, PutPayload::from_static(bytes.as_bytes()), PutMode::Create.into()).await;
    match put {
        Ok(_) => true,
        Err(object_store::Error::AlreadyExists { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_serve_behind_links_and_are_removed_with_their_run() {
    let Some(settings) = images().await else { return };
    let run = Run::new();
    let plan = Plan::Containers(Box::new(settings.clone()));
    let stack = run.start(plan, &"db=2ms,s3=3ms".parse().unwrap()).await;
    let names: Vec<&str> = stack.children().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["link-db", "link-s3"]);
    assert!(stack.database_version().starts_with("PostgreSQL 1"), "{}", stack.database_version());
    assert!(stack.database_version().contains(settings.postgres_image()), "{}", stack.database_version());
    assert!(stack.object_store_version().contains(settings.s3_image()), "{}", stack.object_store_version());

    let before = stack.wire_counts().await.unwrap();
    select(stack.database_url(), 3).await;
    let client = s3_client(&stack);
    let key = Key::from("bench/object");
    client.put(&key, PutPayload::from_static(b"bytes")).await.unwrap();
    assert_eq!(client.get(&key).await.unwrap().bytes().await.unwrap(), "bytes");
    let counts = stack.wire_counts().await.unwrap().since(&before);
    assert_eq!((counts.db_statements, counts.s3_get, counts.s3_put), (3, 1, 1), "{counts:?}");

    one_writer_wins(&client).await;
    shows_no_secret_and_is_on_loopback_only(&stack);

    let containers = ids(stack.containers().unwrap());
    assert!(exists(&containers[0]).await && exists(&containers[1]).await);
    drop(stack);
    run.end().await;
    assert!(!exists(&containers[0]).await && !exists(&containers[1]).await);
}

async fn one_writer_wins(client: &AmazonS3) {
    for round in 0..20 {
        let start = Arc::new(Barrier::new(8));
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let (client, start) = (client.clone(), Arc::clone(&start));
                tokio::spawn(async move {
                    start.wait().await;
                    create(&client, &Key::from(format!("bench/race-{round}")), "mine").await
                })
            })
            .collect();
        let mut winners = 0;
        for writer in writers {
            winners += usize::from(writer.await.unwrap());
        }
        assert_eq!(winners, 1, "round {round}");
    }
}

fn shows_no_secret_and_is_on_loopback_only(stack: &Stack) {
    let database = url::Url::parse(stack.database_url()).unwrap();
    let env = stack.service_env();
    for secret in [database.password().unwrap(), &env[1].1] {
        assert!(secret.len() >= 32);
        assert!(!format!("{stack:?}").contains(secret));
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&line).contains(secret), "{process:?}");
        }
    }
    let containers = stack.containers().unwrap();
    for port in [containers.postgres().addr().port(), containers.s3().addr().port()] {
        // State 0A is LISTEN; an address is `IIIIIIII:PPPP` with the IP in host byte order.
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap()
            + &std::fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
        let listening: Vec<&str> = sockets
            .lines()
            .filter_map(|line| {
                let mut words = line.split_ascii_whitespace();
                let (local, state) = (words.nth(1)?, words.nth(1)?);
                (state == "0A" && local.ends_with(&format!(":{port:04X}"))).then_some(local)
            })
            .collect();
        assert_eq!(listening, [format!("0100007F:{port:04X}")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_freeze_cut_and_restart_servers_and_data_stays() {
    let Some(settings) = images().await else { return };
    let run = Run::new();
    let stack = run.start(Plan::Containers(Box::new(settings)), &LinkSpec::loopback()).await;
    let containers = stack.containers().unwrap();
    let (client, connection) = tokio_postgres::connect(stack.database_url(), NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    client.batch_execute("CREATE TABLE kept (n int)").await.unwrap();

    containers.postgres().pause().await.unwrap();
    let mut insert = Box::pin(client.batch_execute("INSERT INTO kept VALUES (1)"));
    assert!(tokio::time::timeout(FROZEN, &mut insert).await.is_err(), "it answered while it was paused");
    containers.postgres().unpause().await.unwrap();
    tokio::time::timeout(PATIENCE, insert).await.unwrap().unwrap();

    containers.postgres().restart().await.unwrap();
    assert!(client.batch_execute("SELECT 1").await.is_err(), "a restart keeps no connection");
    driver.abort();
    assert_eq!(kept(&stack).await, [1]);
    containers.postgres().kill().await.unwrap();
    containers.postgres().start_again().await.unwrap();
    assert_eq!(kept(&stack).await, [1], "what was committed survives SIGKILL");

    let (client, key) = (s3_client(&stack), Key::from("bench/kept"));
    client.put(&key, PutPayload::from_static(b"kept")).await.unwrap();
    containers.s3().pause().await.unwrap();
    let mut get = Box::pin(client.get(&key));
    assert!(tokio::time::timeout(FROZEN, &mut get).await.is_err(), "it answered while it was paused");
    containers.s3().unpause().await.unwrap();
    tokio::time::timeout(PATIENCE, get).await.unwrap().unwrap();
    containers.s3().restart().await.unwrap();
    assert_eq!(s3_client(&stack).get(&key).await.unwrap().bytes().await.unwrap(), "kept");
    for server in [containers.postgres(), containers.s3()] {
        server.cut_off().await.unwrap();
    }
    let asked = tokio_postgres::connect(stack.database_url(), NoTls);
    assert!(
        !matches!(tokio::time::timeout(FROZEN, asked).await, Ok(Ok(_))),
        "it answered while it was cut off"
    );
    let (cut_off, key_there) = (s3_client(&stack), key.clone());
    let asked = async move { cut_off.get(&key_there).await };
    assert!(
        !matches!(tokio::time::timeout(FROZEN, asked).await, Ok(Ok(_))),
        "it answered while it was cut off"
    );
    for server in [containers.postgres(), containers.s3()] {
        server.reconnect().await.unwrap();
    }
    assert_eq!(kept(&stack).await, [1]);
    assert_eq!(s3_client(&stack).get(&key).await.unwrap().bytes().await.unwrap(), "kept");
    drop(stack);
    run.end().await;
}

async fn kept(stack: &Stack) -> Vec<i32> {
    let (client, connection) = tokio_postgres::connect(stack.database_url(), NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let rows = client.query("SELECT n FROM kept", &[]).await.unwrap();
    driver.abort();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Not a test but the owner of a stack, which is killed.
#[tokio::test(flavor = "multi_thread")]
async fn role_owner() {
    if role_args().is_none() {
        return;
    }
    let settings = images().await.unwrap();
    let run = Run::new();
    let stack = run.start(Plan::Containers(Box::new(settings)), &LinkSpec::loopback()).await;
    let [postgres, s3] = ids(stack.containers().unwrap());
    std::fs::write(std::env::var("OWNER_SAYS").unwrap(), format!("{postgres} {s3}")).unwrap();
    println!("\nlistening on tcp://127.0.0.1:1");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_removed_when_their_owner_is_killed() {
    if images().await.is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let says = dir.path().join("containers");
    let owner = Spec::new("owner", role_program(dir.path(), "containers::role_owner"))
        .arg("owner")
        .env("OWNER_SAYS", &says)
        .wait_for_ready_line(PATIENCE * 2);
    let owner = Child::start(owner, dir.path()).await.unwrap();
    let said = std::fs::read_to_string(&says).unwrap();
    let containers: Vec<&str> = said.split_ascii_whitespace().collect();
    for id in &containers {
        assert!(exists(id).await);
    }
    kill_process(Pid::from_raw(owner.pid()).unwrap(), Signal::KILL).unwrap();
    for id in containers {
        removed(id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_warden_leaves_the_next_one_removes_and_no_more() {
    let Some(settings) = images().await else { return };
    let (dead, living, next) = (Run::new(), Run::new(), Run::new());
    let plan = || Plan::Containers(Box::new(settings.clone()));
    let link = LinkSpec::loopback();
    let stack = living.start(plan(), &link).await;
    let left = dead.start(plan(), &link).await;
    let left = ids(left.containers().unwrap());
    let warden = dead.fleet.children().into_iter().find(|child| child.name() == "warden").unwrap();
    kill_process(Pid::from_raw(warden.pid()).unwrap(), Signal::KILL).unwrap();
    let death = dead.fleet.next_death().await;
    assert_eq!(death.name, "warden");
    assert!(exists(&left[0]).await);
    let newer = next.start(plan(), &link).await;
    assert!(!exists(&left[0]).await && !exists(&left[1]).await);
    for stack in [&stack, &newer] {
        select(stack.database_url(), 1).await;
    }
    living.end().await;
    next.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_at_once_shows_its_log() {
    let Some(settings) = images().await else { return };
    let postgres = ServerOverrides {
        image: Some(settings.postgres_image().to_owned()),
        command: Some("postgres --no-such-flag=1".to_owned()),
        ..ServerOverrides::default()
    };
    let s3 = ServerOverrides { image: Some(settings.s3_image().to_owned()), ..ServerOverrides::default() };
    let settings = Settings::new(&Overrides { postgres, s3, ..Overrides::default() }).unwrap();
    let run = Run::new();
    let plan = Plan::Containers(Box::new(settings));
    let started = Stack::start(plan, &run.exe, run.dir.path(), &LinkSpec::loopback(), 1, &run.fleet).await;
    let error = started.unwrap_err();
    assert!(matches!(&error, stack::Error::Containers(Error::Ended { .. })), "{error}");
    assert!(
        error.to_string().contains("no_such_flag") || error.to_string().contains("no-such-flag"),
        "{error}"
    );
    run.end().await;
}
