//! Children are started, watched, drained, and never left behind.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests may unwrap")]

mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::Duration;

use mipro_testbed::process::{Child, Error, Fleet, Spec, shutdown_on_request};
use rustix::process::{Pid, Signal, kill_process};
use support::{PATIENCE, gone, role_args, role_program};
use tempfile::TempDir;

const READY: &str = "echo listening on tcp://127.0.0.1:1";

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A shell as a child; it is ready when it says so.
fn sh(name: &str, script: &str) -> Spec {
    Spec::new(name, "/bin/sh").args(["-c", script]).wait_for_ready_line(PATIENCE)
}

async fn start(dir: &TempDir, script: &str) -> Child {
    Child::start(sh("child", script), dir.path()).await.unwrap()
}

fn number_in(path: &Path) -> i32 {
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn the_ready_line_tells_both_addresses() {
    let dir = temp();
    let script =
        "echo noise; echo listening on http://127.0.0.1:81 admin http://127.0.0.1:82; echo more; cat";
    let child = start(&dir, script).await;
    let ready = child.ready().unwrap();
    assert_eq!(ready.url, "http://127.0.0.1:81");
    assert_eq!(ready.admin_url.as_deref(), Some("http://127.0.0.1:82"));
    assert_eq!(ready.address(), Some("127.0.0.1:81"));
}

#[tokio::test]
async fn an_early_death_tells_the_status_and_the_last_words() {
    let dir = temp();
    let script = "echo cannot open the thing: no such thing >&2; echo giving up >&2; exit 3";
    let error = Child::start(sh("s3", script), dir.path()).await.unwrap_err();
    insta::assert_snapshot!(error, @r"
    s3 ended before it was ready (exit status: 3); its last lines:
    cannot open the thing: no such thing
    giving up
    ");
}

#[tokio::test]
async fn a_silent_early_death_says_that_it_was_silent() {
    let dir = temp();
    let error = Child::start(sh("link", "kill -9 $$"), dir.path()).await.unwrap_err();
    insta::assert_snapshot!(error, @"link ended before it was ready (signal: 9 (SIGKILL)); it wrote nothing");
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let dir = temp();
    let error = Child::start(Spec::new("serve", "/no/such/program"), dir.path()).await.unwrap_err();
    insta::assert_snapshot!(error, @"cannot start serve: cannot run /no/such/program");
}

#[tokio::test]
async fn a_missing_log_directory_is_named() {
    let error = Child::start(Spec::new("serve", "/bin/true"), Path::new("/no/such/dir")).await.unwrap_err();
    insta::assert_snapshot!(error, @"cannot start serve: cannot write its log in /no/such/dir");
}

#[tokio::test]
async fn a_child_that_is_not_ready_in_time_is_stopped() {
    let dir = temp();
    // It closes its stdout, so that nothing but the deadline can end the wait.
    let mark = dir.path().join("pid");
    let script = format!("echo $$ > {}; exec >&-; sleep 1000", mark.display());
    let spec = Spec::new("slow", "/bin/sh").args(["-c", &script]).wait_for_ready_line(Duration::from_secs(2));
    let error = Child::start(spec, dir.path()).await.unwrap_err();
    assert!(matches!(error, Error::NotReady { deadline_ms: 2000, .. }), "{error}");
    gone(number_in(&mark)).await;
}

#[tokio::test]
async fn terminate_is_polite_first() {
    let dir = temp();
    let child = start(&dir, &format!("trap 'exit 7' TERM; {READY}; while :; do sleep 0.1; done")).await;
    let stopped = child.terminate(PATIENCE).await;
    assert!(!stopped.forced);
    assert_eq!(stopped.exit.unwrap().status.code(), Some(7));
    assert_eq!(child.exit(), stopped.exit);
    assert_eq!(child.usage(), None, "a process id that is free may be a stranger's");
}

#[tokio::test]
async fn terminate_kills_a_child_that_ignores_sigterm() {
    let dir = temp();
    let child = start(&dir, &format!("trap '' TERM; {READY}; while :; do sleep 1000; done")).await;
    let stopped = child.terminate(Duration::from_millis(50)).await;
    assert!(stopped.forced);
    assert_eq!(stopped.exit.unwrap().status.signal(), Some(9));
}

#[tokio::test]
async fn terminate_ends_a_paused_child() {
    let dir = temp();
    let child = start(&dir, &format!("{READY}; exec sleep 1000")).await;
    child.pause();
    let stopped = child.terminate(PATIENCE).await;
    assert!(!stopped.forced);
}

#[tokio::test]
async fn a_paused_child_goes_on_when_resumed() {
    let dir = temp();
    let child = start(&dir, &format!("{READY}; read line; exit 4")).await;
    child.pause();
    child.close_stdin();
    child.resume();
    assert_eq!(child.wait().await.status.code(), Some(4));
}

#[tokio::test]
async fn kill_now_is_a_crash() {
    let dir = temp();
    let child = start(&dir, &format!("trap 'exit 0' TERM; {READY}; while :; do sleep 1000; done")).await;
    child.kill_now();
    assert_eq!(child.wait().await.status.signal(), Some(9));
}

#[tokio::test]
async fn what_a_child_leaves_in_its_group_goes_with_it() {
    let dir = temp();
    let mark = dir.path().join("pid");
    let child = start(&dir, &format!("sleep 1000 & echo $! > {}; {READY}; read line", mark.display())).await;
    child.close_stdin();
    child.wait().await;
    gone(number_in(&mark)).await;
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_child() {
    let dir = temp();
    let child = start(&dir, &format!("{READY}; exec sleep 1000")).await;
    let (pid, clone) = (child.pid(), child.clone());
    drop(child);
    assert_eq!(clone.exit(), None, "a handle is left");
    drop(clone);
    gone(pid).await;
}

#[tokio::test]
async fn dropping_the_start_ends_the_child() {
    let dir = temp();
    let mark = dir.path().join("pid");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", mark.display());
    let written = async {
        while !mark.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        started = Child::start(sh("child", &script), dir.path()) => panic!("it is never ready: {started:?}"),
        () = written => {}
    }
    gone(number_in(&mark)).await;
}

#[tokio::test]
async fn usage_counts_cpu_time_and_memory() {
    let dir = temp();
    let child = start(&dir, &format!("{READY}; while :; do :; done")).await;
    let busy = async {
        while child.usage().unwrap().cpu_s() < 0.05 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, busy).await.unwrap();
    let (own, tree) = (child.usage().unwrap(), child.usage_tree().unwrap());
    assert!(own.rss_peak_bytes > 100_000, "{own:?}");
    assert!(own.rss_bytes > 100_000 && own.rss_bytes <= own.rss_peak_bytes, "{own:?}");
    assert!(tree.cpu_s() >= own.cpu_s() && tree.processes == 1, "{tree:?}");
    child.kill_now();
    let exit = child.wait().await;
    assert!(exit.usage.unwrap().cpu_s() >= tree.cpu_s(), "{exit:?}");
}

#[tokio::test]
async fn usage_of_a_tree_covers_descendants() {
    let dir = temp();
    let child = start(&dir, &format!("(while :; do :; done) & {READY}; sleep 1000")).await;
    let busy = async {
        while child.usage_tree().unwrap().cpu_s() < 0.05 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, busy).await.unwrap();
    assert!(child.usage_tree().unwrap().processes >= 2);
}

#[tokio::test]
async fn a_death_names_the_child_and_is_told_once() {
    let dir = temp();
    let fleet = Fleet::new(dir.path());
    let quiet = fleet.start(sh("quiet", &format!("{READY}; read line"))).await.unwrap();
    let doomed =
        fleet.start(sh("doomed", &format!("{READY}; read line; echo no disk >&2; exit 9"))).await.unwrap();
    doomed.close_stdin();
    let death = fleet.guard(std::future::pending::<()>()).await.unwrap_err();
    assert!(death.to_string().starts_with("doomed died (exit status: 9); its last lines:"), "{death}");
    assert!(death.stderr_tail.contains("no disk"));

    // Neither the same death nor an end that was asked for is told.
    quiet.terminate(PATIENCE).await;
    tokio::select! {
        biased;
        death = fleet.next_death() => panic!("{death}"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn guarded_work_that_ends_gives_its_output() {
    let dir = temp();
    let fleet = Fleet::new(dir.path());
    fleet.start(sh("child", &format!("{READY}; read line"))).await.unwrap();
    assert_eq!(fleet.guard(async { 42 }).await.unwrap(), 42);
}

#[tokio::test]
async fn a_drain_ends_all_in_reverse_order() {
    let dir = temp();
    let fleet = Fleet::new(dir.path());
    let order = dir.path().join("order");
    for name in ["database", "service", "load"] {
        // It ends at the end of its stdin.
        let script = format!("trap '' TERM; {READY}; read line; echo {name} >> {}", order.display());
        fleet.start(sh(name, &script)).await.unwrap();
    }
    let drained = fleet.drain(PATIENCE).await;
    let names: Vec<&str> = drained.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["load", "service", "database"]);
    assert!(drained.iter().all(mipro_testbed::process::Drained::is_clean), "{drained:?}");
    assert_eq!(fs::read_to_string(order).unwrap(), "load\nservice\ndatabase\n");
    assert!(fleet.children().is_empty());
}

#[tokio::test]
async fn a_panic_leaves_no_child() {
    let dir = temp();
    let log_dir = dir.path().to_owned();
    let mark = dir.path().join("pid");
    let mark_in_task = mark.clone();
    let task = tokio::spawn(async move {
        let fleet = Fleet::new(log_dir);
        let child = fleet.start(sh("child", &format!("{READY}; exec sleep 1000"))).await.unwrap();
        fs::write(mark_in_task, child.pid().to_string()).unwrap();
        panic!("on purpose");
    });
    assert!(task.await.unwrap_err().is_panic());
    gone(number_in(&mark)).await;
}

#[tokio::test]
async fn children_of_the_same_name_have_logs_of_their_own() {
    let dir = temp();
    let fleet = Fleet::new(dir.path());
    let script = format!("echo first words >&2; {READY}; read line");
    let first = fleet.start(sh("serve", &script)).await.unwrap();
    let second = fleet.start(sh("serve", &script)).await.unwrap();
    assert_ne!(first.log_path(), second.log_path());
    assert!(second.output_tail().contains("first words"));
}

#[test]
fn secrets_in_the_environment_are_not_shown() {
    let shown = format!("{:?}", Spec::new("s3", "/bin/true").env("SECRET", "hush"));
    assert!(shown.contains("SECRET") && !shown.contains("hush"), "{shown}");
}

/// Not a test but a role: a parent with one child, for the test below to kill.
#[tokio::test]
async fn role_parent() {
    let Some(args) = role_args() else { return };
    let fleet = Fleet::new(&args[0]);
    let child = fleet.start(sh("grandchild", &format!("{READY}; read line"))).await.unwrap();
    drop(writeln!(std::io::stderr(), "grandchild {}", child.pid()));
    println!("\nlistening on tcp://127.0.0.1:1");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_parent_killed_with_sigkill_leaves_no_child() {
    let dir = temp();
    let spec = Spec::role("parent", &role_program(dir.path(), "role_parent")).arg(dir.path());
    let parent = Child::start(spec, dir.path()).await.unwrap();
    let tail = parent.output_tail();
    let grandchild = tail.lines().find_map(|line| line.strip_prefix("grandchild ")).unwrap().parse().unwrap();
    kill_process(Pid::from_raw(parent.pid()).unwrap(), Signal::KILL).unwrap();
    gone(grandchild).await;
}

/// Not a test but a role: ends when it is told to.
#[tokio::test]
async fn role_polite() {
    if role_args().is_none() {
        return;
    }
    let shutdown = shutdown_on_request(true).unwrap();
    println!("\nlistening on tcp://127.0.0.1:1");
    shutdown.cancelled().await;
}

#[tokio::test]
async fn a_role_ends_cleanly_at_the_end_of_its_stdin_and_at_sigterm() {
    let dir = temp();
    let program = role_program(dir.path(), "role_polite");
    let at_end_of_stdin = Child::start(Spec::role("polite", &program), dir.path()).await.unwrap();
    at_end_of_stdin.close_stdin();
    assert!(at_end_of_stdin.wait().await.status.success());

    let at_sigterm = Child::start(Spec::role("polite", &program), dir.path()).await.unwrap();
    kill_process(Pid::from_raw(at_sigterm.pid()).unwrap(), Signal::TERM).unwrap();
    assert!(at_sigterm.wait().await.status.success());
}
