//! A small S3 server over the `s3s` crate, for tests and benchmarks on one machine.
//!
//! It keeps two promises that simpler servers do not: a conditional PUT is atomic (of any number of concurrent
//! `If-None-Match: *` writes of a key exactly one succeeds), and a body's checksums are verified before any of it
//! becomes visible. It knows buckets, objects (ranges, conditions, user metadata), bulk delete, listings by
//! ListObjectsV2 and multipart uploads; every request must be signed (SigV4). Versions, ACLs and copies it lacks.
//!
//! Objects live in memory or in a directory. Faults and delays are set at run time through an admin listener, which
//! is plain HTTP and open to whoever reaches it: bind it to loopback.

mod admin;
mod api;
mod checksum;
mod disk;
mod faults;
mod front;
mod listing;
mod multipart;
mod objects;

#[cfg(test)]
mod tests;

pub use admin::S3Admin;
pub use faults::{FaultRule, Faults, FaultsError};
pub use front::Counts;

pub use crate::httpd::{AdminError, Verb, VerbCounts};

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use api::Api;
use front::Front;
use objects::Objects;

/// Largest object that is taken, in bytes. Default: 256 MiB.
pub const OBJECT_BYTES_MAX: usize = 256 << 20;

/// Where objects are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In memory: gone with the process.
    Memory,
    /// In files under this directory, made if absent; what is there already is served.
    Dir(PathBuf),
}

/// How to run the server.
#[derive(Clone)]
pub struct Options {
    /// Where S3 clients connect; port 0 takes a free one. Default: 127.0.0.1:0.
    pub listen: SocketAddr,
    /// Where faults are set and counts are read; `None` for nowhere. Default: none.
    pub admin_listen: Option<SocketAddr>,
    /// Where objects are kept. Default: memory.
    pub backend: Backend,
    /// Whether each write to a directory is synced to the disk before it is acknowledged, at some milliseconds a
    /// write. Default: false.
    pub fsync: bool,
    /// A bucket that exists from the start. Default: `mipro`.
    pub bucket: String,
    /// The one access key id. Default: `mipro-testbed`.
    pub access_key: String,
    /// Its secret. Default: `mipro-testbed-secret`.
    pub secret_key: String,
    /// Seed of the faults' randomness. Default: 0.
    pub seed: u64,
    /// Largest object or part that is taken, in bytes. Default: [`OBJECT_BYTES_MAX`].
    pub object_bytes_max: usize,
    /// How long requests in flight may take to finish at a stop. Default: 5 s.
    pub drain_deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            admin_listen: None,
            backend: Backend::Memory,
            fsync: false,
            bucket: "mipro".to_owned(),
            access_key: "mipro-testbed".to_owned(),
            secret_key: "mipro-testbed-secret".to_owned(),
            seed: 0,
            object_bytes_max: OBJECT_BYTES_MAX,
            drain_deadline: Duration::from_secs(5),
        }
    }
}

/// Without the secret.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("listen", &self.listen)
            .field("admin_listen", &self.admin_listen)
            .field("backend", &self.backend)
            .field("fsync", &self.fsync)
            .field("bucket", &self.bucket)
            .field("seed", &self.seed)
            .field("object_bytes_max", &self.object_bytes_max)
            .field("drain_deadline", &self.drain_deadline)
            .finish_non_exhaustive()
    }
}

/// Where the running server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// For S3 clients (path-style addressing, plain HTTP).
    pub addr: SocketAddr,
    /// For [`S3Admin`], if asked for.
    pub admin_addr: Option<SocketAddr>,
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bucket's name is not one that S3 allows.
    #[error("{0:?} is not a bucket name: use 3 to 63 lowercase letters, digits, dots and hyphens")]
    BucketName(String),
    /// The address is taken or not ours.
    #[error("failed to listen on {addr}")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The object directory can't be used, or holds damaged files.
    #[error("failed to open the object directory {}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
}

/// Runs the server until `shutdown` is cancelled and requests in flight are done, or the drain deadline has passed.
/// Calls `ready` once both listeners are bound. Dropping the future aborts every request.
///
/// # Errors
/// Only before `ready` is called.
pub async fn run(
    options: Options,
    ready: impl FnOnce(Ready),
    shutdown: CancellationToken,
) -> Result<(), Error> {
    if !s3s::path::check_bucket_name(&options.bucket) {
        return Err(Error::BucketName(options.bucket));
    }
    let objects = open(&options).await?;
    let listener = listen(options.listen).await?;
    let admin_listener = match options.admin_listen {
        Some(addr) => Some(listen(addr).await?),
        None => None,
    };
    let bound = |listener: &TcpListener, asked| listener.local_addr().unwrap_or(asked);
    let addr = bound(&listener, options.listen);
    let admin_addr = admin_listener.as_ref().map(|listener| bound(listener, addr));

    let mut builder = S3ServiceBuilder::new(Api::new(objects, options.object_bytes_max));
    builder.set_auth(SimpleAuth::from_single(options.access_key, options.secret_key));
    let front = Arc::new(Front::new(builder.build(), options.seed, shutdown.clone()));
    let service = {
        let front = Arc::clone(&front);
        service_fn(move |request| {
            let front = Arc::clone(&front);
            async move { front.answer(request).await }
        })
    };

    ready(Ready { addr, admin_addr });
    let admin = async {
        if let Some(listener) = admin_listener {
            crate::httpd::serve_admin(listener, front, shutdown.clone()).await;
        }
    };
    let data = crate::httpd::serve(listener, service, shutdown.clone(), options.drain_deadline);
    tokio::join!(data, admin);
    Ok(())
}

/// The object table with the configured bucket in it.
async fn open(options: &Options) -> Result<Arc<Objects>, Error> {
    let (backend, bucket, fsync) = (options.backend.clone(), options.bucket.clone(), options.fsync);
    let opened = tokio::task::spawn_blocking(move || {
        let (objects, path) = match backend {
            Backend::Memory => (Ok(Objects::in_memory()), PathBuf::new()),
            Backend::Dir(path) => (Objects::in_directory(&path, fsync), path),
        };
        let created = objects.and_then(|objects| match objects.create_bucket(&bucket) {
            Ok(()) | Err(objects::StoreError::BucketExists) => Ok(Arc::new(objects)),
            Err(error) => Err(io::Error::other(error)),
        });
        created.map_err(|source| Error::Open { path, source })
    });
    opened
        .await
        .unwrap_or_else(|error| Err(Error::Open { path: PathBuf::new(), source: io::Error::other(error) }))
}

async fn listen(addr: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(addr).await.map_err(|source| Error::Listen { addr, source })
}
