use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{Scene, repeated};

#[test]
fn without_valgrind_it_says_so_and_fails_where_nobody_looks() {
    let nothing = tempfile::tempdir().unwrap();
    assert_eq!(find("valgrind", Some(nothing.path().as_os_str())), None);
    assert_eq!(find("valgrind", None), None);
    let (said, code) = missing(false);
    assert!(said.starts_with("skipped: no valgrind (") && said.ends_with(')'), "{said}");
    assert_eq!((code, missing(true).1), (0, 1), "CI has it installed: there, its absence is a fault");
}

#[test]
fn a_program_is_found_in_the_second_directory_too() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let path = env::join_paths(dirs.iter().map(tempfile::TempDir::path)).unwrap();
    let program = dirs[1].path().join("valgrind");
    std::fs::write(&program, "").unwrap();
    assert_eq!(find("valgrind", Some(&path)), Some(program));
}

#[test]
fn the_child_runs_the_scene_it_is_told_and_no_other() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static RUN: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];
    let scenes = [
        Scene::pure("one", 1, || {
            repeated(|| {
                RUN[0].fetch_add(1, Ordering::Relaxed);
            })
        }),
        Scene::pure("another", 1, || {
            repeated(|| {
                RUN[1].fetch_add(1, Ordering::Relaxed);
            })
        }),
    ];
    assert_eq!(child(&scenes, "another"), ExitCode::SUCCESS);
    let run = RUN.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert_eq!(run, [0, 2], "once to warm up, once to be counted");
    assert_eq!(child(&scenes, "none such"), ExitCode::FAILURE);
}

/// Something that stands for valgrind: writes what it is told to where callgrind would, and its arguments to stderr.
fn stand_in(dir: &Path, totals: &str, code: u8) -> PathBuf {
    let path = dir.join("valgrind");
    let script = format!(
        "#!/bin/sh\nfor a in \"$@\"; do case $a in --callgrind-out-file=*) out=${{a#*=}};; esac; done\n\
         printf 'events: Ir\\n{totals}\\n' > \"$out\"\necho \"$@\" >&2\nexit {code}\n"
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_count_is_what_callgrind_wrote_and_a_failure_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out");
    let count = |totals, code| count(&stand_in(dir.path(), totals, code), "one", &file);
    assert_eq!(count("totals: 1234", 0).unwrap(), 1234);
    let failed = count("totals: 1234", 3).unwrap_err().to_string();
    assert!(failed.contains("exit status: 3") && failed.contains("--scene one"), "{failed}");
    assert!(matches!(count("totals: 0", 0), Err(Error::Callgrind(_))), "nothing was measured");
}
