//! A disk in memory that fails as real ones do, and repeats itself exactly: for tests of what the log makes of it, and for
//! simulations of the whole service.
//!
//! Every file has two images: what a process sees, and what is durable. Between them stand the writes that have not been
//! synced; between the names that a process sees and the durable ones, the changes of names. When the **machine** dies
//! ([`SimDisk::crash`]) each unsynced change comes through or is lost on its own, a write sector by sector (512 bytes), in any
//! subset: the worst that a disk may do. When only the **process** dies ([`SimDisk::kill`]) all it wrote remains.
//! Either way its locks are gone and the files it had open answer nothing but errors.
//!
//! Nothing here is random unless the caller brings dice, and nothing depends on the order of a hash map.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::{Dir, Disk, File, Lock};

mod image;

use image::Inode;

/// What comes through whole or not at all.
pub const SECTOR: usize = 512;

/// The disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// Something that changed the disk, or should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A file was made.
    Create {
        /// Its path.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Bytes were written.
    Write {
        /// Where: the file's name when it was opened.
        path: PathBuf,
        /// Place in the file.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// A file was cut or lengthened.
    SetLen {
        /// The file's name when it was opened.
        path: PathBuf,
        /// Its new length.
        bytes: u64,
    },
    /// A file was synced.
    Sync {
        /// The file's name when it was opened.
        path: PathBuf,
    },
    /// A directory was synced.
    SyncDir {
        /// The directory.
        path: PathBuf,
    },
    /// A name was removed.
    Remove {
        /// Which.
        path: PathBuf,
    },
    /// A name was changed.
    Rename {
        /// The old one.
        from: PathBuf,
        /// The new one.
        to: PathBuf,
    },
}

/// Which of the unsynced changes come through a crash: asked once for each change of a name, and once for each sector
/// written.
pub trait Fate {
    /// Whether this one does.
    fn keeps(&mut self) -> bool;
}

impl<F: FnMut() -> bool> Fate for F {
    fn keeps(&mut self) -> bool {
        self()
    }
}

#[derive(Debug, Clone)]
enum NameChange {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Debug, Clone, Default)]
struct State {
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    changes: Vec<NameChange>,
    files: BTreeMap<u64, Inode>,
    next_file: u64,
    locks: BTreeSet<PathBuf>,
    /// Counts crashes and kills: what was opened before is dead.
    life: u64,
    off: bool,
    operations: Vec<Operation>,
    off_after: Option<u64>,
    capacity_bytes: Option<u64>,
    write_errors: Errors,
    sync_errors: Errors,
    create_error: Option<io::ErrorKind>,
    temporary: bool,
}

/// Lets some calls pass, then fails some.
#[derive(Debug, Clone, Default)]
struct Errors {
    pass: u64,
    fail: u64,
}

impl Errors {
    fn next(&mut self) -> bool {
        if self.pass > 0 {
            self.pass -= 1;
            return false;
        }
        let failing = self.fail > 0;
        self.fail = self.fail.saturating_sub(1);
        failing
    }
}

impl SimDisk {
    /// An empty disk without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes: what was not synced is kept or lost as `fate` says. The disk is on again afterwards.
    pub fn crash(&self, fate: &mut dyn Fate) {
        let mut state = self.state();
        let State { durable_names, changes, files, .. } = &mut *state;
        for change in changes.drain(..) {
            if fate.keeps() {
                apply(durable_names, &change);
            }
        }
        let named: BTreeSet<u64> = durable_names.values().copied().collect();
        files.retain(|id, _| named.contains(id));
        for file in files.values_mut() {
            file.crash(fate);
        }
        state.names = state.durable_names.clone();
        state.new_life();
    }

    /// As [`SimDisk::crash`], with dice: a seed gives one outcome. Some seeds lose all, some nothing, most a mixture.
    pub fn crash_seeded(&self, seed: u64) {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let odds = [0, 32, 128, 224, 256][dice.next_u32() as usize % 5];
        self.crash(&mut || dice.next_u32() % 256 < odds);
    }

    /// The process dies and the machine goes on: all that was written stays, synced or not.
    pub fn kill(&self) {
        self.state().new_life();
    }

    /// Another disk that is as this one is now, with all that is not synced; nobody has anything of it open. For trying several
    /// ends of one beginning.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut state = self.state().clone();
        state.new_life();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// How many choices [`SimDisk::crash`] would ask for now.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        let state = self.state();
        state.changes.len() + state.files.values().map(Inode::unsynced).sum::<usize>()
    }

    /// The power goes during the operation after the next `operations`: it comes to the disk, unsynced, and fails, as does
    /// all after it, until [`SimDisk::crash`].
    pub fn off_after(&self, operations: u64) {
        let mut state = self.state();
        state.off_after = Some(state.operations.len() as u64 + operations);
    }

    /// Whether the power is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// What was done to the disk so far, reads excepted.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.state().operations.clone()
    }

    /// Limits the bytes of all files, or lifts the limit. Beyond it, making a file says [`io::ErrorKind::StorageFull`].
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity_bytes = bytes;
    }

    /// Lets `pass` writes through, then fails `fail` of them (half of the bytes are written).
    pub fn fail_writes(&self, pass: u64, fail: u64) {
        self.state().write_errors = Errors { pass, fail };
    }

    /// Lets `pass` syncs of files through, then fails `fail` of them. As on Linux, what a failed sync should have made durable
    /// can still be read, is not durable, and a later sync that succeeds does not make it so.
    pub fn fail_syncs(&self, pass: u64, fail: u64) {
        self.state().sync_errors = Errors { pass, fail };
    }

    /// From now on making a file fails with this, until `None` is given.
    pub fn fail_creates(&self, kind: Option<io::ErrorKind>) {
        self.state().create_error = kind;
    }

    /// What [`Dir::is_temporary`] says.
    pub fn set_temporary(&self, temporary: bool) {
        self.state().temporary = temporary;
    }

    /// A file as a process would see it now.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let id = state.names.get(path)?;
        state.files.get(id).map(|file| file.seen.clone())
    }

    /// Puts a file there, durably, as somebody other than the log would.
    pub fn set_content(&self, path: &Path, content: &[u8]) {
        let mut state = self.state();
        let id = state.new_file();
        state.files.insert(id, Inode::durable(content));
        state.names.insert(path.to_owned(), id);
        state.durable_names.insert(path.to_owned(), id);
    }

    /// Removes a file, durably, as somebody other than the log would.
    pub fn remove_content(&self, path: &Path) {
        let mut state = self.state();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    /// The paths of all files, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, change: &NameChange) {
    match change {
        NameChange::Link(path, id) => {
            names.insert(path.clone(), *id);
        }
        NameChange::Unlink(path) => {
            names.remove(path);
        }
        NameChange::Rename(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
    }
}

fn off() -> io::Error {
    io::Error::other("the simulated machine is off")
}

impl State {
    fn new_life(&mut self) {
        self.life += 1;
        self.off = false;
        self.off_after = None;
        self.locks.clear();
    }

    fn new_file(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file
    }

    fn alive(&self, life: u64) -> io::Result<()> {
        if self.off || self.life != life { Err(off()) } else { Ok(()) }
    }

    /// Records an operation. True: the power goes while it is under way.
    fn begin(&mut self, life: u64, operation: Operation) -> io::Result<bool> {
        self.alive(life)?;
        self.off = self.off_after.is_some_and(|after| self.operations.len() as u64 >= after);
        self.operations.push(operation);
        Ok(self.off)
    }

    fn used(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(id)).map(|file| file.seen.len() as u64).sum()
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }
}

/// What an operation says when the power went during it.
fn done(cut_off: bool) -> io::Result<()> {
    if cut_off { Err(off()) } else { Ok(()) }
}

impl Disk for SimDisk {
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn Dir>> {
        let life = self.state().life;
        Ok(Box::new(SimDir { disk: self.clone(), path: path.to_owned(), life }))
    }
}

#[derive(Debug)]
struct SimDir {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl SimDir {
    fn file(&self, path: PathBuf, id: u64) -> Arc<dyn File> {
        Arc::new(SimFile { disk: self.disk.clone(), path, id, life: self.life })
    }
}

impl Dir for SimDir {
    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>> {
        let mut state = self.disk.state();
        state.alive(self.life)?;
        let path = self.path.join(name);
        if !state.locks.insert(path.clone()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { disk: self.disk.clone(), path, life: self.life }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.disk.state();
        state.alive(self.life)?;
        let ours = state.names.keys().filter(|path| path.parent() == Some(&self.path));
        Ok(ours.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn File>> {
        let path = self.path.join(name);
        let mut state = self.disk.state();
        let cut_off = state.begin(self.life, Operation::Create { path: path.clone(), bytes })?;
        if state.names.contains_key(&path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if let Some(kind) = state.create_error {
            return Err(kind.into());
        }
        if state.capacity_bytes.is_some_and(|capacity| state.used() + bytes > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let id = state.new_file();
        let zeros = if cut_off { 0 } else { usize::try_from(bytes).map_err(io::Error::other)? };
        state.files.insert(id, Inode::durable(&vec![0; zeros]));
        state.change(NameChange::Link(path.clone(), id));
        done(cut_off)?;
        drop(state);
        Ok(self.file(path, id))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = self.path.join(name);
        let state = self.disk.state();
        state.alive(self.life)?;
        let id = *state.names.get(&path).ok_or(io::ErrorKind::NotFound)?;
        drop(state);
        Ok(self.file(path, id))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        let mut state = self.disk.state();
        let cut_off = state.begin(self.life, Operation::Remove { path: path.clone() })?;
        if !state.names.contains_key(&path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(NameChange::Unlink(path));
        done(cut_off)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path.join(from), self.path.join(to));
        let mut state = self.disk.state();
        let operation = Operation::Rename { from: from.clone(), to: to.clone() };
        let cut_off = state.begin(self.life, operation)?;
        if !state.names.contains_key(&from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(NameChange::Rename(from, to));
        done(cut_off)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let cut_off = state.begin(self.life, Operation::SyncDir { path: self.path.clone() })?;
        done(cut_off)?;
        let (ours, others): (Vec<_>, Vec<_>) = state.changes.drain(..).partition(|change| {
            let (NameChange::Link(path, _) | NameChange::Unlink(path) | NameChange::Rename(path, _)) = change;
            path.parent() == Some(&self.path)
        });
        for change in &ours {
            apply(&mut state.durable_names, change);
        }
        state.changes = others;
        Ok(())
    }

    fn is_temporary(&self) -> io::Result<bool> {
        Ok(self.disk.state().temporary)
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    id: u64,
    life: u64,
}

impl SimFile {
    fn with<R>(&self, state: &mut State, work: impl FnOnce(&mut Inode) -> R) -> io::Result<R> {
        state.files.get_mut(&self.id).map(work).ok_or_else(off)
    }
}

impl File for SimFile {
    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.alive(self.life)?;
        self.with(&mut state, |file| file.seen.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.alive(self.life)?;
        self.with(&mut state, |file| file.read(offset, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let length = bytes.len() as u64;
        let operation = Operation::Write { path: self.path.clone(), offset, bytes: length };
        let cut_off = state.begin(self.life, operation)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        if state.write_errors.next() {
            self.with(&mut state, |file| file.write(offset, &bytes[..bytes.len() / 2]))?;
            return Err(io::Error::other("a write failed, as it was told to"));
        }
        self.with(&mut state, |file| file.write(offset, bytes))?;
        done(cut_off)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let cut_off = state.begin(self.life, Operation::Sync { path: self.path.clone() })?;
        done(cut_off)?;
        if state.sync_errors.next() {
            self.with(&mut state, Inode::forget)?;
            return Err(io::Error::other("a sync failed, as it was told to"));
        }
        self.with(&mut state, Inode::sync)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let cut_off = state.begin(self.life, Operation::SetLen { path: self.path.clone(), bytes })?;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        self.with(&mut state, |file| file.set_len(bytes))?;
        done(cut_off)
    }
}

#[cfg(test)]
mod tests;
