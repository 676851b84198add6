use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Runs the service. With no configuration: SQLite and files in ./mipro-data, port 8090. Settings come from the file, then
/// from MIPRO_* variables, then from flags; API keys from MIPRO_API_KEYS, MIPRO_API_KEYS_FILE or --api-keys.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro serve
  mipro serve --database postgres://mipro@db/mipro --blobs 's3://bucket/mipro?region=eu-central-1'
  mipro serve --config mipro.toml --check-config")]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 takes any free one [default: 127.0.0.1:8090]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<String>,

    /// TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Where SQLite and blobs go unless told otherwise [default: ./mipro-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// sqlite:FILE or postgres://…
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,

    /// file:///DIR, s3://bucket/prefix?endpoint=… or memory:
    #[arg(long, value_name = "URL")]
    pub(crate) blobs: Option<String>,

    /// How state is kept: blob, cache, actor [default: actor]
    #[arg(long)]
    pub(crate) engine: Option<String>,

    /// What a 200 promises: disk survives the machine (D2), os the killed process (D1), memory nothing (D0)
    /// [default: disk; the engines blob and cache have a promise of their own]
    #[arg(long)]
    pub(crate) durability: Option<String>,

    /// OpenAI-compatible base URL, /v1 included, for every job [default: by the job's provider]
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<String>,

    /// What proxy URLs start with [default: the bound address]
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,

    /// Tell callers how long each stage took (off in production: it tells outsiders about the inside)
    #[arg(long)]
    pub(crate) server_timing: bool,

    /// API keys, one `key:org-uuid` a line
    #[arg(long, value_name = "FILE")]
    pub(crate) api_keys: Option<PathBuf>,

    /// Read the configuration, say whether it is good, and end
    #[arg(long)]
    pub(crate) check_config: bool,

    #[command(flatten)]
    pub(crate) child: ChildArgs,
}

/// For roles that are started by another process.
#[derive(Debug, Args)]
pub(crate) struct ChildArgs {
    /// Shut down when stdin ends, so that no role outlives the process that started it
    #[arg(long, hide = true)]
    pub(crate) die_with_stdin: bool,
}

/// Runs an OpenAI-compatible mock LLM whose answers are as good as the prompt is, whose delays and faults are seeded, and
/// which tells its plan for each call in a header.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro mock-llm --latency seed
  mipro mock-llm --latency fixed:20ms --faults rate-limit=1%,error=1%,cut=0.5%,stall=0.1%")]
pub(crate) struct MockLlmArgs {
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8088")]
    pub(crate) listen: SocketAddr,

    /// Directory with train.csv and test.csv, so that it knows the right labels; without it the built-in set
    #[arg(long, value_name = "DIR")]
    pub(crate) dataset: Option<PathBuf>,

    /// none, fixed:20ms, or seed (1.3–2.8 s, clipped lognormal)
    #[arg(long, default_value = "seed")]
    pub(crate) latency: String,

    /// Seed of delays, faults and mistakes
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Seeded faults: rate-limit=1%,error=1%,cut=0.5%,stall=0.1%
    #[arg(long)]
    pub(crate) faults: Option<String>,

    #[command(flatten)]
    pub(crate) child: ChildArgs,
}

/// Runs the Banking77 task app. With ENVIRONMENT_API_KEY set it asks for that key in X-API-Key.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro task-app
  mipro task-app --dataset ~/banking77")]
pub(crate) struct TaskAppArgs {
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8016")]
    pub(crate) listen: SocketAddr,

    /// Directory with train.csv and test.csv (`text,category`); without it the built-in set
    #[arg(long, value_name = "DIR")]
    pub(crate) dataset: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) child: ChildArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PostgresArgs {
    /// Directory with initdb and postgres
    #[arg(long, value_name = "DIR")]
    pub(crate) pg_bin: Option<PathBuf>,

    /// Fetch a Postgres with pip where none is installed
    #[arg(long)]
    pub(crate) fetch: bool,

    #[command(flatten)]
    pub(crate) child: ChildArgs,
}

#[derive(Debug, Args)]
pub(crate) struct S3Args {
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,

    #[arg(long)]
    pub(crate) admin_listen: Option<SocketAddr>,

    #[arg(long, default_value = "mipro")]
    pub(crate) bucket: String,

    /// Keep objects in this directory
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    pub(crate) dir: Option<PathBuf>,

    /// Keep objects in memory
    #[arg(long)]
    pub(crate) memory: bool,

    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    #[command(flatten)]
    pub(crate) child: ChildArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,

    #[arg(long)]
    pub(crate) admin_listen: Option<SocketAddr>,

    /// The server behind the link
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) upstream: SocketAddr,

    /// What is spoken on it, so that it can be counted
    #[arg(long, value_enum, default_value_t = Spoken::Raw)]
    pub(crate) protocol: Spoken,

    #[arg(long, default_value_t = 0)]
    pub(crate) rtt_us: u64,

    #[arg(long, default_value_t = 0)]
    pub(crate) jitter_us: u64,

    /// Bits per second towards the server; absent: no limit
    #[arg(long)]
    pub(crate) up_bps: Option<u64>,

    /// Bits per second from the server; absent: no limit
    #[arg(long)]
    pub(crate) down_bps: Option<u64>,

    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    #[command(flatten)]
    pub(crate) child: ChildArgs,
}

/// What is spoken on an emulated link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Spoken {
    /// Bytes, nothing more is counted
    Raw,
    /// Postgres: round trips and statements
    Postgres,
    /// HTTP: requests by verb
    Http,
}
