//! One file a command; each takes its arguments and gives an exit code.

mod aa;
mod ablation;
mod bench;
mod compare;
mod gate;
mod ground;
mod load;
mod noise;
mod profile;
mod report;
mod roles;
mod scratch;
mod screen;
mod state;

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;
use mipro_telemetry::profile::{DIR_VARIABLE, Profiler};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use crate::args::{Command, Testbed};
use crate::exit::Code;

/// Runs a command to its end. `profiler` gathers what [`init_logging`] has set up.
pub(crate) async fn run(command: Command, profiler: Option<Profiler>) -> anyhow::Result<Code> {
    match command {
        Command::Serve(args) => Box::pin(roles::serve(args, profiler)).await,
        Command::MockLlm(args) => Box::pin(roles::mock_llm(args)).await,
        Command::TaskApp(args) => Box::pin(roles::task_app(args)).await,
        Command::Load(args) => Box::pin(load::run(args)).await,
        Command::Bench(args) => Box::pin(bench::run(args)).await,
        Command::Compare(args) => Box::pin(compare::run(args)).await,
        Command::Gate(args) => Box::pin(gate::run(args)).await,
        Command::Profile(args) => Box::pin(profile::run(args)).await,
        Command::Aa(args) => Box::pin(aa::run(args)).await,
        Command::Report(args) => report::run(&args),
        Command::State(args) => Box::pin(state::run(args)).await,
        Command::Testbed { part } => match part {
            Testbed::Postgres(args) => Box::pin(roles::postgres(args)).await,
            Testbed::S3(args) => Box::pin(roles::s3(args)).await,
            Testbed::Link(args) => Box::pin(roles::link(args)).await,
            Testbed::Warden(args) => Box::pin(roles::warden(args)).await,
        },
    }
}

/// Logs go to stderr, so that stdout carries results (or a server's one line) and nothing else. `MIPRO_LOG` sets the
/// filter; servers tell what they do, commands that print results only warn.
///
/// `serve` is profiled where `MIPRO_PROFILE_DIR` names a directory; without it no layer is there that could cost anything.
///
/// # Errors
/// When that directory can't be written to.
pub(crate) fn init_logging(command: &Command) -> anyhow::Result<Option<Profiler>> {
    let by_default = match command {
        Command::Serve(_) | Command::MockLlm(_) | Command::TaskApp(_) => "info",
        // What is wrong is said in the answer, with its place; the service's own words for it would only repeat it.
        Command::State(_) => "off",
        // Commands that print results only warn.
        Command::Testbed { .. }
        | Command::Load(_)
        | Command::Bench(_)
        | Command::Compare(_)
        | Command::Gate(_)
        | Command::Profile(_)
        | Command::Aa(_)
        | Command::Report(_) => "warn",
    };
    let filter = EnvFilter::try_from_env("MIPRO_LOG").unwrap_or_else(|_| EnvFilter::new(by_default));
    let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let dir = std::env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty());
    let (Command::Serve(_), Some(dir)) = (command, dir) else {
        fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(ansi).init();
        return Ok(None);
    };
    let profiler = Profiler::open(dir.as_ref())
        .with_context(|| format!("{DIR_VARIABLE} names a directory that can't be used"))?;
    let log = fmt::layer().with_writer(io::stderr).with_ansi(ansi).with_filter(filter);
    tracing_subscriber::registry().with(log).with(profiler.layers()).init();
    Ok(Some(profiler))
}

/// Prints to stdout. A reader that has gone away (`| head`) is no error.
///
/// # Errors
/// Any other failure to write.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
