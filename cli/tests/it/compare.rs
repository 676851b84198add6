//! `compare` and `aa`, end to end on the embedded stack: what they report, and each exit code.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::common::*;

fn read(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("report.json")).unwrap()).unwrap()
}

/// `compare` with a small testbed, and its report's folder.
fn compare(sides: &[&str], more: &[&str]) -> (Option<i32>, String, String, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    // What else is on the machine is no fault of what is tested here.
    let fixed = ["--stack", "embedded", "--quiet", "--noise", "none.json", "--steal-max", "100%"];
    let fixed = [&fixed[..], &["--out", out.to_str().unwrap()]].concat();
    let (status, stdout, stderr) = run(&[&["compare"], sides, &fixed[..], more].concat(), &[]);
    (status.code(), stdout, stderr, dir)
}

/// A stage's link that is many times as slow is told from itself in a few pairs, whoever else is on the machine. There are five
/// quads of them, for where neighbouring pairs resemble each other the quads are what is counted, and it takes four to know.
const FAST: &str = "write-through@db=0ms,s3=2ms";
const SLOW: &str = "write-through@db=0ms,s3=30ms";
const FEW: [&str; 8] =
    ["--pairs", "10", "--slice", "400ms", "--llm", "fixed:5ms", "--on-inconclusive", "pass"];

#[test]
fn a_slower_side_regresses_with_the_stages_name_and_99() {
    let (code, stdout, stderr, dir) = compare(&[FAST, SLOW], &FEW);
    assert_eq!(code, Some(99), "{stdout}{stderr}");
    let first = stdout.lines().next().unwrap();
    assert!(first.starts_with(&format!("REGRESS: {SLOW} against {FAST}")), "{stdout}");
    let report = read(&dir.path().join("out"));
    let comparison = &report["comparisons"][0];
    assert_eq!((&comparison["a"], &comparison["b"]), (&FAST.into(), &SLOW.into()));
    let endpoints = comparison["endpoints"].as_array().unwrap();
    let put = endpoints.iter().find(|e| e["name"] == "stages.s3.put" && e["quantile"] == 0.5).unwrap();
    assert_eq!(put["verdict"]["verdict"], "regress", "{put}");
    assert_eq!(report["verdicts"][0]["outcome"], "fail");

    // Both slices of every pair made the same rollouts, and all are accounted for.
    let rungs = report["rungs"].as_array().unwrap();
    assert_eq!(rungs.len(), 2);
    let intended: Vec<u64> = rungs.iter().map(|r| r["accounting"]["intended"].as_u64().unwrap()).collect();
    assert!(intended[0] == intended[1] && intended[0] >= 6, "{intended:?}");
    let slices = comparison["slices"].as_array().unwrap();
    let order: String = slices.iter().map(|slice| slice["side"].as_str().unwrap()).collect();
    let quads: Vec<&str> = (0..5).map(|quad| &order[4 * quad..4 * quad + 4]).collect();
    assert!(quads.iter().all(|quad| ["ABBA", "BAAB"].contains(quad)), "{order}");
    let log = std::fs::read_to_string(dir.path().join("out/compare.stages.s3.put.hlog")).unwrap();
    assert_eq!(log.lines().filter(|line| line.starts_with("Tag=")).count(), 20, "{log}");
    let config = std::fs::read_to_string(dir.path().join("out/config.toml")).unwrap();
    assert!(
        config.contains("# side A")
            && config.contains("mipro.db-b")
            && config.contains("bench/b")
            && config.matches("# begun anew before each pair, from a copy of its program in memory").count()
                == 2,
        "{config}"
    );
}

#[test]
fn a_faster_side_is_improved_and_0() {
    // What the link has no part in is as noisy as the machine: only a wide margin makes it a pass each time.
    let more = [&FEW[..], &["--margin", "2000%"]].concat();
    let (code, stdout, stderr, dir) = compare(&[SLOW, FAST], &more);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let report = read(&dir.path().join("out"));
    let endpoints = report["comparisons"][0]["endpoints"].as_array().unwrap();
    for name in ["stages.s3.put", "rollout.response"] {
        let endpoint = endpoints.iter().find(|e| e["name"] == name && e["quantile"] == 0.5).unwrap();
        assert_eq!(endpoint["verdict"]["improved"], true, "{endpoint}");
    }
}

#[test]
fn too_few_pairs_are_inconclusive_and_the_policy_decides() {
    for (policy, expected) in [("pass", 0), ("fail", 99), ("extend", 125)] {
        let few = ["--pairs", "1", "--slice", "200ms", "--llm", "none", "--on-inconclusive", policy];
        let (code, stdout, stderr, _dir) = compare(&["write-back", "write-back"], &few);
        assert_eq!(code, Some(expected), "{policy}: {stdout}{stderr}");
        assert!(stdout.starts_with("INCONCLUSIVE: ") && stdout.contains("more"), "{stdout}");
    }
}

#[test]
fn a_rate_beyond_what_a_side_can_do_is_refused_and_none_at_all_is_a_usage_error() {
    let few = ["--pairs", "1", "--slice", "200ms", "--llm", "none"];
    let (code, stdout, stderr, _dir) =
        compare(&["write-back", "write-back"], &[&few[..], &["-q", "1000000"]].concat());
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stderr.contains("-q 1000000") && stderr.contains("-q light"), "{stderr}");
    let (code, _, stderr, _dir) = compare(&["write-back", "write-back"], &["-q", "heavy"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("say light, closed"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_run_already_are_compared_and_left_running() {
    let world = World::with("actor", &["--server-timing"], "");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let url = world.service.url.as_str();
    let args =
        ["compare", url, url, "--pairs", "1", "--slice", "200ms", "--on-inconclusive", "pass", "--quiet"];
    let more = ["--steal-max", "100%", "--noise", "none.json", "--out", out.to_str().unwrap()];
    let (status, stdout, stderr) = run(&[&args[..], &more].concat(), &[("MIPRO_API_KEY", KEY)]);
    assert_eq!(status.code(), Some(0), "{stdout}{stderr}");
    let report = read(&out);
    assert_eq!(report["environment"]["stack"], "the services' own");
    assert!(
        report["rungs"][0]["accounting"]["ok"].as_u64() > Some(0),
        "{}",
        report["rungs"][0]["accounting"]
    );
    assert_eq!(world.client.get("/health").await.0, 200);

    // Without its key nothing can be made there: it could not run.
    let (status, _, stderr) = run(&[&args[..], &more].concat(), &[]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("401"), "{stderr}");
}

/// A small ladder's report, to be altered.
fn saved(dir: &Path) -> Value {
    let out = dir.join("measured");
    let args =
        ["bench", "--rungs", "blob", "--stack", "embedded", "--link", "loopback", "--llm", "none", "-n", "4"];
    let more = ["--systems", "1", "--no-loss", "--no-resources", "--quiet", "--out", out.to_str().unwrap()];
    let (status, _, stderr) = run(&[&args[..], &more].concat(), &[]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    read(&out)
}

#[test]
fn saved_reports_are_judged_by_counts_and_refused_where_not_comparable() {
    let dir = tempfile::tempdir().unwrap();
    let keep = |name: &str, report: &Value| {
        let folder = dir.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("report.json"), report.to_string()).unwrap();
        folder.to_str().unwrap().to_owned()
    };
    let measured = saved(dir.path());
    let same = keep("same", &measured);
    let (status, stdout, stderr) = run(&["compare", &same, &same], &[]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stdout.starts_with("PASS: every count") && stdout.contains("not interleaved"), "{stdout}");

    let mut more = measured.clone();
    more["rungs"][0]["counts"]["critical"]["s3_put"] = 4.0.into();
    let (status, stdout, _) = run(&["compare", &same, &keep("more", &more)], &[]);
    assert_eq!(status.code(), Some(99), "{stdout}");
    assert!(stdout.contains("blob s3_put: 3 → 4 a rollout"), "{stdout}");

    let mut other = measured;
    other["environment"]["link"] = "cross-region".into();
    other["run"]["seed"] = 7.into();
    let (status, stdout, _) = run(&["compare", &same, &keep("other", &other)], &[]);
    assert_eq!(status.code(), Some(125), "{stdout}");
    assert!(
        stdout.starts_with("INVALID: ") && stdout.contains("seed: 1 and 7") && stdout.contains("link: "),
        "{stdout}"
    );
}

/// A repository whose package builds to a `mipro` that is the one under test; its second commit does not build.
fn repository(dir: &Path) {
    let exe = env!("CARGO_BIN_EXE_mipro");
    let good = format!(
        "use std::os::unix::process::CommandExt as _;\nfn main() {{ let error = std::process::Command::new({exe:?})\
         .args(std::env::args_os().skip(1)).exec(); panic!(\"{{error}}\") }}\n"
    );
    let manifest = "[package]\nname = \"mipro-cli\"\nversion = \"0.0.1\"\nedition = \"2024\"\n\
                    [[bin]]\nname = \"mipro\"\npath = \"main.rs\"\n[workspace]\n";
    std::fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(
        dir.join("Cargo.lock"),
        "version = 4\n\n[[package]]\nname = \"mipro-cli\"\nversion = \"0.0.1\"\n",
    )
    .unwrap();
    std::fs::write(dir.join(".gitignore"), "/target\n").unwrap();
    let git = |args: &[&str]| {
        let names = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"];
        let done = Command::new("git").arg("-C").arg(dir).args(names).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "--quiet"]);
    for (text, message) in
        [(good.as_str(), "first"), ("// Another.\n", "second"), ("fn main() { no_such_thing() }\n", "third")]
    {
        let text = if message == "second" { format!("{good}{text}") } else { text.to_owned() };
        std::fs::write(dir.join("main.rs"), text).unwrap();
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", message]);
    }
}

fn in_dir(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mipro"));
    let done = command
        .args(args)
        .current_dir(dir)
        .env_remove("CARGO_TARGET_DIR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

#[test]
fn revisions_are_built_and_one_that_does_not_build_is_125() {
    let dir = tempfile::tempdir().unwrap();
    repository(dir.path());
    let fixed =
        ["--stack", "embedded", "--pairs", "1", "--slice", "200ms", "--on-inconclusive", "pass", "--quiet"];
    let fixed = [&fixed[..], &["--steal-max", "100%"]].concat();
    let (code, stdout, stderr) =
        in_dir(dir.path(), &[&["compare", "--rev", "HEAD~2", "HEAD~1"], &fixed[..]].concat());
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("HEAD~1 against HEAD~2"), "{stdout}");
    let (code, _, stderr) =
        in_dir(dir.path(), &[&["compare", "--rev", "HEAD~1", "HEAD"], &fixed[..]].concat());
    assert_eq!(code, Some(125), "{stderr}");
    assert!(stderr.contains("HEAD (") && stderr.contains("no_such_thing"), "{stderr}");
    let (code, _, stderr) =
        in_dir(dir.path(), &[&["compare", "--rev", "HEAD~1", "nowhere"], &fixed[..]].concat());
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("there is no revision `nowhere`"), "{stderr}");
}

#[test]
fn what_is_no_side_is_told_before_anything_starts() {
    let (code, _, stderr, _dir) = compare(&["blob", "blub"], &[]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("blub") && stderr.contains("bin:PATH"), "{stderr}");
    assert_eq!(run(&["compare", "blob"], &[]).0.code(), Some(2), "a side is missing");
    assert_eq!(compare(&["blob", "blob"], &["--margin", "0"]).0, Some(2));
}

#[test]
fn an_interrupted_comparison_has_no_verdict_and_130() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut running = Command::new(env!("CARGO_BIN_EXE_mipro"))
        .args([
            "compare",
            "write-back",
            "write-back",
            "--stack",
            "embedded",
            "--slice",
            "200ms",
            "--pairs",
            "500",
        ])
        .args(["--llm", "none", "--noise", "none.json", "--out", out.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(running.stderr.take().unwrap()));
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("pair 1")), "no pair was told");
    rustix::process::kill_process(rustix::process::Pid::from_child(&running), rustix::process::Signal::INT)
        .unwrap();
    let drained = std::thread::spawn(move || lines.map_while(Result::ok).count());
    let done = running.wait_with_output().unwrap();
    drained.join().unwrap();
    assert_eq!(done.status.code(), Some(130));
    let stdout = String::from_utf8_lossy(&done.stdout);
    assert!(stdout.starts_with("INCONCLUSIVE: ") && stdout.contains("interrupted"), "{stdout}");
    let report = read(&out);
    assert_eq!(report["run"]["interrupted"], true);
    assert_eq!(report["comparisons"][0]["verdict"]["verdict"], "inconclusive");
}

#[test]
fn a_machine_is_held_against_itself_and_later_comparisons_know_it() {
    let dir = tempfile::tempdir().unwrap();
    let noise = dir.path().join("noise.json");
    let args = ["aa", "--side", "write-back", "--stack", "embedded", "--llm", "none", "--quiet"];
    let args = [&args[..], &["--steal-max", "100%"]].concat();
    let more = [
        "--runs",
        "2",
        "--pairs",
        "4",
        "--slice",
        "200ms",
        "--redrawn",
        "5",
        "--keep",
        noise.to_str().unwrap(),
    ];
    let (status, stdout, stderr) = run(&[&args[..], &more].concat(), &[]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stdout.starts_with("held against itself, overhead p50 differs by"), "{stdout}");
    let floor: Value = serde_json::from_slice(&std::fs::read(&noise).unwrap()).unwrap();
    assert_eq!((&floor["schema"], &floor["pairs"]), (&"mipro.noise/2".into(), &4.into()));
    let fresh = floor["fresh"].as_array().unwrap();
    assert!(fresh.iter().any(|of| of["endpoint"] == "overhead" && of["comparisons"] == 2), "{floor}");
    assert!(floor["redrawn"][0]["comparisons"] == 5, "{floor}");

    let out = dir.path().join("out");
    let args =
        ["compare", "write-back", "write-back", "--stack", "embedded", "--pairs", "1", "--slice", "200ms"];
    let more = ["--llm", "none", "--on-inconclusive", "pass", "--quiet", "--noise", noise.to_str().unwrap()];
    let more = [&more[..], &["--steal-max", "100%"]].concat();
    let (status, _, stderr) = run(&[&args[..], &more[..], &["--out", out.to_str().unwrap()]].concat(), &[]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert_eq!(read(&out)["environment"]["noise_floor"], floor);
}
