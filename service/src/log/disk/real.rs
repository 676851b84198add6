//! The disk of this machine.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate, statfs};
use rustix::io::Errno;

use super::{Dir, Disk, File, Lock};

/// Zeros are written in pieces of this size, each synced: a large sync would hold up those of the log.
const ZEROS: usize = 1 << 20;
/// Events hold prompts: only the service's own user reads them.
const MODE: u32 = 0o600;
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// Directories and files as the operating system has them.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn Dir>> {
        make_durably(path)?;
        Ok(Box::new(RealDir { path: path.to_owned() }))
    }
}

/// Makes a directory and those above it; syncs each one that got a new entry.
fn make_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => return Err(io::ErrorKind::NotFound.into()),
    };
    make_durably(above)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    sync_dir(above)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

pub(super) fn is_temporary(dir: &Path) -> io::Result<bool> {
    // The kernel's word is signed on some machines and narrower on others.
    let kind = u64::try_from(statfs(dir)?.f_type).unwrap_or(0) & 0xffff_ffff;
    Ok(kind == TMPFS || kind == RAMFS)
}

#[derive(Debug)]
struct RealDir {
    path: PathBuf,
}

impl RealDir {
    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

#[derive(Debug)]
struct Held {
    // The lock goes when this is closed.
    _file: fs::File,
}

impl Lock for Held {}

impl Dir for RealDir {
    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>> {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(MODE).open(self.path(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(Held { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // What has a name that is no text is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(MODE).open(self.path(name))?;
        if bytes > 0 {
            // Says at once that there is no room. Where it isn't known, writing the zeros says it as well.
            match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let zeros = vec![0; ZEROS.min(usize::try_from(bytes).unwrap_or(ZEROS))];
        let mut at = 0;
        while at < bytes {
            let piece = zeros.len().min(usize::try_from(bytes - at).unwrap_or(ZEROS));
            file.write_all_at(&zeros[..piece], at)?;
            file.sync_data()?;
            at += piece as u64;
        }
        file.sync_all()?;
        Ok(Arc::new(RealFile { file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(self.path(name))?;
        Ok(Arc::new(RealFile { file }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn sync(&self) -> io::Result<()> {
        sync_dir(&self.path)
    }

    fn is_temporary(&self) -> io::Result<bool> {
        is_temporary(&self.path)
    }
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
}

impl File for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
}
