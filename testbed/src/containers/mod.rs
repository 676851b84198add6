//! Postgres and an S3 server in containers: the real ones, with faults that a process of ours can't have.
//!
//! Reading order: [`Settings`] (which images, and how they are told their keys), [`Containers`] (both servers, ready and
//! probed), [`Server`] (one of them, with what may be done to it), [`run_warden`] (who removes them).
//!
//! What is published is published on loopback only. Keys are made for each run and travel in a container's environment,
//! never on a command line. Any engine that speaks Docker's protocol on this machine will do; `DOCKER_HOST` names another
//! socket. An engine on another machine will not: its loopback is not ours.
//!
//! Containers bear the label `mipro.testbed.run`. They are removed by the run's warden, a process that is started before
//! them and ends after all else, also when the run is killed; and by the next run's, should the warden be killed too.

mod engine;
mod error;
mod probe;
mod s3_client;
mod server;
mod settings;
mod signature;
#[cfg(test)]
mod tests;
mod warden;

use uuid::Uuid;

pub use error::Error;
pub use server::Server;
pub use settings::{Overrides, S3Preset, ServerOverrides, ServerSettings, Settings, SettingsError};
pub use warden::run as run_warden;

use crate::postgres;
use crate::secret::Secret;
use engine::Engine;
use s3_client::S3Client;
use server::Check;
use settings::{Keys, POSTGRES_NAME};

/// Whether there is an engine.
///
/// # Errors
/// [`Error::NoEngine`].
pub async fn engine_answers() -> Result<(), Error> {
    Engine::connect().await.map(|_| ())
}

/// Whether there is an engine, and both images are in it. Pulls nothing.
///
/// # Errors
/// [`Error::NoEngine`], or [`Error::NoImage`] for the first one that is missing.
pub async fn available(settings: &Settings) -> Result<(), Error> {
    let engine = Engine::connect().await?;
    for image in [settings.postgres_image(), settings.s3_image()] {
        let found = engine.image_id(image).await;
        let found = found.map_err(|source| Error::Engine {
            action: "look for",
            what: "image of a",
            source: Box::new(source),
        })?;
        if found.is_none() {
            return Err(Error::NoImage { image: image.to_owned(), reason: "nobody has tried".to_owned() });
        }
    }
    Ok(())
}

/// Two running containers whose servers answer.
#[derive(Debug)]
pub struct Containers {
    postgres: Server,
    s3: Server,
    postgres_version: String,
    s3_version: String,
    postgres_url: Secret,
}

impl Containers {
    /// Starts both containers side by side, for the run whose warden runs already, and waits until they are ready: Postgres
    /// answers a query, S3 stores and returns an object and heeds `If-None-Match: *`.
    ///
    /// When this fails, or its future is dropped, what was started is the warden's.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start(run: Uuid, settings: &Settings) -> Result<Self, Error> {
        let engine = Engine::connect().await?;
        let (postgres, s3) = tokio::try_join!(
            Server::start(&engine, run, "Postgres", &settings.postgres, Keys::postgres(), |addr, keys| {
                let password = &keys.secret_key.0;
                let url =
                    format!("postgres://{POSTGRES_NAME}:{password}@{addr}/{POSTGRES_NAME}?sslmode=disable");
                Check::Postgres { url }
            }),
            Server::start(&engine, run, "S3", &settings.s3, Keys::s3(settings), |addr, keys| {
                Check::S3(S3Client { addr, keys: keys.clone() })
            }),
        )?;
        let mut url = String::new();
        if let Check::Postgres { url: asked } = postgres.check() {
            url.clone_from(asked);
            postgres::create_statements(asked).await;
        }
        let mut name = None;
        if let Check::S3(client) = s3.check() {
            probe::does_conditions(client, s3.image()).await?;
            name = probe::server_name(client).await;
        }
        let version = postgres::version(&url).await?;
        let postgres_version = format!("PostgreSQL {version} in {}", described(&engine, &postgres).await);
        let name = name.unwrap_or_else(|| "S3 server".to_owned());
        let s3_version = format!("{name} in {}", described(&engine, &s3).await);
        Ok(Self { postgres, s3, postgres_version, s3_version, postgres_url: Secret::new(url) })
    }

    /// The database's container.
    #[must_use]
    pub fn postgres(&self) -> &Server {
        &self.postgres
    }

    /// The object store's container.
    #[must_use]
    pub fn s3(&self) -> &Server {
        &self.s3
    }

    /// The server's version and its image, for the report.
    #[must_use]
    pub fn postgres_version(&self) -> &str {
        &self.postgres_version
    }

    /// What the server calls itself and its image, for the report.
    #[must_use]
    pub fn s3_version(&self) -> &str {
        &self.s3_version
    }

    /// With the password.
    pub(crate) fn postgres_url(&self) -> &str {
        &self.postgres_url.0
    }

    pub(crate) fn s3_keys(&self) -> (String, Secret) {
        let keys = self.s3.keys();
        (keys.access_key.clone(), keys.secret_key.clone())
    }
}

/// `container local/mipro-s3:dev (sha256:0a9463cb84ec)`: a tag may name another image tomorrow.
async fn described(engine: &Engine, server: &Server) -> String {
    let id = engine.image_id(server.image()).await.ok().flatten();
    format!("container {} ({})", server.image(), id.as_deref().unwrap_or("of unknown id"))
}
