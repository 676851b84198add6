//! What a run is to do.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use crate::error::Error;
use crate::schedule::Schedule;

/// Where the task app listens unless told otherwise.
pub const TASK_APP_DEFAULT: &str = "http://127.0.0.1:8016";

/// How a rollout's reward is reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StatusStyle {
    /// Two calls: `reward`, then `done`.
    #[default]
    RewardThenDone,
    /// One call: `reward_done`.
    RewardDone,
}

/// What is made before anything is measured. In the open model it arrives at the rate that the run begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmup {
    /// So many rollouts.
    Rollouts(u64),
    /// As many as start within this time.
    Time(Duration),
}

impl Default for Warmup {
    /// None.
    fn default() -> Self {
        Self::Rollouts(0)
    }
}

/// What a run is to do. The default is ten rollouts, one at a time, with a task app on its usual port, and lacks a target.
#[derive(Clone)]
pub struct Options {
    /// The service. None drives the task app straight at the LLM ([`Options::llm_url`]), without any status call.
    pub target: Option<Url>,
    /// The task app.
    pub task_app: Url,
    /// The LLM's base URL, `/v1` included, or its whole chat completions URL; used without a target only.
    pub llm_url: Option<Url>,
    /// The service's API key, sent as a bearer token.
    pub api_key: Option<String>,
    /// The task app's key, sent as `X-API-Key`.
    pub task_app_key: Option<String>,
    /// Where the task app finds the service's proxy of named systems, if not at the target.
    pub proxy_base: Option<Url>,
    /// Systems to drive. Empty: [`Options::systems`] new ones are made.
    pub system_ids: Vec<Uuid>,
    /// How many systems to make when none are named; at least 1.
    pub systems: u32,
    /// Fields to put into the new jobs' `mipro` section, over the generator's own.
    pub job_overrides: Map<String, Value>,
    /// Rollouts in flight (in the open model: at most); systems take turns. With [`Options::serial_per_system`] there are as many as systems instead.
    pub concurrency: u32,
    /// Rollouts to make after warm-up; 0 with a duration: as many as it allows.
    pub rollouts: u64,
    /// Starts no rollout after this long (warm-up not counted).
    pub duration: Option<Duration>,
    /// Made first, all finished before the measured ones start, and left out of every figure.
    pub warmup: Warmup,
    /// How rewards are reported.
    pub status_calls: StatusStyle,
    /// One lane per system: its rollouts follow one another, systems run side by side.
    pub serial_per_system: bool,
    /// Which examples rollouts are about, in which order.
    pub seed: u64,
    /// Longest that a single call may take.
    pub timeout: Duration,
    /// How long rollouts may go on after the end of the duration (in the open model that includes sending what is due and
    /// has waited for a slot), or those in flight after an interrupt.
    pub drain: Duration,
    /// Longest that a rollout may take from its intended start; then it is given up, and counted as such.
    pub deadline: Option<Duration>,
    /// How rollout ids begin: `<prefix>-<seed>-<index>`. The same prefix and seed give the same ids, which one system takes
    /// only once: a second run on the same systems needs another prefix (or seed).
    pub rollout_prefix: String,
    /// The data set's split.
    pub split: String,
    /// The model asked for.
    pub model: String,
    /// How rollouts arrive.
    pub schedule: Schedule,
    /// Whether to note when each rollout began and what it was about: [`crate::Outcome::recording`].
    pub record: bool,
    /// Whether a run through a service that does not tell its stages at all is invalid. Where it tells some, the others are
    /// missed either way.
    pub stages_expected: bool,
    /// Whether waiting for a slot is part of what is measured, as where one side is held against another at a rate that a pilot chose:
    /// then a rate that the slots can't carry for a while neither refuses the run nor is held against it.
    pub slots_measured: bool,
    /// Past rollouts the systems already hold; only told on in the report's `state_growth`.
    pub history: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            target: None,
            task_app: Url::parse(TASK_APP_DEFAULT).expect("the constant is a URL"),
            llm_url: None,
            proxy_base: None,
            api_key: None,
            task_app_key: None,
            system_ids: Vec::new(),
            systems: 1,
            job_overrides: Map::new(),
            concurrency: 1,
            rollouts: 10,
            duration: None,
            warmup: Warmup::default(),
            status_calls: StatusStyle::default(),
            serial_per_system: false,
            seed: 1,
            timeout: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            deadline: None,
            rollout_prefix: "r".to_owned(),
            split: "train".to_owned(),
            model: "gpt-4.1-nano".to_owned(),
            schedule: Schedule::Closed,
            record: false,
            stages_expected: true,
            slots_measured: false,
            history: 0,
        }
    }
}

impl Options {
    /// Whether the options make a run.
    ///
    /// # Errors
    /// [`Error::Options`] naming the first field that does not fit.
    pub fn check(&self) -> Result<(), Error> {
        if self.target.is_none() && self.llm_url.is_none() {
            return wrong("without a target the llm's url is needed: give one of both");
        }
        if self.systems == 0 && self.system_ids.is_empty() {
            return wrong("systems is 0: name systems or let at least one be made");
        }
        self.check_ends()
    }

    /// The part that plain requests share.
    pub(crate) fn check_ends(&self) -> Result<(), Error> {
        if self.concurrency == 0 {
            return wrong("concurrency is 0: at least one must be in flight");
        }
        if self.rollouts == 0 && self.duration.is_none() && !self.schedule.ends() {
            return wrong("neither a number nor a duration is given: the run would have no end");
        }
        if self.timeout.is_zero() {
            return wrong("timeout is 0: no call could ever be answered");
        }
        Ok(())
    }

    /// How many rollouts may be in flight.
    #[must_use]
    pub fn lanes(&self, systems: usize) -> usize {
        self.lanes_of(self.concurrency, systems)
    }

    /// As [`Options::lanes`], with another concurrency.
    pub(crate) fn lanes_of(&self, concurrency: u32, systems: usize) -> usize {
        if self.serial_per_system && self.target.is_some() { systems.max(1) } else { concurrency as usize }
    }
}

fn wrong(message: &str) -> Result<(), Error> {
    Err(Error::Options(message.to_owned()))
}

impl fmt::Debug for Options {
    /// Leaves out keys, and ids that are capabilities.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("target", &self.target.as_ref().map(Url::as_str))
            .field("task_app", &self.task_app.as_str())
            .field("systems", &self.systems.max(self.system_ids.len() as u32))
            .field("concurrency", &self.concurrency)
            .field("rollouts", &self.rollouts)
            .field("duration", &self.duration)
            .field("warmup", &self.warmup)
            .field("status_calls", &self.status_calls)
            .field("serial_per_system", &self.serial_per_system)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
