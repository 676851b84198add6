//! The accept loop that both servers run: bounded, and drained when asked to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Error;

/// The largest request body that is read.
pub(crate) const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4_096;
/// The largest request head.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// The most header lines.
const HEADERS_MAX: usize = 100;
/// A connection may sit idle, or take for its head, so long. Longer than clients keep idle connections, so that it is
/// they who close them, and no request meets a closing connection.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Answers under way at shutdown may take so much longer.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// A pause after a failed accept, so that a lack of file handles doesn't spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Serves until `shutdown` is cancelled, then drains. Dropping it breaks every connection off.
pub(crate) async fn serve(
    listen: SocketAddr,
    router: Router,
    ready: impl FnOnce(SocketAddr),
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let listener =
        TcpListener::bind(listen).await.map_err(|source| Error::Listen { address: listen, source })?;
    ready(listener.local_addr().map_err(|source| Error::Listen { address: listen, source })?);
    let router = router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accept(&listener, &permits) => {
                if let Some((stream, permit)) = accepted {
                    connections.spawn(connection(stream, permit, router.clone(), graceful.watcher()));
                }
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_DEADLINE, graceful.shutdown()).await.is_err() {
        tracing::warn!(open = connections.len(), "connections are broken off: the drain deadline has passed");
    }
    connections.shutdown().await;
    Ok(())
}

/// The next connection; `None` where accepting failed and another try is due.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "can't turn Nagle's algorithm off");
            }
            Some((stream, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "can't accept a connection");
            tokio::time::sleep(ACCEPT_RETRY).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(%error, "connection ended");
    }
    drop(permit);
}
