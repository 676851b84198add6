//! The little that a log needs of a disk, behind a trait: so that a test, or a simulation of the whole service, can be a
//! disk that loses, tears and refuses what real ones rarely do ([`sim`]).
//!
//! All calls **block**. Durability is the kernel's: a write is durable when [`File::sync_data`] of that file has returned
//! after it, a file's name when [`Dir::sync`] has. Errors are passed on as they come; none is retried here.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

mod null;
mod real;
pub mod sim;

pub use null::NullDisk;
pub use real::RealDisk;

/// Where directories are.
pub trait Disk: Send + Sync + Debug {
    /// Opens a directory; makes it, and what is missing above it, durably.
    ///
    /// # Errors
    /// As the system says.
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn Dir>>;
}

/// One directory. Names are plain file names in it.
pub trait Dir: Send + Sync + Debug {
    /// Takes the lock that the file `name` stands for; it is held until the guard is dropped or the process ends.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when somebody else holds it.
    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>>;

    /// The names of all files, sorted.
    ///
    /// # Errors
    /// As the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a file of `bytes` zeros that are written and synced, so that later writes into it allocate nothing: a sync
    /// of such a file takes half the time, and there is room for what will be written. Its name is not yet durable. After
    /// an error there is no such file, or an incomplete one.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`]; [`io::ErrorKind::StorageFull`] (or a quota's) when there is no room.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn File>>;

    /// Opens a file to read and write.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`].
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Removes a file's name. Whoever has it open goes on reading it.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`].
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in place of a file that may have had it. One step: after a crash one of both names is right.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes all names durable that were made, changed and removed.
    ///
    /// # Errors
    /// As the system says. What was not durable may be lost, also when a repetition succeeds.
    fn sync(&self) -> io::Result<()>;

    /// Whether what is kept here goes with the machine's memory (tmpfs, ramfs), so that syncing means nothing.
    ///
    /// # Errors
    /// As the system says.
    fn is_temporary(&self) -> io::Result<bool>;
}

/// An open file. Reads and writes name their place; there is no cursor.
pub trait File: Send + Sync + Debug {
    /// Its length in bytes.
    ///
    /// # Errors
    /// As the system says.
    fn size(&self) -> io::Result<u64>;

    /// Reads from `offset` until `buffer` is full or the file ends; returns how many bytes were read.
    ///
    /// # Errors
    /// As the system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`. After an error any part may have been written.
    ///
    /// # Errors
    /// As the system says.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes all earlier writes durable (`fdatasync`).
    ///
    /// # Errors
    /// As the system says. What was not durable may be lost, also when a repetition succeeds.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts the file, or lengthens it with zeros that take no room yet.
    ///
    /// # Errors
    /// As the system says.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
}

/// A lock that is held for as long as this lives.
pub trait Lock: Send + Sync + Debug {}

/// Whether an error says that there is no room: on the disk (`ENOSPC`), or in its user's share of it (`EDQUOT`).
#[must_use]
pub fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether `dir` lies on a file system that goes with the machine's memory, where level `disk` is an empty word.
///
/// # Errors
/// The directory can't be asked.
pub fn is_temporary(dir: &Path) -> io::Result<bool> {
    real::is_temporary(dir)
}

/// All of a file.
///
/// # Errors
/// As the system says.
pub(crate) fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(file.size()?).map_err(io::Error::other)?;
    let mut content = vec![0; bytes];
    let read = file.read_at(0, &mut content)?;
    content.truncate(read);
    Ok(content)
}
