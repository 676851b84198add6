//! Tests of the running binary, over real sockets. One test crate, because each one links the whole tree.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arrows;
mod auth;
mod bad_input;
mod bench;
mod candidates;
mod common;
mod compare;
mod concurrency;
mod container_faults;
mod containers;
mod drain;
mod durability;
mod events;
mod gate;
mod jobs;
mod kill;
mod kill_clients;
mod kill_ground;
mod learning;
mod llm;
mod load;
mod passing;
mod profile;
mod proxy;
mod report_formats;
mod secrets;
mod state;
mod state_tool;
mod status;
mod stores;
mod task_app;
mod upstream;
