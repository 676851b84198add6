//! What a run is told, and how it can fail.

use std::path::PathBuf;
use std::time::Duration;

use mipro_testbed::link::LinkSpec;
use mipro_testbed::stack::StackKind;

use crate::ladder::RungName;

/// Rollouts a rung measures when nobody says how many; enough for a p90 with ten samples beyond it.
pub const ROLLOUTS_DEFAULT: u64 = 100;
/// The same for rungs whose rollouts take seconds of overhead (`blob`, `pooled`), and for `direct`.
pub const ROLLOUTS_SLOW_DEFAULT: u64 = 48;
/// `--quick`: every p50 rests on 20 samples or more.
pub const ROLLOUTS_QUICK: u64 = 24;
/// Rollouts in flight where a rung is parallel.
pub const CONCURRENCY_DEFAULT: u32 = 10;
/// Systems side by side where rollouts of one system are serial.
pub const SYSTEMS_DEFAULT: u32 = 8;
/// How long children may take to finish when told to stop.
pub const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// Everything `mipro bench` may be told.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// The binary whose roles are started as children.
    pub exe: PathBuf,
    /// Which rungs, in the ladder's order.
    pub rungs: Vec<RungName>,
    /// The link between service and stores.
    pub link: LinkSpec,
    /// The mock's latency model, as `mipro mock-llm --latency` takes it.
    pub llm: String,
    /// Where Postgres and S3 come from.
    pub stack: StackKind,
    /// Stores for `--stack external`: database URL, then blobs URL.
    pub external: Option<(String, String)>,
    /// The images of `--stack containers`.
    pub containers: mipro_testbed::containers::Settings,
    /// May Postgres be fetched with pip where it is not installed.
    pub fetch_postgres: bool,
    /// Systems side by side in serial rungs.
    pub systems: u32,
    /// Rollouts in flight in parallel rungs.
    pub concurrency: u32,
    /// Rollouts a rung measures; `None`: as the rung needs.
    pub rollouts: Option<u64>,
    /// Past rollouts every system starts with.
    pub history: u64,
    /// Short: fewer rollouts, everything else the same.
    pub quick: bool,
    /// Real data instead of the built-in set.
    pub dataset: Option<PathBuf>,
    /// Seed of payloads and mock delays.
    pub seed: u64,
    /// One rollout's time limit.
    pub timeout: Duration,
    /// How long an interrupted run waits for rollouts in flight.
    pub drain: Duration,
    /// Measure what is lost: to concurrent calls, to a SIGKILL, and with the host.
    pub loss: bool,
    /// Measure each optimization by itself, too, and what distance costs.
    pub ablate: bool,
    /// Have services count their allocations, which costs them a little: for gates, whose figures are counts.
    pub count_allocations: bool,
    /// The command line, for the report.
    pub command: String,
}

impl BenchOptions {
    /// Rollouts `rung` measures.
    #[must_use]
    pub fn rollouts_of(&self, rung: RungName) -> u64 {
        let slow =
            matches!(rung, RungName::Direct | RungName::Blob | RungName::Pooled | RungName::WriteThrough);
        let by_default = match (self.quick, slow) {
            (true, _) => ROLLOUTS_QUICK,
            (false, true) => ROLLOUTS_SLOW_DEFAULT,
            (false, false) => ROLLOUTS_DEFAULT,
        };
        self.rollouts.unwrap_or(by_default)
    }
}

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A store, a link or a child process could not be started.
    #[error("the testbed could not be started")]
    Stack(#[from] mipro_testbed::stack::Error),
    /// A child process failed.
    #[error("a child process failed")]
    Process(#[from] mipro_testbed::process::Error),
    /// The load generator could not run.
    #[error("rung `{rung}` could not be driven")]
    Load {
        /// Which rung.
        rung: RungName,
        /// Why.
        source: mipro_loadgen::Error,
    },
    /// The load generator could not run on a side of a comparison.
    #[error("side `{side}` could not be driven")]
    Side {
        /// Which side.
        side: String,
        /// Why.
        source: mipro_loadgen::Error,
    },
    /// A link emulator's or S3 server's admin route failed.
    #[error("the testbed's {what} did not answer")]
    Admin {
        /// Which one.
        what: &'static str,
        /// Why.
        source: mipro_testbed::link::AdminError,
    },
    /// A file could not be written.
    #[error("{path} could not be written")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A rung's data directory could not be deleted.
    #[error("{path} could not be deleted")]
    Remove {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A revision has no binary.
    #[error(transparent)]
    Revision(#[from] crate::subject::RevisionError),
    /// Something answered, but not as expected.
    #[error("{0}")]
    Unexpected(String),
}
