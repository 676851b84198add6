//! The directories of clusters, and those that a killed keeper left behind.
//!
//! A keeper holds a lock on a file in its directory for as long as it lives. The kernel frees the lock when the keeper
//! ends, so a directory whose lock can be had belongs to nobody, and the next keeper removes it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::Error;
use super::account::Account;

const PREFIX: &str = "mipro-pg-";
const LOCK: &str = "keeper.lock";
const DATA: &str = "data";
/// Backends of a killed server go on writing for a moment: removing their directory may take several tries.
const REMOVE_TRIES: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(20);
/// How long an orphaned server may take for its immediate stop.
const ORPHAN_TRIES: u32 = 150;

/// A cluster's directory. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    /// Held, never read.
    _lock: File,
}

impl Home {
    /// A new directory, locked, owned by the one who runs the server.
    pub(super) fn create(account: &Account) -> Result<Self, Error> {
        let parent = parent_dir();
        let made = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent);
        let temporary =
            made.map_err(|source| Error::Io { action: "make a directory in", path: parent, source })?;
        let dir = temporary.path().to_owned();
        let lock =
            create_lock(&dir).map_err(|source| Error::Io { action: "lock", path: dir.clone(), source })?;
        account.own(&dir)?;
        // From here on our own drop, which is more patient, removes it.
        let _ = TempDir::keep(temporary);
        Ok(Self { dir, _lock: lock })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join(DATA)
    }

    pub(super) fn error(&self, action: &'static str, source: io::Error) -> Error {
        Error::Io { action, path: self.dir.clone(), source }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.dir) {
            tracing::error!(dir = %self.dir.display(), %error, "could not remove the cluster's directory");
        }
    }
}

/// Where clusters are made. Not in our home: it may be closed to the user who runs the server. Not in a directory of
/// the environment's choice either, which may be in memory.
fn parent_dir() -> PathBuf {
    let usual = Path::new("/var/tmp");
    if usual.is_dir() { usual.to_owned() } else { std::env::temp_dir() }
}

/// The lock gets its name when it is held: under that name it is never seen free while its keeper lives.
fn create_lock(dir: &Path) -> io::Result<File> {
    let unlocked = dir.join("keeper.new");
    let file = File::create_new(&unlocked)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    fs::rename(&unlocked, dir.join(LOCK))?;
    Ok(file)
}

fn remove(dir: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match fs::remove_dir_all(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !dir.exists() => return Ok(()),
            Err(error) if tries == REMOVE_TRIES => return Err(error),
            Err(_) => tries += 1,
        }
        thread::sleep(REMOVE_PAUSE);
    }
}

/// Removes what keepers of ours left behind that were killed, and ends a server that one of them left running.
pub(super) async fn sweep() {
    // What can't be swept stays for the next keeper.
    let _ = tokio::task::spawn_blocking(|| sweep_in(&parent_dir())).await;
}

pub(super) fn sweep_in(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let dir = entry.path();
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        // Held until the directory is gone, so that two sweepers don't meet in it.
        let Some(_lock) = orphans_lock(&dir) else { continue };
        end_orphan(&dir);
        match remove(&dir) {
            Ok(()) => tracing::info!(dir = %dir.display(), "removed what a killed keeper had left"),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "could not remove what a killed keeper left");
            }
        }
    }
}

/// The lock of a directory without a keeper. Others' directories, and those without a lock file, are left alone.
fn orphans_lock(dir: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(dir.join(LOCK), flags, Mode::empty()).ok()?);
    let is_ours = file.metadata().is_ok_and(|data| data.uid() == rustix::process::geteuid().as_raw());
    (is_ours && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()).then_some(file)
}

/// Ends the server of a directory, if there is one. It is known by its working directory, since the number in its pid
/// file may be someone else's by now.
fn end_orphan(dir: &Path) {
    let Some(pid) = orphan_pid(dir) else { return };
    for attempt in 0..ORPHAN_TRIES {
        if orphan_pid(dir) != Some(pid) {
            return;
        }
        if attempt == 0 {
            // It may be gone by now, which is what we want.
            let _ = kill_process(pid, Signal::QUIT);
        }
        thread::sleep(REMOVE_PAUSE);
    }
    let _ = kill_process(pid, Signal::KILL);
}

fn orphan_pid(dir: &Path) -> Option<Pid> {
    let text = fs::read_to_string(dir.join(DATA).join("postmaster.pid")).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    (cwd == dir.join(DATA)).then(|| Pid::from_raw(pid))?
}
