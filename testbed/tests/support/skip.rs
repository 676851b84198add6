//! Tests that need a Postgres on the machine.

use std::io::Write as _;

use mipro_testbed::postgres::Search;

/// Whether there is one; says so if not, and fails where there must be one.
pub(crate) fn has_postgres() -> bool {
    match Search::from_env(None).find() {
        Ok(_) => true,
        Err(error) => {
            say(&format!("no Postgres ({error})"));
            false
        }
    }
}

/// Says what is missing, past the test runner's capture; with CI=true nothing may be missing.
pub(crate) fn say(missing: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must have it all: {missing}");
    // Without a stderr there is nobody to tell.
    drop(writeln!(std::io::stderr(), "skipped: {missing}"));
}
