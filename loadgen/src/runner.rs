//! Systems and connections that are made once and then driven slice by slice.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::client::Client;
use crate::error::Error;
use crate::options::{Options, Warmup};
use crate::outcome::Outcome;
use crate::plain::{self, Endpoint};
use crate::progress::{Progress, silent};
use crate::run::{Pass, Ran, run_pass};
use crate::schedule::Schedule;
use crate::session::{Prepared, Rollouts, Session};
use crate::setup::systems;
use crate::validity;

/// Where the indices of warm-up rollouts begin: far from the measured ones, which so are the same (payloads, the mock's
/// delays) whatever the warm-up was.
const WARM_UP_FIRST: u64 = 1 << 40;

/// A warm-up must have made so many rollouts before its median is held against the plan.
const PREFLIGHT_SAMPLES_MIN: u64 = 10;

/// What one slice of load is to do on systems and connections that stay; taken from [`Options`] and changed at will.
#[derive(Debug, Clone)]
pub struct Slice {
    /// As [`Options::rollout_prefix`]. Slices on the same systems need different ones (or seeds, or indices).
    pub rollout_prefix: String,
    /// As [`Options::seed`].
    pub seed: u64,
    /// Index of the first measured rollout. The same index and seed mean the same payload and the same delay of the mock.
    pub first_index: u64,
    /// As [`Options::concurrency`].
    pub concurrency: u32,
    /// As [`Options::rollouts`].
    pub rollouts: u64,
    /// As [`Options::duration`].
    pub duration: Option<Duration>,
    /// As [`Options::warmup`].
    pub warmup: Warmup,
    /// As [`Options::drain`].
    pub drain: Duration,
    /// As [`Options::deadline`].
    pub deadline: Option<Duration>,
    /// As [`Options::schedule`].
    pub schedule: Schedule,
    /// As [`Options::record`].
    pub record: bool,
    /// As [`Options::slots_measured`].
    pub slots_measured: bool,
}

impl From<&Options> for Slice {
    fn from(options: &Options) -> Self {
        Self {
            rollout_prefix: options.rollout_prefix.clone(),
            seed: options.seed,
            first_index: 0,
            concurrency: options.concurrency,
            rollouts: options.rollouts,
            duration: options.duration,
            warmup: options.warmup,
            drain: options.drain,
            deadline: options.deadline,
            schedule: options.schedule.clone(),
            record: options.record,
            slots_measured: options.slots_measured,
        }
    }
}

/// Something to drive, ready: systems made, an HTTP client that keeps its connections between slices. Slices are run one
/// after the other.
#[derive(Debug)]
pub struct Runner {
    what: What,
    options: Options,
}

#[derive(Debug)]
enum What {
    Rollouts(Arc<Prepared>),
    Plain(Arc<Endpoint>),
}

impl Runner {
    /// Makes the systems, if the options name none, and the client.
    ///
    /// # Errors
    /// When the options contradict each other, systems cannot be made, or no HTTP client can be made.
    pub async fn prepare(options: Options) -> Result<Self, Error> {
        let systems = systems(&options).await?;
        let client = Client::new(options.timeout, options.lanes(systems.len()))?;
        let prepared = Arc::new(Prepared { options: options.clone(), systems, client });
        Ok(Self { what: What::Rollouts(prepared), options })
    }

    /// For a plain endpoint.
    ///
    /// # Errors
    /// When the options make no request, or no HTTP client can be made.
    pub fn plain(options: &plain::Options) -> Result<Self, Error> {
        options.load.check_ends()?;
        let endpoint = Arc::new(Endpoint::new(options)?);
        Ok(Self { what: What::Plain(endpoint), options: options.load.clone() })
    }

    /// The systems that are driven; none for a plain endpoint.
    #[must_use]
    pub fn systems(&self) -> Vec<Uuid> {
        match &self.what {
            What::Rollouts(prepared) => prepared.systems.iter().map(|s| s.id).collect(),
            What::Plain(_) => Vec::new(),
        }
    }

    /// The slice that the options describe.
    #[must_use]
    pub fn slice(&self) -> Slice {
        Slice::from(&self.options)
    }

    /// Runs a slice: warm-up first, then what is measured. Cancelling stops new rollouts, waits [`Slice::drain`] for those in
    /// flight, and gives a partial outcome; dropping the future abandons everything at once.
    ///
    /// # Errors
    /// When the slice would have no end, or the machine or the plan rules out a valid measurement
    /// ([`Error::Preflight`]). Failing rollouts are no error: they are accounted for.
    pub async fn run(
        &self,
        slice: Slice,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Result<Outcome, Error> {
        slice.check()?;
        match &self.what {
            What::Rollouts(prepared) => {
                let systems = prepared.systems.len();
                let lanes = self.options.lanes_of(slice.concurrency, systems);
                let session = Rollouts::new(Arc::clone(prepared), &slice);
                let fixed = self.options.serial_per_system && systems > 0;
                let pass = slice.pass(lanes, fixed, systems);
                let ran = Box::pin(run_slice(&pass, &slice, Arc::new(session), progress, cancel)).await?;
                Ok(Outcome::new(ran, self.options.history, systems))
            }
            What::Plain(endpoint) => {
                let pass = slice.pass(slice.concurrency as usize, false, 0);
                let ran = Box::pin(run_slice(&pass, &slice, Arc::clone(endpoint), progress, cancel)).await?;
                Ok(Outcome::new(ran, 0, 0))
            }
        }
    }
}

impl Slice {
    fn check(&self) -> Result<(), Error> {
        if self.concurrency == 0 {
            return Err(Error::Options("concurrency is 0: at least one must be in flight".to_owned()));
        }
        if self.rollouts == 0 && self.duration.is_none() && !self.schedule.ends() {
            let message = "neither a number nor a duration is given: the run would have no end";
            return Err(Error::Options(message.to_owned()));
        }
        Ok(())
    }

    fn pass(&self, lanes: usize, fixed: bool, systems: usize) -> Pass {
        Pass {
            first: self.first_index,
            count: (self.rollouts > 0).then_some(self.rollouts),
            lanes,
            fixed,
            systems,
            duration: match (self.duration, self.schedule.length()) {
                (Some(duration), Some(length)) => Some(duration.min(length)),
                (duration, length) => duration.or(length),
            },
            drain: self.drain,
            deadline: self.deadline,
            schedule: self.schedule.clone(),
            record: self.record,
            slots_measured: self.slots_measured,
        }
    }
}

async fn run_slice<S: Session>(
    pass: &Pass,
    slice: &Slice,
    session: Arc<S>,
    progress: Arc<dyn Progress>,
    cancel: CancellationToken,
) -> Result<Ran, Error> {
    validity::descriptors(pass.lanes, S::CONNECTIONS_PER_LANE)?;
    let warm = warm_up(pass, slice.warmup, &session, &cancel).await?;
    let judged = |warm: &Ran| !pass.slots_measured && warm.sheet.service.count() >= PREFLIGHT_SAMPLES_MIN;
    if let Some(warm) = warm.filter(judged) {
        let rate = pass.schedule.highest_rate();
        validity::preflight_in_flight(rate, warm.sheet.service.quantile_ns(0.5), pass.lanes)?;
    }
    run_pass(pass.clone(), session, progress, cancel).await
}

/// Makes rollouts that no figure shows, with the same lanes as the measured ones, and all done before those start.
async fn warm_up<S: Session>(
    measured: &Pass,
    warmup: Warmup,
    session: &Arc<S>,
    cancel: &CancellationToken,
) -> Result<Option<Ran>, Error> {
    let (count, duration) = match warmup {
        Warmup::Rollouts(0) => return Ok(None),
        Warmup::Rollouts(count) => (Some(count), None),
        Warmup::Time(duration) if duration.is_zero() => return Ok(None),
        Warmup::Time(duration) => (None, Some(duration)),
    };
    if cancel.is_cancelled() {
        return Ok(None);
    }
    let schedule = measured.schedule.warm_up();
    let pass = Pass { first: WARM_UP_FIRST, count, duration, schedule, record: false, ..measured.clone() };
    run_pass(pass, Arc::clone(session), silent(), cancel.clone()).await.map(Some)
}
