//! The machine a run was made on, read from /proc and friends; what can't be read is said to be unknown.

use std::path::{Path, PathBuf};
use std::process::Command;

use mipro_bench_reports::Environment;

/// CPU times of the whole machine, in clock ticks since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Taken by the hypervisor for others.
    pub steal: u64,
    /// Spent in anything, idling included.
    pub total: u64,
}

impl CpuTimes {
    /// Reads `/proc/stat`; zeros where there is none.
    #[must_use]
    pub fn read() -> Self {
        std::fs::read_to_string("/proc/stat").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// Parses the first line of `/proc/stat`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let line = text.lines().find(|l| l.starts_with("cpu ")).unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|w| w.parse().ok()).collect();
        // Guest time (fields 9 and 10) is already inside user and nice.
        Self { steal: ticks.get(7).copied().unwrap_or(0), total: ticks.iter().take(8).sum() }
    }

    /// Share of the time since `before` that was stolen, in percent.
    #[must_use]
    pub fn steal_pct_since(self, before: Self) -> f64 {
        let total = self.total.saturating_sub(before.total);
        let steal = self.steal.saturating_sub(before.steal);
        if total == 0 { 0.0 } else { steal as f64 * 100.0 / total as f64 }
    }
}

/// What the run's own options decide is left empty; the machine's part is filled in.
#[must_use]
pub fn machine() -> Environment {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    Environment {
        cpu: field(&read("/proc/cpuinfo"), "model name", ':').unwrap_or_else(|| "unknown".to_owned()),
        cores: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory_bytes(&read("/proc/meminfo")),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        os: field(&read("/etc/os-release"), "PRETTY_NAME", '=')
            .unwrap_or_else(|| std::env::consts::OS.to_owned()),
        ..Environment::default()
    }
}

fn field(text: &str, key: &str, separator: char) -> Option<String> {
    let line = text.lines().find(|l| l.split(separator).next().is_some_and(|k| k.trim() == key))?;
    let (_, value) = line.split_once(separator)?;
    Some(value.trim().trim_matches('"').to_owned())
}

fn memory_bytes(meminfo: &str) -> u64 {
    let kib = field(meminfo, "MemTotal", ':').and_then(|v| v.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The type of the file system that `path` is on (`ext4`, `tmpfs`, …), or `unknown`.
#[must_use]
pub fn filesystem_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    filesystem(&mounts, &path).unwrap_or("unknown").to_owned()
}

/// The type of the innermost mount over `path`; of two on one place the later one, which hides the other.
fn filesystem<'m>(mounts: &'m str, path: &Path) -> Option<&'m str> {
    let over = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (Path::new(words.next()?), words.next()?);
        path.starts_with(place).then(|| (place.components().count(), kind))
    });
    over.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

/// A directory for a run's data, on a disk where there is a choice: in memory, a log syncs for nothing, and its figures would
/// flatter.
#[must_use]
pub fn scratch_parent() -> PathBuf {
    let first = std::env::temp_dir();
    let in_memory = |dir: &Path| matches!(filesystem_of(dir).as_str(), "tmpfs" | "ramfs");
    let on_disk = PathBuf::from("/var/tmp");
    if in_memory(&first) && on_disk.is_dir() && !in_memory(&on_disk) { on_disk } else { first }
}

/// How noisy the machine was, in a few words, besides the stolen time that stands beside it.
#[must_use]
pub fn noise_sentence(load_1m: f64, cores: u32) -> String {
    let crowded = if load_1m > f64::from(cores) { "; more runnable work than cores" } else { "" };
    format!("Load {load_1m:.1} on {cores} cores{crowded}")
}

/// Runnable work, averaged over the last minute; 0 where unknown.
#[must_use]
pub fn load_1m() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|w| w.parse().ok()).unwrap_or(0.0)
}

/// The commit a run was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Short hash, or `unknown` outside a git checkout.
    pub commit: String,
    /// Whether the work tree differed from it.
    pub dirty: bool,
}

impl Revision {
    /// Asks git about the directory `dir`.
    #[must_use]
    pub fn of(dir: &Path) -> Self {
        let git = |args: &[&str]| {
            let output = Command::new("git").arg("-C").arg(dir).args(args).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
        let dirty = git(&["status", "--porcelain"]).is_some_and(|text| !text.is_empty());
        Self { commit, dirty }
    }
}

#[cfg(test)]
mod tests;
