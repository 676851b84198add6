//! A program in memory: another copy of it than every process before had.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;

/// A copy of a program in a file of its own, to start processes from; gone when it is dropped and they have ended.
///
/// Where a program's pages lie decides which of them share a place in the caches: processes that map the same file share that
/// luck, and two files of the same bytes don't (Mytkowicz et al., *Producing wrong data without doing anything obviously wrong*,
/// 2009). Who compares programs starts each process from a copy of its own, so that luck averages out.
#[derive(Debug)]
pub struct ProgramCopy {
    file: File,
}

impl ProgramCopy {
    /// Copies a program. **Blocks**, some 0.1 s for 200 MB, which it takes of memory.
    ///
    /// # Errors
    /// The program can't be read, or the kernel gives no anonymous files, or no memory for one.
    pub fn of(program: &Path) -> io::Result<Self> {
        let mut from = File::open(program)?;
        let mut file = File::from(executable()?);
        io::copy(&mut from, &mut file)?;
        Ok(Self { file })
    }

    /// Where it can be started from, as long as this lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }
}

/// An anonymous file that may be started. Kernels before 6.3 don't know that this has to be said, later ones may insist.
fn executable() -> Result<OwnedFd, Errno> {
    match memfd_create("mipro", MemfdFlags::CLOEXEC | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create("mipro", MemfdFlags::CLOEXEC),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_copy_runs_and_each_one_has_a_place_of_its_own() {
        let copies = [0, 1].map(|_| ProgramCopy::of(Path::new("/bin/sh")).unwrap());
        assert_ne!(copies[0].path(), copies[1].path());
        for copy in &copies {
            let told = Command::new(copy.path()).args(["-c", "echo here"]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&told.stdout), "here\n");
        }
        let missing = ProgramCopy::of(Path::new("/no/such/program")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
