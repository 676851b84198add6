//! Where the children of a run write.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;

/// A directory for what the run's children write; removed at the end, unless something went wrong. While its run lives, a
/// file in it is locked: what a killed run left behind is known by its lock being free, and the next run removes it.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
    keep: AtomicBool,
    _lock: File,
}

const SCRATCH_PREFIX: &str = "mipro-bench-";
const SCRATCH_LOCK: &str = "lock";

impl Scratch {
    pub(crate) fn new(parent: &Path) -> anyhow::Result<Self> {
        Self::sweep(parent);
        let dir = parent.join(format!("{SCRATCH_PREFIX}{}", std::process::id()));
        // Configurations in it hold passwords.
        let mut closed = DirBuilder::new();
        closed.recursive(true).mode(0o700);
        let lock = closed.create(&dir).and_then(|()| {
            let lock = File::create(dir.join(SCRATCH_LOCK))?;
            lock.lock()?;
            Ok(lock)
        });
        let lock = lock.with_context(|| format!("{} could not be made", dir.display()))?;
        Ok(Self { dir, keep: AtomicBool::new(false), _lock: lock })
    }

    /// Removes what runs that were killed have left behind. What can't be looked at or removed is somebody else's.
    fn sweep(parent: &Path) {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let ours = entries.filter(|e| e.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX));
        for dir in ours.map(|entry| entry.path()) {
            let lock = File::open(dir.join(SCRATCH_LOCK));
            if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
                let _ = std::fs::remove_dir_all(&dir);
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn keep_for(&self, error: &mipro_harness::Error) {
        self.keep.store(true, Ordering::Relaxed);
        // Without it, no later run takes the directory for litter.
        let _ = std::fs::remove_file(self.dir.join(SCRATCH_LOCK));
        tracing::warn!(logs = %self.dir.display(), %error, "the logs of the run's processes are kept");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep.load(Ordering::Relaxed) {
            // What can't be removed is left in the system's temporary directory, which is swept by others.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

#[cfg(test)]
mod tests;
