//! A process under profile: what it gathers, and the files it leaves.
//!
//! It is off unless [`DIR_VARIABLE`] names a directory, and costs nothing then. The protocol with whoever profiles is made of files
//! and one signal: [`BEGUN`] is there as soon as the process can be profiled, and holds how often a profile was begun; a SIGUSR1
//! begins one, forgetting what was before (a warm-up); a clean stop writes the others.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;

use crate::busy::Busy;
use crate::ledger::spans::TARGET;
use crate::wall::{Wall, chrome};

/// Names the directory that profiles go to; unset or empty, nothing is profiled.
pub const DIR_VARIABLE: &str = "MIPRO_PROFILE_DIR";
/// How often a profile was begun, as text.
pub const BEGUN: &str = "begun";
/// Wall-clock time by stack, in nanoseconds; see [`crate::wall`].
pub const WALL: &str = "wall.folded";
/// Busy time by stack, in nanoseconds; see [`crate::busy`].
pub const BUSY: &str = "busy.folded";
/// The slowest rollout; see [`chrome`].
pub const TRACE: &str = "slowest.trace.json";
/// A [`Summary`].
pub const SUMMARY: &str = "profile.json";

/// What a profile rests on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Requests that ended.
    pub requests: u64,
    /// Spans and polls that did not fit; their time is charged to what was around them.
    pub cut: u64,
    /// From the first call to the end of the last one of the slowest rollout; 0 without one.
    pub slowest_ns: u64,
}

#[cfg(test)]
mod tests;

/// Gathers a profile of this process.
#[derive(Debug)]
pub struct Profiler {
    dir: PathBuf,
    wall: Wall,
    busy: Busy,
    begun: AtomicU64,
}

impl Profiler {
    /// Profiles into `dir`, made if missing.
    ///
    /// # Errors
    /// When it can't be made or written to.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let (wall, busy, begun) = (Wall::default(), Busy::default(), AtomicU64::new(0));
        let profiler = Self { dir: dir.to_owned(), wall, busy, begun };
        profiler.put(BEGUN, "0")?;
        Ok(profiler)
    }

    /// The layers that feed it, kept to the spans that are theirs. To be installed once.
    pub fn layers<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let ours = filter_fn(|metadata| metadata.target() == TARGET).with_max_level_hint(LevelFilter::TRACE);
        self.wall.layer().and_then(self.busy.layer()).with_filter(ours)
    }

    /// Begins anew: what was gathered is forgotten.
    ///
    /// # Errors
    /// When that can't be told in [`BEGUN`].
    pub fn begin(&self) -> io::Result<()> {
        self.wall.begin();
        self.busy.begin();
        let begun = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        self.put(BEGUN, &begun.to_string())
    }

    /// Writes what was gathered. Requests in flight are not in it.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn write(&self) -> io::Result<()> {
        let found = self.wall.found();
        self.put(WALL, &found.stacks.to_text())?;
        self.put(BUSY, &self.busy.found().to_text())?;
        let slowest_ns = found.slowest.first().map_or(0, |slowest| {
            let (from, to) = slowest.range_ns();
            to - from
        });
        if let Some(slowest) = found.slowest.first() {
            self.put(TRACE, &chrome::trace(slowest, "mipro serve"))?;
        }
        let summary = Summary { requests: found.requests, cut: found.cut, slowest_ns };
        self.put(SUMMARY, &serde_json::to_string(&summary).map_err(io::Error::other)?)
    }

    /// In one step, so that nobody reads half a file.
    fn put(&self, name: &str, text: &str) -> io::Result<()> {
        let temporary = self.dir.join(format!(".{name}.tmp"));
        fs::write(&temporary, text)?;
        fs::rename(&temporary, self.dir.join(name))
    }
}
