//! How many instructions scenes take: `just instructions`.

mod scenes;

use std::process::ExitCode;

fn main() -> ExitCode {
    mipro_microbench::counted(&scenes::all(), env!("CARGO_TARGET_TMPDIR"))
}
