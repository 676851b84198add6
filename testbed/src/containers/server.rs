//! One container with one server in it.

use std::fmt;
use std::mem::ManuallyDrop;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use testcontainers::bollard::models::{HostConfig, PortBinding};
use testcontainers::core::error::ClientError;
use testcontainers::core::{ContainerPort, IntoContainerPort as _};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt as _, TestcontainersError};
use uuid::Uuid;

use super::Error;
use super::engine::{Engine, RUN_LABEL};
use super::probe;
use super::s3_client::S3Client;
use super::settings::{Keys, ServerSettings};
use crate::postgres;

/// How many ports may turn out to be taken before we give up.
const PORT_ATTEMPTS: u32 = 8;
/// Creating and starting a container, without what its program does then.
const START_DEADLINE: Duration = Duration::from_secs(120);
const PROBE_PAUSE: Duration = Duration::from_millis(100);
/// A server that does not answer a connection at all.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a polite stop may take before the engine kills.
const STOP_SECONDS: i32 = 10;

/// How a server is asked whether it is ready.
#[derive(Clone)]
pub(super) enum Check {
    Postgres { url: String },
    S3(S3Client),
}

/// A running container, with what a test may do to it. Every change waits until it is done; dropping such a future leaves
/// it to the engine whether it happens.
///
/// Dropping this handle does nothing: the run's warden removes the container when the run is over.
pub struct Server {
    what: &'static str,
    settings: ServerSettings,
    keys: Keys,
    engine: Engine,
    /// Never dropped: that would remove the container, blocking, and panic outside a runtime.
    container: ManuallyDrop<ContainerAsync<GenericImage>>,
    port: u16,
    check: Check,
    /// The networks it was cut off from.
    cut_off_from: Mutex<Vec<String>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("what", &self.what)
            .field("image", &self.settings.image)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Creates and starts a container, and waits until its server answers what `check` makes of its address.
    pub(super) async fn start(
        engine: &Engine,
        run: Uuid,
        what: &'static str,
        settings: &ServerSettings,
        keys: Keys,
        check: impl Fn(SocketAddr, &Keys) -> Check + Send,
    ) -> Result<Self, Error> {
        let mut attempts = 0;
        let (container, port) = loop {
            attempts += 1;
            let port = free_port(what)?;
            match request(run, settings, &keys, port).start().await {
                Ok(container) => break (ManuallyDrop::new(container), port),
                Err(error) if is_port_taken(&error) && attempts < PORT_ATTEMPTS => {
                    tracing::info!(port, "the port was taken in the meantime; trying another");
                }
                Err(error) if is_port_taken(&error) => return Err(Error::Ports { what, attempts }),
                Err(error) => return Err(not_started(what, &settings.image, error)),
            }
        };
        let check = check((Ipv4Addr::LOCALHOST, port).into(), &keys);
        let server = Self {
            what,
            settings: settings.clone(),
            keys,
            engine: engine.clone(),
            container,
            port,
            check,
            cut_off_from: Mutex::default(),
        };
        server.until_ready().await?;
        Ok(server)
    }

    pub(super) fn check(&self) -> &Check {
        &self.check
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Where it is reached from this machine: a fixed port on loopback, the same after a restart.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The image's name.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.settings.image
    }

    /// The engine's name for the container.
    #[must_use]
    pub fn container_id(&self) -> &str {
        self.container.id()
    }

    /// The last lines of its log, without our secret key.
    pub async fn logs_tail(&self) -> String {
        let logs = self.engine.logs_tail(self.container_id()).await;
        logs.replace(&self.keys.secret_key.0, "***")
    }

    /// Stops the server politely; after 10 s it is killed. Its data stays.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn stop(&self) -> Result<(), Error> {
        let stopped = self.container.stop_with_timeout(Some(STOP_SECONDS)).await;
        stopped.map_err(|error| self.start_error(error))
    }

    /// Ends the server at once, with SIGKILL. Its data stays, as far as it was written.
    ///
    /// # Errors
    /// When the engine refuses, also since it does not run.
    pub async fn kill(&self) -> Result<(), Error> {
        self.engine.kill(self.container_id()).await.map_err(|source| self.engine_error("kill", source))
    }

    /// Starts the server again on the data it had, and waits until it answers.
    ///
    /// # Errors
    /// When the engine refuses, and when the server does not get ready, with its log's last lines.
    pub async fn start_again(&self) -> Result<(), Error> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.container.start().await {
                Ok(()) => break,
                // A connection of somebody else's may have got the port. It will not be long.
                Err(error) if is_port_taken(&error) && attempts < PORT_ATTEMPTS => {
                    tokio::time::sleep(PROBE_PAUSE * 5).await;
                }
                Err(error) => return Err(self.start_error(error)),
            }
        }
        self.until_ready().await
    }

    /// [`Server::stop`], then [`Server::start_again`].
    ///
    /// # Errors
    /// As theirs.
    pub async fn restart(&self) -> Result<(), Error> {
        self.stop().await?;
        self.start_again().await
    }

    /// Freezes the server: connections stay open, and nothing is answered until [`Server::unpause`].
    ///
    /// # Errors
    /// When the engine refuses, also since it is paused already.
    pub async fn pause(&self) -> Result<(), Error> {
        self.container.pause().await.map_err(|error| self.start_error(error))
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn unpause(&self) -> Result<(), Error> {
        self.container.unpause().await.map_err(|error| self.start_error(error))
    }

    /// Takes the server off its network: it runs on, and nobody reaches it until [`Server::reconnect`]. Open connections
    /// are not told. (The link's `cut` resets them instead.)
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn cut_off(&self) -> Result<(), Error> {
        let networks = self.engine.disconnect(self.container_id()).await;
        let networks = networks.map_err(|source| self.engine_error("disconnect", source))?;
        self.cut_off_from.lock().unwrap_or_else(PoisonError::into_inner).extend(networks);
        Ok(())
    }

    /// Puts the server back on its network, at the same port, and waits until it answers.
    ///
    /// # Errors
    /// When the engine refuses, and when the server does not answer.
    pub async fn reconnect(&self) -> Result<(), Error> {
        let networks = std::mem::take(&mut *self.cut_off_from.lock().unwrap_or_else(PoisonError::into_inner));
        let back = self.engine.reconnect(self.container_id(), &networks).await;
        back.map_err(|source| self.engine_error("reconnect", source))?;
        self.until_ready().await
    }

    async fn until_ready(&self) -> Result<(), Error> {
        let deadline = self.settings.ready_deadline;
        let started = tokio::time::Instant::now();
        let mut log_is_ready = self.settings.ready_text.is_none();
        loop {
            let running = self.container.is_running().await.map_err(|error| self.start_error(error))?;
            if !running {
                return Err(Error::Ended {
                    what: self.what,
                    image: self.settings.image.clone(),
                    logs: self.logs_tail().await,
                });
            }
            if let Some(text) = self.settings.ready_text.as_deref().filter(|_| !log_is_ready) {
                log_is_ready = self.engine.log_has(self.container_id(), text).await;
            }
            let reason = if log_is_ready {
                match tokio::time::timeout(PROBE_TIMEOUT, self.check.answers()).await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(reason)) => reason,
                    Err(_) => format!("no answer in {} s", PROBE_TIMEOUT.as_secs()),
                }
            } else {
                "its log does not say so".to_owned()
            };
            if started.elapsed() >= deadline {
                return Err(Error::NotReady {
                    what: self.what,
                    image: self.settings.image.clone(),
                    deadline_s: deadline.as_secs(),
                    reason,
                    logs: self.logs_tail().await,
                });
            }
            tokio::time::sleep(PROBE_PAUSE).await;
        }
    }

    fn start_error(&self, error: TestcontainersError) -> Error {
        not_started(self.what, &self.settings.image, error)
    }

    fn engine_error(&self, action: &'static str, source: testcontainers::bollard::errors::Error) -> Error {
        Error::Engine { action, what: self.what, source: Box::new(source) }
    }
}

impl Check {
    async fn answers(&self) -> Result<(), String> {
        match self {
            Self::Postgres { url } => {
                postgres::version(url).await.map(|_| ()).map_err(|error| super::engine::root_cause(&error))
            }
            Self::S3(client) => probe::serves(client).await,
        }
    }
}

fn request(run: Uuid, settings: &ServerSettings, keys: &Keys, port: u16) -> ContainerRequest<GenericImage> {
    let (name, tag) = name_and_tag(&settings.image);
    let inside: ContainerPort = settings.port.tcp();
    let request = GenericImage::new(name, tag)
        .with_exposed_port(inside)
        .with_label(RUN_LABEL, run.to_string())
        .with_startup_timeout(START_DEADLINE)
        .with_cmd(settings.command.iter().map(|word| keys.fill(word)))
        .with_host_config_modifier(move |host: &mut HostConfig| {
            // Left alone, all ports would be open to the whole network.
            let binding = PortBinding {
                host_ip: Some(Ipv4Addr::LOCALHOST.to_string()),
                host_port: Some(port.to_string()),
            };
            host.publish_all_ports = Some(false);
            host.port_bindings = Some([(inside.to_string(), Some(vec![binding]))].into());
        });
    let env = settings.env.iter();
    env.fold(request, |request, (name, value)| request.with_env_var(name, keys.fill(value)))
}

/// `registry:5000/name:tag`, where the tag may be left out.
pub(super) fn name_and_tag(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

/// A port that is free now. It is fixed for the container's life, so that a restart does not move the server.
fn free_port(what: &'static str) -> Result<u16, Error> {
    let found = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    found.map(|addr| addr.port()).map_err(|_| Error::Ports { what, attempts: 1 })
}

fn is_port_taken(error: &TestcontainersError) -> bool {
    let text = error.to_string();
    ["port is already allocated", "address already in use", "ports are not available"]
        .iter()
        .any(|said| text.contains(said))
}

fn not_started(what: &'static str, image: &str, error: TestcontainersError) -> Error {
    match error {
        TestcontainersError::Client(ClientError::PullImage { err, .. }) => {
            Error::NoImage { image: image.to_owned(), reason: super::engine::root_cause(&err) }
        }
        error => Error::Start { what, image: image.to_owned(), source: Box::new(error) },
    }
}
