use super::*;

fn left(parent: &Path, name: &str, lock: bool) -> PathBuf {
    let dir = parent.join(name);
    std::fs::create_dir(&dir).unwrap();
    if lock {
        File::create(dir.join(SCRATCH_LOCK)).unwrap();
    }
    dir
}

#[test]
fn only_what_a_killed_run_left_behind_is_swept() {
    let parent = tempfile::tempdir().unwrap();
    let killed = left(parent.path(), "mipro-bench-0", true);
    let kept = left(parent.path(), "mipro-bench-1", false);
    let foreign = left(parent.path(), "other-0", true);
    let mine = Scratch::new(parent.path()).unwrap();
    assert!(!killed.exists(), "its lock is free, so its run is dead");
    assert!(kept.exists() && foreign.exists());
    // Another run starts while this one lives.
    Scratch::sweep(parent.path());
    assert!(mine.path().exists(), "its lock is held");
    let path = mine.path().to_owned();
    drop(mine);
    assert!(!path.exists());
}

#[test]
fn logs_kept_for_an_error_outlive_the_next_sweep() {
    let parent = tempfile::tempdir().unwrap();
    let scratch = Scratch::new(parent.path()).unwrap();
    scratch.keep_for(&mipro_harness::Error::Unexpected("a test".to_owned()));
    let path = scratch.path().to_owned();
    drop(scratch);
    Scratch::sweep(parent.path());
    assert!(path.exists());
}
