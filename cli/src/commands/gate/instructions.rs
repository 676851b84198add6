//! `mipro gate --instructions`: what the benches counted, held against its budgets. Nothing is started and no folder is written.

use std::path::Path;

use anyhow::Context as _;
use mipro_bench_reports::gates::{self, Budgets};
use mipro_bench_reports::instructions::Instructions;

use super::{accept, code, text};
use crate::args::GateArgs;
use crate::commands::print;
use crate::exit::Code;

pub(super) fn run(
    args: &GateArgs,
    path: &Path,
    budgets: &Budgets,
    budgets_text: &str,
) -> anyhow::Result<Code> {
    let counted = read(path).context("counts of instructions: `just instructions` makes them")?;
    if args.accept {
        return accept(&args.budgets, &gates::accept_instructions(budgets_text, &counted)?);
    }
    let outcomes = gates::instructions(budgets, &counted);
    let code = code(&outcomes, args.on_inconclusive);
    print(&text(&outcomes, code))?;
    Ok(code)
}

/// One file, or every `.json` in a directory.
fn read(path: &Path) -> anyhow::Result<Vec<Instructions>> {
    let of = |file: &Path| format!("{} could not be read", file.display());
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| of(path))?;
        files = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| is_json(file)).collect();
        files.sort();
    }
    files
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(file).with_context(|| of(file))?;
            Instructions::parse(&text).with_context(|| of(file))
        })
        .collect()
}

fn is_json(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "json")
}
