//! The binary `mipro`: one program that plays every part, by being started again with another command.
//!
//! This crate only parses, wires and starts. The life of the process: read the command line, set up logging, run the
//! command until it is done or told to stop, turn its outcome into an exit code.

mod args;
mod commands;
mod duration;
mod exit;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mipro_allocations::Counting;

/// The system's; counts where [`mipro_allocations::VARIABLE`] asks for it, as `mipro gate` does of its services.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How long tasks that ignore their shutdown may hold the process after its command has ended.
const RUNTIME_LINGER: Duration = Duration::from_secs(1);

#[tracing::instrument(level = "trace", skip_all)]
async fn live(cli: args::Cli) -> anyhow::Result<exit::Code> {
    commands::run(cli.command).await
}

fn main() -> ExitCode {
    if std::env::var_os(mipro_allocations::VARIABLE).is_some_and(|value| value == "1") {
        mipro_allocations::count_from_now();
    }
    let cli = args::Cli::parse();
    commands::init_logging(&cli.command);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return exit::failed(&anyhow::Error::new(error).context("cannot start the async runtime"));
        }
    };
    let outcome = runtime.block_on(Box::pin(live(cli)));
    runtime.shutdown_timeout(RUNTIME_LINGER);
    match outcome {
        Ok(code) => code.into(),
        Err(error) => exit::failed(&error),
    }
}
