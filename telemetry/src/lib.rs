//! How the project speaks about time: one vocabulary of stages, one way to clock them, one way to tell others.
//!
//! Reading order: [`stage`] (the names), [`ledger`] (one request's times), [`recorder`] (many requests' times),
//! [`server_timing`] (telling a caller), [`prometheus`] (telling a scraper).

pub mod clock;
pub mod ledger;
pub mod prometheus;
pub mod recorder;
pub mod server_timing;
pub mod stage;

pub use ledger::{Breakdown, Ledger, StageEntry, StageGuard};
pub use recorder::Recorders;
pub use stage::{Group, Operation, Phase, Stage};
