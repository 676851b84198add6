//! The file that holds this machine's noise floor.

use std::path::Path;

use anyhow::Context as _;
use mipro_bench_reports::{Machine, NoiseFloor};
use mipro_harness::environment::machine;

/// The floor that `path` holds, if it is one of this machine. A file of another machine, or of another version, is as good as
/// none: it would be no error to delete it.
pub(crate) fn read(path: &Path) -> Option<NoiseFloor> {
    let text = std::fs::read_to_string(path).ok()?;
    let floor: NoiseFloor = serde_json::from_str(&text).ok()?;
    (floor.schema == NoiseFloor::SCHEMA && floor.machine == Machine::of(&machine())).then_some(floor)
}

/// Writes it whole or not at all.
pub(crate) fn write(path: &Path, floor: &NoiseFloor) -> anyhow::Result<()> {
    let failed = || format!("{} could not be written", path.display());
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(failed)?;
    }
    let mut text = serde_json::to_string_pretty(floor).context("a noise floor is plain numbers and text")?;
    text.push('\n');
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path)).with_context(failed)
}

#[cfg(test)]
mod tests;
