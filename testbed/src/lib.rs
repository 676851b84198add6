//! Ephemeral Postgres, an S3 server, a link emulator and supervised child processes.
//!
//! Reading order: [`process`] (how a child is started, watched and never left behind), [`postgres`] (a cluster that
//! lives as long as its keeper), [`s3`] (our own small server), [`containers`] (others' servers, in containers), [`link`]
//! (latency, bandwidth and counts on a wire), [`stack`] (which of them a run needs, and where the service finds them),
//! [`history`] (whether what clients were told is what is there).

pub mod containers;
pub mod history;
mod httpd;
pub mod link;
pub mod postgres;
pub mod process;
pub mod s3;
mod secret;
pub mod stack;

pub use secret::Secret;
