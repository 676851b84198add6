//! Postgres and S3 that are down, at start and in mid-run.

use std::io::Write as _;

use reqwest::Method;
use serde_json::{Value, json};

use super::common::*;

const S3_SECRET: &str = "secret-for-tests";

/// Postgres and S3 behind links that can be cut, and a world on them.
struct Stores {
    _postgres: Role,
    _s3: Role,
    db_link: Role,
    s3_link: Role,
}

fn postgres() -> Option<Role> {
    let found = mipro_testbed::postgres::Search::from_env(None).find();
    if let Err(error) = found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "Postgres is needed with CI=true: {error}");
        let _ = writeln!(std::io::stderr(), "skipped: no Postgres ({error})");
        return None;
    }
    Some(Role::start(&["testbed", "postgres"], &[]))
}

fn address(url: &str) -> String {
    let rest = url.split_once("://").unwrap().1;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, r)| r);
    rest.split(['/', '?', ' ']).next().unwrap().to_owned()
}

fn link(upstream: &str, protocol: &str) -> Role {
    let upstream = address(upstream);
    Role::start(
        &[
            "testbed",
            "link",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--upstream",
            &upstream,
            "--protocol",
            protocol,
        ],
        &[],
    )
}

impl Stores {
    fn start() -> Option<Self> {
        let postgres = postgres()?;
        let s3 = Role::start(&["testbed", "s3", "--memory"], &[("MIPRO_TESTBED_S3_SECRET", S3_SECRET)]);
        let (db_link, s3_link) = (link(&postgres.url, "postgres"), link(&s3.url, "http"));
        Some(Self { _postgres: postgres, _s3: s3, db_link, s3_link })
    }

    fn config(&self, more: &str) -> String {
        format!(
            "shutdown_deadline_ms = 4000\n{more}\n[database]\nurl = \"postgres://postgres@{}/mipro\"\nconnect_timeout_ms = 2000\nquery_timeout_ms = 2000\n\
             [blobs]\nurl = \"s3://mipro/t?endpoint=http://{}\"\ntimeout_ms = 3000\n",
            address(&self.db_link.url),
            address(&self.s3_link.url)
        )
    }
}

async fn admin(link: &Role, command: &str) {
    let admin = link.url.split(" admin ").nth(1).unwrap();
    let answer = reqwest::Client::new().post(format!("{admin}/{command}")).send().await.unwrap();
    assert!(answer.status().is_success(), "{command}: {}", answer.status());
}

/// A service on the stores. Its S3 credentials come as they would in production.
struct Served {
    role: Role,
    client: Client,
    _mock: Role,
    dir: tempfile::TempDir,
}

fn serve(stores: &Stores, engine: &str, more: &str) -> Served {
    let mock = Role::start(&["mock-llm", "--listen", "127.0.0.1:0", "--latency", "none"], &[]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    std::fs::write(&file, stores.config(more)).unwrap();
    let role = start(engine, &mock, &dir);
    let client = Client::new(&role.url, KEY);
    Served { role, client, _mock: mock, dir }
}

fn start(engine: &str, mock: &Role, dir: &tempfile::TempDir) -> Role {
    let (file, upstream) = (dir.path().join("c.toml"), format!("{}/v1", mock.url));
    let data = dir.path().join("data");
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--engine",
        engine,
        "--upstream",
        &upstream,
        "--config",
        file.to_str().unwrap(),
        "--data-dir",
        data.to_str().unwrap(),
    ];
    Role::start(
        &args,
        &[
            ("MIPRO_API_KEYS", &format!("{KEY}:{ORG}")),
            ("AWS_ACCESS_KEY_ID", "mipro-testbed"),
            ("AWS_SECRET_ACCESS_KEY", S3_SECRET),
        ],
    )
}

fn report(rollout: &str) -> Value {
    json!({"rollout_id": rollout, "status": "reward_done", "reward": 1.0, "candidate_id": "baseline"})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_on_postgres_and_s3_for_every_engine() {
    let Some(stores) = Stores::start() else { return };
    for (engine, more) in [("blob", ""), ("cache", ""), ("actor", "")] {
        let served = serve(&stores, engine, more);
        let job = served.client.small_job().await;
        assert_eq!(served.client.ask(&job, "r1").await.status(), 200);
        for rollout in ["r1", "r2"] {
            let (status, body) = served.client.status(&job, report(rollout)).await;
            assert_eq!(status, 200, "{engine}: {body}");
        }
        let before = served.client.state(&job).await;
        assert_eq!(before["reward_count"], 2);
        let (status, _, stderr) = served.role.stop();
        assert_eq!(status.code(), Some(0), "{engine}: {stderr}");
        let again = start(engine, &served._mock, &served.dir);
        let client = Client::new(&again.url, KEY);
        assert_eq!(client.state(&job).await, before, "{engine}: after a restart");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_that_go_away_in_mid_run_refuse_writes_and_come_back() {
    let Some(stores) = Stores::start() else { return };
    for (engine, more) in [("blob", ""), ("cache", "[cache]\nsave = \"through\"")] {
        let served = serve(&stores, engine, more);
        let job = served.client.small_job().await;
        assert_eq!(served.client.status(&job, report("before")).await.0, 200);
        for link in [&stores.s3_link, &stores.db_link] {
            admin(link, "cut").await;
            let (status, body) = served.client.status(&job, report("during")).await;
            assert_eq!(status, 503, "{engine}: {body}");
            error_message(&body);
            admin(link, "restore").await;
        }
        let (status, body) = served.client.status(&job, report("after")).await;
        assert_eq!(status, 200, "{engine}: {body}");
        let count = served.client.state(&job).await["reward_count"].as_u64();
        assert_eq!(count, Some(2), "{engine}: what was refused is not there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn write_back_and_actor_answer_from_memory_while_the_stores_are_down_and_save_after() {
    let Some(stores) = Stores::start() else { return };
    for engine in ["cache", "actor"] {
        let served = serve(&stores, engine, "");
        let job = served.client.small_job().await;
        assert_eq!(served.client.status(&job, report("before")).await.0, 200);
        admin(&stores.s3_link, "cut").await;
        admin(&stores.db_link, "cut").await;
        assert_eq!(served.client.status(&job, report("during")).await.0, 200, "{engine}");
        assert_eq!(served.client.ask(&job, "r").await.status(), 200, "{engine}");
        admin(&stores.s3_link, "restore").await;
        admin(&stores.db_link, "restore").await;
        let (status, _, stderr) = served.role.stop();
        assert_eq!(status.code(), Some(0), "{engine}: {stderr}");
        let again = start(engine, &served._mock, &served.dir);
        let client = Client::new(&again.url, KEY);
        assert_eq!(client.state(&job).await["reward_count"], 2, "{engine}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_cannot_save_says_so_and_does_not_exit_0() {
    let Some(stores) = Stores::start() else { return };
    let served = serve(&stores, "actor", "durability = \"memory\"");
    let job = served.client.small_job().await;
    assert_eq!(served.client.status(&job, report("r")).await.0, 200);
    admin(&stores.s3_link, "cut").await;
    let (status, _, stderr) = served.role.stop();
    assert_eq!(status.code(), Some(1), "unsaved rewards are no success: {stderr}");
    assert!(stderr.contains("save"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_without_stores_loses_nothing_that_the_log_has_and_exits_0() {
    let Some(stores) = Stores::start() else { return };
    let served = serve(&stores, "actor", "");
    let job = served.client.small_job().await;
    assert_eq!(served.client.status(&job, report("r")).await.0, 200);
    admin(&stores.s3_link, "cut").await;
    let (status, _, stderr) = served.role.stop();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("the log has"), "it says so: {stderr}");
    admin(&stores.s3_link, "restore").await;
    let again = start("actor", &served._mock, &served.dir);
    assert_eq!(Client::new(&again.url, KEY).state(&job).await["reward_count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_down_at_start_is_told_and_names_no_password() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let url = format!("postgres://mipro:hunter2@{nobody}/mipro");
    let (status, stdout, stderr) = run(
        &["serve", "--listen", "127.0.0.1:0", "--data-dir", dir.path().to_str().unwrap(), "--database", &url],
        &[],
    );
    assert_eq!((status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains(&nobody.to_string()) && !stderr.contains("hunter2"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_the_stores() {
    let Some(stores) = Stores::start() else { return };
    let served = serve(&stores, "blob", "");
    let ready = async || {
        let request = served.client.request(Method::GET, "/readyz");
        answer(request).await.0.as_u16()
    };
    assert_eq!(ready().await, 200);
    admin(&stores.db_link, "cut").await;
    assert_eq!(ready().await, 503);
    admin(&stores.db_link, "restore").await;
    assert_eq!(ready().await, 200);
}
