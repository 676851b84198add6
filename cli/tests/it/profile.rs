//! `profile`, end to end on the embedded stack: the files of a run, what is said where perf is missing, bad input.

use std::path::Path;

use mipro_telemetry::Folded;
use serde_json::Value;

use super::common::*;

fn text(out: &Path, name: &str) -> String {
    std::fs::read_to_string(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// `profile` of a few rollouts with an LLM of 20 ms, without perf.
fn profile(
    sides: &[&str],
    more: &[&str],
    env: &[(&str, &str)],
) -> (Option<i32>, String, String, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let fixed =
        ["--stack", "embedded", "--link", "loopback", "--llm", "fixed:20ms", "-n", "4", "-c", "2", "--quiet"];
    let place = ["--perf", "/nonexistent/perf", "--out", out.to_str().unwrap()];
    let (status, stdout, stderr) = run(&[&["profile"], sides, &fixed, &place, more].concat(), env);
    (status.code(), stdout, stderr, dir)
}

#[test]
fn two_sides_leave_pictures_differences_and_a_trace() {
    let (code, stdout, stderr, dir) = profile(&[], &[], &[]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let out = dir.path().join("out");
    let report: Value = serde_json::from_str(&text(&out, "report.json")).unwrap();
    let sides = report["profile"]["sides"].as_array().unwrap();
    assert_eq!((&sides[0]["name"], &sides[1]["name"]), (&"blob".into(), &"bounded".into()));
    for side in sides {
        let name = side["name"].as_str().unwrap();
        let wall = Folded::parse(&text(&out, &format!("wall-{name}.folded"))).unwrap();
        let calls = |operation: &str| wall.iter().any(|(stack, _)| stack.starts_with(operation));
        assert!(calls("start_rollout;") && calls("status_done;"), "{}", wall.to_text());
        // Systems were made, and the warm-up was run, before the profile began.
        assert!(!calls("create_job"), "{}", wall.to_text());
        // The LLM answers within 20 ms, and it is waited for. How much longer it takes on a busy machine is not asserted.
        let llm = wall.only(|stack| stack.starts_with("start_rollout;llm."));
        let waited = llm.total_at("[await]");
        assert!(waited >= 4 * 20_000_000, "{}", wall.to_text());
        assert!(llm.total_at("[poll]") * 2 < waited, "{}", wall.to_text());
        for kind in ["wall", "busy"] {
            let svg = text(&out, &format!("{kind}-{name}.svg"));
            assert!(svg.contains("<title>all ("), "{kind}-{name}");
        }
        assert!(text(&out, &format!("busy-{name}.svg")).contains("awaits are not in it"));
        assert!(!out.join(format!("cpu-{name}.svg")).exists());
        let trace: Value = serde_json::from_str(&text(&out, &format!("slowest-{name}.trace.json"))).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        for event in ["rollout", "start_rollout", "status_done", "llm.first_byte"] {
            assert!(events.iter().any(|e| e["name"] == event && e["ph"] == "X"), "{event}: {trace}");
        }
        assert_eq!(side["wall"]["source"], "spans");
        assert!(side["wall"]["slowest_us"].as_f64() > Some(20_000.0), "{side}");
    }
    // The blob's state is read and written at every call; the other's is not.
    let blob = Folded::parse(&text(&out, "wall-blob.folded")).unwrap();
    for stack in ["start_rollout;load;s3.get;", "status_reward;save;s3.put;"] {
        assert!(blob.iter().any(|(one, _)| one.starts_with(stack)), "{stack}: {}", blob.to_text());
    }
    for name in ["wall-blob-to-bounded.svg", "wall-blob-to-bounded-back.svg"] {
        assert!(text(&out, name).contains("a rollout less)"), "{name}");
    }
    // Without perf it is said why, and what there is instead; on the page, on the terminal and in the report.
    let note = report["profile"]["notes"][0].as_str().unwrap();
    assert!(note.starts_with("No CPU flamegraph: perf can't be run (No such file"), "{note}");
    assert!(stdout.contains("No CPU flamegraph: perf can't be run"), "{stdout}");
    let page = text(&out, "report.html");
    assert!(page.contains("No CPU flamegraph: perf can&#39;t be run"));
    for name in ["wall-blob", "wall-bounded", "wall-blob-to-bounded", "busy-blob"] {
        assert!(page.contains(&format!("aria-label=\"flamegraph {name}\"")), "{name}");
    }
    assert!(stdout.starts_with("Of a rollout's time inside the service: blob waits for "), "{stdout}");
}

#[test]
fn a_service_that_runs_already_shows_its_stages_and_says_what_more_takes() {
    let world = World::with("actor", &["--server-timing"], "");
    let url = world.service.url.clone();
    let (code, stdout, stderr, dir) = profile(&[&url], &[], &[("MIPRO_API_KEY", KEY)]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let report: Value = serde_json::from_str(&text(&dir.path().join("out"), "report.json")).unwrap();
    let profile = &report["profile"];
    let note = profile["notes"][0].as_str().unwrap();
    assert!(note.contains("MIPRO_PROFILE_DIR=DIR: SIGUSR1 begins") && note.contains("perf record"), "{note}");
    let wall = &profile["sides"][0]["wall"];
    assert_eq!((&wall["source"], &wall["await_us"]), (&"server-timing".into(), &Value::Null));
    assert!(
        wall["stages"].as_array().unwrap().iter().any(|stage| stage["stage"] == "llm.first_byte"),
        "{wall}"
    );
}

#[test]
fn bad_input_says_what_there_is() {
    for (args, code, says) in [
        (&["profile", "fast"][..], 2, "there is no rung `fast`; rungs are all, direct, blob"),
        (&["profile", "direct"], 2, "has no service whose time could be seen"),
        (&["profile", "blob", ""], 2, "B: "),
        (&["profile", "--bin"], 2, "<A>"),
        (&["profile", "-n", "0"], 2, "at least 1 is needed"),
    ] {
        let (status, _, stderr) = run(args, &[]);
        assert_eq!(status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
}

#[test]
fn a_service_writes_its_profile_when_it_is_told_to_stop_and_only_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (data, into) = (dir.path().join("data"), dir.path().join("profile"));
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    let (status, _, stderr) = Role::start(&serve, &[]).stop();
    assert!(status.success(), "{stderr}");
    assert!(!into.exists());

    let role = Role::start(&serve, &[("MIPRO_PROFILE_DIR", into.to_str().unwrap())]);
    assert_eq!(text(&into, "begun"), "0");
    let (status, _, stderr) = role.stop();
    assert!(status.success(), "{stderr}");
    for name in ["wall.folded", "busy.folded", "profile.json"] {
        assert!(into.join(name).exists(), "no {name}");
    }

    // A directory that can't be one is said at the start.
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (status, _, stderr) = run(&serve, &[("MIPRO_PROFILE_DIR", file.to_str().unwrap())]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("MIPRO_PROFILE_DIR names a directory that can't be used"), "{stderr}");
}
