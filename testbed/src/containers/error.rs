//! What can go wrong with containers.

use testcontainers::TestcontainersError;
use testcontainers::bollard::errors::Error as EngineError;

use crate::process::tail_text;

/// Why there is no container, or it does not do as told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing that speaks Docker's protocol answers.
    #[error("no Docker ({reason}); use --stack native, embedded or external, or start an engine")]
    NoEngine {
        /// Why it does not answer.
        reason: String,
    },
    /// The engine has not got the image and can't fetch it.
    #[error(
        "the image {image} is not here and cannot be pulled ({reason}); where there is no registry, scripts/build-images \
         builds images and says how to name them (MIPRO_POSTGRES_IMAGE, MIPRO_S3_IMAGE)"
    )]
    NoImage {
        /// Which image.
        image: String,
        /// Why it could not be pulled.
        reason: String,
    },
    /// The engine refused to do something, or stopped answering.
    #[error("Docker could not {action} the {what} container")]
    Engine {
        /// What was asked of it.
        action: &'static str,
        /// Which container.
        what: &'static str,
        /// What it said.
        source: Box<EngineError>,
    },
    /// A container could not be created or started.
    #[error("the {what} container ({image}) could not be started: {source}")]
    Start {
        /// Which container.
        what: &'static str,
        /// Its image.
        image: String,
        /// Why.
        source: Box<TestcontainersError>,
    },
    /// A container's program ended at once.
    #[error("the {what} container ({image}) ended before it was ready; {}", tail_text(logs))]
    Ended {
        /// Which container.
        what: &'static str,
        /// Its image.
        image: String,
        /// The last lines of its log.
        logs: String,
    },
    /// A container runs and does not answer.
    #[error(
        "the {what} container ({image}) was not ready after {deadline_s} s: {reason}; {}",
        tail_text(logs)
    )]
    NotReady {
        /// Which container.
        what: &'static str,
        /// Its image.
        image: String,
        /// How long it was given, in seconds.
        deadline_s: u64,
        /// What the last try ended with.
        reason: String,
        /// The last lines of its log.
        logs: String,
    },
    /// An S3 server on which nothing can be fenced.
    #[error(
        "the S3 server ({image}) does not do conditional writes: {reason}; two writers could overwrite each other's \
         snapshots unnoticed, so no measurement is made on it"
    )]
    NoConditions {
        /// Its image.
        image: String,
        /// What it did.
        reason: String,
    },
    /// All ports that were picked had been taken by the time they were used.
    #[error("found no free port for the {what} container in {attempts} tries")]
    Ports {
        /// Which container.
        what: &'static str,
        /// How many.
        attempts: u32,
    },
    /// The database of a container could not be asked.
    #[error(transparent)]
    Postgres(#[from] crate::postgres::Error),
    /// The lock that says that a run lives.
    #[error("cannot {action} {}", path.display())]
    Lock {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}
