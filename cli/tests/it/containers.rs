//! `bench --stack containers` where it can't be had says what is missing. That it works is tested in the testbed.

use super::common::*;

const BENCH: [&str; 9] =
    ["bench", "--rungs", "direct", "--stack", "containers", "--link", "loopback", "--quiet", "--no-loss"];

#[test]
fn without_an_engine_it_says_so() {
    let (status, _, stderr) = run(&BENCH, &[("DOCKER_HOST", "unix:///nowhere/docker.sock")]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no Docker ("), "{stderr}");
    assert!(stderr.contains("--stack native, embedded or external"), "{stderr}");
}

#[test]
fn a_secret_in_a_command_is_refused_before_anything_starts() {
    let (status, _, stderr) = run(&BENCH, &[("MIPRO_S3_COMMAND", "serve --key {secret_key}")]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("may not stand in a container's command"), "{stderr}");
}
