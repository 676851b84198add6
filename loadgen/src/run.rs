//! Running sessions on lanes: as many at once as there are lanes, every one accounted for, whatever ends the run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mipro_telemetry::clock;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::error::Error;
use crate::figures;
use crate::makespan::Layout;
use crate::options::Options;
use crate::outcome::Outcome;
use crate::progress::{Progress, Silent};
use crate::record::{Sheet, Times};
use crate::schedule::Schedule;
use crate::session::{Finished, Rollouts, Session};
use crate::setup::systems;

/// How often progress is told.
const TICK_EVERY: Duration = Duration::from_millis(100);

/// Most sheets that lanes share: more would only cost memory, for a lane holds one for microseconds.
const SHEETS_MAX: usize = 4;

/// Makes the rollouts: warm-up first, then the measured ones; on new systems if the options name none (see
/// [`crate::prepare`]). Cancelling stops new rollouts, waits [`Options::drain`] for those in flight, and gives a partial
/// outcome; dropping the future abandons everything at once.
///
/// # Errors
/// When the options contradict each other, systems cannot be made, or no HTTP client can be made. Failing rollouts are no
/// error: they are accounted for.
pub async fn run(
    options: Options,
    progress: Arc<dyn Progress>,
    cancel: CancellationToken,
) -> Result<Outcome, Error> {
    let systems = systems(&options).await?;
    let count = systems.len();
    let lanes = options.lanes(count);
    let client = Client::new(options.timeout, lanes)?;
    let measured = Pass {
        first: options.warmup,
        count: (options.rollouts > 0).then_some(options.rollouts),
        lanes,
        fixed: options.serial_per_system && count > 0,
        systems: count,
        duration: options.duration,
        drain: options.drain,
        schedule: options.schedule,
    };
    let (warmup, history) = (options.warmup, options.history);
    let session = Arc::new(Rollouts { options, systems, client });
    warm_up(&measured, warmup, &session, &cancel).await;
    let ran = run_pass(measured, session, progress, cancel).await;
    Ok(Outcome::new(ran, history, count))
}

/// Runs `count` sessions that no figure shows, with the same lanes and ends as the measured ones.
pub(crate) async fn warm_up<S: Session>(
    measured: &Pass,
    count: u64,
    session: &Arc<S>,
    cancel: &CancellationToken,
) {
    if count > 0 && !cancel.is_cancelled() {
        let pass = Pass { first: 0, count: Some(count), duration: None, ..measured.clone() };
        run_pass(pass, Arc::clone(session), Arc::new(Silent), cancel.clone()).await;
    }
}

/// One stretch of a run.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    /// Index of the first session.
    pub(crate) first: u64,
    /// How many; none: until the duration ends.
    pub(crate) count: Option<u64>,
    pub(crate) lanes: usize,
    /// Session `i` belongs to lane `i mod lanes`.
    pub(crate) fixed: bool,
    pub(crate) systems: usize,
    pub(crate) duration: Option<Duration>,
    pub(crate) drain: Duration,
    pub(crate) schedule: Schedule,
}

/// What came of a pass.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) sheet: Sheet,
    pub(crate) wall: Duration,
    pub(crate) planned: Option<Duration>,
    pub(crate) interrupted: bool,
    pub(crate) lanes: usize,
    pub(crate) has_server: bool,
}

struct Shared<S> {
    pass: Pass,
    session: Arc<S>,
    start: Instant,
    next: AtomicU64,
    issued: AtomicU64,
    done: AtomicU64,
    errors: AtomicU64,
    sheets: Vec<Mutex<Sheet>>,
    layout: Mutex<Layout>,
    /// No further session starts.
    stop: CancellationToken,
    /// Sessions in flight are given up.
    give_up: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while holding the lock leaves plain numbers behind: they stay usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a pass to its end.
pub(crate) async fn run_pass<S: Session>(
    pass: Pass,
    session: Arc<S>,
    progress: Arc<dyn Progress>,
    cancel: CancellationToken,
) -> Ran {
    progress.started(pass.count.filter(|_| pass.duration.is_none()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let sheets = pass.lanes.min(cores).clamp(1, SHEETS_MAX);
    let shared = Arc::new(Shared {
        start: clock::now(),
        next: AtomicU64::new(0),
        issued: AtomicU64::new(0),
        done: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        sheets: (0..sheets).map(|_| Mutex::new(Sheet::new(pass.systems))).collect(),
        layout: Mutex::new(Layout::new(pass.lanes, pass.fixed)),
        stop: CancellationToken::new(),
        give_up: CancellationToken::new(),
        session,
        pass,
    });
    if cancel.is_cancelled() {
        shared.stop.cancel();
    }
    let mut lanes = JoinSet::new();
    for lane in 0..shared.pass.lanes {
        lanes.spawn(Arc::clone(&shared).lane(lane));
    }
    let interrupted = shared.watch(&mut lanes, &*progress, &cancel).await;
    let wall = clock::now() - shared.start;
    shared.tell(&*progress);
    progress.finished();
    shared.close(wall, interrupted)
}

impl<S: Session> Shared<S> {
    /// Waits for all lanes, telling progress and minding the ends that come from outside. Says whether it was interrupted.
    async fn watch(
        &self,
        lanes: &mut JoinSet<()>,
        progress: &dyn Progress,
        cancel: &CancellationToken,
    ) -> bool {
        let mut ticks = tokio::time::interval(TICK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Far away when there is no duration; moved to the end of the drain when it starts.
        let far = Duration::from_secs(10 * 365 * 24 * 3600);
        let mut deadline = Box::pin(tokio::time::sleep(self.pass.duration.unwrap_or(far)));
        let mut interrupted = cancel.is_cancelled();
        loop {
            tokio::select! {
                biased;
                joined = lanes.join_next() => match joined {
                    None => return interrupted,
                    Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Some(_) => {}
                },
                () = cancel.cancelled(), if !interrupted => {
                    interrupted = true;
                    if !self.stop.is_cancelled() {
                        self.stop.cancel();
                        deadline.set(tokio::time::sleep(self.pass.drain));
                    }
                }
                () = &mut deadline, if !self.give_up.is_cancelled() => {
                    if self.stop.is_cancelled() {
                        self.give_up.cancel();
                    } else {
                        self.stop.cancel();
                        deadline.set(tokio::time::sleep(self.pass.drain));
                    }
                }
                _ = ticks.tick() => self.tell(progress),
            }
        }
    }

    fn tell(&self, progress: &dyn Progress) {
        let done = self.done.load(Ordering::Relaxed);
        let in_flight = self.issued.load(Ordering::Relaxed).saturating_sub(done);
        progress.tick(done, self.errors.load(Ordering::Relaxed), in_flight);
        if progress.wants_figures() {
            progress.figures(&figures::so_far(&self.sheets));
        }
    }

    /// One lane: a session after the other.
    async fn lane(self: Arc<Self>, lane: usize) {
        let mut free = self.start;
        let mut turn = 0;
        while let Some(number) = self.take(lane, turn) {
            turn += 1;
            let index = self.pass.first + number;
            let intended = self.pass.schedule.intended(free);
            let sent = clock::now();
            let finished = tokio::select! {
                biased;
                finished = self.session.once(index) => Some(finished),
                () = self.give_up.cancelled() => None,
            };
            free = clock::now();
            let times = Times {
                lag_ns: clock::as_ns(sent.saturating_duration_since(intended)),
                service_ns: clock::as_ns(free - sent),
            };
            self.record(lane, number, times, finished.as_ref());
        }
    }

    /// The number of the lane's next session in this pass, if there is to be one.
    fn take(&self, lane: usize, turn: u64) -> Option<u64> {
        if self.stop.is_cancelled() {
            return None;
        }
        let number = if self.pass.fixed {
            lane as u64 + turn * self.pass.lanes as u64
        } else {
            self.next.fetch_add(1, Ordering::Relaxed)
        };
        if self.pass.count.is_some_and(|count| number >= count) {
            return None;
        }
        self.issued.fetch_add(1, Ordering::Relaxed);
        Some(number)
    }

    fn record(&self, lane: usize, number: u64, times: Times, finished: Option<&Finished>) {
        let mut sheet = lock(&self.sheets[lane % self.sheets.len()]);
        let Some(finished) = finished else {
            sheet.cut_off(times);
            return;
        };
        let index = self.pass.first + number;
        let ordinal = index / self.pass.systems.max(1) as u64;
        sheet.finished(times, finished, (self.session.system(index), ordinal));
        drop(sheet);
        let failed = finished.failed().is_some();
        // A failed rollout's delay was not waited for in full, so it has no place in the layout.
        lock(&self.layout).add(number, finished.planned_us.filter(|_| !failed));
        self.errors.fetch_add(u64::from(failed), Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    fn close(&self, wall: Duration, interrupted: bool) -> Ran {
        let mut sheet = Sheet::new(self.pass.systems);
        for part in &self.sheets {
            sheet.merge(&lock(part));
        }
        let issued = self.issued.load(Ordering::Relaxed);
        // What a duration leaves no time for was never intended.
        let intended = self.pass.count.filter(|_| self.pass.duration.is_none()).unwrap_or(issued);
        sheet.accounting.intended = intended;
        sheet.accounting.unsent = intended - issued;
        let (lanes, fixed) = (self.pass.lanes, self.pass.fixed);
        let layout = std::mem::replace(&mut *lock(&self.layout), Layout::new(lanes, fixed));
        let has_server = self.session.has_server();
        Ran { sheet, wall, planned: layout.finish(), interrupted, lanes, has_server }
    }
}
