//! Both servers over real sockets.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;
mod llm;
mod task_app;
