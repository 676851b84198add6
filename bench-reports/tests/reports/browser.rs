use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mipro_bench_reports::html::render_with;
use serde_json::Value;

use crate::fixture;

const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

pub(crate) fn browser() -> Option<&'static str> {
    let runs = |name: &&&str| {
        Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    let found = BROWSERS.iter().find(runs).copied();
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "no Chromium in CI");
        let _ = writeln!(std::io::stderr(), "skipped: no Chromium (install the package `chromium`)");
    }
    found
}

fn open(browser: &str, dir: &Path, html: &str) -> Output {
    fs::write(dir.join("report.html"), html).unwrap();
    Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args([
            "--disable-component-update",
            "--disable-sync",
            "--disable-default-apps",
            "--disable-extensions",
        ])
        .args(["--enable-logging=stderr", "--log-level=0", "--dump-dom"])
        .arg(format!("--user-data-dir={}", dir.join("profile").display()))
        .arg(format!("--log-net-log={}", dir.join("net.json").display()))
        .arg(format!("file://{}", dir.join("report.html").display()))
        .output()
        .unwrap()
}

/// What the page asked for, its own file aside.
fn requests(dir: &Path) -> Vec<String> {
    let log = fs::read_to_string(dir.join("net.json")).unwrap();
    // A browser that is stopped leaves the last line of its log open.
    let log: Value = serde_json::from_str(&log)
        .or_else(|_| serde_json::from_str(&format!("{}]}}", log.trim_end().trim_end_matches(','))))
        .unwrap();
    let events = log["events"].as_array().unwrap();
    events
        .iter()
        .filter(|event| {
            // The browser's own errands have no initiator; a page opened from a file has an opaque one.
            event["params"]["initiator"].as_str().is_some_and(|initiator| initiator != "not an origin")
        })
        .filter_map(|event| event["params"]["url"].as_str())
        .filter(|url| !url.starts_with("data:") && !url.starts_with("chrome"))
        .map(str::to_owned)
        .collect()
}

fn check(html: &str) -> Option<String> {
    let browser = browser()?;
    let dir = tempfile::tempdir().unwrap();
    let output = open(browser, dir.path(), html);
    let log = String::from_utf8_lossy(&output.stderr);
    let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(output.status.success(), "{log}");
    assert!(console.is_empty(), "{console:#?}");
    assert_eq!(requests(dir.path()), Vec::<String>::new());
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_page_opens_without_a_complaint_or_a_request() {
    let Some(dom) = check(&render_with(&fixture::report(), &[fixture::flamegraph()])) else { return };
    assert!(dom.contains("aria-sort=\"none\"><button type=\"button\">"), "the script did not run");
}

#[test]
fn hostile_texts_run_nothing() {
    let Some(dom) = check(&render_with(&fixture::hostile(), &[fixture::hostile_flamegraph()])) else {
        return;
    };
    assert_eq!(dom.matches("<script").count(), 1);
    assert!(!dom.contains("<img"));
}

/// That the two tests above would see it: a page that complains and asks is found out.
#[test]
fn a_page_that_complains_and_asks_is_found_out() {
    let Some(browser) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let html = "<!doctype html><title>x</title><img src=\"http://127.0.0.1:9/x.png\"><script>console.error('no')</script>";
    let output = open(browser, dir.path(), html);
    assert!(String::from_utf8_lossy(&output.stderr).lines().any(|line| line.contains("CONSOLE")));
    assert_eq!(requests(dir.path()).first().map(String::as_str), Some("http://127.0.0.1:9/x.png"));
}
