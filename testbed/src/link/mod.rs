//! A TCP link emulator: a proxy that gives a real server on this machine the distance of a far one, and counts what
//! passes.
//!
//! For each direction of each connection bytes arrive half a round trip (and some seeded jitter) after they were sent,
//! at the bandwidth asked for, in order, and n chunks in flight together pay the delay once. Each connection has the
//! bandwidth to itself.
//!
//! **The handshake.** A proxy can't hold back the kernel's own SYN-ACK, so a client's `connect` returns at once.
//! Instead the first bytes of a connection are held: the client's leave one RTT after the accept, the server's one and
//! a half, as they would on a real wire. So connect plus first answer costs two round trips whoever speaks first; a
//! client's own split between "connect" and "first byte" shows nearly all of it in the latter. An end of stream
//! travels like a byte. TLS is not modelled.
//!
//! **Accuracy.** Bytes never arrive early. They arrive late by the timer's wake-up (its own thread, about 0.1 ms on an
//! idle machine; tokio's timer would add 1 to 2 ms) and by the two extra socket hops. Chunks are 16 KiB at most, and a
//! chunk arrives when its last bit does.
//!
//! **Memory.** A direction holds `queue_bytes_max` in flight and stops reading then, which the sender feels as a full
//! socket. That also caps throughput at `queue_bytes_max` a half round trip.

mod admin;
mod counts;
mod http;
mod line;
mod pipe;
mod postgres;
mod proxy;
mod spec;
mod tap;
mod timer;

#[cfg(test)]
mod tests;

pub use admin::LinkAdmin;
pub use counts::Counts;
pub use proxy::{LinkState, Status};
pub use spec::{LinkSpec, LinkSpecError, PRESETS};
pub use tap::Protocol;

pub use crate::httpd::{AdminError, Verb, VerbCounts};

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use proxy::Link;
use timer::Timer;

/// Delays and bandwidth. The default is a wire without either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Round trip in microseconds; each direction takes half.
    pub rtt_us: u64,
    /// Each chunk takes a uniform 0 to this longer, each way, in microseconds; so a round trip takes on average this
    /// much longer than `rtt_us`.
    pub jitter_us: u64,
    /// Bandwidth from client to server, per connection; `None` for no limit.
    pub up_bits_per_second: Option<u64>,
    /// Bandwidth from server to client, per connection; `None` for no limit.
    pub down_bits_per_second: Option<u64>,
}

/// Why a profile is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// A delay above the limit.
    #[error("{name} is {value}: the most is {}", Profile::DELAY_US_MAX)]
    Delay {
        /// The field.
        name: &'static str,
        /// Its value.
        value: u64,
    },
    /// A bandwidth below the limit.
    #[error("{name} is {value}: the least is {}", Profile::BITS_PER_SECOND_MIN)]
    Bandwidth {
        /// The field.
        name: &'static str,
        /// Its value.
        value: u64,
    },
}

impl Profile {
    /// The longest round trip and jitter, in microseconds: a minute.
    pub const DELAY_US_MAX: u64 = 60_000_000;
    /// The least bandwidth.
    pub const BITS_PER_SECOND_MIN: u64 = 1_000;

    /// Refuses delays and bandwidths out of range.
    ///
    /// # Errors
    /// Names the first bad field.
    pub fn check(&self) -> Result<(), ProfileError> {
        for (name, value) in [("rtt_us", self.rtt_us), ("jitter_us", self.jitter_us)] {
            if value > Self::DELAY_US_MAX {
                return Err(ProfileError::Delay { name, value });
            }
        }
        let bandwidths = [
            ("up_bits_per_second", self.up_bits_per_second),
            ("down_bits_per_second", self.down_bits_per_second),
        ];
        for (name, value) in bandwidths {
            if let Some(value) = value
                && value < Self::BITS_PER_SECOND_MIN
            {
                return Err(ProfileError::Bandwidth { name, value });
            }
        }
        Ok(())
    }
}

/// How to run a link.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the link is steered and counts are read; `None` for nowhere.
    pub admin_listen: Option<SocketAddr>,
    /// The server behind the link.
    pub upstream: SocketAddr,
    /// What to count.
    pub protocol: Protocol,
    /// Delays and bandwidth at the start.
    pub profile: Profile,
    /// Seed of the jitter: connection i of two runs with the same seed draws the same jitter.
    pub seed: u64,
    /// Bytes in flight each way on one connection; more make the sender wait. At least a chunk of 16 KiB.
    pub queue_bytes_max: usize,
    /// Connections at once; more wait in the kernel's accept queue.
    pub connections_max: usize,
    /// How long open connections may take to end at a stop, before they are dropped.
    pub drain_deadline: Duration,
}

impl Options {
    /// A link to `upstream` on a free loopback port, without delay or admin listener; 2 MiB in flight each way, 4096
    /// connections, a drain of 1 s.
    #[must_use]
    pub fn new(upstream: SocketAddr, protocol: Protocol) -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            admin_listen: None,
            upstream,
            protocol,
            profile: Profile::default(),
            seed: 0,
            queue_bytes_max: 2 << 20,
            connections_max: 4096,
            drain_deadline: Duration::from_secs(1),
        }
    }
}

/// Where the running link listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// For clients of the server behind it.
    pub addr: SocketAddr,
    /// For [`LinkAdmin`], if asked for.
    pub admin_addr: Option<SocketAddr>,
}

/// Why the link could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A delay or bandwidth out of range.
    #[error("invalid link profile")]
    Profile(#[from] ProfileError),
    /// The address is taken or not ours.
    #[error("failed to listen on {addr}")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No thread could be started.
    #[error("failed to start the link's timer")]
    Timer(#[source] io::Error),
}

/// Runs the link until `shutdown` is cancelled and its connections have ended, or the drain deadline has passed. Calls
/// `ready` once both listeners are bound; whether the server behind can be reached shows only at each connection.
/// Dropping the future drops every connection.
///
/// # Errors
/// Only before `ready` is called.
pub async fn run(
    options: Options,
    ready: impl FnOnce(Ready),
    shutdown: CancellationToken,
) -> Result<(), Error> {
    options.profile.check()?;
    let timer = Timer::start().map_err(Error::Timer)?;
    let link = Arc::new(Link::new(&options, timer));
    let listener = listen(options.listen).await?;
    let admin_listener = match options.admin_listen {
        Some(addr) => Some(listen(addr).await?),
        None => None,
    };
    let bound = |listener: &TcpListener, asked| listener.local_addr().unwrap_or(asked);
    let addr = bound(&listener, options.listen);
    let admin_addr = admin_listener.as_ref().map(|listener| bound(listener, addr));
    ready(Ready { addr, admin_addr });
    let admin = async {
        if let Some(listener) = admin_listener {
            crate::httpd::serve_admin(listener, Arc::clone(&link), shutdown.clone()).await;
        }
    };
    let data = Arc::clone(&link).serve(listener, shutdown.clone(), options.drain_deadline);
    tokio::join!(data, admin);
    Ok(())
}

async fn listen(addr: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(addr).await.map_err(|source| Error::Listen { addr, source })
}
