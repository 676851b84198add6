//! How the project speaks about time: one vocabulary of stages, one way to clock them, one way to tell others.
//!
//! Reading order: [`stage`] (the names), [`ledger`] (one request's times), [`recorder`] (many requests' times),
//! [`server_timing`] (telling a caller), [`prometheus`] (telling a scraper); for profiles [`folded`] (stacks), [`wall`] (where
//! requests wait and where they work), [`busy`] (tracing-flame's view of the work alone), [`profile`] (a process's files).

pub mod busy;
pub mod clock;
pub mod folded;
pub mod ledger;
pub mod profile;
pub mod prometheus;
pub mod recorder;
pub mod server_timing;
pub mod stage;
pub mod wall;

pub use folded::Folded;
pub use ledger::{Breakdown, Ledger, StageEntry, StageGuard};
pub use recorder::Recorders;
pub use stage::{Group, Operation, Phase, Stage};
