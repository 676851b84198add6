//! A running side of a comparison: a service of our own on stores of its own, or one that runs already.
//!
//! Both sides stand on one testbed: the same database server, object store, links, mock LLM and task app. Each has its own
//! database, its own prefix in the bucket and its own data directory. The one that is not measured is stopped (SIGSTOP), or,
//! where its process is not ours, asked whether it is idle.

use std::io;
use std::path::{Path, PathBuf};

use mipro_bench_reports::Side as Which;
use mipro_loadgen::StatusStyle;
use mipro_testbed::link::LinkSpec;
use mipro_testbed::postgres;
use mipro_testbed::process::{Fleet, ProgramCopy};
use mipro_testbed::stack::{Stack, StackKind};
use url::Url;

use crate::bed::{API_KEY, api_keys};
use crate::ladder::{RungLink, RungPlan};
use crate::options::{BenchOptions, Error, STOP_DEADLINE};
use crate::roles::{self, Server};
use crate::service_client::ServiceClient;
use crate::service_config::{self, Places};
use crate::subject::Subject;

#[cfg(test)]
mod tests;

/// What a side's service is told besides its configuration: a log that is made anew for each pair is made fast if it is small.
const SEGMENTS: (&str, &str) = ("MIPRO_LOG_SEGMENT_BYTES", "8388608");
/// The name of side B's own database.
const DATABASE_B: &str = "mipro_b";
/// Requests a service that nobody else uses has in flight while it tells: that one.
const IN_FLIGHT_IDLE: u64 = 1;

/// What both sides stand on.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) options: &'a BenchOptions,
    pub(crate) fleet: &'a Fleet,
    pub(crate) dir: &'a Path,
    /// `None` where both sides run already.
    pub(crate) stack: Option<Stack>,
    /// `None` where both sides run already.
    pub(crate) mock: Option<Server>,
    pub(crate) task_app: Server,
    /// What a service that runs already takes as a key.
    pub(crate) api_key: Option<String>,
}

/// A side that can be measured.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) which: Which,
    pub(crate) label: String,
    /// What it is configured as; `None` where it runs already.
    pub(crate) plan: Option<RungPlan>,
    /// Where its service is; `None` for a rung without one.
    pub(crate) target: Option<Url>,
    link: LinkSpec,
    service: Option<Server>,
    /// How its service is started; `None` where it runs already, or there is none.
    launch: Option<Launch>,
    /// The configuration of its service, without passwords.
    pub(crate) config: String,
    /// How it was begun anew, as a comment in the configuration; empty where it was not.
    pub(crate) anew: String,
    /// What the service before this one did wrong at its end: the pair is set aside.
    pub(crate) unclean: Option<String>,
}

/// How a side's service is started, and started again.
#[derive(Debug)]
struct Launch {
    /// The child's name in errors and logs.
    name: String,
    exe: PathBuf,
    config: PathBuf,
    data: PathBuf,
    env: Vec<(String, String)>,
    /// How often it was begun anew.
    renewals: u32,
}

impl Launch {
    async fn start(&self, fleet: &Fleet, more_env: &[(String, String)]) -> Result<Server, Error> {
        let env: Vec<_> = self.env.iter().chain(more_env).cloned().collect();
        roles::service(fleet, &self.name, &self.exe, &self.config, &self.data, &env).await
    }

    /// Starts it from a copy of its program, where there is one, and on a directory that none before had.
    async fn start_anew(&mut self, fleet: &Fleet, copy: Option<&ProgramCopy>) -> Result<Server, Error> {
        self.renewals += 1;
        let next = next_dir(&self.data, self.renewals);
        let before = std::mem::replace(&mut self.data, next);
        match tokio::fs::remove_dir_all(&before).await {
            // An engine without a log has made none.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Write { path: before, source: error });
            }
            _ => {}
        }
        let program = copy.map_or_else(|| self.exe.clone(), ProgramCopy::path);
        let small_segments = (SEGMENTS.0.to_owned(), SEGMENTS.1.to_owned());
        let env: Vec<_> = self.env.iter().cloned().chain([small_segments]).collect();
        let name = format!("{}.{}", self.name, self.renewals);
        roles::service(fleet, &name, &program, &self.config, &self.data, &env).await
    }
}

/// `a`, `a.1`, `a.2`, …
fn next_dir(dir: &Path, renewals: u32) -> PathBuf {
    let mut name = dir.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".{renewals}"));
    dir.with_file_name(name)
}

impl Side {
    /// Starts a side's service from `exe`, or finds the one that runs.
    pub(crate) async fn start(
        ground: &Ground<'_>,
        which: Which,
        subject: &Subject,
        exe: &Path,
    ) -> Result<Self, Error> {
        let label = subject.to_string();
        let (Some(rung), Some(stack), Some(mock)) = (subject.rung(), &ground.stack, &ground.mock) else {
            let Subject::Service { url } = subject else {
                return Err(Error::Unexpected(format!("{label} needs a testbed, and there is none")));
            };
            let (link, target) = (LinkSpec::loopback(), Some(url.clone()));
            let config = "# a service that runs already\n".to_owned();
            let (anew, unclean) = (String::new(), None);
            let (plan, service, launch) = (None, None, None);
            return Ok(Self { which, label, plan, target, link, service, launch, config, anew, unclean });
        };
        let plan = rung.plan();
        let link = match (subject, plan.link) {
            (Subject::Rung { link: Some(own), .. }, _) => own.clone(),
            (_, RungLink::SameRegion) => LinkSpec::same_region(),
            (_, RungLink::AsTold) => ground.options.link.clone(),
        };
        let (database_url, blobs_url) = own_stores(stack, which).await?;
        let upstream = roles::llm_base(&mock.url);
        let places = |database_url, blobs_url| Places { database_url, blobs_url, upstream: &upstream };
        let name = which.name().to_ascii_lowercase();
        let launch = match service_config::text(&plan, places(&database_url, &blobs_url)) {
            None => None,
            Some(text) => {
                let config = roles::write_config(ground.dir, &name, &text)?;
                let data = ground.dir.join("data").join(&name);
                let mut env = stack.service_env();
                env.push(api_keys());
                let name = format!("service-{name}");
                Some(Launch { name, exe: exe.to_owned(), config, data, env, renewals: 0 })
            }
        };
        let service = match &launch {
            Some(launch) => Some(launch.start(ground.fleet, &[]).await?),
            None => None,
        };
        let shown = service_config::text(
            &plan,
            places(
                &crate::ground::without_password(&database_url),
                &crate::ground::without_password(&blobs_url),
            ),
        );
        let config = shown.unwrap_or_else(|| "# no service\n".to_owned());
        let target = service.as_ref().map(|service| service.url.clone());
        let (plan, anew, unclean) = (Some(plan), String::new(), None);
        Ok(Self { which, label, plan, target, link, service, launch, config, anew, unclean })
    }

    /// Its service, where that is ours.
    pub(crate) fn service(&self) -> Option<&Server> {
        self.service.as_ref()
    }

    /// Stops its service, where that is ours. Gives whether it ended cleanly.
    pub(crate) async fn stop(&mut self, ground: &Ground<'_>) -> bool {
        match self.service.take() {
            Some(service) => ground.fleet.stop(&service.child, STOP_DEADLINE).await.is_clean(),
            None => true,
        }
    }

    /// Stops its service, where that is ours, and starts it again on the same data, with more in its environment.
    pub(crate) async fn restart(
        &mut self,
        ground: &Ground<'_>,
        more_env: &[(String, String)],
    ) -> Result<(), Error> {
        self.stop(ground).await;
        if let Some(launch) = &self.launch {
            let service = launch.start(ground.fleet, more_env).await?;
            self.adopt(service);
        }
        Ok(())
    }

    fn adopt(&mut self, service: Server) {
        self.target = Some(service.url.clone());
        self.service = Some(service);
    }

    /// Ends its service, where that is ours, on an unhindered link: what it still has to store is not what is measured. One that does
    /// not end cleanly is noted in [`Side::unclean`].
    pub(crate) async fn end(&mut self, ground: &Ground<'_>) -> Result<(), Error> {
        self.unclean = None;
        if self.service.is_none() {
            return Ok(());
        }
        self.set_link(ground, false).await?;
        self.resume();
        if !self.stop(ground).await {
            self.unclean = Some("the service before it did not stop cleanly".to_owned());
        }
        Ok(())
    }

    /// A copy of its program for the next process; none where the service is not ours.
    pub(crate) async fn copy(&self) -> io::Result<Option<ProgramCopy>> {
        let Some(exe) = self.launch.as_ref().map(|launch| launch.exe.clone()) else { return Ok(None) };
        let copied = tokio::task::spawn_blocking(move || ProgramCopy::of(&exe)).await;
        copied.map_err(io::Error::other)?.map(Some)
    }

    /// Starts another service on the same stores, where that is ours, and leaves it stopped until [`Side::resume`]: another
    /// process, of another copy of the program, with a data directory of its own. To be called after [`Side::end`].
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn begin_anew(
        &mut self,
        ground: &Ground<'_>,
        copy: Option<&ProgramCopy>,
    ) -> Result<(), Error> {
        let Some(launch) = &mut self.launch else { return Ok(()) };
        let service = launch.start_anew(ground.fleet, copy).await?;
        self.adopt(service);
        self.pause();
        let from = if copy.is_some() { "a copy of its program in memory" } else { "its program's one file" };
        let (name, value) = SEGMENTS;
        self.anew = format!(
            "# begun anew before each pair, from {from}, on a new data directory, with {name}={value}\n"
        );
        Ok(())
    }

    /// Stops its process until [`Side::resume`]; one that is not ours is left alone.
    pub(crate) fn pause(&self) {
        if let Some(service) = &self.service {
            service.child.pause();
        }
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        if let Some(service) = &self.service {
            service.child.resume();
        }
    }

    /// Sets its link. On the way to making systems nothing waits for one.
    pub(crate) async fn set_link(&self, ground: &Ground<'_>, measured: bool) -> Result<(), Error> {
        let Some(stack) = &ground.stack else { return Ok(()) };
        let wanted = if measured { self.link.clone() } else { LinkSpec::loopback() };
        if stack.link() != wanted {
            stack.set_link(&wanted).await?;
        }
        Ok(())
    }

    /// Why a side that is not ours does not seem to be idle; `None` where it is, and where it does not tell.
    pub(crate) async fn unrest(&self, ground: &Ground<'_>) -> Option<String> {
        let url = self.target.as_ref().filter(|_| self.service.is_none())?;
        let client = ServiceClient::with_key(url, ground.api_key.clone()).ok()?;
        let in_flight = client.in_flight().await?;
        (in_flight > IN_FLIGHT_IDLE).then(|| {
            format!("side {} had {in_flight} requests in flight when it should be idle", self.which.name())
        })
    }

    /// How the load generator drives this side, without a number of rollouts yet. `lanes` rollouts are in flight at most.
    pub(crate) fn load(&self, ground: &Ground<'_>, lanes: u32) -> mipro_loadgen::Options {
        let options = ground.options;
        let serial = self.plan.is_some_and(|plan| !plan.parallel);
        let two_calls = self.plan.is_some_and(|plan| !plan.one_call);
        let own = self.service.is_some();
        mipro_loadgen::Options {
            target: self.target.clone(),
            task_app: ground.task_app.url.clone(),
            llm_url: ground.mock.as_ref().and_then(|mock| Url::parse(&roles::llm_base(&mock.url)).ok()),
            api_key: if own { Some(API_KEY.to_owned()) } else { ground.api_key.clone() },
            systems: if serial { lanes } else { 1 },
            concurrency: lanes,
            status_calls: if two_calls { StatusStyle::RewardThenDone } else { StatusStyle::RewardDone },
            serial_per_system: serial,
            seed: options.seed,
            timeout: options.timeout,
            drain: options.drain,
            ..mipro_loadgen::Options::default()
        }
    }
}

/// A database and a prefix for this side alone. Where the servers are somebody else's, nothing is made in their database:
/// both sides then use it, and know their systems apart.
async fn own_stores(stack: &Stack, which: Which) -> Result<(String, String), Error> {
    let (database, blobs) = (stack.database_url(), stack.blobs_url());
    let blobs = with_folder(blobs, &which.name().to_ascii_lowercase());
    let database = match (stack.kind(), which) {
        (StackKind::External, _) | (_, Which::A) => database.to_owned(),
        (StackKind::Embedded, Which::B) => format!("{database}-b"),
        (_, Which::B) => {
            let made = postgres::create_database(stack.database_direct_url(), DATABASE_B).await;
            made.map_err(|error| Error::Unexpected(format!("no database for side B: {error}")))?;
            with_path(database, DATABASE_B)
        }
    };
    Ok((database, blobs))
}

/// The same server, another database.
fn with_path(url: &str, path: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else { return url.to_owned() };
    parsed.set_path(path);
    parsed.into()
}

/// A folder below the prefix that a blobs URL names; objects in memory need none.
fn with_folder(url: &str, folder: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else { return url.to_owned() };
    if !["s3", "file"].contains(&parsed.scheme()) {
        return url.to_owned();
    }
    let below = format!("{}/{folder}", parsed.path().trim_end_matches('/'));
    parsed.set_path(&below);
    parsed.into()
}
