//! A server that answers any request at once, on a thread of its own: what a generator measures there is itself.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

#[cfg(test)]
mod tests;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Longest head of a request; a longer one ends the connection.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The server; ends when dropped.
#[derive(Debug)]
pub(crate) struct NullServer {
    pub(crate) url: Url,
    /// Where the kernel tells the thread's time.
    schedstat: PathBuf,
    _stop: DropGuard,
}

impl NullServer {
    /// Starts it on a free port of this machine.
    ///
    /// # Errors
    /// When the system gives no port, no thread or no reactor.
    pub(crate) async fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (sender, started) = tokio::sync::oneshot::channel();
        let until = stop.clone();
        thread::Builder::new().name("mipro-null".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let served = runtime.and_then(|runtime| {
                runtime.block_on(async {
                    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
                    let address = listener.local_addr()?;
                    let schedstat = std::fs::read_link("/proc/thread-self")?;
                    // The starter is gone: then nobody will ask anything.
                    let _ = sender.send((address, schedstat));
                    until.run_until_cancelled(accept(listener)).await;
                    Ok(())
                })
            });
            // Who waits for the start hears of a failure by the channel's end.
            drop(served);
        })?;
        let (address, thread): (SocketAddr, PathBuf) =
            started.await.map_err(|_| io::Error::other("the null server did not start"))?;
        let url = format!("http://{address}/").parse().map_err(io::Error::other)?;
        let schedstat = PathBuf::from("/proc").join(thread).join("schedstat");
        Ok(Self { url, schedstat, _stop: stop.drop_guard() })
    }

    /// CPU time of its thread so far; none where the system does not tell.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let text = std::fs::read_to_string(&self.schedstat).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    }
}

async fn accept(listener: TcpListener) {
    // A connection that cannot be taken (no more open files) is the generator's to notice.
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            // However a connection ends, it is the client's business.
            let _ = serve(stream).await;
        });
    }
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut held, mut chunk) = (Vec::new(), vec![0; 16 * 1024]);
    loop {
        let read = stream.read(&mut chunk).await?;
        if read == 0 || held.len() > HEAD_BYTES_MAX {
            return Ok(());
        }
        held.extend_from_slice(&chunk[..read]);
        while let Some(end) = request_end(&held) {
            held.drain(..end);
            stream.write_all(ANSWER).await?;
        }
    }
}

/// Where the first request in the buffer ends, its body included; none while it is not whole.
fn request_end(held: &[u8]) -> Option<usize> {
    let head = held.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let lines = held[..head].split(|byte| *byte == b'\n');
    let length =
        lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':')).find_map(|(name, value)| {
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
        });
    let end = head.checked_add(length.unwrap_or(0))?;
    (held.len() >= end).then_some(end)
}
