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

#[test]
fn a_path_is_on_the_innermost_mount_and_the_last_of_two() {
    let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\n/dev/vdc /srv ext3 rw 0 0\n\
                  none /srv btrfs rw 0 0\n";
    let of = |path: &str| filesystem(mounts, Path::new(path));
    assert_eq!(of("/home/a"), Some("ext4"));
    assert_eq!(of("/tmp/a"), Some("tmpfs"));
    assert_eq!(of("/tmpdir"), Some("ext4"));
    assert_eq!(of("/tmp/disk/a"), Some("xfs"));
    assert_eq!(of("/srv"), Some("btrfs"));
    assert_eq!(filesystem("", Path::new("/")), None);
}
