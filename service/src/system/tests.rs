//! The heart's tests, by subject.

mod candidates;
mod durable;
mod expiry;
mod faults;
mod golden;
mod learning;
mod prompts;
mod properties;
mod starts;
mod status;
mod support;
mod views;
