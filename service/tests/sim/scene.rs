//! What every part of a history shares: the seed, the simulated clock, the trace, the episodes of trouble.
//!
//! **Lanes.** Two things that happen in the same instant are ordered by whoever wakes first, and tokio's `watch`, which the
//! gates wait on, wakes its waiters in random order. So nobody acts when it is woken: each actor has a lane, a
//! millisecond of its own in every [`LANES`], and waits for it. What a wake-up does before that touches nobody else.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mipro_service::log::Level;
use tokio::time::{Instant, sleep_until};

use crate::dice::Dice;

/// Milliseconds between two turns of a lane. Divides a second, so that the service's own ticks have a lane, too: 0.
pub(crate) const LANES: u64 = 40;
/// The lane of a client.
pub(crate) const CLIENTS: u64 = 1;
/// The lane of a system's stores.
pub(crate) const STORES: u64 = 12;
/// Objects that are no system's.
pub(crate) const ARCHIVE: u64 = 30;
/// The log's writer.
pub(crate) const WRITER: u64 = 31;
/// What arrives late.
pub(crate) const LATE: u64 = 32;
/// Crashes, audits.
pub(crate) const DIRECTOR: u64 = 33;

/// Wall time at the start of a history, microseconds since the Unix epoch.
pub(crate) const EPOCH_US: u64 = 1_700_000_000_000_000;

/// A kind of trouble that lasts a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Trouble {
    TableDown,
    ObjectsDown,
    DiskFull,
    DiskSlow,
}

const TROUBLES: [Trouble; 4] =
    [Trouble::TableDown, Trouble::ObjectsDown, Trouble::DiskFull, Trouble::DiskSlow];

/// How much goes wrong in a history.
#[derive(Debug, Clone)]
pub(crate) struct Weather {
    /// Store calls that fail, of a thousand.
    pub(crate) store_faults: u64,
    /// Calls a client gives up or drops, of a thousand.
    pub(crate) vanishing: u64,
    /// Turns of the log's writer at which a sync will fail, of a thousand.
    pub(crate) sync_faults: u64,
    /// The disk may be lost with everything on it.
    pub(crate) host_goes: bool,
    /// The level in force.
    pub(crate) level: Level,
    /// The machine may die, and not only the process. At the level `os` that may lose what was acknowledged.
    pub(crate) machine_dies: bool,
    episodes: Vec<(Trouble, u64, u64)>,
}

impl Weather {
    fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed, "weather", &[]);
        let store_faults = [0, 20, 100, 250][dice.index(4)];
        let vanishing = [0, 50, 200][dice.index(3)];
        let sync_faults = [0, 0, 0, 5][dice.index(4)];
        let host_goes = dice.chance(120);
        let mut episodes = Vec::new();
        for trouble in TROUBLES {
            for _ in 0..dice.below(3) {
                let from = dice.below(8_000);
                episodes.push((trouble, from, from + dice.between(100, 1_500)));
            }
        }
        let level = if dice.chance(250) { Level::Os } else { Level::Disk };
        let machine_dies = level == Level::Disk || dice.chance(250);
        Self { store_faults, vanishing, sync_faults, host_goes, level, machine_dies, episodes }
    }
}

/// One history's common ground.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) seed: u64,
    pub(crate) weather: Weather,
    /// When the present process began, in the history's milliseconds.
    base_ms: AtomicU64,
    origin: Mutex<Option<Instant>>,
    /// From here on nothing goes wrong any more.
    calm: AtomicU64,
    trace: Mutex<Trace>,
    violations: Mutex<Vec<String>>,
    seen: Mutex<BTreeMap<&'static str, u64>>,
}

impl Scene {
    pub(crate) fn new(seed: u64, print: bool) -> Self {
        Self {
            seed,
            weather: Weather::of(seed),
            base_ms: AtomicU64::new(0),
            origin: Mutex::new(None),
            calm: AtomicU64::new(u64::MAX),
            trace: Mutex::new(Trace::new(print)),
            violations: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// A process begins: its runtime's clock begins here.
    pub(crate) fn begin(&self) {
        *lock(&self.origin) = Some(Instant::now());
    }

    /// A process has ended; the next begins a while later, at a time that keeps the lanes.
    pub(crate) fn end(&self, ran_ms: u64, pause_ms: u64) {
        let base_ms = self.base_ms.load(Ordering::SeqCst) + ran_ms + pause_ms;
        self.base_ms.store(base_ms.next_multiple_of(LANES), Ordering::SeqCst);
        *lock(&self.origin) = None;
    }

    /// Milliseconds since the present process began.
    pub(crate) fn ran_ms(&self) -> u64 {
        let origin = *lock(&self.origin);
        origin.map_or(0, |origin| u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Milliseconds since the history began.
    pub(crate) fn now_ms(&self) -> u64 {
        self.base_ms.load(Ordering::SeqCst) + self.ran_ms()
    }

    /// Wall time when the present process began, microseconds.
    pub(crate) fn base_us(&self) -> u64 {
        EPOCH_US + self.base_ms.load(Ordering::SeqCst) * 1_000
    }

    /// Waits for the lane's first turn that is at least so far away.
    pub(crate) async fn turn(&self, lane: u64, least_ms: u64) {
        let due = self.ran_ms() + least_ms.max(1);
        let wait = (lane + LANES - due % LANES) % LANES;
        let origin = lock(&self.origin).expect("a process runs");
        sleep_until(origin + Duration::from_millis(due + wait)).await;
    }

    /// Trouble ends for good.
    pub(crate) fn calm_down(&self) {
        self.calm.store(self.now_ms(), Ordering::SeqCst);
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.now_ms() >= self.calm.load(Ordering::SeqCst)
    }

    pub(crate) fn has(&self, trouble: Trouble) -> bool {
        let now = self.now_ms();
        let during = |(kind, from, to): &(Trouble, u64, u64)| *kind == trouble && (*from..*to).contains(&now);
        !self.is_calm() && self.weather.episodes.iter().any(during)
    }

    pub(crate) fn dice(&self, what: &str, place: &[u64]) -> Dice {
        Dice::of(self.seed, what, place)
    }

    /// Something that can be seen from outside happened.
    pub(crate) fn note(&self, lane: u64, line: impl FnOnce() -> String) {
        lock(&self.trace).note(self.now_ms(), lane, line());
    }

    /// Bytes that belong to the trace and that nobody reads.
    pub(crate) fn note_bytes(&self, lane: u64, what: &str, bytes: &[u8]) {
        self.note(lane, || format!("{what}: {} B {}", bytes.len(), &blake3::hash(bytes).to_hex()[..12]));
    }

    /// Something happened that must not.
    pub(crate) fn violated(&self, what: String) {
        self.note(DIRECTOR, || format!("VIOLATION {what}"));
        let mut violations = lock(&self.violations);
        if !violations.contains(&what) {
            violations.push(what);
        }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// Counts something that a history is for.
    pub(crate) fn saw(&self, what: &'static str, times: u64) {
        *lock(&self.seen).entry(what).or_default() += times;
    }

    pub(crate) fn seen(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.seen).clone()
    }

    /// The hash of all that was noted.
    pub(crate) fn hash(&self) -> String {
        lock(&self.trace).finish()
    }
}

/// All that was observed, as a hash, and as text where somebody reads it. What happened in one instant is ordered by lane.
#[derive(Debug)]
struct Trace {
    hasher: blake3::Hasher,
    instant: u64,
    held: Vec<(u64, String)>,
    print: bool,
}

impl Trace {
    fn new(print: bool) -> Self {
        Self { hasher: blake3::Hasher::new(), instant: 0, held: Vec::new(), print }
    }

    fn note(&mut self, now_ms: u64, lane: u64, line: String) {
        if now_ms != self.instant {
            self.flush();
            self.instant = now_ms;
        }
        self.held.push((lane, line));
    }

    fn flush(&mut self) {
        // Stable: what one lane did keeps its order. A system's stores may have two calls in one instant.
        self.held.sort_by(|(a, x), (b, y)| {
            let of_stores = (STORES..=ARCHIVE).contains(a);
            a.cmp(b).then_with(|| if of_stores { x.cmp(y) } else { std::cmp::Ordering::Equal })
        });
        for (lane, line) in self.held.drain(..) {
            let line = format!("{:>7} {lane:>2} {line}\n", self.instant);
            self.hasher.update(line.as_bytes());
            if self.print {
                say(&line);
            }
        }
    }

    fn finish(&mut self) -> String {
        self.flush();
        self.hasher.finalize().to_hex()[..16].to_owned()
    }
}

/// Says something to whoever runs the test.
pub(crate) fn say(text: &str) {
    let mut stderr = std::io::stderr();
    // Nobody may be listening.
    let _unheard = stderr.write_all(text.as_bytes());
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
