//! Tests of the running binary, over real sockets. One test crate, because each one links the whole tree.

mod arrows;
mod auth;
mod bad_input;
mod bench;
mod candidates;
mod common;
mod concurrency;
mod drain;
mod events;
mod jobs;
mod llm;
mod proxy;
mod secrets;
mod state;
mod status;
mod stores;
mod task_app;
