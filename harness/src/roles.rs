//! The child processes of a run that are not part of the stack: mock LLM, task app and service.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mipro_testbed::process::{Child, Fleet, Ready, Spec};
use url::Url;

use crate::options::{BenchOptions, Error};

/// A service opens its stores over the emulated link before it is ready.
const SERVICE_READY_DEADLINE: Duration = Duration::from_secs(60);

/// A child that serves HTTP.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) url: Url,
}

impl Server {
    async fn start(fleet: &Fleet, spec: Spec) -> Result<Self, Error> {
        let child = fleet.start(spec).await?;
        let ready: Option<Ready> = child.ready();
        let url = ready.as_ref().and_then(|ready| Url::parse(&ready.url).ok());
        let url =
            url.ok_or_else(|| Error::Unexpected(format!("{} did not say where it listens", child.name())))?;
        Ok(Self { child, url })
    }
}

/// The OpenAI-compatible base of a mock LLM, `/v1` included.
pub(crate) fn llm_base(mock: &Url) -> String {
    format!("{}/v1", mock.as_str().trim_end_matches('/'))
}

pub(crate) async fn mock_llm(fleet: &Fleet, options: &BenchOptions) -> Result<Server, Error> {
    let mut spec = Spec::role("mock-llm", &options.exe)
        .args(["mock-llm", "--listen", "127.0.0.1:0", "--die-with-stdin"])
        .args(["--latency", &options.llm])
        .args(["--seed", &options.seed.to_string()]);
    if let Some(dataset) = &options.dataset {
        spec = spec.arg("--dataset").arg(dataset);
    }
    Server::start(fleet, spec).await
}

pub(crate) async fn task_app(fleet: &Fleet, options: &BenchOptions) -> Result<Server, Error> {
    let mut spec = Spec::role("task-app", &options.exe).args([
        "task-app",
        "--listen",
        "127.0.0.1:0",
        "--die-with-stdin",
    ]);
    if let Some(dataset) = &options.dataset {
        spec = spec.arg("--dataset").arg(dataset);
    }
    Server::start(fleet, spec).await
}

/// Starts the service from a configuration file; `name` is its process's in errors and logs.
pub(crate) async fn service(
    fleet: &Fleet,
    name: &str,
    exe: &Path,
    config: &Path,
    data_dir: &Path,
    env: &[(String, String)],
) -> Result<Server, Error> {
    let spec = Spec::role(name, exe)
        .args(["serve", "--die-with-stdin", "--config"])
        .arg(config)
        .arg("--data-dir")
        .arg(data_dir)
        .envs(env.iter().cloned())
        .wait_for_ready_line(SERVICE_READY_DEADLINE);
    Server::start(fleet, spec).await
}

/// Writes a rung's configuration where the service, and later the reader of the report, finds it.
pub(crate) fn write_config(dir: &Path, rung: &str, text: &str) -> Result<PathBuf, Error> {
    let path = dir.join(format!("{rung}.toml"));
    std::fs::write(&path, text).map_err(|source| Error::Write { path: path.clone(), source })?;
    Ok(path)
}
