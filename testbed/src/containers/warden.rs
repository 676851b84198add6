//! The process that removes a run's containers when the run is over, however it ends.
//!
//! It is started before any container and ended after all else, holds a lock for as long as it lives, and dies with its
//! stdin: when the run is killed, it reads end-of-file, removes every container that bears the run's label, and goes.
//! When it is killed itself, the next warden finds containers of a run whose lock is free, and removes those.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Error;
use super::engine::Engine;

const PREFIX: &str = "mipro-containers-";

/// Watches over the containers of `run` until `shutdown` is cancelled, then removes them; `ready` is called once what
/// earlier runs left behind is gone. Dropping the future removes nothing.
///
/// # Errors
/// When there is no engine, and when the run's lock can't be made. What can't be removed is logged.
pub async fn run(run: Uuid, ready: impl FnOnce() + Send, shutdown: CancellationToken) -> Result<(), Error> {
    let engine = Engine::connect().await?;
    let lock = RunLock::create(&locks_dir(), run)?;
    sweep(&engine, &locks_dir()).await;
    ready();
    shutdown.cancelled().await;
    if let Err(reason) = engine.remove_run(run).await {
        tracing::error!(%run, reason, "containers were left behind; the next run removes them");
        lock.leave();
    }
    Ok(())
}

/// Removes the containers of runs whose wardens are gone. A run whose lock file is not to be seen from here may be that of
/// another machine or container with the same engine: it is left alone.
async fn sweep(engine: &Engine, dir: &Path) {
    let runs = match engine.runs().await {
        Ok(runs) => runs,
        Err(error) => {
            tracing::warn!(%error, "could not look for containers of killed runs");
            return;
        }
    };
    for run in runs {
        let Some(lock) = RunLock::of_dead(dir, run) else { continue };
        match engine.remove_run(run).await {
            Ok(()) => tracing::info!(%run, "removed the containers of a killed run"),
            Err(reason) => {
                tracing::warn!(%run, reason, "could not remove the containers of a killed run");
                lock.leave();
            }
        }
    }
}

fn locks_dir() -> PathBuf {
    // Not a directory of the environment's choice: all runs must look in the same.
    let usual = Path::new("/var/tmp");
    if usual.is_dir() { usual.to_owned() } else { std::env::temp_dir() }
}

/// A file that is locked while its run's warden lives. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct RunLock {
    path: PathBuf,
    leaves_file: bool,
    /// Held, never read.
    _file: File,
}

impl RunLock {
    pub(super) fn create(dir: &Path, run: Uuid) -> Result<Self, Error> {
        let path = lock_path(dir, run);
        let unlocked = path.with_extension("new");
        // The lock gets its name when it is held: under that name it is never seen free while its warden lives.
        let made = (|| -> io::Result<File> {
            let file = File::create_new(&unlocked)?;
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            fs::rename(&unlocked, &path)?;
            Ok(file)
        })();
        let file = made.map_err(|source| Error::Lock { action: "make", path: path.clone(), source })?;
        Ok(Self { path, leaves_file: false, _file: file })
    }

    /// Frees the lock and leaves the file, by which the next warden knows the run as dead.
    fn leave(mut self) {
        self.leaves_file = true;
    }

    /// The lock of a run that nobody holds any more. Others' files are left alone.
    pub(super) fn of_dead(dir: &Path, run: Uuid) -> Option<Self> {
        let path = lock_path(dir, run);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(&path, flags, Mode::empty()).ok()?);
        let is_ours = file.metadata().is_ok_and(|data| data.uid() == rustix::process::geteuid().as_raw());
        let is_free = is_ours && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        // Not made before it is known to be free: its drop removes the file.
        is_free.then(|| Self { path, leaves_file: false, _file: file })
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        if !self.leaves_file {
            // What can't be removed is a name and nothing more.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn lock_path(dir: &Path, run: Uuid) -> PathBuf {
    dir.join(format!("{PREFIX}{}.lock", run.simple()))
}
