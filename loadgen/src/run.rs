//! Running sessions on lanes: as many at once as there are lanes, every one accounted for, whatever ends the run.
//!
//! In the closed model a lane starts its next session when its last one has ended. In the open model a [pacer](crate::pacer)
//! releases sessions when they are due into a [backlog](crate::dispatch), and lanes (then called slots) take them from there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use mipro_telemetry::clock;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::dispatch::Backlog;
use crate::error::Error;
use crate::figures;
use crate::makespan::Layout;
use crate::options::Options;
use crate::outcome::Outcome;
use crate::pace::{Paced, pace};
use crate::pacer::Stop;
use crate::progress::Progress;
use crate::record::Sheet;
use crate::recording::{Recorded, Recording, Source};
use crate::runner::Runner;
use crate::schedule::{Due, Schedule};
use crate::session::{Books, Session};
use crate::validity::{Gauge, Health};

mod lanes;

/// How often progress is told.
const TICK_EVERY: Duration = Duration::from_millis(100);

/// Most sheets that lanes share: more would only cost memory, for a lane holds one for microseconds.
const SHEETS_MAX: usize = 4;

/// Most released arrivals that wait for a slot (16 MiB of them). Beyond it the pacer waits, too, and what it then lags is
/// measured as its own.
const BACKLOG_MAX: usize = 512 * 1024;

/// From the beginning of an open pass to its first due arrival: the pacer's thread has begun and all slots wait by then.
const LEAD: Duration = Duration::from_millis(5);

/// "Never", for a timer.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Makes the rollouts: warm-up first, then the measured ones; on new systems if the options name none (see
/// [`crate::prepare`]). Cancelling stops new rollouts, waits [`Options::drain`] for those in flight, and gives a partial
/// outcome; dropping the future abandons everything at once. For slice after slice on the same systems: [`Runner`].
///
/// # Errors
/// When the options contradict each other, systems cannot be made, no HTTP client can be made, or the machine rules out a
/// valid measurement. Failing rollouts are no error: they are accounted for.
pub async fn run(
    options: Options,
    progress: Arc<dyn Progress>,
    cancel: CancellationToken,
) -> Result<Outcome, Error> {
    let runner = Runner::prepare(options).await?;
    runner.run(runner.slice(), progress, cancel).await
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
    pub(crate) deadline: Option<Duration>,
    pub(crate) schedule: Schedule,
    pub(crate) record: bool,
    pub(crate) slots_measured: bool,
}

/// What came of a pass.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) sheet: Sheet,
    pub(crate) wall: Duration,
    pub(crate) planned: Option<Duration>,
    pub(crate) interrupted: bool,
    pub(crate) lanes: usize,
    pub(crate) books: Books,
    pub(crate) health: Health,
    pub(crate) open: Option<Offered>,
    pub(crate) recording: Option<Recording>,
}

/// What the open model offered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Offered {
    /// Arrivals per second of the schedule, as they came out.
    pub(crate) rate: f64,
    /// How many were sent, and how many slots were free, when the last should have been; none if the pass ended before.
    pub(crate) at_end: Option<(u64, usize)>,
    /// Whether the pacer ever had to wait for room in the backlog.
    pub(crate) backlog_full: bool,
    /// As [`crate::Options::slots_measured`].
    pub(crate) slots_measured: bool,
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
    /// Sessions in the order in which they were sent, as many as a recording holds.
    tape: Option<Mutex<Vec<Recorded>>>,
    /// Empty in the closed model; one for each lane where sessions belong to lanes, else one for all.
    backlogs: Arc<Vec<Backlog>>,
    pacer: OnceLock<Stop>,
    /// No further session starts.
    stop: CancellationToken,
    /// When that was.
    stopped: OnceLock<Instant>,
    /// Sessions in flight are given up.
    give_up: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while holding the lock leaves plain numbers behind: they stay usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was seen while the lanes ran.
#[derive(Debug, Clone, Copy)]
struct Watched {
    interrupted: bool,
    at_end: Option<(u64, usize)>,
    health: Health,
}

/// Runs a pass to its end.
///
/// # Errors
/// When the system gives no thread for the pacer.
pub(crate) async fn run_pass<S: Session>(
    pass: Pass,
    session: Arc<S>,
    progress: Arc<dyn Progress>,
    cancel: CancellationToken,
) -> Result<Ran, Error> {
    progress.started(pass.count.filter(|_| pass.duration.is_none()));
    let due = pass.schedule.due(pass.count, pass.duration);
    let shared = Arc::new(Shared::new(pass, session, due.is_some()));
    if cancel.is_cancelled() {
        shared.cease();
    }
    let mut lanes = JoinSet::new();
    for lane in 0..shared.pass.lanes {
        lanes.spawn(Arc::clone(&shared).lane(lane));
    }
    let paced = due.map(|due| shared.pace(due)).transpose()?;
    let watched = shared.watch(&mut lanes, &*progress, &cancel).await;
    let wall = clock::now().saturating_duration_since(shared.start);
    shared.tell(&*progress);
    progress.finished();
    // The pacer ends when it has released its last or was told to stop; both have happened.
    let paced = match paced {
        Some(paced) => paced.await.ok(),
        None => None,
    };
    Ok(shared.close(wall, watched, paced))
}

impl<S: Session> Shared<S> {
    fn new(pass: Pass, session: Arc<S>, open: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let sheets = pass.lanes.min(cores).clamp(1, SHEETS_MAX);
        let backlogs = match (open, pass.fixed) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => pass.lanes,
        };
        let lead = if open { LEAD } else { Duration::ZERO };
        Self {
            start: clock::now() + lead,
            next: AtomicU64::new(0),
            issued: AtomicU64::new(0),
            done: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            sheets: (0..sheets).map(|_| Mutex::new(Sheet::new(pass.systems))).collect(),
            layout: Mutex::new(Layout::new(pass.lanes, pass.fixed)),
            tape: pass.record.then(Mutex::default),
            backlogs: Arc::new((0..backlogs).map(|_| Backlog::new(BACKLOG_MAX / backlogs)).collect()),
            pacer: OnceLock::new(),
            stop: CancellationToken::new(),
            stopped: OnceLock::new(),
            give_up: CancellationToken::new(),
            session,
            pass,
        }
    }

    fn is_open(&self) -> bool {
        !self.backlogs.is_empty()
    }

    /// Starts the pacer.
    fn pace(&self, due: Due) -> Result<oneshot::Receiver<Paced>, Error> {
        let (sender, receiver) = oneshot::channel();
        let (backlogs, start) = (Arc::clone(&self.backlogs), self.start);
        let work = move |pacer| {
            let paced = pace(&pacer, start, due, &backlogs);
            backlogs.iter().for_each(Backlog::close);
            // Nobody hears it when the run was dropped.
            let _ = sender.send(paced);
        };
        let stop = crate::pacer::spawn(work).map_err(Error::Pacer)?;
        if self.stop.is_cancelled() {
            stop.stop();
        }
        let _ = self.pacer.set(stop);
        Ok(receiver)
    }

    /// No further session starts from now on.
    fn cease(&self) {
        let _ = self.stopped.set(clock::now());
        self.stop.cancel();
        if let Some(pacer) = self.pacer.get() {
            pacer.stop();
        }
        self.backlogs.iter().for_each(Backlog::close);
    }

    /// Waits for all lanes, telling progress and minding the ends that come from outside.
    async fn watch(
        &self,
        lanes: &mut JoinSet<()>,
        progress: &dyn Progress,
        cancel: &CancellationToken,
    ) -> Watched {
        let mut gauge = Gauge::start();
        let mut ticks = tokio::time::interval(TICK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = self.pass.duration.map_or(FAR, |d| d + self.start.saturating_duration_since(clock::now()));
        // In the open model what is due goes on being sent until the drain ends, too.
        let last = if self.is_open() { end.saturating_add(self.pass.drain) } else { end };
        let mut deadline = Box::pin(tokio::time::sleep(last.min(FAR)));
        let mut schedule_end = Box::pin(tokio::time::sleep(end));
        let mut at_end = None;
        let mut interrupted = cancel.is_cancelled();
        loop {
            tokio::select! {
                biased;
                joined = lanes.join_next() => match joined {
                    None => return Watched { interrupted, at_end, health: gauge.finish() },
                    Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Some(_) => {}
                },
                () = cancel.cancelled(), if !interrupted => {
                    interrupted = true;
                    if !self.stop.is_cancelled() {
                        self.cease();
                        deadline.set(tokio::time::sleep(self.pass.drain));
                    }
                }
                () = &mut deadline, if !self.give_up.is_cancelled() => {
                    if self.stop.is_cancelled() || self.is_open() {
                        self.cease();
                        self.give_up.cancel();
                    } else {
                        self.cease();
                        deadline.set(tokio::time::sleep(self.pass.drain));
                    }
                }
                () = &mut schedule_end, if at_end.is_none() && self.is_open() => {
                    let free = self.backlogs.iter().map(Backlog::idle).sum();
                    at_end = Some((self.issued.load(Ordering::Relaxed), free));
                }
                _ = ticks.tick() => {
                    gauge.look();
                    self.tell(progress);
                }
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

    fn close(&self, wall: Duration, watched: Watched, paced: Option<Paced>) -> Ran {
        let mut sheet = Sheet::new(self.pass.systems);
        for part in &self.sheets {
            sheet.merge(&lock(part));
        }
        let issued = self.issued.load(Ordering::Relaxed);
        // What a duration leaves no time for was never intended.
        let mut intended = self.pass.count.filter(|_| self.pass.duration.is_none()).unwrap_or(issued);
        let open = paced.map(|paced| {
            let (seconds, backlog_full) =
                (self.pass.duration.unwrap_or(paced.span).min(wall).as_secs_f64(), paced.backlog_full);
            intended = self.censor(&mut sheet, paced);
            let rate = if seconds > 0.0 { intended as f64 / seconds } else { 0.0 };
            let slots_measured = self.pass.slots_measured;
            Offered { rate, at_end: watched.at_end, backlog_full, slots_measured }
        });
        sheet.accounting.intended = intended;
        sheet.accounting.unsent = intended.saturating_sub(issued);
        let (lanes, fixed) = (self.pass.lanes, self.pass.fixed);
        let layout = std::mem::replace(&mut *lock(&self.layout), Layout::new(lanes, fixed));
        let planned = layout.finish().filter(|_| open.is_none());
        let books = self.session.books();
        let Watched { interrupted, health, .. } = watched;
        let taped = self.tape.as_ref().map(|tape| std::mem::take(&mut *lock(tape)));
        let recording = taped.map(|tape| Recording::new(Source::Run, tape));
        Ran { sheet, wall, planned, interrupted, lanes, books, health, open, recording }
    }

    /// Records what was due and never sent as having waited until the end of sending, at least; gives the number intended.
    fn censor(&self, sheet: &mut Sheet, paced: Paced) -> u64 {
        let end = self.stopped.get().copied().unwrap_or_else(clock::now);
        let end_ns = clock::as_ns(end.saturating_duration_since(self.start));
        for release in self.backlogs.iter().flat_map(Backlog::rest) {
            sheet.unsent(end_ns.saturating_sub(release.intended_ns));
        }
        let mut intended = paced.released;
        for at_ns in paced.not_released() {
            if at_ns < end_ns {
                sheet.unsent(end_ns - at_ns);
            } else if self.pass.duration.is_some() {
                // An end that came early leaves the rest of a duration unintended, as in the closed model.
                break;
            }
            intended += 1;
        }
        intended
    }
}
