//! Ends: SIGTERM, a parent that is gone, a port that is taken.

use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use super::common::*;

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_rollouts_in_flight_finish_saves_all_and_exits_0() {
    let slow = Role::start(&["mock-llm", "--listen", "127.0.0.1:0", "--latency", "fixed:700ms"], &[]);
    let mut world = World::with("actor", &["--upstream", &format!("{}/v1", slow.url)], "");
    let job = world.client.small_job().await;
    let (client, asked) = (world.client.clone(), job.clone());
    let in_flight = tokio::spawn(async move { client.ask(&asked, "r1").await.status().as_u16() });
    // The rollout has begun once the state knows it.
    while world.client.state(&job).await["rollout_count"] == 0 {
        tokio::task::yield_now().await;
    }
    world
        .client
        .status(
            &job,
            json!({"rollout_id": "r0", "status": "reward_done", "reward": 1.0, "candidate_id": "baseline"}),
        )
        .await;
    world.service.signal(Signal::TERM);
    let answered = in_flight.await.unwrap();
    assert!(answered == 200 || answered == 503, "{answered}");
    let service =
        std::mem::replace(&mut world.service, Role::start(&["task-app", "--listen", "127.0.0.1:0"], &[]));
    let (status, rest, stderr) = service.wait();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert_eq!(rest, "", "nothing on stdout after the ready line");
    world.restart();
    let state = world.client.state(&job).await;
    assert_eq!((&state["reward_count"], &state["rollout_count"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn a_role_told_to_die_with_its_parent_does() {
    for args in [
        &["mock-llm", "--listen", "127.0.0.1:0", "--die-with-stdin"][..],
        &["task-app", "--listen", "127.0.0.1:0", "--die-with-stdin"],
    ] {
        let mut role = Role::start(args, &[]);
        drop(role.child.stdin.take());
        let (status, _, stderr) = role.wait();
        assert_eq!(status.code(), Some(0), "{stderr}");
    }
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    for args in [
        &["serve", "--listen", &address, "--data-dir", data][..],
        &["mock-llm", "--listen", &address],
        &["task-app", "--listen", &address],
    ] {
        let (status, stdout, stderr) = run(args, &[]);
        assert_eq!((status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.contains(&address) && stderr.contains("in use"), "{stderr}");
    }
}

#[test]
fn the_default_ports_are_the_contracts() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    for (args, port) in
        [(&["serve", "--data-dir", data][..], 8090), (&["mock-llm"], 8088), (&["task-app"], 8016)]
    {
        // Ours or somebody else's: it is taken, and a role that wants it says so.
        let _taken = std::net::TcpListener::bind(("127.0.0.1", port));
        let (status, stdout, stderr) = run(args, &[]);
        assert_eq!((status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.contains(&format!("127.0.0.1:{port}")), "{stderr}");
    }
}

/// The testbed's children must not outlive a `bench` that was killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_bench_leaves_no_process_behind() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("scratch");
    std::fs::create_dir(&marker).unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_mipro"))
        .args(["bench", "--quick", "--rungs", "blob", "--stack", "embedded", "--out"])
        .arg(dir.path().join("out"))
        .env("TMPDIR", &marker)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // All is up once the service has been started.
    let started = async {
        while children_in(&marker, "serve").is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), started).await.expect("bench starts a service");
    bench.kill().unwrap();
    bench.wait().unwrap();
    let gone = async {
        while !children_in(&marker, "").is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let gone = tokio::time::timeout(std::time::Duration::from_secs(30), gone).await;
    assert!(gone.is_ok(), "left behind: {:?}", children_in(&marker, ""));
}

/// Command lines of our binary's processes whose TMPDIR is `marker` and whose first argument is `role` (any, if empty).
fn children_in(marker: &std::path::Path, role: &str) -> Vec<String> {
    let wanted = format!("TMPDIR={}", marker.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let has = read("environ").split(|b| *b == 0).any(|v| v == wanted.as_bytes());
        let words: Vec<String> =
            read("cmdline").split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        if has && (role.is_empty() || words.get(1).is_some_and(|w| w == role)) {
            found.push(words.join(" "));
        }
    }
    found
}
