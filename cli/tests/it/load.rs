//! `load`: the open model, recordings, and how it ends.

use serde_json::Value;

use super::common::*;

/// A mock LLM and the body of a request for it.
struct Plain {
    mock: Role,
    body: tempfile::NamedTempFile,
}

impl Plain {
    fn start(latency: &str) -> Self {
        let mock = Role::start(&["mock-llm", "--listen", "127.0.0.1:0", "--latency", latency], &[]);
        let body = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(body.path(), chat("Say what is asked.", "Why?").to_string()).unwrap();
        Self { mock, body }
    }

    /// `load` against it; code, stdout, stderr.
    fn load(&self, flags: &[&str]) -> (Option<i32>, String, String) {
        let url = format!("{}/v1/chat/completions", self.mock.url);
        let fixed = ["load", "--url", &url, "--body", self.body.path().to_str().unwrap(), "--quiet"];
        let (status, stdout, stderr) = run(&[&fixed, flags].concat(), &[]);
        (status.code(), stdout, stderr)
    }
}

fn report(stdout: &str) -> Value {
    serde_json::from_str(stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

#[test]
fn arrivals_at_a_rate_are_reported_in_three_views() {
    let plain = Plain::start("fixed:20ms");
    let (code, stdout, stderr) =
        plain.load(&["-q", "50:150", "-d", "1s", "-c", "100", "-w", "200ms", "--format", "json"]);
    let report = report(&stdout);
    let rung = &report["rungs"][0];
    assert_eq!(
        (&rung["accounting"]["intended"], &rung["accounting"]["ok"]),
        (&100.into(), &100.into()),
        "{stderr}"
    );
    for view in ["response", "service", "lag", "pacer_lag", "slot_wait"] {
        assert_eq!(rung["rollout"][view]["count"], 100, "{view}");
    }
    assert_eq!(
        report["run"]["command"],
        "mipro load -n 100 -c 100 -d 1s -q 50:150 --arrival constant -w 0.2s"
    );
    // A machine as busy as one that runs many tests at once may well be too busy to measure; then it has to say so.
    let doubted = rung["validity"]["ok"] == false;
    assert_eq!(code, Some(if doubted { 125 } else { 0 }), "{stderr}");
    assert_eq!(stderr.contains("the measurement is not valid: "), doubted, "{stderr}");

    let (_, text, _) = plain.load(&["-q", "100", "-n", "20", "--latency-correction"]);
    for line in ["response ", "service ", "lag ", "the pacer's ", "for a slot "] {
        assert!(text.contains(line), "no {line}: {text}");
    }
}

#[test]
fn what_a_server_is_too_slow_for_is_refused_before_it_is_measured() {
    let plain = Plain::start("fixed:50ms");
    let (code, stdout, stderr) = plain.load(&["-q", "1000", "-d", "60s", "-c", "2", "-w", "12"]);
    assert_eq!((code, stdout.as_str()), (Some(125), ""), "{stderr}");
    assert!(stderr.contains("in flight, more than the 2 slots"), "{stderr}");
}

#[test]
fn a_deadline_and_steps_end_what_they_should() {
    let plain = Plain::start("fixed:2s");
    let (code, stdout, stderr) =
        plain.load(&["--steps", "50,100@200ms", "--deadline", "100ms", "-c", "100", "--format", "json"]);
    assert_eq!(code, Some(125), "nothing succeeded: {stderr}");
    let accounting = report(&stdout)["rungs"][0]["accounting"].clone();
    assert_eq!((&accounting["intended"], &accounting["deadline"]), (&30.into(), &30.into()), "{accounting}");
}

#[test]
fn contradictions_are_usage_errors() {
    for flags in [&["-q", "10:20"][..], &["-q", "fast"], &["--replay", "x", "-q", "3"], &["--from-events"]] {
        let args = [&["load", "--target", "http://127.0.0.1:9"], flags].concat();
        let (status, _, stderr) = run(&args, &[]);
        assert_eq!(status.code(), Some(2), "{flags:?}: {stderr}");
        assert!(stderr.starts_with("error: "), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rollouts_are_recorded_and_replayed() {
    let world = World::with("actor", &["--server-timing"], "");
    let job = world.job().await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let load = |flags: &[&str]| {
        let fixed = ["load", "--target", &world.service.url, "--task-app", &world.task_app.url, "--quiet"];
        let system = ["--system", &job.system_id, "--format", "json"];
        run(&[&fixed, &system[..], flags].concat(), &[("MIPRO_API_KEY", KEY)])
    };
    let (status, _, stderr) = load(&["-n", "12", "-c", "3", "--record", &path("run.jsonl")]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let recorded = std::fs::read_to_string(path("run.jsonl")).unwrap();
    let lines: Vec<Value> = recorded.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["format"], lines.len()), (&"mipro.rollouts/1".into(), 13));
    assert!(lines[1..].iter().all(|line| line["seed"].is_u64()), "{recorded}");

    let (status, stdout, stderr) = load(&["--record", &path("events.jsonl"), "--from-events"]);
    assert_eq!((status.code(), stdout.as_str()), (Some(0), ""), "{stderr}");
    let told = std::fs::read_to_string(path("events.jsonl")).unwrap();
    assert_eq!((told.lines().count(), told.contains("\"events\"")), (13, true), "{told}");

    for name in ["run.jsonl", "events.jsonl"] {
        let (_, stdout, stderr) = load(&["--replay", &path(name), "--speed", "10x", "-c", "4"]);
        let report = report(&stdout);
        assert_eq!(report["rungs"][0]["accounting"]["ok"], 12, "{stderr}");
        assert_eq!(report["run"]["command"], "mipro load -n 12 -c 4 --replay FILE --speed 10x");
    }
    std::fs::write(path("events.jsonl"), told.replace("\"at_us\":0", "\"at_us\":\"soon\"")).unwrap();
    let (status, _, stderr) = load(&["--replay", &path("events.jsonl")]);
    assert_eq!(status.code(), Some(1));
    assert!(
        stderr.contains("events.jsonl is no recording: line 2: invalid type: string \"soon\""),
        "{stderr}"
    );
}

#[test]
fn a_breached_threshold_exits_99() {
    let plain = Plain::start("fixed:20ms");
    let load = ["-n", "40", "-c", "2", "--format", "json", "--threshold", "accounting.errors:count==0"];
    let (code, _, stderr) = plain.load(&load);
    assert_eq!(code, Some(0), "{stderr}");
    let (code, stdout, stderr) = plain.load(&[&load[..], &["--threshold", "service:p(50)<10ms"]].concat());
    assert_eq!(code, Some(99), "{stderr}");
    let report = report(&stdout);
    let outcomes: Vec<_> = report["verdicts"].as_array().unwrap().iter().map(|v| &v["outcome"]).collect();
    assert_eq!(outcomes, ["pass", "fail"], "{}", report["verdicts"]);
    let (code, _, stderr) = plain.load(&["--threshold", "service:p(50)<10"]);
    assert_eq!(code, Some(2), "a limit without a unit: {stderr}");
}

/// Whether it finds the knee depends on how busy the machine is; that it tells each stage and comes to an end does not.
#[test]
fn a_search_for_the_knee_tells_its_stages() {
    let plain = Plain::start("fixed:20ms");
    let (code, stdout, stderr) = plain.load(&[
        "--find-knee",
        "response:p(50)<60ms",
        "-q",
        "200",
        "-d",
        "200ms",
        "-c",
        "4",
        "--drain",
        "1s",
        "--format",
        "json",
    ]);
    let report = report(&stdout);
    assert!(report["rungs"].as_array().unwrap().len() > 1, "{stdout}");
    assert_eq!(report["verdicts"][0]["name"], "knee of rollout.response:p(50)<60ms");
    let wanted = match report["verdicts"][0]["outcome"].as_str().unwrap() {
        "pass" => 0,
        "fail" => 99,
        _ => 125,
    };
    assert_eq!(code, Some(wanted), "{stderr}");
}

#[test]
fn a_calibration_tells_ceiling_floor_and_pacing() {
    let (status, stdout, stderr) = run(&["load", "--calibrate", "-q", "200", "-d", "300ms", "-c", "4"], &[]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    for part in ["noise floor, one at a time", "ceiling, 4 in flight", "paced at 200/s", "the pacer's lag"] {
        assert!(stdout.contains(part), "no {part}: {stdout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_can_be_rollouts_of_their_own() {
    let world = World::new();
    let job = world.client.small_job().await;
    let body = tempfile::NamedTempFile::new().unwrap();
    let request = chat("Say what is asked.", "Question: why? Choices: a, b");
    std::fs::write(body.path(), request.to_string()).unwrap();
    let load = |id: &str| {
        let url = format!("{}/{id}/chat/completions", job.proxy_url);
        let body = body.path().to_str().unwrap();
        let (_, stdout, stderr) = run(
            &["load", "--url", &url, "--body", body, "-n", "20", "-c", "4", "--quiet", "--format", "json"],
            &[],
        );
        assert_eq!(report(&stdout)["rungs"][0]["accounting"]["ok"], 20, "{stderr}");
    };
    load("{rollout}");
    assert_eq!(world.client.state(&job).await["rollout_count"], 20);
    load("{rollout}");
    load("always-the-same");
    assert_eq!(world.client.state(&job).await["rollout_count"], 41);
}
