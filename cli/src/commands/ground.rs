//! What commands that start a testbed have in common: their options, and the folder that a run's files go to.

use std::path::Path;

use anyhow::Context as _;
use mipro_bench_reports::{Report, RunFolder};
use mipro_harness::{BenchOptions, Finished};
use mipro_testbed::link::LinkSpec;

use super::report::REPORTS_DIR;
use crate::args::GroundArgs;

/// The testbed's options; those of a ladder are as `bench` has them by default, and no rung is named.
pub(crate) fn options(args: &GroundArgs, link: LinkSpec, llm: String) -> anyhow::Result<BenchOptions> {
    llm.parse::<mipro_mock_llm::latency::Latency>().context("--llm")?;
    Ok(BenchOptions {
        exe: std::env::current_exe().context("the path of this program is not known")?,
        rungs: Vec::new(),
        link,
        llm,
        stack: args.stack,
        containers: args.containers.settings()?,
        external: args.database.clone().zip(args.blobs.clone()),
        fetch_postgres: args.fetch_postgres,
        systems: mipro_harness::options::SYSTEMS_DEFAULT,
        concurrency: mipro_harness::options::CONCURRENCY_DEFAULT,
        rollouts: None,
        history: 0,
        quick: false,
        dataset: args.dataset.clone(),
        seed: args.seed,
        timeout: args.timeout,
        drain: args.drain,
        loss: false,
        ablate: false,
        count_allocations: false,
        command: String::new(),
    })
}

/// A wrong data set is told at once, not by a child that dies a minute later.
pub(crate) fn check_dataset(dir: Option<&Path>) -> anyhow::Result<()> {
    if let Some(dir) = dir {
        mipro_mock_llm::dataset::Dataset::load(dir).context("--dataset")?;
    }
    Ok(())
}

/// A report in its folder.
pub(crate) struct Kept {
    pub(crate) report: Report,
    pub(crate) folder: RunFolder,
}

/// Writes a finished run to `out`, or to a folder of its own among the others.
pub(crate) fn keep(finished: Finished, out: Option<&Path>) -> anyhow::Result<Kept> {
    let Finished { mut report, config, logs } = finished;
    let folder = match out {
        Some(dir) => RunFolder::at(dir),
        None => RunFolder::create(Path::new(REPORTS_DIR), &report.run.id),
    };
    let folder = folder.context("the run's folder could not be made")?;
    if out.is_none() {
        // Two runs in one second: the folder's name tells them apart, and the report goes by it.
        report.run.id = folder.id();
    }
    folder.write(&report, &config).context("the run's files could not be written")?;
    for (name, log) in logs {
        let path = folder.path().join(format!("{name}.hlog"));
        std::fs::write(&path, log).with_context(|| format!("{} could not be written", path.display()))?;
    }
    Ok(Kept { report, folder })
}
