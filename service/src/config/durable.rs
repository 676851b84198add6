//! What a 200 promises, and the log and the snapshots that keep the promise. docs/durability.md is the contract.

use std::path::PathBuf;

use serde::Deserialize;

use crate::durability::Level;

/// The durability levels that can be asked for. One that can't be given is refused when read, never softened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum DurabilityLevel {
    /// D0: this process's memory until the next save; a clean stop saves all.
    Memory,
    /// D1: given to the operating system; survives a killed process.
    Os,
    /// D2: on this machine's disk; survives the machine.
    Disk,
}

impl DurabilityLevel {
    /// The level of that name.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::Memory => Level::Memory,
            Self::Os => Level::Os,
            Self::Disk => Level::Disk,
        }
    }
}

impl TryFrom<String> for DurabilityLevel {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.parse() {
            Ok(Level::Memory) => Ok(Self::Memory),
            Ok(Level::Os) => Ok(Self::Os),
            Ok(Level::Disk) => Ok(Self::Disk),
            Ok(level) => Err(format!(
                "this build can't give `{level}`: its event log is on this machine's disk; ask for `disk`, `os` or `memory`, or \
                 take the engine `blob`, or `cache` with save = \"through\", which store before they answer"
            )),
            Err(_) => {
                Err(format!("`{name}` is not a durability level; allowed: memory, os, disk (or D0 … D2)"))
            }
        }
    }
}

/// What the proxy does when the log can't take a rollout's start. Status calls are refused whatever stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLogFailure {
    /// 503; and when the log's disk has failed, the process ends with an error.
    #[default]
    Refuse,
    /// The LLM's answer to the best candidate known goes through, unrecorded, and says so in a header. Nothing is learned
    /// from it; the process stays.
    ServeUnrecorded,
}

/// The event log of the levels `os` and `disk`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogOptions {
    /// Its directory; a disk of its own keeps others' syncs out of its way. Default: `<data_dir>/log`.
    pub dir: Option<PathBuf>,
    /// Size of one segment. Higher: fewer and larger objects in the archive. Default: 64 MiB.
    pub segment_bytes: u64,
    /// Oldest a segment may become before it is sealed and archived. Lower loses less with the host. Default: 3,600,000.
    pub segment_age_ms_max: u64,
    /// Most bytes that wait to be written; from 80 % on new rollouts are refused, from 95 % on rewards. Default: 64 MiB.
    pub queue_bytes_max: u64,
    /// Most bytes kept on the disk while they can't be archived; beyond it writes are refused. Default: 8 GiB.
    pub kept_bytes_max: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            dir: None,
            segment_bytes: 64 << 20,
            segment_age_ms_max: 3_600_000,
            queue_bytes_max: 64 << 20,
            kept_bytes_max: 8 << 30,
        }
    }
}

/// How a state is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotFormat {
    /// The folded state alone; the history stays in the log.
    #[default]
    Binary,
    /// The whole document, history inside: grows for ever. Kept to be measured against. At the level `memory` always: there is
    /// no log there that could keep the history.
    Json,
}

/// When a system's state is stored, at the levels `os` and `disk`; at `memory` the section `cache` says it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotOptions {
    /// How. Default: `binary`.
    pub format: SnapshotFormat,
    /// After this many events; a job may ask for fewer. Lower replays less at a start and writes more. Default: 10,000.
    pub events_max: u64,
    /// When the oldest event that no snapshot covers is this old; a job may ask for sooner. Lower loses less with the host
    /// and writes more. Default: 30,000.
    pub delay_ms_max: u64,
    /// When the events since the last snapshot come to this many times its size (and to 256 KiB at least). Default: 2.
    pub tail_ratio: u64,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self { format: SnapshotFormat::Binary, events_max: 10_000, delay_ms_max: 30_000, tail_ratio: 2 }
    }
}
