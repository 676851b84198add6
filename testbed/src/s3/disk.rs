//! Objects as files: `<root>/buckets/<bucket>/<SHA-256 of the key>.object`, each with its metadata and body in one
//! file, so that one rename makes both visible. Temporary files live in `<root>/staging`, emptied at start.
//!
//! A file is: the 8 bytes `MIPROS3\x01`, the header's length (u32, little endian), the header (JSON), the body.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::checksum::hex;
use super::objects::{Meta, Object};

const MAGIC: [u8; 8] = *b"MIPROS3\x01";
const HEADER_BYTES_MAX: u32 = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    key: String,
    meta: Meta,
}

/// Every bucket's objects, as found at start.
pub(super) type Found = BTreeMap<String, Vec<(String, Meta)>>;

pub(super) struct Disk {
    buckets: PathBuf,
    staging: PathBuf,
    fsync: bool,
}

impl Disk {
    /// Opens or creates the directory, and reads every object's header.
    pub(super) fn open(root: &Path, fsync: bool) -> io::Result<(Self, Found)> {
        let disk = Self { buckets: root.join("buckets"), staging: root.join("staging"), fsync };
        fs::create_dir_all(&disk.buckets)?;
        match fs::remove_dir_all(&disk.staging) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&disk.staging)?,
        }
        let mut found = Found::new();
        for bucket in fs::read_dir(&disk.buckets)? {
            let bucket = bucket?;
            let name = bucket.file_name().into_string().map_err(|name| {
                io::Error::new(
                    ErrorKind::InvalidData,
                    format!("bucket directory {} is not UTF-8", name.display()),
                )
            })?;
            let mut objects = Vec::new();
            for file in fs::read_dir(bucket.path())? {
                let path = file?.path();
                let header = read_header(&path).map_err(|error| {
                    io::Error::new(error.kind(), format!("object file {}: {error}", path.display()))
                })?;
                objects.push((header.key, header.meta));
            }
            found.insert(name, objects);
        }
        Ok((disk, found))
    }

    pub(super) fn create_bucket(&self, name: &str) -> io::Result<()> {
        fs::create_dir_all(self.buckets.join(name))?;
        self.sync_directory(&self.buckets)
    }

    pub(super) fn delete_bucket(&self, name: &str) -> io::Result<()> {
        fs::remove_dir_all(self.buckets.join(name))?;
        self.sync_directory(&self.buckets)
    }

    /// Writes an object where nobody sees it; dropping the result removes it.
    pub(super) fn stage(&self, key: &str, object: &Object) -> io::Result<NamedTempFile> {
        let header = Header { key: key.to_owned(), meta: (*object.meta).clone() };
        let header = serde_json::to_vec(&header)?;
        let header_bytes = u32::try_from(header.len())
            .ok()
            .filter(|bytes| *bytes <= HEADER_BYTES_MAX)
            .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "the object's metadata is too large"))?;
        let mut file = NamedTempFile::new_in(&self.staging)?;
        file.write_all(&MAGIC)?;
        file.write_all(&header_bytes.to_le_bytes())?;
        file.write_all(&header)?;
        file.write_all(&object.body)?;
        if self.fsync {
            file.as_file().sync_data()?;
        }
        Ok(file)
    }

    /// Makes a staged object the key's object.
    pub(super) fn commit(&self, bucket: &str, key: &str, staged: NamedTempFile) -> io::Result<()> {
        staged.persist(self.path(bucket, key)).map_err(|error| error.error)?;
        self.sync_directory(&self.buckets.join(bucket))
    }

    pub(super) fn load(&self, bucket: &str, key: &str) -> io::Result<Option<Object>> {
        let mut file = match File::open(self.path(bucket, key)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let header = header_of(&mut file)?;
        let mut body = Vec::with_capacity(usize::try_from(header.meta.bytes).unwrap_or(0));
        file.read_to_end(&mut body)?;
        if body.len() as u64 != header.meta.bytes {
            return Err(io::Error::new(ErrorKind::InvalidData, "an object file has lost bytes"));
        }
        Ok(Some(Object { meta: Arc::new(header.meta), body: Bytes::from(body) }))
    }

    pub(super) fn remove(&self, bucket: &str, key: &str) -> io::Result<()> {
        fs::remove_file(self.path(bucket, key))?;
        self.sync_directory(&self.buckets.join(bucket))
    }

    fn path(&self, bucket: &str, key: &str) -> PathBuf {
        // Keys may be longer than a file name may be, and hold slashes and dots: their hash is always a good name.
        self.buckets.join(bucket).join(format!("{}.object", hex(&Sha256::digest(key))))
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        if self.fsync { File::open(directory)?.sync_all() } else { Ok(()) }
    }
}

fn read_header(path: &Path) -> io::Result<Header> {
    let mut file = File::open(path)?;
    let header = header_of(&mut file)?;
    let body_at = io::Seek::stream_position(&mut file)?;
    if file.metadata()?.len() != body_at + header.meta.bytes {
        return Err(io::Error::new(ErrorKind::InvalidData, "its length is not what its header says"));
    }
    Ok(header)
}

fn header_of(file: &mut File) -> io::Result<Header> {
    let bad = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
    let mut start = [0; 12];
    file.read_exact(&mut start)?;
    let (magic, header_bytes) = start.split_at(8);
    if magic != MAGIC {
        return Err(bad("it is not an object file"));
    }
    let header_bytes = u32::from_le_bytes(header_bytes.try_into().expect("4 bytes"));
    if header_bytes > HEADER_BYTES_MAX {
        return Err(bad("its header is too large"));
    }
    let mut header = vec![0; header_bytes as usize];
    file.read_exact(&mut header)?;
    serde_json::from_slice(&header).map_err(|error| bad(&format!("its header is damaged: {error}")))
}
