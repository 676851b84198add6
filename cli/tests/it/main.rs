//! Tests of the running binary, over real sockets. One test crate, because each one links the whole tree.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arrows;
mod auth;
mod bad_input;
mod bench;
mod candidates;
mod common;
mod concurrency;
mod drain;
mod durability;
mod events;
mod jobs;
mod learning;
mod llm;
mod passing;
mod proxy;
mod secrets;
mod state;
mod status;
mod stores;
mod task_app;
mod upstream;
