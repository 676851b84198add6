//! One rung, from its service's start to its figures.
//!
//! The steps, in order: set the link; start the service; make systems, and their past; warm up; read the counters; measure;
//! read what the processes used and what the database says; stop the service, which saves what it had not saved; read the
//! counters again. What the emulated link counted beyond what callers waited for is the background's.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use mipro_bench_reports::{CountSet, DatabaseReport, ProcessReport, Rung};
use mipro_loadgen::{Outcome, Progress, StatusStyle};
use mipro_telemetry::clock;
use mipro_testbed::link::LinkSpec;
use mipro_testbed::process::Fleet;
use mipro_testbed::stack::{Stack, WireCounts};
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use crate::ladder::{RungLink, RungPlan};
use crate::options::{BenchOptions, Error, STOP_DEADLINE};
use crate::roles::{self, Server};
use crate::service_config::{self, Places};
use crate::{growth, loss};

/// The key the load generator shows and the service knows; it guards nothing outside this run.
pub(crate) const API_KEY: &str = "bench";
/// Organization of that key.
const ORG: &str = "00000000-0000-4000-8000-00000000b0b0";

/// Everything that stays up from rung to rung.
#[derive(Debug)]
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
        env.push(("MIPRO_API_KEYS".to_owned(), format!("{API_KEY}:{ORG}")));
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
        let config = roles::write_config(self.dir, plan.name.name(), &text)?;
        let data_dir = self.dir.join("data");
        let env = self.service_env();
        roles::service(self.fleet, &self.options.exe, &config, &data_dir, &env).await.map(Some)
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

/// Measures one rung. Cancelling `cancel` ends it early, with what there is.
pub(crate) async fn measure(
    bed: &Bed<'_>,
    plan: &RungPlan,
    progress: Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<Rung, Error> {
    let failed = |source| Error::Load { rung: plan.name, source };
    // What is not measured need not wait for the link.
    bed.stack.set_link(&LinkSpec::loopback()).await?;
    let service = bed.service(plan).await?;
    let mut load = bed.load(plan, service.as_ref().map(|s| &s.url));
    load.system_ids = prepare(bed, plan, &load).await?;
    bed.stack.set_link(&link_of(bed, plan)).await?;

    let warm = mipro_loadgen::Options {
        rollouts: u64::from(load.concurrency),
        rollout_prefix: "warm".to_owned(),
        ..load.clone()
    };
    mipro_loadgen::run(warm, mipro_loadgen::silent(), cancel.clone()).await.map_err(failed)?;

    let before = Meter::read(bed, service.as_ref()).await?;
    bed.stack.reset_statements().await?;
    load.rollouts = bed.options.rollouts_of(plan.name);
    load.rollout_prefix = "run".to_owned();
    let began = clock::now();
    let outcome = mipro_loadgen::run(load.clone(), progress, cancel.clone()).await.map_err(failed)?;
    let used = Meter::processes(bed, service.as_ref()).since(&before.processes);
    let database = DatabaseReport { server_execution_us: bed.stack.server_execution_us().await? };

    let mut rung = filled(plan, &outcome, used, database);
    rung.started_seconds = began.saturating_duration_since(bed.started).as_secs_f64();
    if let Some(service) = &service {
        if !bed.fleet.stop(&service.child, STOP_DEADLINE).await.is_clean() {
            let reason = "the service did not stop cleanly, so what it had not saved may be lost";
            doubt(&mut rung, reason.to_owned());
        }
        let total = bed.stack.wire_counts().await?.since(&before.wire);
        background(&mut rung, plan, &total);
        if bed.options.loss && !cancel.is_cancelled() {
            rung.loss = loss::measure(bed, plan).await?;
        }
    }
    Ok(rung)
}

fn link_of(bed: &Bed<'_>, plan: &RungPlan) -> LinkSpec {
    match plan.link {
        RungLink::AsTold => bed.options.link.clone(),
        RungLink::SameRegion => LinkSpec::same_region(),
    }
}

async fn prepare(bed: &Bed<'_>, plan: &RungPlan, load: &mipro_loadgen::Options) -> Result<Vec<Uuid>, Error> {
    if load.target.is_none() {
        return Ok(Vec::new());
    }
    if bed.options.history > 0 {
        return growth::systems_with_a_past(bed, plan, load).await;
    }
    mipro_loadgen::prepare(load).await.map_err(|source| Error::Load { rung: plan.name, source })
}

fn filled(plan: &RungPlan, outcome: &Outcome, used: Processes, database: DatabaseReport) -> Rung {
    let mut rung = Rung {
        name: plan.name.name().to_owned(),
        title: plan.title.to_owned(),
        turns_on: plan.turns_on.to_owned(),
        durability: durability(plan).to_owned(),
        database,
        process: used.0,
        ..Rung::default()
    };
    outcome.fill(&mut rung);
    rung
}

fn durability(plan: &RungPlan) -> &'static str {
    use crate::ladder::Keeping;
    match plan.keeping {
        Keeping::None => "none",
        Keeping::Blob | Keeping::WriteThrough => "stored",
        Keeping::WriteBack => "memory",
    }
}

fn doubt(rung: &mut Rung, reason: String) {
    rung.validity.reasons.push(reason);
    rung.validity.ok = false;
}

/// What the wire saw, less what callers waited for, per rollout that succeeded, as the critical counts are. A negative rest
/// means that the service claimed more than happened: the figures disagree and the rung is not valid. What failed and
/// unfinished rollouts asked for left no books and so ends up in the background.
fn background(rung: &mut Rung, plan: &RungPlan, total: &WireCounts) {
    if rung.accounting.ok == 0 {
        return;
    }
    let rollouts = rung.accounting.ok as f64;
    if !plan.pooled {
        // Each query opens its own connection, so whoever waits for the query waits for that.
        rung.counts.critical.db_connections = total.db_connections as f64 / rollouts;
    }
    let critical = rung.counts.critical;
    let rest = |total: u64, critical: f64| total as f64 / rollouts - critical;
    let claims = [
        ("DB round trips", rest(total.db_round_trips, critical.db_round_trips)),
        ("S3 GETs", rest(total.s3_get, critical.s3_get)),
        ("S3 PUTs", rest(total.s3_put, critical.s3_put)),
    ];
    let slack = 0.5 / rollouts;
    for (what, left) in claims.into_iter().filter(|(_, left)| *left < -slack) {
        let many = -left;
        doubt(
            rung,
            format!("the service claims more {what} than the link carried ({many:.3} a rollout too many)"),
        );
    }
    let rest = |total: u64, critical: f64| rest(total, critical).max(0.0);
    rung.counts.background = CountSet {
        db_round_trips: rest(total.db_round_trips, critical.db_round_trips),
        db_statements: rest(total.db_statements, critical.db_statements),
        db_connections: rest(total.db_connections, critical.db_connections),
        s3_get: rest(total.s3_get, critical.s3_get),
        s3_put: rest(total.s3_put, critical.s3_put),
        s3_bytes: rest(total.s3_bytes, critical.s3_bytes),
        llm_calls: 0.0,
        log_syncs: 0.0,
    };
}

#[derive(Debug, Clone, Default)]
struct Processes(std::collections::BTreeMap<String, ProcessReport>);

impl Processes {
    /// CPU since `before`; peaks as they are.
    fn since(mut self, before: &Self) -> Self {
        for (name, report) in &mut self.0 {
            let earlier = before.0.get(name).map_or(0.0, |b| b.cpu_seconds);
            report.cpu_seconds = (report.cpu_seconds - earlier).max(0.0);
        }
        self
    }
}

#[derive(Debug)]
struct Meter {
    wire: WireCounts,
    processes: Processes,
}

impl Meter {
    async fn read(bed: &Bed<'_>, service: Option<&Server>) -> Result<Self, Error> {
        Ok(Self { wire: bed.stack.wire_counts().await?, processes: Self::processes(bed, service) })
    }

    fn processes(bed: &Bed<'_>, service: Option<&Server>) -> Processes {
        let mut all = std::collections::BTreeMap::new();
        let children = [("mock", bed.mock.child.usage()), ("task_app", bed.task_app.child.usage())];
        let service = service.map(|s| ("service", s.child.usage()));
        let stack = bed.stack.children().into_iter().map(|(name, child)| (name, child.usage_tree()));
        for (name, usage) in children.into_iter().chain(service).chain(stack) {
            if let Some(usage) = usage {
                let report =
                    ProcessReport { cpu_seconds: usage.cpu_s(), rss_max_bytes: usage.rss_peak_bytes };
                all.insert(name.to_owned(), report);
            }
        }
        if let Some(usage) = mipro_testbed::process::Usage::of_this_process() {
            let report = ProcessReport { cpu_seconds: usage.cpu_s(), rss_max_bytes: usage.rss_peak_bytes };
            all.insert("loadgen".to_owned(), report);
        }
        Processes(all)
    }
}

#[cfg(test)]
mod tests;
