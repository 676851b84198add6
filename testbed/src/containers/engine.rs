//! The container engine: is it there, what of ours is in it, and out with it.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use testcontainers::bollard::Docker;
use testcontainers::bollard::errors::Error as EngineError;
use testcontainers::bollard::models::{NetworkConnectRequest, NetworkDisconnectRequest};
use testcontainers::bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptions, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use testcontainers::core::client::docker_client_instance;
use uuid::Uuid;

use super::Error;

/// The label of all our containers. Its value is the run's id.
pub(super) const RUN_LABEL: &str = "mipro.testbed.run";
/// An engine that takes longer to say that it is there is not there.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a container's log an error tells.
const LOG_LINES: &str = "20";
/// How long all containers of a run may take to go.
const REMOVE_DEADLINE: Duration = Duration::from_secs(30);
/// A container whose creation was under way when its owner died is there a moment later.
const SECOND_LOOK: Duration = Duration::from_millis(300);

/// A connection to the engine that `DOCKER_HOST` names, or that of the usual socket.
#[derive(Debug, Clone)]
pub(super) struct Engine(Docker);

impl Engine {
    /// Connects, and sees that somebody answers.
    pub(super) async fn connect() -> Result<Self, Error> {
        let absent = |reason: String| Error::NoEngine { reason };
        let docker = docker_client_instance().await.map_err(|error| absent(error.to_string()))?;
        match tokio::time::timeout(PING_TIMEOUT, docker.ping()).await {
            Ok(Ok(_)) => Ok(Self(docker)),
            Ok(Err(error)) => Err(absent(root_cause(&error))),
            Err(_) => Err(absent(format!("no answer in {} s", PING_TIMEOUT.as_secs()))),
        }
    }

    /// The image's id, shortened as `docker images` does; `None` if it is not here.
    pub(super) async fn image_id(&self, image: &str) -> Result<Option<String>, EngineError> {
        match self.0.inspect_image(image).await {
            Ok(found) => Ok(Some(short(found.id.as_deref().unwrap_or("unknown")))),
            Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The last lines of a container's log, or why there are none.
    pub(super) async fn logs_tail(&self, id: &str) -> String {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(LOG_LINES).build();
        self.read_logs(id, options).await
    }

    /// Whether a container's log holds `text`.
    pub(super) async fn log_has(&self, id: &str, text: &str) -> bool {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        self.read_logs(id, options).await.contains(text)
    }

    async fn read_logs(
        &self,
        id: &str,
        options: testcontainers::bollard::query_parameters::LogsOptions,
    ) -> String {
        let mut text = String::new();
        let mut lines = std::pin::pin!(self.0.logs(id, Some(options)));
        while let Some(Ok(line)) = lines.next().await {
            text.push_str(&String::from_utf8_lossy(&line.into_bytes()));
        }
        text.trim_end().to_owned()
    }

    /// Ends the container's program at once, as a power loss would.
    pub(super) async fn kill(&self, id: &str) -> Result<(), EngineError> {
        self.0.kill_container(id, None::<KillContainerOptions>).await
    }

    /// Takes a container off all its networks, and tells which those were.
    pub(super) async fn disconnect(&self, id: &str) -> Result<Vec<String>, EngineError> {
        let found = self.0.inspect_container(id, None::<InspectContainerOptions>).await?;
        let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let names: Vec<String> = networks.into_keys().collect();
        for name in &names {
            let request = NetworkDisconnectRequest { container: id.to_owned(), force: Some(true) };
            self.0.disconnect_network(name, request).await?;
        }
        Ok(names)
    }

    /// Puts a container back on its networks. Its published ports come back with them.
    pub(super) async fn reconnect(&self, id: &str, networks: &[String]) -> Result<(), EngineError> {
        for name in networks {
            let request = NetworkConnectRequest { container: id.to_owned(), endpoint_config: None };
            self.0.connect_network(name, request).await?;
        }
        Ok(())
    }

    /// All runs that have containers here, living or not.
    pub(super) async fn runs(&self) -> Result<Vec<Uuid>, EngineError> {
        let found = self.labelled(RUN_LABEL.to_owned()).await?;
        let mut runs: Vec<Uuid> = found.into_iter().filter_map(|(_, run)| run.parse().ok()).collect();
        runs.sort_unstable();
        runs.dedup();
        Ok(runs)
    }

    /// Removes all containers of a run with their volumes, whatever they are doing, and looks again until there are none.
    ///
    /// Gives up after [`REMOVE_DEADLINE`], with the engine's last word.
    pub(super) async fn remove_run(&self, run: Uuid) -> Result<(), String> {
        let mut last = "the engine does not answer".to_owned();
        let work = async {
            let mut empty_looks = 0;
            while empty_looks < 2 {
                match self.labelled(format!("{RUN_LABEL}={run}")).await {
                    Ok(found) if found.is_empty() => empty_looks += 1,
                    Ok(found) => {
                        empty_looks = 0;
                        for (id, _) in found {
                            if let Err(error) = self.remove(&id).await {
                                last = error.to_string();
                            }
                        }
                        continue;
                    }
                    Err(error) => last = root_cause(&error),
                }
                tokio::time::sleep(SECOND_LOOK).await;
            }
        };
        let removed = tokio::time::timeout(REMOVE_DEADLINE, work).await;
        removed.map_err(|_| last)
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.0.remove_container(id, Some(options)).await {
            // Gone already, or somebody else is at it.
            Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(EngineError::DockerResponseServerError { status_code: 409, .. }) => {
                tokio::time::sleep(SECOND_LOOK).await;
                Ok(())
            }
            other => other,
        }
    }

    /// Ids of the containers with a label, each with the run it is of.
    async fn labelled(&self, label: String) -> Result<Vec<(String, String)>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = self.0.list_containers(Some(options)).await?;
        let of_ours = found.into_iter().filter_map(|container| {
            let run = container.labels.unwrap_or_default().remove(RUN_LABEL)?;
            Some((container.id?, run))
        });
        Ok(of_ours.collect())
    }
}

/// The innermost error is the one that says something: `No such file or directory`.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn short(id: &str) -> String {
    let (kind, digest) = id.split_once(':').unwrap_or(("", id));
    let digest = digest.get(..12).unwrap_or(digest);
    if kind.is_empty() { digest.to_owned() } else { format!("{kind}:{digest}") }
}
