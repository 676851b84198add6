//! The load generator: it drives rollouts against a service (or a plain endpoint against its own endpoint), joins what the
//! server says of its time with what it cost the client, and accounts for every intended rollout.
//!
//! Reading order: [`options`] (what to do), `setup` (systems to do it to), `session` (one rollout), `run` (lanes that make
//! rollouts), `record` (constant-memory sums), [`outcome`] (what came of it). It knows HTTP and the wire contract only.

mod account;
mod client;
mod error;
mod figures;
mod history;
mod join;
mod makespan;
pub mod options;
pub mod outcome;
pub mod plain;
pub mod progress;
mod record;
mod run;
pub mod schedule;
mod session;
mod setup;

pub use account::{Class, Failure, FailureCount};
pub use error::Error;
pub use history::history;
pub use options::{Options, StatusStyle};
pub use outcome::{Identity, Outcome};
pub use progress::{Figures, Progress, silent};
pub use run::run;
pub use schedule::Schedule;
pub use setup::prepare;
