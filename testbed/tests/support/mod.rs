//! What the tests of child processes share.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Far more than any step takes, so that a test that hangs fails by name.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a process has ended, whoever its parent is.
#[expect(
    deprecated,
    reason = "the newer constructor is unsafe; an owned descriptor that nobody else has is sound here"
)]
pub(crate) async fn gone(pid: i32) {
    let pid = Pid::from_raw(pid).unwrap();
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => AsyncFd::with_interest(process, Interest::READABLE).unwrap(),
        Err(rustix::io::Errno::SRCH) => return,
        Err(error) => panic!("cannot watch process {pid:?}: {error}"),
    };
    let ended = tokio::time::timeout(PATIENCE, process.readable()).await;
    drop(ended.unwrap_or_else(|_| panic!("process {pid:?} is still running")).unwrap());
}

/// A program that runs the test called `role` of this test binary, as a role of its own, with `args` in `ROLE_ARGS`.
pub(crate) fn role_program(dir: &std::path::Path, role: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let exe = std::env::current_exe().unwrap();
    let program = dir.join(format!("{role}.sh"));
    let text = format!(
        "#!/bin/sh\nROLE_ARGS=\"$*\" exec '{}' --exact {role} --nocapture --test-threads=2\n",
        exe.display()
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// The arguments of this role; `None` when the test runs as a test.
pub(crate) fn role_args() -> Option<Vec<String>> {
    let args = std::env::var("ROLE_ARGS").ok()?;
    Some(args.split_ascii_whitespace().map(str::to_owned).collect())
}
