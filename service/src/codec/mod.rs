//! Stand-in until the codec lands.
pub mod event;
