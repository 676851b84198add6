//! The engines, driven as the routes drive them, over stores that can be made to fail; and the stores by themselves.
#![expect(clippy::unwrap_used, reason = "a test that can't go on stops here, also within its helpers")]

mod archiving;
mod conformance;
mod durable;
mod faults;
mod hand_log;
mod histories;
mod overlaps;
mod recovering;
mod said;
mod segmented;
mod snapshots;
mod stores;
mod support;
