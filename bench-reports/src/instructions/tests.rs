use super::*;

/// As version 3.19 writes it, shortened.
const CALLGRIND: &str = "# callgrind format
version: 1
creator: callgrind-3.19.0
pid: 4711
cmd:  ./instructions-0123456789abcdef --scene service/tpe.suggest_8
part: 1


desc: I1 cache: 
desc: D1 cache: 
desc: LL cache: 

desc: Timerange: Basic block 0 - 3145922
desc: Trigger: Program termination

positions: line
events: Ir
summary: 182233


ob=(3) /somewhere/instructions
fl=(46) lib.rs
fn=(612) mipro_microbench::callgrind::mipro_counted_scene
113 3
cfn=(614)
calls=1 24 
114 182225
115 5

totals: 182233
";

fn toolchain() -> Toolchain {
    Toolchain {
        rustc: "1.95.0 (abc 2026-04-14)".to_owned(),
        target: "x86_64-unknown-linux-gnu".to_owned(),
        valgrind: "3.19.0".to_owned(),
        libc: "glibc 2.36".to_owned(),
        simd: "avx2".to_owned(),
    }
}

#[test]
fn the_total_is_read_whatever_else_is_counted() {
    assert_eq!(callgrind_total(CALLGRIND), Ok(182_233));
    let branches = CALLGRIND.replace("events: Ir", "events: Bc Ir").replace("totals: 182233", "totals: 7 42");
    assert_eq!(callgrind_total(&branches), Ok(42));
}

#[test]
fn without_totals_the_parts_are_added() {
    let parts = "events: Ir\nsummary: 40\n\npart: 2\nevents: Ir\nsummary: 2\n";
    assert_eq!(callgrind_total(parts), Ok(42));
    assert_eq!(callgrind_total("events: Ir\nsummary: 40\nsummary: x\n"), Err(CallgrindError::NoTotal));
}

#[test]
fn what_counts_nothing_is_no_count() {
    assert_eq!(callgrind_total(""), Err(CallgrindError::NoEvent));
    assert_eq!(callgrind_total("events: Dr\ntotals: 5\n"), Err(CallgrindError::NoEvent));
    assert_eq!(callgrind_total("events: Ir\n"), Err(CallgrindError::NoTotal));
    assert_eq!(callgrind_total("events: Ir\ntotals: many\n"), Err(CallgrindError::NoTotal));
    assert_eq!(callgrind_total("events: Ir\ntotals: 0\n"), Err(CallgrindError::Nothing));
}

#[test]
fn a_file_reads_back_as_it_was_written() {
    let mut counts = Instructions::of(toolchain());
    let count = SceneCount { instructions: 1_000, operations: 8 };
    counts.scenes.insert("service/tpe.suggest_8".to_owned(), count);
    assert_eq!(Instructions::parse(&counts.to_json()).unwrap(), counts);
    assert!((count.each() - 125.0).abs() < 1e-9);
    let other = counts.to_json().replace("instructions/1", "instructions/2");
    assert!(matches!(Instructions::parse(&other), Err(FileError::Schema(_))));
    assert!(matches!(Instructions::parse("{}"), Err(FileError::Json(_))));
}

#[test]
fn another_toolchain_is_named() {
    assert_eq!(toolchain().difference(&toolchain()), None);
    let newer = Toolchain { rustc: "1.96.0".to_owned(), libc: "glibc 2.39".to_owned(), ..toolchain() };
    assert_eq!(
        toolchain().difference(&newer).unwrap(),
        "rustc 1.96.0, not 1.95.0 (abc 2026-04-14); C library glibc 2.39, not glibc 2.36"
    );
}
