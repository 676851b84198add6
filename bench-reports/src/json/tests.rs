use super::*;

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn error(text: &str) -> String {
    let (dir, path) = written(text);
    let error = read(&path).unwrap_err();
    // As a command prints it: the error, then its cause, each once.
    let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
    let message = format!("{error}{cause}");
    message.replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn what_is_wrong_is_said() {
    insta::assert_snapshot!(error("{\"schema\": \"mip"), @"DIR/report.json is not JSON: EOF while parsing a string at line 1 column 15");
    insta::assert_snapshot!(error("{\"rungs\": []}"), @r#"DIR/report.json is not a report: it has no "schema" (this build reads "mipro.report/1")"#);
    insta::assert_snapshot!(error("{\"schema\": 1}"), @r#"DIR/report.json is not a report: it has no "schema" (this build reads "mipro.report/1")"#);
    insta::assert_snapshot!(error("{\"schema\": \"mipro.report/2\"}"), @r#"DIR/report.json has schema "mipro.report/2"; this build reads "mipro.report/1": use the build that wrote it"#);
    insta::assert_snapshot!(error("{\"schema\": \"mipro.report/1\"}"), @r#"DIR/report.json says it is "mipro.report/1" but does not keep to it: missing field `run` at line 1 column 28"#);
}

#[test]
fn a_missing_file_names_itself() {
    let dir = tempfile::tempdir().unwrap();
    let message = read(&dir.path().join("none.json")).unwrap_err().to_string();
    assert!(message.contains("cannot read") && message.contains("none.json"), "{message}");
}

#[test]
fn a_failed_write_leaves_the_old_and_no_litter() {
    let dir = tempfile::tempdir().unwrap();
    // A directory of that name cannot be replaced by a file.
    let path = dir.path().join("report.json");
    fs::create_dir(&path).unwrap();
    assert!(matches!(write_atomically(&path, b"new"), Err(Error::Io { action: "write", .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    fs::remove_dir(&path).unwrap();
    write_atomically(&path, b"one").unwrap();
    write_atomically(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
