//! `report` on a saved run: formats for other tools, thresholds, exit codes.

use std::path::Path;

use mipro_bench_reports::{Accounting, Recorder, Report, Rung, SCHEMA, Times, Validity, json};
use serde_json::Value;

use super::common::*;

/// A saved run of two rungs of 100 rollouts of 1 to 100 ms.
fn saved(dir: &Path, change: impl FnOnce(&mut Report)) -> String {
    let rung = |name: &str| {
        let dist = (1..=100).map(|n| n * 1_000_000).collect::<Recorder>().to_dist();
        Rung {
            name: name.to_owned(),
            wall_seconds: 10.0,
            accounting: Accounting { intended: 100, ok: 100, ..Accounting::default() },
            validity: Validity { ok: true, reasons: vec![] },
            rollout: Times { response: dist.clone(), service: dist.clone(), lag: None },
            overhead: dist,
            ..Rung::default()
        }
    };
    let rungs = vec![rung("blob"), rung("parallel")];
    let mut report = Report { schema: SCHEMA.to_owned(), rungs, ..Report::default() };
    change(&mut report);
    let path = dir.join("report.json");
    json::write(&path, &report).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_saved_run_is_told_to_other_tools() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path(), |_| {});
    let told = |more: &[&str]| {
        let (status, stdout, stderr) = run(&[&["report", path.as_str()], more].concat(), &[]);
        assert_eq!(status.code(), Some(0), "{more:?}: {stderr}");
        stdout
    };
    let parsed = |more: &[&str]| -> Value { serde_json::from_str(&told(more)).unwrap() };
    assert_eq!(parsed(&["--format", "oha"])["summary"]["requestsPerSec"], 10.0);
    assert_eq!(parsed(&["--format", "bencher"])["blob/overhead"]["latency-p50"]["value"], 50_003_967.0);
    assert_eq!(parsed(&["--format", "github"])[0]["name"], "blob/rollout.response p50");
    let k6 = parsed(&["--format", "k6", "--rung", "blob", "--threshold", "response:p(90)<91ms"]);
    assert_eq!(k6["metrics"]["iteration_duration"]["thresholds"]["p(90)<91ms"]["ok"], true, "{k6}");
    assert!(told(&["--format", "markdown"]).starts_with("<!-- mipro report -->\n**"));
}

#[test]
fn thresholds_on_a_saved_run_have_their_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path(), |_| {});
    let held = |path: &str, threshold: &str| {
        let (status, _, stderr) = run(&["report", path, "--threshold", threshold], &[]);
        (status.code(), stderr)
    };
    let (code, said) = held(&path, "overhead:p(90)<91ms");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("holds: overhead:p(90)<91ms (parallel: 90.0 ms)"), "{said}");
    let (code, said) = held(&path, "overhead:p(90)<89ms");
    assert_eq!(code, Some(99), "{said}");
    assert!(said.contains("BREACHED: overhead:p(90)<89ms (blob: 90.0 ms)"), "{said}");
    let (code, said) = held(&path, "overhead:p(99)<1s");
    assert_eq!(code, Some(99), "no evidence is no pass: {said}");
    let (code, said) = held(&path, "overhead:p(90)<89");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("column 18: a unit is missing after 89"), "{said}");

    let interrupted = saved(dir.path(), |report| report.run.interrupted = true);
    assert_eq!(held(&interrupted, "overhead:p(90)<91ms").0, Some(125), "a partial report passes nothing");
    let doubtful = saved(dir.path(), |report| report.rungs[0].validity.ok = false);
    assert_eq!(held(&doubtful, "overhead:p(90)<89ms").0, Some(125));
    let empty = saved(dir.path(), |report| report.rungs.clear());
    assert_eq!(held(&empty, "accounting.errors:count==0").0, Some(99), "nothing ran, nothing holds");
}

#[test]
fn a_rung_that_did_not_run_is_named_with_those_that_did() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path(), |_| {});
    let (status, _, stderr) = run(&["report", &path, "--rung", "nope"], &[]);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("no rung nope in this run: blob, parallel"), "{stderr}");
}
