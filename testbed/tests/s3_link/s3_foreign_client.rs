//! The S3 server as a client of another make sees it: boto3, through Python.

use std::env;
use std::io::Write as _;
use std::process::{Command, Output};

use mipro_testbed::s3::Options;

use crate::support::Server;

/// A Python that has boto3: the one named by the environment, else `python3`.
fn python() -> Option<String> {
    let named = env::var("MIPRO_TEST_PYTHON").ok();
    let python = named.clone().unwrap_or_else(|| "python3".to_owned());
    let imports = Command::new(&python).args(["-c", "import boto3"]).output();
    if imports.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(named.is_none(), "MIPRO_TEST_PYTHON={python} has no boto3");
    None
}

#[tokio::test]
async fn boto3_finds_all_as_it_expects() {
    let Some(python) = python() else {
        let message = "skipped: no Python with boto3 (set MIPRO_TEST_PYTHON, or install it for python3)";
        assert!(env::var("CI").as_deref() != Ok("true"), "{message}");
        writeln!(std::io::stderr(), "{message}").unwrap();
        return;
    };
    let options = Options::default();
    let server = Server::start(options.clone()).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/s3_link/s3_boto3.py");
    let endpoint = format!("http://{}", server.addr);
    let run = move || {
        Command::new(python)
            .args([script, &endpoint, &options.access_key, &options.secret_key, &options.bucket])
            .env("NO_PROXY", "127.0.0.1")
            .output()
    };
    let Output { status, stdout, stderr } = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{said}");
    assert!(said.contains("all as expected"), "{said}");
}
