//! An object store whose bytes are not in this process's memory, and which counts what is put.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use uuid::Uuid;

/// Room for one system's newest state, its key and its length.
const SLOT_BYTES: usize = 2048;
/// Length of key, length of object.
const HEAD_BYTES: usize = 8;

/// Objects. States may lie in one file of slots, the newest of each system at a place that its id tells: a million files
/// would measure the file system.
#[derive(Debug)]
pub(crate) struct Objects {
    rest: Box<dyn ObjectStore>,
    slots: Option<File>,
    state_puts: AtomicU64,
    state_bytes: AtomicU64,
}

impl Objects {
    /// States in one file of `dir`, the rest in files beside it.
    pub(crate) fn in_slots(dir: &FilePath) -> Arc<Self> {
        let slots = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("states"))
            .unwrap();
        let rest = Box::new(LocalFileSystem::new_with_prefix(dir).unwrap());
        Arc::new(Self { slots: Some(slots), ..Self::over(rest) })
    }

    /// All in memory.
    pub(crate) fn in_memory() -> Arc<Self> {
        Arc::new(Self::over(Box::new(InMemory::new())))
    }

    fn over(rest: Box<dyn ObjectStore>) -> Self {
        Self { rest, slots: None, state_puts: AtomicU64::new(0), state_bytes: AtomicU64::new(0) }
    }

    /// States that were put, and their bytes.
    pub(crate) fn put_so_far(&self) -> (u64, u64) {
        (self.state_puts.load(Ordering::Relaxed), self.state_bytes.load(Ordering::Relaxed))
    }

    /// The file and the place in it of a state's key.
    fn slot(&self, location: &Path) -> Option<(&File, u64)> {
        let system = is_state(location)?;
        self.slots.as_ref().map(|file| (file, system.as_u64_pair().1 * SLOT_BYTES as u64))
    }
}

fn is_state(location: &Path) -> Option<Uuid> {
    let mut parts = location.parts();
    if parts.next()?.as_ref() != "systems" {
        return None;
    }
    parts.next()?.as_ref().parse().ok()
}

/// A state as the slot at `at` holds it, if it is of that key.
fn read(file: &File, at: u64, location: &Path) -> Option<PutPayload> {
    let mut slot = [0; SLOT_BYTES];
    file.read_exact_at(&mut slot, at).ok()?;
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| slot[at + i])) as usize;
    let (key, bytes) = (word(0), word(4));
    let there = &slot[HEAD_BYTES..HEAD_BYTES + key] == location.as_ref().as_bytes() && key > 0;
    there.then(|| PutPayload::from(slot[HEAD_BYTES + key..][..bytes].to_vec()))
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Objects")
    }
}

#[async_trait]
impl ObjectStore for Objects {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if is_state(location).is_some() {
            self.state_puts.fetch_add(1, Ordering::Relaxed);
            self.state_bytes.fetch_add(payload.content_length() as u64, Ordering::Relaxed);
        }
        let Some((file, at)) = self.slot(location) else {
            return self.rest.put_opts(location, payload, opts).await;
        };
        let key = location.as_ref().as_bytes();
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&(key.len() as u32).to_le_bytes());
        slot.extend_from_slice(&(payload.content_length() as u32).to_le_bytes());
        slot.extend_from_slice(key);
        payload.iter().for_each(|part| slot.extend_from_slice(part));
        assert!(slot.len() <= SLOT_BYTES, "a state of {} bytes has no room", slot.len());
        slot.resize(SLOT_BYTES, 0);
        file.write_all_at(&slot, at).unwrap();
        let nothing = InMemory::new();
        nothing.put(location, PutPayload::default()).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.rest.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let Some((file, at)) = self.slot(location) else {
            return self.rest.get_opts(location, options).await;
        };
        let Some(state) = read(file, at, location) else {
            let source = "no such slot".into();
            return Err(Error::NotFound { path: location.to_string(), source });
        };
        // Makes the answer's many fields.
        let one = InMemory::new();
        one.put(location, state).await?;
        one.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // A slot is overwritten by the next state: there is nothing to remove.
        if self.slots.is_some() { locations } else { self.rest.delete_stream(locations) }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.rest.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.rest.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.rest.copy_opts(from, to, options).await
    }
}
