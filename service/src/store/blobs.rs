//! Objects, through `object_store`: in memory, in a directory, or in S3.
//!
//! A put is atomic everywhere: an object is there whole or not at all. A conditional put ([`PutRule::Create`]) is atomic
//! in memory, in a directory (hard link) and on S3 servers that honour `If-None-Match`; a server that ignores the header
//! overwrites, which callers must survive. Directories are synced (`fsync`) before a put returns.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::Extensions;
use mipro_telemetry::{Ledger, Stage};
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::client::HttpError;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    BackoffConfig, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use tokio::time::timeout;
use url::Url;

use super::StoreError;
use super::connector::{Call, WireConnector, WireReading, WireTimes};

const WHAT: &str = "the object store";

/// Attempts after the first. With the backoff below they span about half a second, which outlasts a dropped connection and
/// not a dead store: its callers are people's LLM calls.
const RETRIES_MAX: usize = 2;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether an object of that key may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutRule {
    /// Replace it, as the original did.
    Overwrite,
    /// Refuse with [`StoreError::AlreadyExists`].
    Create,
}

/// The S3 account.
#[derive(Clone)]
pub struct S3Credentials {
    /// Its name.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// For temporary credentials.
    pub session_token: Option<String>,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Credentials")
    }
}

impl S3Credentials {
    /// From `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`; `None` where the first two are not set.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        let read = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Some(Self {
            access_key_id: read("AWS_ACCESS_KEY_ID")?,
            secret_access_key: read("AWS_SECRET_ACCESS_KEY")?,
            session_token: read("AWS_SESSION_TOKEN"),
        })
    }
}

/// Where the objects are.
#[derive(Debug, Clone)]
pub struct BlobOptions {
    /// `memory:`, `file:///directory` (made if absent) or `s3://bucket/prefix?endpoint=http://host:port&region=name`.
    pub url: String,
    /// Keep connections to S3. `false`: a new one for each request.
    pub keep_alive: bool,
    /// Longest wait for one get or put, its retries included.
    pub timeout: Duration,
    /// For `s3://`.
    pub credentials: Option<S3Credentials>,
}

impl Default for BlobOptions {
    fn default() -> Self {
        Self {
            url: "memory:".to_owned(),
            keep_alive: true,
            timeout: Duration::from_secs(30),
            credentials: None,
        }
    }
}

/// Cheap handle on the objects.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    kind: &'static str,
    prefix: Path,
    timeout: Duration,
    wire: Option<Arc<WireTimes>>,
}

impl Blobs {
    /// Opens what the URL names; sends nothing yet.
    ///
    /// # Errors
    /// The URL or the credentials are missing a part, or the directory can't be made.
    pub fn open(options: &BlobOptions) -> Result<Self, StoreError> {
        match options.url.split_once(':') {
            Some(("memory", _)) => Ok(Self::over(Arc::new(InMemory::new()), options.timeout)),
            Some(("file", _)) => open_directory(options),
            Some(("s3", _)) => open_s3(options),
            _ => Err(StoreError::Config(
                "the blob URL must be memory:, file:///directory or s3://bucket/prefix?endpoint=…".to_owned(),
            )),
        }
    }

    /// Over any store; each get and put counts as one request.
    #[must_use]
    pub fn over(store: Arc<dyn ObjectStore>, timeout: Duration) -> Self {
        Self { store, kind: "memory", prefix: Path::default(), timeout, wire: None }
    }

    /// `memory`, `file` or `s3`: for reports and `/health`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// What the wire did so far; `None` where there is none.
    #[must_use]
    pub fn wire(&self) -> Option<WireReading> {
        self.wire.as_ref().map(|times| times.read())
    }

    /// Reads an object whole. Repeating it is harmless.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or the store is down or slow.
    pub async fn get(&self, key: &str, ledger: &Ledger) -> Result<Bytes, StoreError> {
        let (status, extensions) = carry(ledger, Stage::S3Get);
        let stage = ledger.enter(Stage::S3Get);
        let path = self.path(key);
        let read = async {
            let options = GetOptions { extensions, ..GetOptions::default() };
            self.store.get_opts(&path, options).await?.bytes().await
        };
        let bytes = self.bounded(read, &status).await?;
        stage.done();
        ledger.count(Stage::S3Get, self.local_request(), bytes.len() as u64, 0);
        Ok(bytes)
    }

    /// Writes an object. After an error it may be there or not. `stage` is `s3.put`, or `snapshot.put` behind.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] where `rule` says so, or the store is down or slow. A retry whose first attempt did
    /// reach the store may report its own object as existing.
    pub async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        rule: PutRule,
        stage: Stage,
        ledger: &Ledger,
    ) -> Result<(), StoreError> {
        let (status, extensions) = carry(ledger, stage);
        let size = bytes.len() as u64;
        let mode = match rule {
            PutRule::Overwrite => PutMode::Overwrite,
            PutRule::Create => PutMode::Create,
        };
        let guard = ledger.enter(stage);
        let path = self.path(key);
        let options = PutOptions { mode, extensions, ..PutOptions::default() };
        self.bounded(self.store.put_opts(&path, PutPayload::from_bytes(bytes), options), &status).await?;
        guard.done();
        ledger.count(stage, self.local_request(), size, 0);
        Ok(())
    }

    /// An object's length in bytes, without reading it. Repeating it is harmless.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or the store is down or slow.
    pub async fn size(&self, key: &str) -> Result<u64, StoreError> {
        let status = AtomicU16::new(0);
        Ok(self.bounded(self.store.head(&self.path(key)), &status).await?.size)
    }

    /// Removes an object; one that is not there is as good as removed.
    ///
    /// # Errors
    /// The store is down or slow; the object may be there or not.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let status = AtomicU16::new(0);
        match self.bounded(self.store.delete(&self.path(key)), &status).await {
            Err(StoreError::NotFound) => Ok(()),
            other => other,
        }
    }

    /// The keys of all objects in a folder and the folders below it, sorted; at most `keys_max`. A folder's name ends with no
    /// slash; keys come back as [`Blobs::get`] takes them.
    ///
    /// # Errors
    /// The store is down or slow, or there are more keys than `keys_max`: half a listing passes for no whole one.
    pub async fn list(&self, folder: &str, keys_max: usize) -> Result<Vec<String>, StoreError> {
        let status = AtomicU16::new(0);
        let path = self.path(folder);
        let above = self.prefix.parts().count();
        let walk = async {
            let mut keys = Vec::new();
            let mut found = self.store.list(Some(&path));
            while let Some(object) = found.try_next().await? {
                let key: Path = object.location.parts().skip(above).collect();
                keys.push(key.to_string());
                if keys.len() > keys_max {
                    break;
                }
            }
            Ok(keys)
        };
        let mut keys = self.bounded(walk, &status).await?;
        if keys.len() > keys_max {
            let reason = format!("a folder holds more than {keys_max} objects");
            return Err(StoreError::Unavailable { what: WHAT, reason });
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// Visits the keys of a folder and the folders below it that come after `after` in the order of keys; in no order. A
    /// store that sorts its keys reads on from there. Each of its answers may take as long as one get; how many there are is
    /// for the visitor to bound.
    ///
    /// # Errors
    /// The store is down or slow; what was visited is not all there is.
    pub async fn visit_after(
        &self,
        folder: &str,
        after: Option<&str>,
        visit: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(), StoreError> {
        let status = AtomicU16::new(0);
        let path = self.path(folder);
        let above = self.prefix.parts().count();
        let mut found = match after {
            Some(after) => self.store.list_with_offset(Some(&path), &self.path(after)),
            None => self.store.list(Some(&path)),
        };
        while let Some(object) = self.bounded(found.try_next(), &status).await? {
            let key: Path = object.location.parts().skip(above).collect();
            visit(key.as_ref());
        }
        Ok(())
    }

    /// The names of the folders in a folder, sorted.
    ///
    /// # Errors
    /// The store is down or slow.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let status = AtomicU16::new(0);
        let path = self.path(folder);
        let listed = self.bounded(self.store.list_with_delimiter(Some(&path)), &status).await?;
        let mut names: Vec<String> =
            listed.common_prefixes.iter().filter_map(|folder| Some(folder.filename()?.to_owned())).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Whether the store answers: asks for an object that need not be there.
    ///
    /// # Errors
    /// It does not answer, or not to us.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let status = AtomicU16::new(0);
        let path = self.path("ready");
        match self.bounded(self.store.head(&path), &status).await {
            Ok(_) | Err(StoreError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn bounded<R>(
        &self,
        work: impl Future<Output = object_store::Result<R>>,
        status: &AtomicU16,
    ) -> Result<R, StoreError> {
        match timeout(self.timeout, work).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(classify(&error, status.load(Ordering::Relaxed))),
            Err(_) => Err(StoreError::Timeout { what: WHAT, after: self.timeout }),
        }
    }

    fn path(&self, key: &str) -> Path {
        self.prefix.parts().chain(Path::from(key).parts()).collect()
    }

    /// Requests on the wire are counted by the connector, one an attempt; without a wire a call is one request.
    fn local_request(&self) -> u64 {
        u64::from(self.wire.is_none())
    }
}

fn carry(ledger: &Ledger, stage: Stage) -> (Arc<AtomicU16>, Extensions) {
    let status = Arc::<AtomicU16>::default();
    let mut extensions = Extensions::new();
    extensions.insert(Call { ledger: ledger.clone(), stage, status: Arc::clone(&status) });
    (status, extensions)
}

/// `object_store`'s own texts name the URL, and with it the system: ours say what happened and to whom.
fn classify(error: &object_store::Error, status: u16) -> StoreError {
    let reason = match error {
        object_store::Error::NotFound { .. } => return StoreError::NotFound,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
            return StoreError::AlreadyExists;
        }
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            "it refuses these credentials".to_owned()
        }
        object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
            "it does not support this operation".to_owned()
        }
        other => cause(other).unwrap_or_else(|| match status {
            0 => "the request failed".to_owned(),
            status => format!("it answered with status {status}"),
        }),
    };
    StoreError::Unavailable { what: WHAT, reason }
}

/// The innermost I/O or HTTP cause, in words without names.
fn cause(error: &object_store::Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut words = None;
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            words = Some(format!("{:?} error", http.kind()).to_lowercase());
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            words = Some(io.kind().to_string());
        }
        cause = error.source();
    }
    words
}

fn open_directory(options: &BlobOptions) -> Result<Blobs, StoreError> {
    let url = Url::parse(&options.url).ok();
    let Some(directory) = url.and_then(|url| url.to_file_path().ok()) else {
        return Err(StoreError::Config(
            "the blob URL must name an absolute directory: file:///var/lib/mipro/blobs".to_owned(),
        ));
    };
    let refuse = |e: &dyn fmt::Display| {
        StoreError::Config(format!("the blob directory {} can't be used: {e}", directory.display()))
    };
    std::fs::create_dir_all(&directory).map_err(|e| refuse(&e))?;
    let store = LocalFileSystem::new_with_prefix(&directory).map_err(|e| refuse(&e))?.with_fsync(true);
    Ok(Blobs { kind: "file", ..Blobs::over(Arc::new(store), options.timeout) })
}

fn open_s3(options: &BlobOptions) -> Result<Blobs, StoreError> {
    let config = |problem: &str| StoreError::Config(problem.to_owned());
    let url =
        Url::parse(&options.url).map_err(|_| config("the blob URL is malformed: s3://bucket/prefix"))?;
    let bucket = url.host_str().ok_or_else(|| config("the blob URL names no bucket: s3://bucket/prefix"))?;
    let query =
        |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let credentials = options
        .credentials
        .as_ref()
        .ok_or_else(|| config("S3 needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"))?;
    let region = query("region").unwrap_or_else(|| "us-east-1".to_owned());
    let endpoint = query("endpoint").unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    let https = match Url::parse(&endpoint).as_ref().map(Url::scheme) {
        Ok("https") => true,
        Ok("http") => false,
        _ => return Err(config("the blob URL's endpoint must begin with http:// or https://")),
    };
    let connector = WireConnector::new(https, options.keep_alive, options.timeout.min(CONNECT_TIMEOUT))?;
    let times = connector.times();
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: BACKOFF_FIRST, max_backoff: BACKOFF_MAX, base: 2.0 },
        max_retries: RETRIES_MAX,
        retry_timeout: options.timeout,
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(region)
        .with_endpoint(endpoint)
        .with_allow_http(!https)
        .with_access_key_id(&credentials.access_key_id)
        .with_secret_access_key(&credentials.secret_access_key)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry)
        .with_http_connector(connector);
    if let Some(token) = &credentials.session_token {
        builder = builder.with_token(token);
    }
    let store =
        builder.build().map_err(|_| config("the blob URL can't be used: s3://bucket/prefix?endpoint=…"))?;
    let prefix = Path::parse(url.path().trim_matches('/'))
        .map_err(|_| config("the blob URL's prefix holds characters that no key may have"))?;
    Ok(Blobs { store: Arc::new(store), kind: "s3", prefix, timeout: options.timeout, wire: Some(times) })
}
