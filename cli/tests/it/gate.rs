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
[counts.bounded.process]
allocations = { value = 0, hard = 1000000 }
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
    assert!(stdout.starts_with("PASS: 9 of 9 gates hold"), "{stdout}");
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
    let more = [&more[..], &["--steal-max", "100%"]].concat();
    let (code, stdout, stderr) = gate(dir.path(), budgets, &more, &[]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("overhead p50"), "{stdout}");

    let impossible = budgets.replace("<60s", "<1us");
    let (code, stdout, _) = gate(dir.path(), &impossible, &more, &[]);
    assert_eq!(code, Some(99), "{stdout}");
    assert!(!stdout.contains("overhead p50"), "nobody waits for a comparison to hear of it: {stdout}");
}

/// What a run without a fault counts is accepted; then the same passes, and a hundred allocations more a rollout do not.
#[test]
fn a_hundred_more_allocations_a_rollout_are_caught() {
    let dir = tempfile::tempdir().unwrap();
    let old = "schema = \"mipro.budgets/1\"\n[counts.bounded.process]\nallocations = { value = 1, hard = \"5%\" }\n";
    assert_eq!(gate(dir.path(), old, &["--accept"], &[]).0, Some(0));
    let new = std::fs::read_to_string(dir.path().join("budgets.toml")).unwrap();
    let (code, stdout, stderr) = gate(dir.path(), &new, &[], &[]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let (code, stdout, stderr) = gate(dir.path(), &new, &[], &[("MIPRO_PLANT", "allocations")]);
    assert_eq!(code, Some(99), "{stdout}{stderr}");
    assert!(stdout.contains("BREACH        bounded process.allocations"), "{stdout}");
}

/// As `cargo bench --bench instructions` leaves them.
fn instructions(rustc: &str, each: u64) -> String {
    format!(
        r#"{{"schema": "mipro.instructions/1",
            "toolchain": {{"rustc": "{rustc}", "target": "t", "valgrind": "3.19.0", "libc": "glibc 2.36", "simd": "avx2"}},
            "scenes": {{"service/tpe.suggest_8": {{"instructions": {each}, "operations": 1}}}}}}"#
    )
}

#[test]
fn instructions_are_judged_from_what_the_benches_wrote() {
    const BUDGETS: &str = "schema = \"mipro.budgets/1\"\n[instructions]\nhard = \"5%\"\n[instructions.toolchain]\nrustc = \"1\"\n\
        target = \"t\"\nvalgrind = \"3.19.0\"\nlibc = \"glibc 2.36\"\nsimd = \"avx2\"\n[instructions.scenes]\n\
        \"service/tpe.suggest_8\" = 1000\n";
    let dir = tempfile::tempdir().unwrap();
    let counts = dir.path().join("counts");
    std::fs::create_dir(&counts).unwrap();
    let judged = |rustc: &str, each: u64, more: &[&str]| {
        std::fs::write(counts.join("service.json"), instructions(rustc, each)).unwrap();
        let (budgets, counts) = (budgets(dir.path(), BUDGETS), counts.to_str().unwrap());
        let (status, stdout, stderr) = run(
            &[&["gate", "--budgets", budgets.to_str().unwrap(), "--instructions", counts], more].concat(),
            &[],
        );
        (status.code(), format!("{stdout}{stderr}"))
    };
    let (code, said) = judged("1", 1_049, &[]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = judged("1", 1_051, &[]);
    assert_eq!(code, Some(99), "{said}");
    assert!(said.contains("BREACH        service/tpe.suggest_8 instructions: 1,051"), "{said}");
    let (code, said) = judged("2", 9_999, &["--on-inconclusive", "pass"]);
    assert_eq!(code, Some(0), "another compiler: {said}");
    assert!(said.contains("skipped: the budget is of another toolchain"), "{said}");
    let (code, said) = judged("2", 9_999, &["--accept"]);
    assert_eq!(code, Some(0), "{said}");
    let accepted = std::fs::read_to_string(dir.path().join("budgets.toml")).unwrap();
    assert!(accepted.contains("rustc = \"2\"") && accepted.contains("= 9999"), "{accepted}");
}
