//! One direction of one connection: a reader that stamps chunks with their arrival time, a bounded queue, and a writer
//! that lets each chunk out at its time.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mipro_telemetry::clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::Profile;
use super::line::Line;
use super::timer::Timer;

/// Most bytes read at once. Smaller chunks would follow a narrow wire more closely, at more wake-ups.
pub(super) const CHUNK_BYTES_MAX: usize = 16 << 10;

/// Most chunks in flight beside the limit in bytes, for senders of very small writes.
const QUEUE_CHUNKS_MAX: usize = 4096;

/// What a pipe needs beside its two ends.
pub(super) struct Pipe<'a> {
    pub(super) line: Line,
    pub(super) profile: watch::Receiver<Profile>,
    pub(super) paused: watch::Receiver<bool>,
    pub(super) timer: &'a Timer,
    /// Bytes in flight at most, beside one chunk; when they are reached the sender feels it.
    pub(super) queue_bytes_max: usize,
}

/// Something on its way.
enum Item {
    Chunk {
        bytes: Bytes,
        due: Instant,
        _room: OwnedSemaphorePermit,
    },
    /// The sender closed its side.
    End {
        due: Instant,
    },
    /// The sender's side broke.
    Broken {
        due: Instant,
        error: io::Error,
    },
}

impl Pipe<'_> {
    /// Carries bytes, in order, until the sender closes its side; then closes the receiver's. `seen` gets every chunk
    /// when it is read.
    ///
    /// # Errors
    /// When either end breaks: at once for the receiver's, as late as a byte would be for the sender's.
    pub(super) async fn run<R, W>(self, from: R, to: W, seen: impl FnMut(&[u8])) -> io::Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (queue, items) = mpsc::channel(QUEUE_CHUNKS_MAX);
        let Self { line, profile, paused, timer, queue_bytes_max } = self;
        let reader = read(from, line, profile, queue_bytes_max, queue, seen);
        let writer = write(to, items, timer, paused);
        // The reader never fails: what breaks it travels to the writer, behind the bytes that came before.
        let ((), written) = tokio::join!(reader, writer);
        written
    }
}

async fn read<R: AsyncRead + Unpin>(
    mut from: R,
    mut line: Line,
    mut profile: watch::Receiver<Profile>,
    queue_bytes_max: usize,
    queue: mpsc::Sender<Item>,
    mut seen: impl FnMut(&[u8]),
) {
    let room = Arc::new(Semaphore::new(queue_bytes_max.clamp(CHUNK_BYTES_MAX, Semaphore::MAX_PERMITS)));
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK_BYTES_MAX);
        let mut window = (&mut from).take(CHUNK_BYTES_MAX as u64);
        let outcome = tokio::select! {
            outcome = window.read_buf(&mut buffer) => outcome,
            // The writer is gone: nobody will ever see what is read.
            () = queue.closed() => return,
        };
        let bytes = buffer.split().freeze();
        let due = line.due(clock::now(), bytes.len(), &profile.borrow_and_update());
        let (item, last) = match outcome {
            Ok(0) => (Item::End { due }, true),
            Err(error) => (Item::Broken { due, error }, true),
            Ok(_) => {
                seen(&bytes);
                let permits = u32::try_from(bytes.len()).expect("a chunk is small");
                let room = Arc::clone(&room).acquire_many_owned(permits);
                let room = tokio::select! {
                    room = room => room.expect("the semaphore is never closed"),
                    () = queue.closed() => return,
                };
                (Item::Chunk { bytes, due, _room: room }, false)
            }
        };
        if queue.send(item).await.is_err() || last {
            return;
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(
    mut to: W,
    mut items: mpsc::Receiver<Item>,
    timer: &Timer,
    mut paused: watch::Receiver<bool>,
) -> io::Result<()> {
    while let Some(item) = items.recv().await {
        let (Item::Chunk { due, .. } | Item::End { due } | Item::Broken { due, .. }) = &item;
        timer.sleep_until(*due).await;
        // An error means that the link itself is gone, and with it this connection.
        let _ = paused.wait_for(|paused| !paused).await;
        match item {
            Item::Chunk { bytes, .. } => to.write_all(&bytes).await?,
            Item::End { .. } => return to.shutdown().await,
            Item::Broken { error, .. } => return Err(error),
        }
    }
    Ok(())
}
