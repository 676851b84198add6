//! `gate`: counts held against budgets; each planted fault is caught with its stage's name.

use std::path::{Path, PathBuf};

use super::common::*;

/// What a rollout costs on the embedded stack, by what the service and the object store say.
const BUDGETS: &str = r#"schema = "mipro.budgets/1"
[run]
rollouts = 6
concurrency = 1
systems = 1
llm = "none"
link = "loopback"
[counts.blob.critical]
db_statements = 6
s3_get = 3
s3_put = 3
llm_calls = 1
[counts.bounded.critical]
db_statements = 0
s3_put = 0
llm_calls = 1
[counts.bounded.background]
log_syncs = 3
"#;

fn budgets(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("budgets.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn gate(dir: &Path, text: &str, more: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let (budgets, out) = (budgets(dir, text), dir.join("out"));
    let fixed = ["gate", "--stack", "embedded", "--quiet", "--noise", "none.json"];
    let files = ["--budgets", budgets.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let (status, stdout, stderr) = run(&[&fixed[..], &files, more].concat(), env);
    (status.code(), stdout, stderr)
}

#[test]
fn a_build_within_its_budgets_passes_with_a_summary() {
    let dir = tempfile::tempdir().unwrap();
    let summary = dir.path().join("summary.md");
    let (code, stdout, stderr) = gate(dir.path(), BUDGETS, &["--markdown", summary.to_str().unwrap()], &[]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.starts_with("PASS: 8 of 8 gates hold"), "{stdout}");
    assert!(std::fs::read_to_string(summary).unwrap().contains('|'), "a table");
}

/// Caught with 99, and the line that says so names the stage.
fn caught(fault: &str, gate_name: &str, stage: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = gate(dir.path(), BUDGETS, &[], &[("MIPRO_PLANT", fault)]);
    assert_eq!(code, Some(99), "{fault}: {stdout}{stderr}");
    let told: Vec<&str> = stdout.split("\nBREACH").filter(|part| part.contains(gate_name)).collect();
    assert!(
        told.iter().any(|part| part.contains(stage)),
        "{fault}: no breach of {gate_name} names {stage}: {stdout}"
    );
}

#[test]
fn one_more_database_query_a_rollout_is_caught() {
    caught("db_query", "bounded critical.db_statements", "db.query");
}

#[test]
fn one_more_object_a_rollout_is_caught() {
    caught("s3_put", "bounded critical.s3_put", "s3.put");
}

#[test]
fn one_more_log_sync_a_rollout_is_caught() {
    caught("log_sync", "bounded background.log_syncs", "log.sync");
}

#[test]
fn what_was_counted_becomes_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let old = "schema = \"mipro.budgets/1\"\n[counts.blob.critical]\ns3_put = 2 # each save\n";
    let (code, stdout, stderr) = gate(dir.path(), old, &["--accept"], &[]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("blob critical.s3_put: 2 → 3"), "{stdout}");
    let new = std::fs::read_to_string(dir.path().join("budgets.toml")).unwrap();
    assert!(new.contains("s3_put = 3 # each save"), "{new}");
    assert_eq!(gate(dir.path(), &new, &[], &[]).0, Some(0));
}

#[test]
fn what_was_not_measured_is_125_and_what_is_no_budget_is_1() {
    let dir = tempfile::tempdir().unwrap();
    // Round trips need a wire, and the embedded database has none.
    let wire = "schema = \"mipro.budgets/1\"\n[counts.blob.critical]\ndb_round_trips = 18\n";
    let (code, stdout, _) = gate(dir.path(), wire, &[], &[]);
    assert_eq!(code, Some(125), "{stdout}");
    assert!(stdout.contains("--stack native"), "{stdout}");
    let (code, _, stderr) = gate(dir.path(), "schema = \"mipro.budgets/9\"\n", &[], &[]);
    assert_eq!(code, Some(1), "{stderr}");
}

#[test]
fn a_ceiling_is_held_and_a_base_is_compared_with() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = "schema = \"mipro.budgets/1\"\n[[ceilings]]\nrung = \"bounded\"\nhard = \"overhead:med<60s\"\n\
                   [[comparisons]]\nendpoint = \"overhead\"\np = 50\nhard = \"900%\"\n";
    let base = format!("bin:{}", env!("CARGO_BIN_EXE_mipro"));
    let more = ["--base", base.as_str(), "--pairs", "6", "--slice", "300ms", "--on-inconclusive", "pass"];
    let (code, stdout, stderr) = gate(dir.path(), budgets, &more, &[]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("overhead p50"), "{stdout}");

    let impossible = budgets.replace("<60s", "<1us");
    let (code, stdout, _) = gate(dir.path(), &impossible, &more, &[]);
    assert_eq!(code, Some(99), "{stdout}");
    assert!(!stdout.contains("overhead p50"), "nobody waits for a comparison to hear of it: {stdout}");
}
