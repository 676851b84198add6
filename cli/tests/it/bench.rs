//! `bench`, `load` and `report`, end to end on the embedded stack.

use serde_json::Value;

use super::common::*;

fn read(dir: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("report.json")).unwrap()).unwrap()
}

#[test]
fn a_small_ladder_makes_a_report_whose_books_balance() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let args = [
        "bench",
        "--rungs",
        "direct,blob,write-through,write-back,parallel",
        "--stack",
        "embedded",
        "--link",
        "loopback",
        "--llm",
        "fixed:5ms",
        "-n",
        "12",
        "--systems",
        "2",
        "-c",
        "4",
        "--no-resources",
        "--quiet",
        "--out",
        out.to_str().unwrap(),
    ];
    let (status, stdout, stderr) = run(&args, &[]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let report = read(&out);
    assert_eq!(report["schema"], "mipro.report/1");
    let rungs = report["rungs"].as_array().unwrap();
    assert_eq!(rungs.len(), 5);
    for rung in rungs {
        let name = rung["name"].as_str().unwrap();
        let accounting = rung["accounting"].as_object().unwrap();
        let rest: u64 =
            accounting.iter().filter(|(k, _)| *k != "intended").map(|(_, v)| v.as_u64().unwrap()).sum();
        assert_eq!(accounting["intended"].as_u64(), Some(rest), "{name}");
        assert_eq!(accounting["ok"], 12, "{name}: {rung}");
        assert_eq!(rung["validity"]["ok"], true, "{name}: {}", rung["validity"]);
        assert!(stdout.contains(name), "{stdout}");
    }
    let critical = |name: &str, count: &str| {
        let rung = rungs.iter().find(|r| r["name"] == name).unwrap();
        rung["counts"]["critical"][count].as_f64().unwrap()
    };
    assert!(
        (critical("blob", "s3_get") - 3.0).abs() < 1e-9 && (critical("blob", "s3_put") - 3.0).abs() < 1e-9
    );
    assert!(
        critical("write-through", "s3_get").abs() < 1e-9
            && (critical("write-through", "s3_put") - 3.0).abs() < 1e-9
    );
    assert!(critical("write-back", "s3_put").abs() < 1e-9 && critical("parallel", "s3_put").abs() < 1e-9);
    let of = |name: &str| rungs.iter().find(|r| r["name"] == name).unwrap();
    let (back, parallel) = (of("write-back"), of("parallel"));
    assert_eq!((&back["durability"], &parallel["durability"]), (&"memory".into(), &"disk".into()));
    assert!(back["loss"]["process_killed"]["lost"].as_u64() > Some(0), "the trial can lose: {back}");
    assert_eq!(parallel["loss"]["process_killed"]["lost"], 0, "{}", parallel["loss"]);
    assert_eq!(of("blob")["loss"]["host_gone"]["lost"], 0, "{}", of("blob")["loss"]);
    assert!(parallel["counts"]["background"]["log_syncs"].as_f64() > Some(0.0), "{}", parallel["counts"]);
    for file in ["report.html", "config.toml", "rollout.hlog"] {
        assert!(out.join(file).exists(), "no {file}");
    }
    let again = run(&["report", out.to_str().unwrap(), "--check"], &[]);
    assert_eq!((again.0.code(), again.1), (Some(0), stdout));
}

#[test]
fn the_same_seed_makes_the_same_rollouts() {
    let dir = tempfile::tempdir().unwrap();
    let mut rewards = Vec::new();
    for (name, more) in [("a", &["--no-resources"][..]), ("b", &[])] {
        let out = dir.path().join(name);
        let args = [
            "bench",
            "--rungs",
            "write-back",
            "--stack",
            "embedded",
            "--link",
            "loopback",
            "--llm",
            "seed",
            "-n",
            "4",
            "--systems",
            "4",
            "--no-loss",
            "--quiet",
            "--out",
            out.to_str().unwrap(),
        ];
        assert_eq!(run(&[&args[..], more].concat(), &[]).0.code(), Some(0));
        let rung = &read(&out)["rungs"][0];
        rewards.push(rung["makespan"]["planned_seconds"].as_f64().unwrap());
        let clients: Vec<u64> =
            rung["resources"].as_array().unwrap().iter().map(|p| p["clients"].as_u64().unwrap()).collect();
        let levels: &[u64] = if more.is_empty() { &[1, 10, 50] } else { &[] };
        assert_eq!(clients, levels);
    }
    assert!((rewards[0] - rewards[1]).abs() < 1e-9, "the mock planned the same delays: {rewards:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_drives_a_running_service() {
    let world = World::with("actor", &["--server-timing"], "");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let args = [
        "load",
        "--target",
        &world.service.url,
        "--task-app",
        &world.task_app.url,
        "-n",
        "30",
        "-c",
        "5",
        "-w",
        "5",
        "--quiet",
        "--format",
        "json",
        "--out",
        out.to_str().unwrap(),
    ];
    let (status, stdout, stderr) = run(&args, &[("MIPRO_API_KEY", KEY)]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["rungs"][0]["accounting"]["ok"], 30, "{stdout}");
    assert_eq!(read(&out), report);
    let (status, _, stderr) = run(
        &["load", "--target", &world.service.url, "--task-app", &world.task_app.url, "-n", "3", "--quiet"],
        &[("MIPRO_API_KEY", "wrong")],
    );
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("401") || stderr.contains("key"), "{stderr}");
}

/// Starts `args`, signals when `told` stands in a line of stderr, and waits: the exit code and the report.
fn interrupted(args: &[&str], told: &str, signal: rustix::process::Signal) -> (Option<i32>, Value) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_mipro"))
        .args(args)
        .args(["--drain", "5s", "--out", out.to_str().unwrap()])
        .env("MIPRO_API_KEY", KEY)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains(told)), "no progress was told");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
    let drained = std::thread::spawn(move || lines.map_while(Result::ok).count());
    let code = child.wait().unwrap().code();
    drained.join().unwrap();
    (code, read(&out))
}

#[test]
fn an_interrupted_bench_leaves_a_partial_report_and_130() {
    let args =
        ["bench", "--rungs", "direct,write-back", "--stack", "embedded", "--link", "loopback", "--llm"];
    let more = ["fixed:50ms", "-n", "100k", "--systems", "2"];
    // The first line that tells of progress in a rung.
    let (code, report) = interrupted(&[&args[..], &more].concat(), "direct", rustix::process::Signal::INT);
    assert_eq!(code, Some(130));
    assert_eq!(report["run"]["interrupted"], true);
    let accounting = &report["rungs"][0]["accounting"];
    assert_eq!(accounting["intended"], 100_000);
    assert!(accounting["unsent"].as_u64() > Some(0), "{accounting}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_told_to_end_leaves_a_partial_report_and_143() {
    let world = World::with("actor", &[], "");
    let args = ["load", "--target", &world.service.url, "--task-app", &world.task_app.url, "-n", "100k"];
    let (code, report) = interrupted(&args, "p50", rustix::process::Signal::TERM);
    assert_eq!(code, Some(143));
    assert_eq!(report["run"]["interrupted"], true);
    let accounting = &report["rungs"][0]["accounting"];
    assert_eq!(accounting["intended"], 100_000);
    assert!(accounting["ok"].as_u64() > Some(0), "{accounting}");
}
