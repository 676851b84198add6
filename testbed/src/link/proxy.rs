//! The accept loop and the life of one connection.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mipro_telemetry::clock;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::counts::{Counters, Counts};
use super::line::{Direction, Line};
use super::pipe::Pipe;
use super::tap::{Protocol, Tap};
use super::timer::Timer;
use super::{Options, Profile};

/// How long the accept loop rests after an error such as "too many open files".
const ACCEPT_RETRY: Duration = Duration::from_millis(20);

/// Whether the link carries anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// It does.
    Open,
    /// Connections stay, new ones are accepted, but no byte arrives anywhere until it is restored.
    Paused,
    /// All connections were reset, and new ones are.
    Cut,
}

/// The link as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether it carries anything.
    pub state: LinkState,
    /// Delays and bandwidth in force.
    pub profile: Profile,
    /// What it counts.
    pub protocol: Protocol,
}

/// The running link, shared by its connections and its admin routes.
pub(super) struct Link {
    upstream: SocketAddr,
    protocol: Protocol,
    seed: u64,
    queue_bytes_max: usize,
    connections_max: usize,
    profile: watch::Sender<Profile>,
    paused: watch::Sender<bool>,
    wire: Mutex<Wire>,
    counters: Counters,
    timer: Timer,
}

/// Cancelled when the link is cut, replaced when it is restored.
struct Wire {
    cut: bool,
    connections: CancellationToken,
}

impl Link {
    pub(super) fn new(options: &Options, timer: Timer) -> Self {
        Self {
            upstream: options.upstream,
            protocol: options.protocol,
            seed: options.seed,
            queue_bytes_max: options.queue_bytes_max,
            connections_max: options.connections_max,
            profile: watch::Sender::new(options.profile),
            paused: watch::Sender::new(false),
            wire: Mutex::new(Wire { cut: false, connections: CancellationToken::new() }),
            counters: Counters::default(),
            timer,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counters.read()
    }

    pub(super) fn status(&self) -> Status {
        let state = match (self.wire().cut, *self.paused.borrow()) {
            (true, _) => LinkState::Cut,
            (false, true) => LinkState::Paused,
            (false, false) => LinkState::Open,
        };
        Status { state, profile: *self.profile.borrow(), protocol: self.protocol }
    }

    /// Holds for every chunk read from now on; order is kept when delays shrink.
    pub(super) fn set_profile(&self, profile: Profile) {
        self.profile.send_replace(profile);
    }

    pub(super) fn cut(&self) {
        let mut wire = self.wire();
        wire.cut = true;
        wire.connections.cancel();
    }

    pub(super) fn pause(&self) {
        self.paused.send_replace(true);
    }

    pub(super) fn restore(&self) {
        let mut wire = self.wire();
        if wire.cut {
            *wire = Wire { cut: false, connections: CancellationToken::new() };
        }
        drop(wire);
        self.paused.send_replace(false);
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts until `stop` is cancelled, then waits for open connections until the drain deadline, then drops them.
    pub(super) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        stop: CancellationToken,
        drain_deadline: Duration,
    ) {
        let abort = CancellationToken::new();
        let _abort_when_dropped = abort.clone().drop_guard();
        let connections = TaskTracker::new();
        let slots = Arc::new(Semaphore::new(self.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
        for index in 0.. {
            let (client, slot) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = accept(&listener, &slots) => accepted,
            };
            let accepted = clock::now();
            let wire = {
                let wire = self.wire();
                (!wire.cut).then(|| wire.connections.clone())
            };
            let Some(cut) = wire else {
                self.counters.connections_refused.fetch_add(1, Ordering::Relaxed);
                reset(&client);
                continue;
            };
            let (link, abort) = (Arc::clone(&self), abort.clone());
            connections.spawn(async move {
                let connection = link.connection(client, index, accepted, cut);
                abort.run_until_cancelled(connection).await;
                drop(slot);
            });
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(drain_deadline, connections.wait()).await.is_err() {
            abort.cancel();
            connections.wait().await;
        }
    }

    async fn connection(&self, mut client: TcpStream, index: u64, accepted: Instant, cut: CancellationToken) {
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        let _open = Open::new(&self.counters);
        let connected = TcpStream::connect(self.upstream).await;
        let mut server = match connected.and_then(|server| server.set_nodelay(true).map(|()| server)) {
            Ok(server) => server,
            Err(error) => {
                tracing::debug!(upstream = %self.upstream, %error, "failed to reach the server behind the link");
                self.counters.upstream_failures.fetch_add(1, Ordering::Relaxed);
                reset(&client);
                return;
            }
        };
        let carried = tokio::select! {
            carried = self.carry(&mut client, &mut server, index, accepted) => carried,
            () = cut.cancelled() => Err(io::ErrorKind::ConnectionReset.into()),
        };
        if let Err(error) = carried {
            tracing::debug!(%error, "connection broken");
            reset(&client);
            reset(&server);
        }
    }

    /// Carries both directions until both have ended, or either breaks.
    async fn carry(
        &self,
        client: &mut TcpStream,
        server: &mut TcpStream,
        index: u64,
        accepted: Instant,
    ) -> io::Result<()> {
        client.set_nodelay(true)?;
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let rtt = Duration::from_micros(self.profile.borrow().rtt_us);
        let tap = Mutex::new(Tap::new(self.protocol));
        let seen = |direction, bytes: &[u8]| {
            self.counters.add_bytes(direction, bytes.len());
            let mut count = |seen| self.counters.add(seen);
            let mut tap = tap.lock().unwrap_or_else(PoisonError::into_inner);
            match direction {
                Direction::Up => tap.client(bytes, &mut count),
                Direction::Down => tap.server(bytes, &mut count),
            }
        };
        // The handshake: on a real wire a client's first byte leaves one RTT after its SYN, and a server's first byte
        // one and a half after it.
        let up = self.pipe(Direction::Up, accepted + rtt, index);
        let down = self.pipe(Direction::Down, accepted + rtt + rtt / 2, index);
        tokio::try_join!(
            up.run(from_client, to_server, |bytes| seen(Direction::Up, bytes)),
            down.run(from_server, to_client, |bytes| seen(Direction::Down, bytes)),
        )?;
        Ok(())
    }

    fn pipe(&self, direction: Direction, open: Instant, index: u64) -> Pipe<'_> {
        Pipe {
            line: Line::new(direction, open, self.seed, index),
            profile: self.profile.subscribe(),
            paused: self.paused.subscribe(),
            timer: &self.timer,
            queue_bytes_max: self.queue_bytes_max,
        }
    }
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return (socket, slot),
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Makes the socket's close a reset, which its peer can't take for a proper end.
fn reset(socket: &TcpStream) {
    if let Err(error) = socket.set_zero_linger() {
        tracing::debug!(%error, "a connection was gone before it could be reset");
    }
}

/// Counts a connection as open while it lives.
struct Open<'a>(&'a Counters);

impl<'a> Open<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.connections_open.fetch_add(1, Ordering::Relaxed);
        Self(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}
