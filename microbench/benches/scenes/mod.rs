//! Every scene, by its room.

use mipro_microbench::Scene;

mod loadgen;
mod service;
mod telemetry;

pub(super) fn all() -> Vec<Scene> {
    [service::all(), telemetry::all(), loadgen::all()].concat()
}
