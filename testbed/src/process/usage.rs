//! What a process has used so far, from `/proc`.

use std::collections::HashMap;
use std::fs;

/// The unit of the times in `/proc/<pid>/stat`: USER_HZ is 100 on every Linux that Rust's standard library runs on.
const TICKS_PER_S: f64 = 100.0;

/// Resources used since the start of a process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// CPU time in user mode, in seconds.
    pub cpu_user_s: f64,
    /// CPU time in the kernel, in seconds.
    pub cpu_system_s: f64,
    /// The most memory that was resident at once, in bytes. For a tree this is the sum over its living processes, so
    /// memory that they share is counted once for each of them. 0 once the process has ended.
    pub rss_peak_bytes: u64,
    /// Memory that is resident now, in bytes; of a tree as above.
    pub rss_bytes: u64,
    /// How many living processes these figures cover.
    pub processes: u32,
}

impl Usage {
    /// User and system time together, in seconds.
    #[must_use]
    pub fn cpu_s(&self) -> f64 {
        self.cpu_user_s + self.cpu_system_s
    }

    /// What this process itself has used; `None` where there is no `/proc`.
    #[must_use]
    pub fn of_this_process() -> Option<Self> {
        of_process(i32::try_from(std::process::id()).ok()?)
    }

    fn add(&mut self, other: &Self) {
        self.cpu_user_s += other.cpu_user_s;
        self.cpu_system_s += other.cpu_system_s;
        self.rss_peak_bytes += other.rss_peak_bytes;
        self.rss_bytes += other.rss_bytes;
        self.processes += other.processes;
    }
}

/// The process alone; `None` where there is no `/proc`, or the process is gone.
pub(crate) fn of_process(pid: i32) -> Option<Usage> {
    let stat = Stat::read(pid)?;
    Some(Usage {
        cpu_user_s: stat.user_ticks / TICKS_PER_S,
        cpu_system_s: stat.system_ticks / TICKS_PER_S,
        rss_peak_bytes: status_bytes(pid, "VmHWM:"),
        rss_bytes: status_bytes(pid, "VmRSS:"),
        processes: 1,
    })
}

/// The process, its living descendants, and those descendants that ended and were waited for.
pub(crate) fn of_tree(root: i32) -> Option<Usage> {
    let mut stats: HashMap<i32, Stat> = HashMap::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some((pid, stat)) = pid.and_then(|pid| Some((pid, Stat::read(pid)?))) {
            stats.insert(pid, stat);
        }
    }
    stats.get(&root)?;
    let mut total = Usage::default();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        let Some(stat) = stats.get(&pid) else { continue };
        total.add(&Usage {
            cpu_user_s: (stat.user_ticks + stat.reaped_user_ticks) / TICKS_PER_S,
            cpu_system_s: (stat.system_ticks + stat.reaped_system_ticks) / TICKS_PER_S,
            rss_peak_bytes: status_bytes(pid, "VmHWM:"),
            rss_bytes: status_bytes(pid, "VmRSS:"),
            processes: 1,
        });
        open.extend(stats.iter().filter(|(_, stat)| stat.parent == pid).map(|(pid, _)| *pid));
    }
    Some(total)
}

pub(super) struct Stat {
    pub(super) parent: i32,
    pub(super) user_ticks: f64,
    pub(super) system_ticks: f64,
    pub(super) reaped_user_ticks: f64,
    pub(super) reaped_system_ticks: f64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is the program's name in brackets, which may hold spaces and brackets itself: the fields are
    /// counted from the last closing one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            user_ticks: ticks(11)?,
            system_ticks: ticks(12)?,
            reaped_user_ticks: ticks(13)?,
            reaped_system_ticks: ticks(14)?,
        })
    }
}

fn status_bytes(pid: i32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib =
        line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
