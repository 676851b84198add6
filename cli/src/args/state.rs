use std::path::PathBuf;

use clap::{Args, Subcommand};
use mipro_service::inspect::Point;
use uuid::Uuid;

use super::Format;

/// Looks at what a service has stored (log, snapshots, archive, table), checks it, and carries systems out and in.
///
/// Everything but `import` and `repair --apply` only reads: no lock is taken and nothing is changed, whether the service
/// runs or not. A system's id is a capability (whoever knows it may use its proxy URL): what these commands print is as
/// secret as the ids in it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro state list
  mipro state verify --data-dir /var/lib/mipro
  mipro state show 0b6d… --events --since 100
  mipro state export 0b6d… -o system.mipro --at 2026-05-01T03:00:00Z
  mipro state import system.mipro --as new
  mipro state repair                       what would be done about damage, and what it would cost")]
pub(crate) struct StateArgs {
    #[command(subcommand)]
    pub(crate) command: StateCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Every system, with what is stored of it
    List(ListArgs),
    /// One system: its state as a start would recover it, or its events
    Show(ShowStateArgs),
    /// Whether all that is stored is whole
    Verify(VerifyArgs),
    /// One system into one file
    Export(ExportArgs),
    /// An exported system into the stores
    Import(ImportArgs),
    /// The way out of damage: what can be saved, what can't, and the doing of it
    Repair(RepairArgs),
}

/// Where the service keeps its things; the same flags, file and MIPRO_* variables as `serve`.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Where SQLite, blobs and log are unless told otherwise [default: ./mipro-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// sqlite:FILE or postgres://…
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,

    /// file:///DIR or s3://bucket/prefix?endpoint=…
    #[arg(long, value_name = "URL")]
    pub(crate) blobs: Option<String>,
}

/// Prints a line for each system of the table: status, version of the stored snapshot, epoch, the snapshot's bytes, when its
/// row was written, and how many events the local log holds beyond it. The ids printed are capabilities: keep them to
/// yourself.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro state list
  mipro state list --format json | jq -r .systems[].system")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) stores: StoreArgs,

    /// At most so many systems
    #[arg(short = 'n', long, value_parser = crate::duration::parse_some)]
    pub(crate) limit: Option<u64>,

    /// Systems after this id, in the order of ids
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<Uuid>,

    /// What stdout gets
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Prints a system's state as a start of the service would recover it (row, snapshot, tail of the log), changing nothing; or
/// its events, out of the log and the archive.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro state show 0b6d…
  mipro state show 0b6d… --format json | jq .state.candidates
  mipro state show 0b6d… --events --since 100 --limit 20")]
pub(crate) struct ShowStateArgs {
    /// Which system
    pub(crate) system: Uuid,

    #[command(flatten)]
    pub(crate) stores: StoreArgs,

    /// Its events instead of its state
    #[arg(long)]
    pub(crate) events: bool,

    /// Events after this one
    #[arg(long, value_name = "SEQ", default_value_t = 0, requires = "events")]
    pub(crate) since: u64,

    /// At most so many events
    #[arg(long, value_name = "N", default_value = "100", requires = "events", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: u32,

    /// What stdout gets
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Reads everything a start relies on and says what is not as it was written: every record of the log and of the archived
/// segments, every snapshot that a row names, and whether each system's events go on from its snapshot without gap. Where a
/// system's whole history is there, its state is folded from it again and compared. Exit code 0: all whole; 1: something is
/// damaged, or could not be read. The end of a log that a running service writes to is no damage.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro state verify
  mipro state verify 0b6d…
  mipro state verify --format json | jq '.systems[] | select(.state_hash != .refold_hash)'")]
pub(crate) struct VerifyArgs {
    /// Only this system; without it, all of them
    pub(crate) system: Option<Uuid>,

    /// Leave out the archived segments that no system's history needed
    #[arg(long)]
    pub(crate) skip_archive: bool,

    #[command(flatten)]
    pub(crate) stores: StoreArgs,

    /// What stdout gets
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Writes one system into one checksummed file: its state, and with --with-history its events. Changes nothing in the stores.
/// The file holds the system's id and prompts: keep it as you keep those.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro state export 0b6d… -o system.mipro
  mipro state export 0b6d… -o system.mipro --with-history
  mipro state export 0b6d… -o then.mipro --at 4711                      as it was after event 4711
  mipro state export 0b6d… -o then.mipro --at 2026-05-01T03:00:00Z      as it was at that time")]
pub(crate) struct ExportArgs {
    /// Which system
    pub(crate) system: Uuid,

    /// Where to; must not exist
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// The state as it was after this event (a number), or at this time (RFC 3339) [default: now]
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) at: Option<Point>,

    /// Its events, too
    #[arg(long)]
    pub(crate) with_history: bool,

    #[command(flatten)]
    pub(crate) stores: StoreArgs,
}

/// Restores an exported system: a new snapshot, then a row that names it, under an epoch above all that were there before. An
/// import that fails half-way leaves an object that nobody names, and no row.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro state import system.mipro
  mipro state import system.mipro --as new                               a copy beside the original
  mipro state import then.mipro --replace                                back to an earlier point; stop the service first")]
pub(crate) struct ImportArgs {
    /// What `mipro state export` wrote
    pub(crate) file: PathBuf,

    /// Under this id instead of its own; `new`: under a fresh one
    #[arg(long = "as", value_name = "ID|new", value_parser = new_id, conflicts_with = "replace")]
    pub(crate) new_id: Option<NewId>,

    /// Take the place of a system of that id, whatever it is at. The service must be stopped
    #[arg(long)]
    pub(crate) replace: bool,

    #[command(flatten)]
    pub(crate) stores: StoreArgs,
}

/// Under which id a system is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewId {
    /// One that nobody has.
    Fresh,
    /// This one.
    Given(Uuid),
}

fn new_id(text: &str) -> Result<NewId, String> {
    if text == "new" {
        return Ok(NewId::Fresh);
    }
    text.parse().map(NewId::Given).map_err(|_| format!("`{text}` is no id; say a UUID, or new"))
}

/// Finds what keeps the service from starting or a system from loading, and says what can be done and what it costs: which
/// systems lose which events. Without --apply nothing is changed. With it the log is rebuilt from every record that is whole
/// and still has its place; the old log's directory is set aside beside it, never altered or removed. A system whose
/// snapshots are damaged is folded again from its history, or goes back to the newest whole snapshot.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro state repair                          the plan
  mipro state repair --apply                  do it, if it loses nothing
  mipro state repair --apply --accept-loss    do it, at the cost that the plan names")]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    pub(crate) stores: StoreArgs,

    /// Do it; the service must be stopped
    #[arg(long)]
    pub(crate) apply: bool,

    /// Do it although events are lost
    #[arg(long, requires = "apply")]
    pub(crate) accept_loss: bool,

    /// What stdout gets
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}
