//! The arithmetic of a wire, and the pipe that follows it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use mipro_telemetry::clock;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;

use crate::link::Profile;
use crate::link::line::{Direction, Line};
use crate::link::pipe::{CHUNK_BYTES_MAX, Pipe};
use crate::link::timer::Timer;

const MS: Duration = Duration::from_millis(1);

fn line(open: Instant) -> Line {
    Line::new(Direction::Up, open, 7, 0)
}

#[test]
fn chunks_in_flight_together_pay_the_delay_once() {
    let now = clock::now();
    let mut line = line(now);
    let profile = Profile { rtt_us: 100_000, ..Profile::default() };
    for _ in 0..1000 {
        assert_eq!(line.due(now, CHUNK_BYTES_MAX, &profile), now + 50 * MS);
    }
}

#[test]
fn bandwidth_is_honoured_and_an_idle_wire_saves_up_none() {
    let now = clock::now();
    let mut line = line(now);
    // 1000 bytes take 1 ms at 8 Mbit/s.
    let profile = Profile { rtt_us: 20_000, up_bits_per_second: Some(8_000_000), ..Profile::default() };
    for sent in 1..=10 {
        assert_eq!(line.due(now, 1000, &profile), now + 10 * MS + sent * MS);
    }
    let later = now + 1000 * MS;
    assert_eq!(line.due(later, 1000, &profile), later + 11 * MS);
    assert_eq!(line.due(later, 0, &profile), later + 11 * MS, "an end of stream follows the last byte");
    let mut down = Line::new(Direction::Down, now, 7, 0);
    assert_eq!(
        down.due(now, 1_000_000, &profile),
        now + 10 * MS,
        "the other direction has its own bandwidth"
    );
}

#[test]
fn the_first_bytes_wait_for_the_handshake() {
    let accepted = clock::now();
    let profile = Profile { rtt_us: 100_000, ..Profile::default() };
    let mut line = line(accepted + 100 * MS);
    assert_eq!(line.due(accepted + MS, 10, &profile), accepted + 150 * MS);
    assert_eq!(line.due(accepted + 400 * MS, 10, &profile), accepted + 450 * MS);
}

proptest! {
    #[test]
    fn order_is_kept_whatever_the_jitter_and_the_profiles(
        seed in any::<u64>(),
        chunks in proptest::collection::vec(
            (0_u64..5_000, 0_usize..20_000, 0_u64..100_000, 0_u64..50_000, proptest::option::of(1_000_u64..1_000_000_000)),
            1..50,
        ),
    ) {
        let start = clock::now();
        let mut line = Line::new(Direction::Up, start, seed, 3);
        let mut again = Line::new(Direction::Up, start, seed, 3);
        let (mut now, mut last, mut sending) = (start, start, Duration::ZERO);
        for (wait_us, bytes, rtt_us, jitter_us, up_bits_per_second) in chunks {
            now += Duration::from_micros(wait_us);
            let profile = Profile { rtt_us, jitter_us, up_bits_per_second, ..Profile::default() };
            let due = line.due(now, bytes, &profile);
            prop_assert_eq!(due, again.due(now, bytes, &profile), "the same seed draws the same jitter");
            prop_assert!(due >= last, "a chunk overtook the one ahead of it");
            prop_assert!(due >= now + Duration::from_micros(rtt_us) / 2, "a chunk was too early");
            if let Some(bits) = up_bits_per_second {
                sending += Duration::from_nanos(bytes as u64 * 8 * 1_000_000_000 / bits);
            }
            prop_assert!(due >= start + sending, "the wire was faster than its bandwidth");
            last = due;
        }
    }
}

#[test]
fn connections_draw_different_jitter() {
    let now = clock::now();
    let profile = Profile { jitter_us: 1_000_000, ..Profile::default() };
    let draw = |direction, connection| Line::new(direction, now, 7, connection).due(now, 1, &profile);
    assert_eq!(draw(Direction::Up, 0), draw(Direction::Up, 0));
    assert_ne!(draw(Direction::Up, 0), draw(Direction::Up, 1));
    assert_ne!(draw(Direction::Up, 0), draw(Direction::Down, 0));
}

/// A pipe's steering wheel; dropping it would end a pause.
struct Bench {
    timer: Timer,
    profile: watch::Sender<Profile>,
    paused: watch::Sender<bool>,
}

impl Bench {
    fn new(profile: Profile) -> Self {
        Self {
            timer: Timer::start().unwrap(),
            profile: watch::Sender::new(profile),
            paused: watch::Sender::new(false),
        }
    }

    fn pipe(&self, queue_bytes_max: usize) -> Pipe<'_> {
        Pipe {
            line: line(clock::now()),
            profile: self.profile.subscribe(),
            paused: self.paused.subscribe(),
            timer: &self.timer,
            queue_bytes_max,
        }
    }
}

#[tokio::test]
async fn bytes_arrive_whole_and_in_order_not_early_and_then_the_end() {
    let bench = Bench::new(Profile { rtt_us: 40_000, jitter_us: 3_000, ..Profile::default() });
    let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut sender, from) = tokio::io::duplex(1000);
    let (to, mut receiver) = tokio::io::duplex(1000);
    let started = clock::now();
    let pipe = bench.pipe(1 << 20).run(from, to, |_| {});
    let send = async {
        sender.write_all(&sent).await.unwrap();
        sender.shutdown().await.unwrap();
    };
    let receive = async {
        let mut received = vec![0; 4];
        receiver.read_exact(&mut received).await.unwrap();
        let first = clock::now() - started;
        receiver.read_to_end(&mut received).await.unwrap();
        (received, first)
    };
    let (carried, (), (received, first)) = tokio::join!(pipe, send, receive);
    carried.unwrap();
    assert!(received == sent, "the bytes were changed");
    assert!(first >= 20 * MS, "the first byte took {first:?}");
}

#[tokio::test]
async fn back_pressure_is_bounded() {
    let bench = Bench::new(Profile::default());
    bench.paused.send_replace(true);
    let read = AtomicUsize::new(0);
    let pipe = bench.pipe(64 << 10).run(tokio::io::repeat(1), tokio::io::sink(), |bytes| {
        read.fetch_add(bytes.len(), Ordering::Relaxed);
    });
    let a_while = async {
        // The source never runs dry, so each turn reads as much as it is let.
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = pipe => panic!("the source has no end"),
        () = a_while => {}
    }
    assert_eq!(
        read.into_inner(),
        (64 << 10) + CHUNK_BYTES_MAX,
        "the queue and the one chunk that waits for room"
    );
}

/// Gives some bytes, then breaks.
struct Breaks(Option<&'static [u8]>);

impl AsyncRead for Breaks {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0.take() {
            Some(bytes) => {
                buffer.put_slice(bytes);
                Poll::Ready(Ok(()))
            }
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

#[tokio::test]
async fn what_came_before_a_break_arrives_before_it() {
    let bench = Bench::new(Profile { rtt_us: 10_000, ..Profile::default() });
    let mut received = Vec::new();
    let error =
        bench.pipe(1 << 20).run(Breaks(Some(b"last words")), &mut received, |_| {}).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(received, b"last words");
}

#[tokio::test]
async fn a_receiver_that_is_gone_ends_the_pipe_though_the_sender_is_silent() {
    let bench = Bench::new(Profile::default());
    let (mut sender, from) = tokio::io::duplex(1000);
    let (to, receiver) = tokio::io::duplex(1000);
    drop(receiver);
    sender.write_all(b"anyone?").await.unwrap();
    let error = bench.pipe(1 << 20).run(from, to, |_| {}).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn the_timer_is_never_early_and_serves_many() {
    let timer = Timer::start().unwrap();
    let now = clock::now();
    let sleeps = (0..200_u64).map(|i| {
        let (timer, due) = (timer.clone(), now + Duration::from_micros(i * 7919 % 20_000));
        async move {
            timer.sleep_until(due).await;
            assert!(clock::now() >= due);
        }
    });
    futures_util::future::join_all(sleeps).await;
}
