//! Reports as people and programs meet them: the terminal, the page, the files.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod browser;
mod driver;
mod files;
mod fixture;
mod html;
#[path = "../../examples/simulate/model.rs"]
mod model;
mod page;
mod profile;
mod schema;
mod simulated;
mod text;
