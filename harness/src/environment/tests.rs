use super::*;

#[test]
fn steal_is_a_share_of_all_time_without_counting_guests_twice() {
    let before = CpuTimes::parse("cpu  100 0 50 800 0 0 0 50 10 0\ncpu0 1 2 3\n");
    let after = CpuTimes::parse("cpu  150 0 100 1000 0 0 0 150 60 0\n");
    assert_eq!(before, CpuTimes { steal: 50, total: 1000 });
    assert!((after.steal_pct_since(before) - 25.0).abs() < 1e-9);
    assert!(before.steal_pct_since(before).abs() < f64::EPSILON);
}

#[test]
fn fields_are_found_by_their_whole_name() {
    let text = "PRETTY_NAME=\"Debian 12\"\nNAME=\"Debian\"\n";
    assert_eq!(field(text, "NAME", '='), Some("Debian".to_owned()));
    assert_eq!(field(text, "VERSION", '='), None);
    assert_eq!(memory_bytes("MemTotal:       1024 kB\n"), 1_048_576);
}

#[test]
fn outside_a_checkout_the_commit_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Revision::of(dir.path()), Revision { commit: "unknown".to_owned(), dirty: false });
}
