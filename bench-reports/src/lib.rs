//! What a run found, and how it is shown: the report schema, distributions, the terminal tables and the HTML page.
//!
//! Reading order: [`schema`] (what is known), [`dist`] (how samples become figures), [`json`] and [`folder`] (how it is
//! kept), [`text`] and [`html`] (how it is shown), [`seed_table`] (what it is held against); [`compare`] (whether one side is
//! slower than another), [`instructions`], [`threshold`] and [`gates`] (whether it is within what it may cost);
//! [`hlog`] and [`export`] (how others read it).

pub mod compare;
pub mod dist;
pub mod export;
pub mod folder;
mod format;
pub mod gates;
mod headline;
pub mod hlog;
pub mod html;
pub mod instructions;
pub mod json;
mod losses;
mod ratio;
pub mod schema;
pub mod seed_table;
pub mod text;
pub mod threshold;
mod view;

pub use dist::{Dist, HdrError, Recorder};
pub use folder::RunFolder;
pub use headline::headline;
pub use schema::*;
