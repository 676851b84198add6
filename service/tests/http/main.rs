//! The service's HTTP side over real sockets: an engine in memory behind it, a scripted LLM beside it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod auth;
mod drain;
mod durability;
mod fake;
mod lifecycle;
mod limits;
mod proxy;
mod redaction;
mod rig;
mod streams;
mod upstream_faults;
