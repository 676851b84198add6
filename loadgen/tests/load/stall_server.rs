//! A plain HTTP server that answers at once, except while it is frozen. Its time begins with the first request it sees.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use url::Url;

/// When which connections get no answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Freeze {
    pub(crate) from: Duration,
    /// None: it never thaws.
    pub(crate) to: Option<Duration>,
    /// Only this connection, by the order in which they were accepted.
    pub(crate) connection: Option<u64>,
}

pub(crate) struct StallServer {
    pub(crate) url: Url,
    freeze: Freeze,
    began: OnceLock<Instant>,
    pub(crate) connections: AtomicU64,
}

impl StallServer {
    pub(crate) async fn start(freeze: Freeze) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()).parse().unwrap(),
            freeze,
            began: OnceLock::new(),
            connections: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&server);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = accepting.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(Arc::clone(&accepting).serve(stream, number));
            }
        });
        server
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream, number: u64) {
        let (mut held, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            // A client that goes away, as it does at a run's end, ends the connection.
            let Ok(read @ 1..) = stream.read(&mut chunk).await else { return };
            held.extend_from_slice(&chunk[..read]);
            while let Some(end) = held.windows(4).position(|w| w == b"\r\n\r\n") {
                held.drain(..end + 4);
                self.thawed(number).await;
                if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                    return;
                }
            }
        }
    }

    async fn thawed(&self, number: u64) {
        let began = *self.began.get_or_init(Instant::now);
        let Freeze { from, to, connection } = self.freeze;
        let now = Instant::now() - began;
        let hit = connection.is_none_or(|only| only == number);
        if !hit || now < from || to.is_some_and(|to| now >= to) {
            return;
        }
        match to {
            Some(to) => tokio::time::sleep_until(began + to).await,
            None => std::future::pending().await,
        }
    }
}
