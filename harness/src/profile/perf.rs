//! CPU samples by perf, as a child process, with frame pointers: `dwarf` copies 64 KB of stack a sample, too much for two cores.
//!
//! The clock is `cpu-clock`: virtual machines often have no hardware counters, and asking for one there falls back to it anyway.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mipro_telemetry::Folded;
use mipro_testbed::process::{Child, Spec};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::{CPU_TIMES, Stretches};
use crate::options::Error;
use crate::side::Side;
use script::Collapser;

mod script;
#[cfg(test)]
mod tests;

/// Samples a second of CPU time: not in step with timers of 1 or 10 ms.
pub(super) const HERTZ: u32 = 499;
/// How long perf may take to attach.
const ATTACH_MAX: Duration = Duration::from_secs(5);
const ATTACH_LOOK: Duration = Duration::from_millis(5);
/// How long perf may take to write its file.
const STOP_MAX: Duration = Duration::from_secs(15);
/// How long `perf script` may take.
const SCRIPT_MAX: Duration = Duration::from_secs(180);
/// Above this share of stacks with hardly a frame, the binary has no frame pointers.
const SHALLOW_MAX: f64 = 0.5;

/// Where a side's CPU time went.
pub(super) struct Cpu {
    /// Rollouts that it rests on.
    pub(super) rollouts: u64,
    /// Samples by stack, the thread's name first.
    pub(super) stacks: Folded,
}

/// What was recorded, with what has to be said of it; or why nothing was.
type Recorded = Result<(Cpu, Vec<String>), String>;

impl Stretches<'_> {
    /// Records the CPU of process `pid`, the side's service, over a stretch of rollouts. No link is in the way: CPU time does not
    /// wait, and more rollouts fit.
    pub(super) async fn cpu(&self, side: &Side, pid: i32) -> Result<Recorded, Error> {
        let rollouts = self.options.rollouts * CPU_TIMES;
        self.watcher.step(&format!("{}: CPU, {rollouts} rollouts", side.label));
        let load = self.prepared(side, "cpu", rollouts).await?;
        self.warm(side, &load).await?;
        let data = self.ground.dir.join(format!("perf-{}.data", side.which.name().to_ascii_lowercase()));
        let recording = match Recording::start(&self.options.perf, pid, data, self.ground.dir).await {
            Ok(recording) => recording,
            Err(why) => return Ok(Err(why)),
        };
        let outcome = self.drive(side, load, mipro_loadgen::silent()).await?;
        let collapsed = recording.finish(&self.options.perf).await;
        Ok(collapsed.map(|collapsed| {
            let notes = collapsed.notes(&side.label);
            (Cpu { rollouts: outcome.accounting.intended.max(1), stacks: collapsed.stacks }, notes)
        }))
    }
}

/// perf, attached to a process. Dropped, it ends.
struct Recording {
    child: Child,
    data: PathBuf,
}

impl Recording {
    /// Attaches perf to `pid`; the reason where it can't be.
    async fn start(perf: &Path, pid: i32, data: PathBuf, logs: &Path) -> Result<Self, String> {
        let spec = Spec::new("perf", perf)
            .args(["record", "--quiet", "--no-buildid-cache", "-e", "cpu-clock", "--call-graph", "fp"])
            .args(["-F", &HERTZ.to_string(), "-p", &pid.to_string(), "-o"])
            .arg(&data);
        // Not of the fleet: that it is refused must not end the run.
        let child = match Child::start(spec, logs).await {
            Ok(child) => child,
            Err(error) => return Err(missing(&error)),
        };
        // It writes the head of its file once it is attached.
        let attached = async {
            while child.exit().is_none() && !std::fs::metadata(&data).is_ok_and(|file| file.len() > 0) {
                sleep(ATTACH_LOOK).await;
            }
        };
        let in_time = timeout(ATTACH_MAX, attached).await.is_ok();
        if child.exit().is_some() || !in_time {
            return Err(refused(&child.output_tail(), paranoid()));
        }
        Ok(Self { child, data })
    }

    /// Ends it and folds what it recorded.
    async fn finish(self, perf: &Path) -> Result<Collapsed, String> {
        // It may have been refused after it had begun its file.
        if let Some(exit) = self.child.exit()
            && !exit.status.success()
        {
            return Err(refused(&self.child.output_tail(), paranoid()));
        }
        self.child.terminate(STOP_MAX).await;
        let read = collapse(perf, &self.data);
        let late = |_| format!("perf script did not end within {} s. {STEAD}", SCRIPT_MAX.as_secs());
        let collapsed = timeout(SCRIPT_MAX, read).await.map_err(late)?.map_err(|error| {
            format!("No CPU flamegraph: what perf recorded can't be read ({error}). {STEAD}")
        })?;
        if collapsed.stacks.is_empty() {
            return Err(format!("No CPU flamegraph: perf recorded no sample. {STEAD}"));
        }
        Ok(collapsed)
    }
}

/// What a reader has instead.
const STEAD: &str = "In its stead the wall clock's [poll] leaves and the busy view say in which stages code ran, though not in which functions.";

fn missing(error: &dyn std::error::Error) -> String {
    let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    format!(
        "No CPU flamegraph: perf can't be run ({why}); Debian has it as linux-perf, and MIPRO_PERF names another. {STEAD}"
    )
}

/// `paranoid` is the kernel's setting, where it tells.
fn refused(tail: &str, paranoid: Option<i32>) -> String {
    let said = tail.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it said nothing");
    let said = said.trim_end_matches(['.', ':']);
    let setting =
        paranoid.map_or_else(String::new, |level| format!(" (kernel.perf_event_paranoid is {level})"));
    format!(
        "No CPU flamegraph: perf was refused: {said}{setting}. It takes CAP_PERFMON, or kernel.perf_event_paranoid at 2 or less and the same user; \
         containers often forbid it altogether. {STEAD}"
    )
}

fn paranoid() -> Option<i32> {
    std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok()?.trim().parse().ok()
}

/// Samples by stack.
struct Collapsed {
    stacks: Folded,
    samples: u64,
    /// Stacks with hardly a frame.
    shallow: u64,
    /// Samples with a frame of the kernel.
    kernel: u64,
}

impl Collapsed {
    /// What the picture does not show.
    fn notes(&self, label: &str) -> Vec<String> {
        let mut notes = Vec::new();
        if self.shallow as f64 > self.samples as f64 * SHALLOW_MAX {
            notes.push(format!(
                "{label}: most CPU stacks are cut short, for the binary has no frame pointers; `just flame` builds one that has."
            ));
        }
        if self.kernel == 0 {
            let level = paranoid()
                .map_or_else(String::new, |level| format!(" (kernel.perf_event_paranoid is {level})"));
            notes.push(format!(
                "{label}: the kernel's part of the CPU is missing{level}; what it did is not in the picture."
            ));
        }
        notes
    }
}

/// Reads a recording with `perf script`. Inlined functions are left out: looking them up takes minutes.
async fn collapse(perf: &Path, data: &Path) -> std::io::Result<Collapsed> {
    let mut child = Command::new(perf)
        .args(["script", "--no-inline", "-F", "comm,tid,ip,sym,dso", "-i"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("no output"))?;
    let (mut lines, mut collapser) = (BufReader::new(stdout).split(b'\n'), Collapser::default());
    while let Some(line) = lines.next_segment().await? {
        collapser.line(&String::from_utf8_lossy(&line));
    }
    let collapsed = collapser.finish();
    let status = child.wait().await?;
    if !status.success() && collapsed.samples == 0 {
        return Err(std::io::Error::other(format!("perf script: {status}")));
    }
    Ok(collapsed)
}
