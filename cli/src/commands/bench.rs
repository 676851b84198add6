//! `mipro bench`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mipro_harness::{BenchOptions, verdicts};
use mipro_testbed::stack::StackKind;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::ground::{self, check_dataset, keep};
use super::report::show;
use super::scratch::Scratch;
use super::screen::Screen;
use crate::args::BenchArgs;
use crate::exit::Code;

const LLM_DEFAULT: &str = "seed";
const LLM_QUICK: &str = "fixed:100ms";

pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<Code> {
    let options = options(&args)?;
    check_dataset(args.ground.dataset.as_deref())?;
    let interrupt = Interrupt::watch()?;
    let scratch = Scratch::new(&mipro_harness::environment::scratch_parent())?;
    let screen = Screen { quiet: args.ground.show.quiet, no_color: args.ground.show.no_color };
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

    let report = keep(finished, args.ground.out.as_deref())?;
    show(&report.report, args.ground.show.format, args.ground.show.no_color)?;
    if !args.ground.show.quiet {
        mipro_harness::Watcher::step(
            &screen,
            &format!("report: {}", report.folder.path().join("report.html").display()),
        );
    }
    Ok(match interrupt.code() {
        Some(code) => code,
        None if verdicts::accounting_holds(&report.report) => Code::Ok,
        None => Code::Invalid,
    })
}

fn options(args: &BenchArgs) -> anyhow::Result<BenchOptions> {
    let llm = args.llm.clone().unwrap_or_else(|| if args.quick { LLM_QUICK } else { LLM_DEFAULT }.to_owned());
    Ok(BenchOptions {
        rungs: args.rungs.0.clone(),
        systems: args.systems,
        concurrency: args.concurrency,
        rollouts: args.rollouts,
        history: args.history,
        quick: args.quick,
        loss: !args.no_loss,
        ablate: args.ablate,
        count_allocations: false,
        command: command_line(args),
        ..ground::options(&args.ground, args.link.clone(), llm)?
    })
}

/// The options that make a run what it is. URLs are left out: they may hold passwords.
fn command_line(args: &BenchArgs) -> String {
    let rungs: Vec<&str> = args.rungs.0.iter().map(|r| r.name()).collect();
    let mut words = vec![format!(
        "mipro bench --rungs {} --link {} --stack {}",
        rungs.join(","),
        args.link,
        args.ground.stack
    )];
    words.extend(args.llm.as_ref().map(|llm| format!("--llm {llm}")));
    words.push(format!(
        "--systems {} -c {} --history {} --seed {}",
        args.systems, args.concurrency, args.history, args.ground.seed
    ));
    words.extend(args.rollouts.map(|n| format!("-n {n}")));
    words.extend(args.quick.then(|| "--quick".to_owned()));
    words.extend(args.no_loss.then(|| "--no-loss".to_owned()));
    words.extend(args.ablate.then(|| "--ablate".to_owned()));
    words.extend(args.ground.dataset.as_ref().map(|_| "--dataset DIR".to_owned()));
    words.extend(
        (args.ground.stack == StackKind::Containers)
            .then(|| args.ground.containers.images())
            .into_iter()
            .flatten(),
    );
    words.join(" ")
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
