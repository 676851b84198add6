//! The ground that rungs and comparisons stand on: which servers are started, and how the report describes them.

use std::path::Path;

use mipro_bench_reports::folder::{rfc3339, run_id};
use mipro_bench_reports::{Environment, Run};
use mipro_telemetry::clock;
use mipro_testbed::link::{LinkSpec, Profile};
use mipro_testbed::process::Fleet;
use mipro_testbed::stack::{self, Stack, StackKind};
use url::Url;

use crate::environment::{Revision, load_1m, machine, noise_sentence};
use crate::options::{BenchOptions, Error};

/// Starts the databases, object stores and links that the options ask for.
pub(crate) async fn start_stack(
    options: &BenchOptions,
    scratch: &Path,
    fleet: &Fleet,
) -> Result<Stack, Error> {
    let plan = stack::resolve(&stack::Request {
        kind: options.stack,
        fetch_postgres: options.fetch_postgres,
        external: options.external.clone(),
        containers: options.containers.clone(),
    })?;
    Ok(Stack::start(plan, &options.exe, scratch, &options.link, options.seed, fleet).await?)
}

/// Machine, stack and settings of a run.
pub(crate) fn environment(
    options: &BenchOptions,
    stack: &Stack,
    steal_pct: f64,
    log_filesystem: String,
) -> Environment {
    let machine = machine();
    Environment {
        steal_pct,
        log_filesystem,
        noise: noise_sentence(load_1m(), machine.cores),
        stack: stack.kind().to_string(),
        database: stack.database_version().to_owned(),
        object_store: stack.object_store_version().to_owned(),
        link: described(&options.link, stack.kind() != StackKind::Embedded),
        llm: options.llm.clone(),
        dataset: options
            .dataset
            .as_ref()
            .map_or_else(|| "built-in".to_owned(), |_| "given directory".to_owned()),
        ..machine
    }
}

/// The link's name with what it stands for, and whether it was fitted to figures that it is then compared with. Where the
/// database has no wire, nothing was fitted to what it costs.
pub(crate) fn described(link: &LinkSpec, database_wired: bool) -> String {
    let one = |what: &str, p: &Profile| {
        let up = p
            .up_bits_per_second
            .map_or(String::new(), |bits| format!(", up {:.0} Mbit/s", bits as f64 / 1e6));
        format!("{what} RTT {:.1} ms ± {:.1}{up}", p.rtt_us as f64 / 1e3, p.jitter_us as f64 / 1e3)
    };
    let s3 = one("S3", &link.s3);
    if !database_wired {
        return format!("{link} ({s3}; no wire to the database)");
    }
    let fitted = if link.fitted { "; fitted to the seeds' table" } else { "" };
    format!("{link} ({}, {s3}{fitted})", one("DB", &link.db))
}

/// The report's entry for a run that ends now.
pub(crate) fn run_entry(command: &str, seed: u64, started_us: u64, interrupted: bool) -> Run {
    let revision = Revision::of(Path::new("."));
    Run {
        id: run_id(started_us, &revision.commit),
        started_at: rfc3339(started_us),
        finished_at: rfc3339(clock::unix_us()),
        commit: revision.commit,
        dirty: revision.dirty,
        command: command.to_owned(),
        seed,
        interrupted,
    }
}

/// A store's URL as it may be shown.
pub(crate) fn without_password(url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else { return "<a URL>".to_owned() };
    // Fails only for URLs that can't have a password.
    let _ = parsed.set_password(None);
    parsed.to_string()
}

#[cfg(test)]
mod tests;
