//! What stays up from rung to rung, and how a rung's service and load are set up on it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use mipro_loadgen::StatusStyle;
use mipro_testbed::process::Fleet;
use mipro_testbed::stack::Stack;
use url::Url;

use crate::ladder::RungPlan;
use crate::options::{BenchOptions, Error};
use crate::roles::{self, Server};
use crate::service_config::{self, Places};

/// The key the load generator shows and the service knows; it guards nothing outside this run.
pub(crate) const API_KEY: &str = "bench";
/// Organization of that key.
const ORG: &str = "00000000-0000-4000-8000-00000000b0b0";

/// The variable that lets [`API_KEY`] in.
pub(crate) fn api_keys() -> (String, String) {
    ("MIPRO_API_KEYS".to_owned(), format!("{API_KEY}:{ORG}"))
}

/// Everything that stays up from rung to rung.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bed<'a> {
    pub(crate) options: &'a BenchOptions,
    pub(crate) fleet: &'a Fleet,
    pub(crate) stack: &'a Stack,
    pub(crate) mock: &'a Server,
    pub(crate) task_app: &'a Server,
    pub(crate) dir: &'a Path,
    /// When the run began.
    pub(crate) started: Instant,
}

impl Bed<'_> {
    /// Environment of a service: its API key, and the credentials of the stack's S3.
    pub(crate) fn service_env(&self) -> Vec<(String, String)> {
        let mut env = self.stack.service_env();
        env.push(api_keys());
        if self.options.count_allocations {
            env.push((mipro_allocations::VARIABLE.to_owned(), "1".to_owned()));
        }
        env
    }

    /// Starts the service of a rung; `None` for the rung without one.
    pub(crate) async fn service(&self, plan: &RungPlan) -> Result<Option<Server>, Error> {
        let upstream = roles::llm_base(&self.mock.url);
        let places = Places {
            database_url: self.stack.database_url(),
            blobs_url: self.stack.blobs_url(),
            upstream: &upstream,
        };
        let Some(text) = service_config::text(plan, places) else { return Ok(None) };
        let config = roles::write_config(self.dir, plan.label, &text)?;
        let env = self.service_env();
        roles::service(self.fleet, "service", &self.options.exe, &config, &self.data_dir(plan), &env)
            .await
            .map(Some)
    }

    /// What is on the host of a rung's service: its log, and nothing of the stack's.
    pub(crate) fn data_dir(&self, plan: &RungPlan) -> PathBuf {
        self.dir.join("data").join(plan.label)
    }

    /// How the load generator is to drive this rung, without a number of rollouts yet.
    pub(crate) fn load(&self, plan: &RungPlan, service: Option<&Url>) -> mipro_loadgen::Options {
        let options = self.options;
        let lanes = if plan.parallel { options.concurrency } else { options.systems };
        mipro_loadgen::Options {
            target: service.cloned(),
            task_app: self.task_app.url.clone(),
            llm_url: Url::parse(&roles::llm_base(&self.mock.url)).ok(),
            api_key: Some(API_KEY.to_owned()),
            systems: if plan.parallel { 1 } else { options.systems },
            concurrency: lanes,
            status_calls: if plan.one_call { StatusStyle::RewardDone } else { StatusStyle::RewardThenDone },
            serial_per_system: !plan.parallel,
            seed: options.seed,
            timeout: options.timeout,
            drain: options.drain,
            history: options.history,
            ..mipro_loadgen::Options::default()
        }
    }
}
