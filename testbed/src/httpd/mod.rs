//! The HTTP plumbing that the S3 server and the link emulator share: an accept loop that drains, an admin
//! listener, its client, and request counts by verb.

mod admin;
mod client;
mod verb;

pub(crate) use admin::{Admin, Answer, serve_admin};
pub(crate) use client::AdminClient;
pub use client::AdminError;
pub(crate) use verb::AtomicVerbCounts;
pub use verb::{Verb, VerbCounts};

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// More connections than this wait in the kernel's accept queue.
const CONNECTIONS_MAX: usize = 4096;

/// How long the accept loop rests after an error such as "too many open files", which a retry at once repeats.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);

/// Serves HTTP/1.1 until `stop` is cancelled, then lets requests in flight finish for at most `drain_deadline`.
///
/// Dropping the future aborts every connection.
pub(crate) async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    stop: CancellationToken,
    drain_deadline: Duration,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let abort = CancellationToken::new();
    let _abort_when_dropped = abort.clone().drop_guard();
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (socket, slot) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone());
        let connection = graceful.watch(connection);
        let abort = abort.clone();
        tokio::spawn(async move {
            if let Some(Err(error)) = abort.run_until_cancelled(connection).await {
                tracing::debug!(%error, "connection ended early");
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(drain_deadline, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            ?drain_deadline,
            "requests were still in flight at the drain deadline and are aborted"
        );
    }
}

/// The next connection, with its place among the [`CONNECTIONS_MAX`].
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                if let Err(error) = socket.set_nodelay(true) {
                    tracing::debug!(%error, "a connection was gone before its first request");
                    continue;
                }
                return (socket, slot);
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
