//! The load generator: it drives rollouts against a service (or a plain endpoint against its own endpoint), joins what the
//! server says of its time with what it cost the client, and accounts for every intended rollout.
//!
//! Reading order: [`options`] (what to do), [`schedule`] and [`arrivals`] (when), `setup` (systems to do it to), `session` (one
//! rollout), `runner` (slice after slice), `run` (lanes that make rollouts), `pacer`, `pace` and `dispatch` (the open model's
//! part of it), `record` (constant-memory sums), [`outcome`] (what came of it), `validity` (whether to believe it). It knows HTTP and the wire contract only.

mod account;
pub mod arrivals;
pub mod calibrate;
mod client;
mod dispatch;
mod error;
mod events;
mod figures;
mod history;
mod join;
pub mod knee;
mod makespan;
mod null;
pub mod options;
pub mod outcome;
mod pace;
mod pacer;
pub mod plain;
pub mod progress;
mod record;
pub mod recording;
mod run;
mod runner;
pub mod schedule;
mod session;
mod setup;
#[doc(hidden)]
pub mod synthetic;
mod validity;
mod wire;

pub use account::{Class, Exhausted, Failure, FailureCount};
pub use arrivals::{Arrivals, Rate, Shape};
pub use error::Error;
pub use events::record_events;
pub use history::history;
pub use options::{Options, StatusStyle, Warmup};
pub use outcome::{Identity, Outcome};
pub use progress::{Figures, Progress, silent};
pub use recording::{Recording, Replay};
pub use run::run;
pub use runner::{Runner, Slice};
pub use schedule::Schedule;
pub use setup::prepare;
pub use validity::Health;
