//! The ladder: starts a testbed, drives the load generator, fills a report.
//!
//! Reading order: [`ladder`] (which rungs there are), [`options`] (what a run is told), [`mod@bench`] (a run from start to
//! finish), `bed` (what stays up), `rung` (one rung), then the helpers: `roles` (child processes), `service_config`, `meter`,
//! `growth`, `service_client`, `loss`, `resources`, `environment`, `verdicts`.
//!
//! The service, the mock LLM and the task app are met over HTTP, as child processes of the same binary: nothing here
//! depends on their code, so a rung measures what a user would run.

pub mod aa;
mod ablate;
mod bed;
pub mod bench;
pub mod compare;
pub mod environment;
pub mod gate;
mod ground;
mod growth;
pub mod ladder;
mod loss;
mod merge;
mod meter;
pub mod options;
pub mod pacing;
mod pairs;
pub mod profile;
mod resources;
mod roles;
mod rung;
pub mod saved;
mod service_client;
mod service_config;
mod side;
mod slice;
pub mod subject;
pub mod verdicts;

pub use bench::{Finished, Watcher, run};
pub use ladder::RungName;
pub use options::{BenchOptions, Error};
