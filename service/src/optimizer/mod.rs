//! Which candidate to try next, and which to recommend. Pure and seeded: no I/O, no clock, no JSON.
//!
//! Every registered candidate is an **arm** ([`Arm`]: what its rewards have taught). Its params place it in a
//! categorical [`Space`]. A [`Policy`] turns arms and places into a probability for each arm; the choice is one draw
//! from those, so the probability that is logged with it is exact.

pub mod arm;
pub mod policy;
pub mod recommend;
pub mod space;
pub mod tpe;

pub use arm::{Arm, ArmsView};
pub use policy::{Fixed, Policy, Suggestion, Uniform};
pub use recommend::recommend;
pub use space::Space;
pub use tpe::Tpe;

#[cfg(test)]
mod tests;
