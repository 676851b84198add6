//! The MIPRO online service: a prompt-optimizing, OpenAI-compatible proxy.
//!
//! A task app sends its chat-completions request to a capability URL. The proxy picks a prompt candidate for the
//! rollout, rewrites the messages, and forwards to the LLM. Rewards come back on the status route, and the optimizer
//! learns from them which candidate to pick next.
//!
//! Suggested reading order:
//!
//! 1. [`system`]: the pure core. Commands are decided into events, events are applied to a state. No I/O.
//! 2. [`optimizer`]: the policy that picks a candidate from what the state knows.
//! 3. [`engine`]: who owns a system's state, and when it is saved: `blob`, `cache`, `actor`.
//! 4. [`store`] and [`log`]: where state and events rest: rows, blobs, and the event log.
//! 5. [`codec`] and [`snapshot`]: events and states as bytes; [`recovery`] and [`history`]: how they come back.
//! 6. [`proxy`]: rendering a candidate into a request, the call to the LLM, and its answer passed through.
//! 7. [`http`]: the routes of the wire contract; thin handlers and one shape for every error.
//! 8. [`config`], [`auth`], [`metrics`], [`clock`], [`offload`]: what the routes stand on.
//! 9. [`app`]: the wiring of it all, from listener to drain.
//! 10. [`inspect`]: what `mipro state` stands on: what is stored, read, checked, carried and repaired without a service.

pub mod app;
pub mod auth;
pub mod clock;
pub mod codec;
pub mod config;
pub mod crash;
pub mod durability;
pub mod engine;
pub mod history;
pub mod http;
pub mod inspect;
pub mod log;
pub mod metrics;
pub mod offload;
pub mod optimizer;
pub mod plant;
pub mod proxy;
pub mod recovery;
pub mod snapshot;
pub mod store;
pub mod system;
