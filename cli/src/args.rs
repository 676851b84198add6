//! The command line. Names here are relied on by scripts outside the project.

mod aa;
mod bench;
mod compare;
mod containers;
mod gate;
mod ground;
mod load;
mod profile;
mod roles;
mod state;

pub(crate) use aa::AaArgs;
pub(crate) use bench::{BenchArgs, ReportArgs};
pub(crate) use compare::{CompareArgs, Inconclusive, PairingArgs};
pub(crate) use gate::GateArgs;
pub(crate) use ground::GroundArgs;
pub(crate) use load::{LoadArgs, RateArg};
pub(crate) use profile::ProfileArgs;
pub(crate) use roles::{
    LinkArgs, MockLlmArgs, PostgresArgs, S3Args, ServeArgs, Spoken, TaskAppArgs, WardenArgs,
};
pub(crate) use state::{
    ExportArgs, ImportArgs, ListArgs, NewId, RepairArgs, ShowStateArgs, StateArgs, StateCommand, StoreArgs,
    VerifyArgs,
};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Where this machine's noise floor is kept: local to it, as the runs beside it are.
pub(crate) const NOISE_FILE: &str = "bench-reports/runs/noise-floor.json";

/// MIPRO online: an OpenAI-compatible proxy that optimizes prompts while traffic runs, and the instrument that proves how
/// little time it adds.
#[derive(Debug, Parser)]
#[command(name = "mipro", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the service
    Serve(ServeArgs),
    /// Run the mock LLM (OpenAI-compatible)
    MockLlm(MockLlmArgs),
    /// Run the Banking77 task app
    TaskApp(TaskAppArgs),
    /// Drive rollouts against any running service
    Load(LoadArgs),
    /// Measure the ladder: before and after each optimization
    Bench(BenchArgs),
    /// Hold one side against another, interleaved: rungs, builds, revisions, services
    Compare(CompareArgs),
    /// Counts, ceilings and comparisons, held against their budgets
    Gate(GateArgs),
    /// A against A: this machine's false-alarm rate and noise floor
    Aa(AaArgs),
    /// Where a rollout's time goes: flamegraphs, their differences, the slowest rollout
    Profile(ProfileArgs),
    /// Render a run again
    Report(ReportArgs),
    /// Inspect, verify, export, import and repair what is stored
    State(StateArgs),
    /// Parts of the testbed, started by `bench`
    #[command(hide = true)]
    Testbed {
        #[command(subcommand)]
        part: Testbed,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Testbed {
    /// An ephemeral Postgres cluster
    Postgres(PostgresArgs),
    /// A small S3 server
    S3(S3Args),
    /// A link emulator in front of a TCP server
    Link(LinkArgs),
    /// Removes a run's containers when the run is over, however it ends
    Warden(WardenArgs),
}

/// What is shown while a command runs and when it has.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// What stdout gets
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,

    /// No progress
    #[arg(long)]
    pub(crate) quiet: bool,

    /// No colour (NO_COLOR does the same)
    #[arg(long)]
    pub(crate) no_color: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people
    Text,
    /// report.json
    Json,
    /// As oha prints it: one rung
    Oha,
    /// As k6 summarizes it: one rung
    K6,
    /// Bencher Metric Format
    Bencher,
    /// github-action-benchmark, customSmallerIsBetter
    Github,
    /// For a pull request's comment
    Markdown,
}

#[cfg(test)]
mod tests;
