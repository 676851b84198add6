//! `mipro bench`

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use mipro_bench_reports::RunFolder;
use mipro_harness::{BenchOptions, verdicts};
use mipro_testbed::stack::StackKind;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::report::{REPORTS_DIR, show};
use super::screen::Screen;
use crate::args::BenchArgs;
use crate::exit::Code;

const LLM_DEFAULT: &str = "seed";
const LLM_QUICK: &str = "fixed:100ms";

pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<Code> {
    let options = options(&args)?;
    check_dataset(args.dataset.as_deref())?;
    let interrupt = Interrupt::watch()?;
    let scratch = Scratch::new(&mipro_harness::environment::scratch_parent())?;
    let screen = Screen { quiet: args.show.quiet, no_color: args.show.no_color };
    let running = mipro_harness::run(&options, scratch.path(), &screen, &interrupt.token);
    let outcome = tokio::select! {
        outcome = Box::pin(running) => outcome,
        // Dropping the run ends its children.
        () = interrupt.at_once.cancelled() => return Ok(interrupt.code().unwrap_or(Code::Interrupted)),
    };
    let finished = match outcome {
        Ok(finished) => finished,
        Err(error) => {
            scratch.keep_for(&error);
            return Err(error.into());
        }
    };

    let mut report = finished.report;
    let folder = match &args.out {
        Some(dir) => RunFolder::at(dir),
        None => RunFolder::create(Path::new(REPORTS_DIR), &report.run.id),
    };
    let folder = folder.context("the run's folder could not be made")?;
    if args.out.is_none() {
        // Two runs in one second: the folder's name tells them apart, and the report goes by it.
        report.run.id = folder.id();
    }
    folder.write(&report, &finished.config).context("the run's files could not be written")?;
    show(&report, args.show.format, args.show.no_color)?;
    if !args.show.quiet {
        mipro_harness::Watcher::step(
            &screen,
            &format!("report: {}", folder.path().join("report.html").display()),
        );
    }
    Ok(match interrupt.code() {
        Some(code) => code,
        None if verdicts::accounting_holds(&report) => Code::Ok,
        None => Code::Invalid,
    })
}

fn options(args: &BenchArgs) -> anyhow::Result<BenchOptions> {
    let llm = args.llm.clone().unwrap_or_else(|| if args.quick { LLM_QUICK } else { LLM_DEFAULT }.to_owned());
    llm.parse::<mipro_mock_llm::latency::Latency>().context("--llm")?;
    Ok(BenchOptions {
        exe: std::env::current_exe().context("the path of this program is not known")?,
        rungs: args.rungs.0.clone(),
        link: args.link.clone(),
        llm,
        stack: args.stack,
        containers: args.containers.settings()?,
        external: args.database.clone().zip(args.blobs.clone()),
        fetch_postgres: args.fetch_postgres,
        systems: args.systems,
        concurrency: args.concurrency,
        rollouts: args.rollouts,
        history: args.history,
        quick: args.quick,
        dataset: args.dataset.clone(),
        seed: args.seed,
        timeout: args.timeout,
        drain: args.drain,
        loss: !args.no_loss,
        command: command_line(args),
    })
}

/// The options that make a run what it is. URLs are left out: they may hold passwords.
fn command_line(args: &BenchArgs) -> String {
    let rungs: Vec<&str> = args.rungs.0.iter().map(|r| r.name()).collect();
    let mut words =
        vec![format!("mipro bench --rungs {} --link {} --stack {}", rungs.join(","), args.link, args.stack)];
    words.extend(args.llm.as_ref().map(|llm| format!("--llm {llm}")));
    words.push(format!(
        "--systems {} -c {} --history {} --seed {}",
        args.systems, args.concurrency, args.history, args.seed
    ));
    words.extend(args.rollouts.map(|n| format!("-n {n}")));
    words.extend(args.quick.then(|| "--quick".to_owned()));
    words.extend(args.no_loss.then(|| "--no-loss".to_owned()));
    words.extend(args.dataset.as_ref().map(|_| "--dataset DIR".to_owned()));
    words.extend(
        (args.stack == StackKind::Containers).then(|| args.containers.images()).into_iter().flatten(),
    );
    words.join(" ")
}

/// A wrong data set is told at once, not by a child that dies a minute later.
fn check_dataset(dir: Option<&Path>) -> anyhow::Result<()> {
    if let Some(dir) = dir {
        mipro_mock_llm::dataset::Dataset::load(dir).context("--dataset")?;
    }
    Ok(())
}

/// A directory for what the run's children write; removed at the end, unless something went wrong. While its run lives, a
/// file in it is locked: what a killed run left behind is known by its lock being free, and the next run removes it.
#[derive(Debug)]
struct Scratch {
    dir: PathBuf,
    keep: AtomicBool,
    _lock: File,
}

const SCRATCH_PREFIX: &str = "mipro-bench-";
const SCRATCH_LOCK: &str = "lock";

impl Scratch {
    fn new(parent: &Path) -> anyhow::Result<Self> {
        Self::sweep(parent);
        let dir = parent.join(format!("{SCRATCH_PREFIX}{}", std::process::id()));
        // Configurations in it hold passwords.
        let mut closed = DirBuilder::new();
        closed.recursive(true).mode(0o700);
        let lock = closed.create(&dir).and_then(|()| {
            let lock = File::create(dir.join(SCRATCH_LOCK))?;
            lock.lock()?;
            Ok(lock)
        });
        let lock = lock.with_context(|| format!("{} could not be made", dir.display()))?;
        Ok(Self { dir, keep: AtomicBool::new(false), _lock: lock })
    }

    /// Removes what runs that were killed have left behind. What can't be looked at or removed is somebody else's.
    fn sweep(parent: &Path) {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let ours = entries.filter(|e| e.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX));
        for dir in ours.map(|entry| entry.path()) {
            let lock = File::open(dir.join(SCRATCH_LOCK));
            if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
                let _ = std::fs::remove_dir_all(&dir);
            }
        }
    }

    fn path(&self) -> &Path {
        &self.dir
    }

    fn keep_for(&self, error: &mipro_harness::Error) {
        self.keep.store(true, Ordering::Relaxed);
        // Without it, no later run takes the directory for litter.
        let _ = std::fs::remove_file(self.dir.join(SCRATCH_LOCK));
        tracing::warn!(logs = %self.dir.display(), %error, "the logs of the run's processes are kept");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep.load(Ordering::Relaxed) {
            // What can't be removed is left in the system's temporary directory, which is swept by others.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// The first SIGINT or SIGTERM ends the measuring and lets the report be written; the next ends everything at once.
pub(crate) struct Interrupt {
    pub(crate) token: CancellationToken,
    /// The second signal: nobody waits for a report.
    pub(crate) at_once: CancellationToken,
    terminated: Arc<AtomicBool>,
}

impl Interrupt {
    pub(crate) fn watch() -> anyhow::Result<Self> {
        let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (token, at_once) = (CancellationToken::new(), CancellationToken::new());
        let terminated = Arc::new(AtomicBool::new(false));
        let (by_term, tokens) = (Arc::clone(&terminated), [token.clone(), at_once.clone()]);
        tokio::spawn(async move {
            for token in tokens {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => by_term.store(true, Ordering::Relaxed),
                }
                token.cancel();
            }
        });
        Ok(Self { token, at_once, terminated })
    }

    /// The exit code of an interrupted run; `None` if it was not interrupted.
    pub(crate) fn code(&self) -> Option<Code> {
        let code = if self.terminated.load(Ordering::Relaxed) { Code::Terminated } else { Code::Interrupted };
        self.token.is_cancelled().then_some(code)
    }
}

#[cfg(test)]
mod tests;
