//! An OpenAI-compatible mock LLM and the Banking77 task app: the two outer ends of a rollout.
//!
//! Both are servers of their own, met over HTTP. What they do to a call is a pure function of a seed and of the
//! rollout's name, so that two runs, or two rungs of a ladder, meet the same delays, faults and answers:
//!
//! 1. [`dataset`]: the queries and their right labels, from files or built in;
//! 2. [`latency`] and [`faults`]: how long a call takes and what goes wrong with it;
//! 3. [`accuracy`]: how likely a prompt makes the model answer right, known exactly, so that an optimizer can be
//!    judged against it;
//! 4. [`llm`] and [`task_app`]: the servers.

pub mod accuracy;
pub mod dataset;
mod draw;
mod error;
pub mod faults;
pub mod latency;
pub mod llm;
mod openai;
mod secret;
mod server;
pub mod task_app;
pub mod units;

pub use error::Error;
pub use secret::Secret;
