//! The table of buckets and objects: an ordered index in memory, bodies in memory or in files.
//!
//! Invariant: a conditional write checks and becomes visible in one step. Whoever changes a key holds its stripe of
//! `stripes` from the check to the change, so of any number of concurrent creates exactly one wins.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use s3s::dto::{ETag, ETagCondition};
use s3s::{S3Error, s3_error};
use serde::{Deserialize, Serialize};

use super::checksum::Sums;
use super::disk::Disk;
use super::listing::{self, Page, Query};

/// Keys share this many locks; two keys on one stripe only wait for each other.
const STRIPES: usize = 64;

/// What is known of an object beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// Body length in bytes.
    pub(super) bytes: u64,
    /// Entity tag without its quotes.
    pub(super) etag: String,
    /// Wall time of the write, microseconds since the Unix epoch.
    pub(super) modified_us: u64,
    /// The headers that a reader gets back.
    pub(super) headers: Headers,
    /// The checksums that the client sent or asked for.
    pub(super) sums: Sums,
    /// Whether `sums` are those of the parts' sums instead of the whole body's.
    pub(super) composite: bool,
}

/// Headers stored with an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Headers {
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) cache_control: Option<String>,
    /// `x-amz-meta-*`.
    pub(super) user: BTreeMap<String, String>,
}

/// An object as written and read.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) meta: Arc<Meta>,
    pub(super) body: Bytes,
}

/// What must hold for a write to happen.
#[derive(Clone, Debug, Default)]
pub(super) struct Condition {
    /// `If-None-Match: *`: the key must not exist.
    pub(super) absent: bool,
    /// `If-Match`: the key must exist with this entity tag (or any).
    pub(super) matches: Option<ETagCondition>,
}

impl Condition {
    /// From the two headers. S3 knows only `*` for `If-None-Match` on writes.
    pub(super) fn new(
        if_none_match: Option<&ETagCondition>,
        if_match: Option<ETagCondition>,
    ) -> Result<Self, S3Error> {
        if if_none_match.is_some_and(|condition| !condition.is_any()) {
            return Err(s3_error!(NotImplemented, "If-None-Match on a write takes only *"));
        }
        Ok(Self { absent: if_none_match.is_some(), matches: if_match })
    }

    fn check(&self, current: Option<&Meta>) -> Result<(), StoreError> {
        if self.absent && current.is_some() {
            return Err(StoreError::PreconditionFailed);
        }
        match (&self.matches, current) {
            (None, _) | (Some(ETagCondition::Any), Some(_)) => Ok(()),
            (Some(_), None) => Err(StoreError::NoSuchKey),
            (Some(ETagCondition::ETag(ETag::Strong(tag))), Some(meta)) if *tag == meta.etag => Ok(()),
            (Some(_), Some(_)) => Err(StoreError::PreconditionFailed),
        }
    }
}

/// Why the table refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("the bucket does not exist")]
    NoSuchBucket,
    #[error("the bucket already exists")]
    BucketExists,
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    #[error("the key does not exist")]
    NoSuchKey,
    #[error("at least one of the preconditions did not hold")]
    PreconditionFailed,
    #[error("failed to use the object directory")]
    Io(#[from] io::Error),
}

impl From<StoreError> for S3Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchBucket => s3_error!(NoSuchBucket, "{error}"),
            StoreError::BucketExists => s3_error!(BucketAlreadyOwnedByYou, "{error}"),
            StoreError::BucketNotEmpty => s3_error!(BucketNotEmpty, "{error}"),
            StoreError::NoSuchKey => s3_error!(NoSuchKey, "{error}"),
            StoreError::PreconditionFailed => s3_error!(PreconditionFailed, "{error}"),
            StoreError::Io(source) => s3_error!(source, InternalError, "failed to use the object directory"),
        }
    }
}

type Bucket = BTreeMap<String, Entry>;

#[derive(Clone)]
struct Entry {
    meta: Arc<Meta>,
    /// `None` when the body is in a file.
    body: Option<Bytes>,
}

/// The table. Its calls may block on the disk when there is one.
pub(super) struct Objects {
    buckets: RwLock<BTreeMap<String, Bucket>>,
    stripes: Vec<Mutex<()>>,
    disk: Option<Disk>,
}

impl Objects {
    /// An empty table that forgets everything.
    pub(super) fn in_memory() -> Self {
        Self::with(BTreeMap::new(), None)
    }

    /// The table kept in `root`, with what is there already; `fsync` makes each write survive the host.
    pub(super) fn in_directory(root: &Path, fsync: bool) -> io::Result<Self> {
        let (disk, found) = Disk::open(root, fsync)?;
        let mut buckets = BTreeMap::new();
        for (name, objects) in found {
            let entries =
                objects.into_iter().map(|(key, meta)| (key, Entry { meta: Arc::new(meta), body: None }));
            buckets.insert(name, entries.collect::<Bucket>());
        }
        Ok(Self::with(buckets, Some(disk)))
    }

    fn with(buckets: BTreeMap<String, Bucket>, disk: Option<Disk>) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::new(())).collect();
        Self { buckets: RwLock::new(buckets), stripes, disk }
    }

    /// Whether calls touch a disk, and so belong on a thread that may block.
    pub(super) fn blocks(&self) -> bool {
        self.disk.is_some()
    }

    pub(super) fn create_bucket(&self, name: &str) -> Result<(), StoreError> {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        match buckets.entry(name.to_owned()) {
            btree_map::Entry::Occupied(_) => Err(StoreError::BucketExists),
            btree_map::Entry::Vacant(vacant) => {
                if let Some(disk) = &self.disk {
                    disk.create_bucket(name)?;
                }
                vacant.insert(Bucket::new());
                Ok(())
            }
        }
    }

    pub(super) fn delete_bucket(&self, name: &str) -> Result<(), StoreError> {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if !buckets.get(name).ok_or(StoreError::NoSuchBucket)?.is_empty() {
            return Err(StoreError::BucketNotEmpty);
        }
        buckets.remove(name);
        if let Some(disk) = &self.disk {
            disk.delete_bucket(name)?;
        }
        Ok(())
    }

    pub(super) fn bucket_names(&self) -> Vec<String> {
        self.buckets.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    pub(super) fn has_bucket(&self, name: &str) -> Result<(), StoreError> {
        self.read_bucket(name, |_| ())
    }

    pub(super) fn list(&self, name: &str, query: Query<'_>) -> Result<Page<Arc<Meta>>, StoreError> {
        self.read_bucket(name, |bucket| listing::page(bucket, query, |entry| Arc::clone(&entry.meta)))
    }

    pub(super) fn head(&self, bucket: &str, key: &str) -> Result<Arc<Meta>, StoreError> {
        self.find(bucket, key)?.map(|entry| entry.meta).ok_or(StoreError::NoSuchKey)
    }

    pub(super) fn get(&self, bucket: &str, key: &str) -> Result<Object, StoreError> {
        let Entry { meta, body } = self.find(bucket, key)?.ok_or(StoreError::NoSuchKey)?;
        match (body, &self.disk) {
            (Some(body), _) => Ok(Object { meta, body }),
            // The file brings its own metadata, so a concurrent overwrite gives one version or the other, whole.
            (None, Some(disk)) => disk.load(bucket, key)?.ok_or(StoreError::NoSuchKey),
            (None, None) => Err(StoreError::NoSuchKey),
        }
    }

    /// Writes an object, visible to all at once and only if the condition holds.
    pub(super) fn put(
        &self,
        bucket: &str,
        key: &str,
        object: Object,
        condition: &Condition,
    ) -> Result<(), StoreError> {
        self.has_bucket(bucket)?;
        // The slow part, writing the bytes, comes before the lock; a refused write drops the temporary file.
        let staged = self.disk.as_ref().map(|disk| disk.stage(key, &object)).transpose()?;
        let _only_writer = self.stripe(bucket, key);
        let current = self.find(bucket, key)?;
        condition.check(current.as_ref().map(|entry| &*entry.meta))?;
        let entry = match (&self.disk, staged) {
            (Some(disk), Some(staged)) => {
                disk.commit(bucket, key, staged)?;
                Entry { meta: object.meta, body: None }
            }
            _ => Entry { meta: object.meta, body: Some(object.body) },
        };
        self.write_bucket(bucket, |bucket| bucket.insert(key.to_owned(), entry))?;
        Ok(())
    }

    /// Deletes an object; deleting what is not there succeeds, unless a condition names it.
    pub(super) fn delete(&self, bucket: &str, key: &str, condition: &Condition) -> Result<(), StoreError> {
        let _only_writer = self.stripe(bucket, key);
        let current = self.find(bucket, key)?;
        condition.check(current.as_ref().map(|entry| &*entry.meta))?;
        if current.is_some() {
            if let Some(disk) = &self.disk {
                disk.remove(bucket, key)?;
            }
            self.write_bucket(bucket, |bucket| bucket.remove(key))?;
        }
        Ok(())
    }

    fn find(&self, bucket: &str, key: &str) -> Result<Option<Entry>, StoreError> {
        self.read_bucket(bucket, |bucket| bucket.get(key).cloned())
    }

    fn read_bucket<T>(&self, name: &str, read: impl FnOnce(&Bucket) -> T) -> Result<T, StoreError> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(name).map(read).ok_or(StoreError::NoSuchBucket)
    }

    fn write_bucket<T>(&self, name: &str, write: impl FnOnce(&mut Bucket) -> T) -> Result<T, StoreError> {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        buckets.get_mut(name).map(write).ok_or(StoreError::NoSuchBucket)
    }

    fn stripe(&self, bucket: &str, key: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        (bucket, key).hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % STRIPES as u64).expect("less than 64");
        self.stripes[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
