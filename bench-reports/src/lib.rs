//! What a run found, and how it is shown: the report schema, distributions, the terminal tables and the HTML page.
//!
//! Reading order: [`schema`] (what is known), [`dist`] (how samples become figures), [`json`] and [`folder`] (how it is
//! kept), [`text`] and [`html`] (how it is shown), [`seed_table`] (what it is held against).

pub mod dist;
pub mod folder;
mod format;
mod headline;
pub mod html;
pub mod json;
mod losses;
mod ratio;
pub mod schema;
pub mod seed_table;
pub mod text;
mod view;

pub use dist::{Dist, HdrError, Recorder};
pub use folder::RunFolder;
pub use headline::headline;
pub use schema::*;
