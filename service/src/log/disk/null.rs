//! A disk that keeps nothing: what a log costs on it is the log's own.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Dir, Disk, File, Lock};

/// The disk, its only directory, and each of its files: all empty, all writes taken and forgotten. For measuring; what is
/// appended to a log on it is not found again.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullDisk;

impl Disk for NullDisk {
    fn open_dir(&self, _: &Path) -> io::Result<Box<dyn Dir>> {
        Ok(Box::new(Self))
    }
}

impl Dir for NullDisk {
    fn lock(&self, _: &str) -> io::Result<Box<dyn Lock>> {
        Ok(Box::new(Self))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn create(&self, _: &str, _: u64) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(Self))
    }
    fn open(&self, _: &str) -> io::Result<Arc<dyn File>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn is_temporary(&self) -> io::Result<bool> {
        Ok(true)
    }
}

impl File for NullDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

impl Lock for NullDisk {}
