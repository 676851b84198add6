//! The child's side: when a role must end.

use std::future::Future;
use std::io::{self, Read as _};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Completes when our stdin reaches its end, which for a supervised role means that the parent is gone or wants us to
/// end. What comes in on stdin before that is thrown away.
///
/// A plain thread does the reading: a blocking task would keep the runtime from shutting down. Call it once in a
/// process. Dropping the future leaves the thread reading, which harms nothing.
pub fn stdin_closed() -> impl Future<Output = ()> + Send + 'static {
    let (closed, at_end) = oneshot::channel::<()>();
    let watcher = thread::Builder::new().name("stdin-watch".to_owned()).spawn(move || {
        let mut buffer = [0_u8; 1024];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A stdin that can't be read can't tell us that the parent is gone, so it counts as closed.
                Err(_) => break,
            }
        }
        drop(closed);
    });
    async move {
        match watcher {
            // The sender is only ever dropped, never used.
            Ok(_) => drop(at_end.await),
            Err(error) => {
                tracing::error!(%error, "cannot watch stdin; ending, so as not to outlive the parent");
            }
        }
    }
}

/// A token that is cancelled at the first SIGTERM or SIGINT, or (with `die_with_stdin`) when stdin ends.
/// Later signals change nothing: the role's own deadline ends a drain that hangs.
///
/// # Errors
/// When the signal handlers can't be installed. Must be called inside a tokio runtime.
pub fn shutdown_on_request(die_with_stdin: bool) -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancel = token.clone();
    tokio::spawn(async move {
        let parent_gone = async {
            if die_with_stdin {
                stdin_closed().await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let reason = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = parent_gone => "stdin closed",
        };
        tracing::info!(reason, "shutting down");
        cancel.cancel();
    });
    Ok(token)
}
