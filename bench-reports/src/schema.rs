//! `report.json`, schema `mipro.report/1`. Field names are relied on outside this project (they are fixed); new fields may
//! be added, none renamed. Every quantity's unit ends its name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dist::Dist;

mod ablation;
mod comparison;
mod noise;

pub use ablation::{Ablation, AblationRow, DistancePoint, Saving, SeedOption};
pub use comparison::{
    CompareVerdict, Comparison, Effect, EndpointComparison, GateRule, InvalidPair, Side, SliceFigures,
};
pub use noise::{Machine, Noise, NoiseFloor};

/// The value of [`Report::schema`].
pub const SCHEMA: &str = "mipro.report/1";

/// A whole run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Which run this is.
    pub run: Run,
    /// Where and with what it ran.
    pub environment: Environment,
    /// One entry per rung, in the order they ran.
    pub rungs: Vec<Rung>,
    /// The seed document's figures beside ours, row by row; empty unless rung `blob` ran.
    #[serde(default)]
    pub seed_rows: Vec<SeedRow>,
    /// Paired comparisons, in the order in which they were made.
    #[serde(default)]
    pub comparisons: Vec<Comparison>,
    /// What each optimization does by itself; absent unless it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ablation: Option<Ablation>,
    /// Thresholds and checks with their outcome.
    #[serde(default)]
    pub verdicts: Vec<Verdict>,
}

/// Which run this is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// `<UTC time>-<commit>`.
    pub id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// Short commit hash, or `unknown`.
    pub commit: String,
    /// Whether the work tree differed from the commit.
    pub dirty: bool,
    /// The command's options, without anything secret.
    pub command: String,
    /// The seed of arrivals, payloads and mock delays.
    pub seed: u64,
    /// Set when the run was interrupted: such a report is partial and no gate passes.
    #[serde(default)]
    pub interrupted: bool,
}

/// Where and with what a run was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Model name of the CPU.
    pub cpu: String,
    /// Logical cores.
    pub cores: u32,
    /// Physical memory.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Distribution's name.
    pub os: String,
    /// Share of CPU time stolen by the hypervisor during the run, in percent.
    pub steal_pct: f64,
    /// What this machine's noise looked like, in one sentence.
    pub noise: String,
    /// How far this machine differs from itself; absent where nobody has measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_floor: Option<NoiseFloor>,
    /// `native`, `embedded`, `containers` or `external`.
    pub stack: String,
    /// Name and version.
    pub database: String,
    /// Name and version.
    pub object_store: String,
    /// The link's name and parameters.
    pub link: String,
    /// The mock LLM's latency model.
    pub llm: String,
    /// Where the rollouts' queries come from.
    #[serde(default)]
    pub dataset: String,
    /// The type of the file system that the services' logs are on; in memory (`tmpfs`) a sync costs nothing.
    #[serde(default)]
    pub log_filesystem: String,
}

/// One rung of the ladder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// `blob`, `pooled`, …
    pub name: String,
    /// One line for people.
    pub title: String,
    /// What this rung turns on over the one before.
    pub turns_on: String,
    /// What a 200 promises: `stored`, `memory`, …; `none` for `direct`.
    pub durability: String,
    /// Rollouts intended (after warm-up).
    pub rollouts: u64,
    /// Rollouts in flight at most.
    pub concurrency: u32,
    /// Systems the rollouts were spread over.
    pub systems: u32,
    /// First intended start to last answer.
    pub wall_seconds: f64,
    /// Seconds from the run's start to this rung's first intended start.
    #[serde(default)]
    pub started_seconds: f64,
    /// Where every intended rollout went.
    pub accounting: Accounting,
    /// Whether the figures may be believed.
    pub validity: Validity,
    /// Whole rollouts.
    pub rollout: Times,
    /// Per rollout: the service's totals over its calls, less the union of its LLM intervals.
    pub overhead: Dist,
    /// By step (`rollout`, `status_reward`, …).
    pub steps: BTreeMap<String, Times>,
    /// By stage name; exclusive times; `other` among them.
    pub stages: BTreeMap<String, StageReport>,
    /// Roll-ups `db s3 tpe llm log cpu queue other`, in the same form.
    pub stage_groups: BTreeMap<String, StageReport>,
    /// By operation (`start_rollout`, …).
    pub operations: BTreeMap<String, OperationReport>,
    /// Per rollout, after warm-up.
    pub counts: Counts,
    /// What the database says of itself.
    pub database: DatabaseReport,
    /// By process: `service`, `loadgen`, `mock`, …
    pub process: BTreeMap<String, ProcessReport>,
    /// What was lost on a kill; null where not measured.
    pub loss: Option<Loss>,
    /// Against the first rung that has an overhead.
    pub speedup: Option<Speedup>,
    /// Size of one system's stored state, first and last seen: how it grows.
    #[serde(default)]
    pub state_growth: Option<StateGrowth>,
    /// Measured against the mock's own plan; null where no plan was seen.
    #[serde(default)]
    pub makespan: Option<Makespan>,
    /// What the service used with so many clients at once, in rising order of clients; empty where not measured.
    #[serde(default)]
    pub resources: Vec<ResourcePoint>,
}

/// Three views of the same thing. `response = lag + service`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Intended start to done.
    pub response: Dist,
    /// Sent to done.
    pub service: Dist,
    /// Intended start to sent; absent for steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<Dist>,
    /// The part of the lag that is the pacer's: intended start to released. Open model only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pacer_lag: Option<Dist>,
    /// The rest of the lag: released to sent, which is waiting for a free slot (or, where one was free, the hand-over to it).
    /// Open model only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot_wait: Option<Dist>,
}

/// `intended` is the sum of all the others, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    /// Rollouts that should have been made.
    pub intended: u64,
    /// Done, reward acknowledged.
    pub ok: u64,
    /// Ended by a 4xx.
    pub http_4xx: u64,
    /// Ended by a 5xx.
    pub http_5xx: u64,
    /// Answered, but not as the contract says.
    pub invalid: u64,
    /// No connection.
    pub connect: u64,
    /// TLS failed.
    pub tls: u64,
    /// Sending failed.
    pub write: u64,
    /// Receiving failed.
    pub read: u64,
    /// No answer in time.
    pub timeout: u64,
    /// Cut off by the run's end, from the intended start.
    pub deadline: u64,
    /// Never sent.
    pub unsent: u64,
    /// Still running when the run ended.
    pub in_flight_at_end: u64,
}

impl Accounting {
    /// Whether every intended rollout is accounted for.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.intended == self.ok + self.errors() + self.unsent + self.in_flight_at_end
    }

    /// All error classes together.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.http_4xx
            + self.http_5xx
            + self.invalid
            + self.connect
            + self.tls
            + self.write
            + self.read
            + self.timeout
            + self.deadline
    }
}

/// Whether figures may be believed, and if not, why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// No reason against it.
    pub ok: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

/// One stage, or one roll-up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// Exclusive time per call in which the stage ran.
    pub dist: Dist,
    /// Mean exclusive time per rollout.
    pub per_rollout_us: f64,
    /// How often it ran per rollout.
    pub calls_per_rollout: f64,
    /// Time per rollout hidden beside another stage: shown, never summed.
    #[serde(default)]
    pub overlap_per_rollout_us: f64,
}

/// The rows of the seed table, for one operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OperationReport {
    /// `load_state (db)`
    pub load_db: Dist,
    /// `load_state (s3)`
    pub load_s3: Dist,
    /// `save_state (s3)`
    pub save_s3: Dist,
    /// `save_state (db)`
    pub save_db: Dist,
    /// What no stage claims.
    #[serde(default)]
    pub other: Dist,
    /// The service's own total, LLM included.
    pub total: Dist,
    /// Mean exclusive time per call by stage name, `other` among them: their sum is the total's mean.
    #[serde(default)]
    pub stage_mean_us: BTreeMap<String, f64>,
}

/// Counts per rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// A caller waited for it.
    pub critical: CountSet,
    /// Nobody waited for it.
    pub background: CountSet,
    /// What else was counted on the critical path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_critical: BTreeMap<String, f64>,
    /// What else was counted behind it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_background: BTreeMap<String, f64>,
    /// What the service's whole process did, where nobody can tell who waited for which part: `allocations`, `allocated_bytes`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub process: BTreeMap<String, f64>,
}

/// One set of counts, each per rollout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CountSet {
    /// Postgres `ReadyForQuery` messages.
    pub db_round_trips: f64,
    /// Statements executed.
    pub db_statements: f64,
    /// Connections opened to the database.
    #[serde(default)]
    pub db_connections: f64,
    /// GET (and HEAD) requests.
    pub s3_get: f64,
    /// PUT (and POST) requests.
    pub s3_put: f64,
    /// Object bytes both ways.
    pub s3_bytes: f64,
    /// Calls to the LLM.
    pub llm_calls: f64,
    /// Syncs of the log.
    #[serde(default)]
    pub log_syncs: f64,
}

/// What the database says it spent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DatabaseReport {
    /// Mean execution time per statement, by statement kind (`select`, `upsert`, …); empty where the database does not tell.
    pub server_execution_us: BTreeMap<String, f64>,
}

/// One process's resources during the rung.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessReport {
    /// User and system time.
    pub cpu_seconds: f64,
    /// Peak resident set since the process began, which may have been before the rung (0 once it has ended).
    pub rss_max_bytes: u64,
}

/// What the service's process used while a number of clients called it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourcePoint {
    /// Rollouts in flight at most.
    pub clients: u32,
    /// CPU time over wall time, in percent of one core: 200 is two cores in full use.
    pub cpu_pct: f64,
    /// Resident set at the end of this level.
    pub rss_bytes: u64,
}

/// What was lost on a kill.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// SIGKILL while clients call.
    pub process_killed: Option<LossCount>,
    /// The same, and the service's data directory deleted; database and object store are elsewhere.
    pub host_gone: Option<LossCount>,
    /// Rewards acknowledged and not found, when many status calls (`acknowledged` of them answered) raced on one system without any kill.
    #[serde(default)]
    pub concurrent_calls: Option<LossCount>,
}

/// Rewards acknowledged to a caller, and found again afterwards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossCount {
    /// Answered with 200.
    pub acknowledged: u64,
    /// Found afterwards.
    pub recovered: u64,
    /// The difference.
    pub lost: u64,
}

/// Against the first rung.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Speedup {
    /// Ratio of overhead p50.
    pub overhead: f64,
    /// Ratio of rollout p50.
    pub rollout: f64,
}

/// How one system's stored state grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StateGrowth {
    /// Past rollouts in the state when the rung began.
    pub history: u64,
    /// Bytes of one whole-state PUT, smallest seen.
    pub bytes_min: u64,
    /// Largest seen.
    pub bytes_max: u64,
    /// Bytes added per rollout, least squares.
    pub bytes_per_rollout: f64,
    /// p50 of one whole-state PUT.
    pub put_p50_us: f64,
    /// p50 of one whole-state GET.
    pub get_p50_us: f64,
}

/// The run's length against the mock's own plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Makespan {
    /// The planned delays laid out on as many lanes as rollouts were in flight.
    pub planned_seconds: f64,
    /// As measured.
    pub measured_seconds: f64,
    /// `measured / planned`.
    pub ratio: f64,
}

/// One row of the seed document's table beside ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedRow {
    /// `start_rollout`, `llm`, `status_reward`, `status_done` or `rollout`.
    pub operation: String,
    /// `load_state (db)` …
    pub row: String,
    /// Theirs.
    pub seed_min_ms: f64,
    /// Theirs.
    pub seed_max_ms: f64,
    /// Theirs, as they estimated it.
    pub seed_avg_ms: f64,
    /// Ours.
    pub p50_ms: Option<f64>,
    /// Ours.
    pub samples: u64,
    /// Whether our p50 lies inside their min–max.
    pub inside: bool,
}

/// A check with its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What was checked.
    pub name: String,
    /// `pass`, `fail`, `inconclusive` or `invalid`.
    pub outcome: String,
    /// Figures behind it, in one sentence.
    pub detail: String,
}
