//! When a chunk arrives: the arithmetic of one direction of one connection, with no clock of its own.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Profile;

/// One way along a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// A wire that sends bytes one after the other and carries each for half a round trip.
///
/// A chunk starts when the wire is free, takes its bytes ÷ bandwidth to send, and arrives half an RTT and some jitter
/// later, but never before the chunk ahead of it. So n chunks pay the delay once, not n times: they are in flight
/// together.
pub(super) struct Line {
    direction: Direction,
    free: Instant,
    last_due: Instant,
    rng: ChaCha8Rng,
}

impl Line {
    /// A wire that is first free at `open`. Jitter is a function of the seed, the connection's index and the direction.
    pub(super) fn new(direction: Direction, open: Instant, seed: u64, connection: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(connection.wrapping_mul(2).wrapping_add(u64::from(direction == Direction::Down)));
        Self { direction, free: open, last_due: open, rng }
    }

    /// When the last of `bytes`, read from the sender at `now`, arrives. 0 bytes: when an end of stream does.
    pub(super) fn due(&mut self, now: Instant, bytes: usize, profile: &Profile) -> Instant {
        let bits_per_second = match self.direction {
            Direction::Up => profile.up_bits_per_second,
            Direction::Down => profile.down_bits_per_second,
        };
        self.free = self.free.max(now) + sending_time(bytes, bits_per_second);
        let jitter = Duration::from_micros(profile.jitter_us).mul_f64(self.rng.random::<f64>());
        let arrives = self.free + Duration::from_micros(profile.rtt_us) / 2 + jitter;
        self.last_due = self.last_due.max(arrives);
        self.last_due
    }
}

fn sending_time(bytes: usize, bits_per_second: Option<u64>) -> Duration {
    let Some(bits_per_second) = bits_per_second else { return Duration::ZERO };
    let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(bits_per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(SENDING_TIME_MAX)
}

/// A chunk never takes longer, so that no bandwidth, however small, makes a time that can't be represented.
const SENDING_TIME_MAX: Duration = Duration::from_secs(3600);
