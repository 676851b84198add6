use super::*;

/// A repository with a package that builds to `mipro`, then one commit that does not.
fn repository(dir: &Path) {
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let git = |args: &[&str]| {
        let names = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"];
        let done =
            std::process::Command::new("git").arg("-C").arg(dir).args(names).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let manifest = "[package]\nname = \"mipro-cli\"\nversion = \"0.0.1\"\nedition = \"2024\"\n\
                    [[bin]]\nname = \"mipro\"\npath = \"main.rs\"\n[workspace]\n";
    write("Cargo.toml", manifest);
    write("Cargo.lock", "version = 4\n\n[[package]]\nname = \"mipro-cli\"\nversion = \"0.0.1\"\n");
    write(".gitignore", "/target\n");
    write("main.rs", "fn main() { println!(\"first\") }\n");
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "first"]);
    write("main.rs", "fn main() { this_is_no_function() }\n");
    git(&["commit", "--quiet", "-a", "-m", "second"]);
}

#[tokio::test]
async fn a_revision_is_built_once_beside_the_work_tree() {
    let dir = tempfile::tempdir().unwrap();
    repository(dir.path());
    let binary = build(dir.path(), "HEAD~1").await.unwrap();
    let said = std::process::Command::new(&binary).output().unwrap().stdout;
    assert_eq!(String::from_utf8_lossy(&said), "first\n");
    let home = binary.parent().and_then(Path::parent).unwrap();
    let trees = std::fs::read_dir(home)
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("tree-"));
    assert_eq!(trees.count(), 0, "the work tree is gone");

    // Built before: cargo and the work tree are not needed, so a wrecked build directory does no harm.
    std::fs::remove_dir_all(home.join("build")).unwrap();
    assert_eq!(build(dir.path(), "HEAD~1").await.unwrap(), binary);
    assert!(!home.join("build").exists());
}

#[tokio::test]
async fn a_revision_that_does_not_build_says_why() {
    let dir = tempfile::tempdir().unwrap();
    repository(dir.path());
    let error = build(dir.path(), "HEAD").await.unwrap_err();
    assert!(error.is_unbuildable(), "{error}");
    assert!(error.to_string().contains("this_is_no_function"), "{error}");
}

#[tokio::test]
async fn what_is_no_revision_is_no_unbuildable_one() {
    let dir = tempfile::tempdir().unwrap();
    repository(dir.path());
    let error = build(dir.path(), "no-such-branch").await.unwrap_err();
    assert!(!error.is_unbuildable());
    assert_eq!(error.to_string(), "git: there is no revision `no-such-branch`");
}

#[test]
fn only_the_end_of_a_long_output_is_told() {
    let text: String = (0..100).map(|n| format!("line {n}\n\n")).collect();
    let tail = tail(&text);
    assert_eq!((tail.lines().count(), tail.lines().next_back()), (TAIL_LINES_MAX, Some("line 99")));
}
