//! What was counted becomes what is allowed: the counts of `budgets.toml` rewritten from a report, and nothing else of it.

use std::collections::BTreeMap;

use toml_edit::{DocumentMut, Item, TableLike, Value};

use super::counts::{count_of, countable};
use super::{Budgets, Error};
use crate::format::per_rollout;
use crate::instructions::{Instructions, Toolchain};
use crate::schema::Report;

/// New text for `budgets.toml`, and what became of the old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Comments, order, limits and marks are as they were.
    pub text: String,
    /// Each changed count: `blob critical.db_round_trips: 18 → 19`.
    pub changed: Vec<String>,
    /// Counts that the report could not tell, with the reason; they are as they were.
    pub kept: Vec<String>,
}

/// Puts a report's counts into every count that `text` has a budget for. Which counts are budgeted, and how far each may move,
/// stays a person's decision.
///
/// # Errors
/// When `text` is no budgets file.
pub fn accept(text: &str, report: &Report) -> Result<Accepted, Error> {
    let budgets = Budgets::parse(text)?;
    let mut document: DocumentMut = text.parse().map_err(|error| Error::Edit(Box::new(error)))?;
    let mut accepted = Accepted { text: String::new(), changed: vec![], kept: vec![] };
    for (rung, of) in &budgets.counts {
        for (part, counts) in of.parts() {
            for (count, budget) in counts {
                let name = format!("{rung} {part}.{count}");
                let seen = countable(&budgets, report, rung).and_then(|measured| {
                    count_of(measured, part, count).ok_or_else(|| "not counted".to_owned())
                });
                match seen.map(rounded) {
                    Err(reason) => accepted.kept.push(format!("{name}: {reason}")),
                    Ok(seen) if (seen - budget.value).abs() < 1e-9 => {}
                    Ok(seen) => {
                        if let Some(item) = find(&mut document, &["counts", rung, part, count]) {
                            set(item, seen);
                        }
                        let (old, new) = (per_rollout(budget.value), per_rollout(seen));
                        accepted.changed.push(format!("{name}: {old} → {new}"));
                    }
                }
            }
        }
    }
    if !accepted.changed.is_empty() {
        let from = format!("{}: {}", report.run.id, report.run.command);
        if let Some(item) = document.get_mut("accepted_from") {
            replace(item, Value::from(from));
        } else {
            document.insert("accepted_from", toml_edit::value(from));
        }
    }
    accepted.text = document.to_string();
    Ok(accepted)
}

/// Puts counts of instructions into the budgets' table of them: each scene that was counted, also one that has no budget yet, and
/// the toolchain they are of. Where that is another one than before, every scene has to have been counted; else nothing is taken,
/// for the old figures would stand beside new ones that they can't be held against. So does a text without `[instructions]`.
///
/// # Errors
/// When `text` is no budgets file.
pub fn accept_instructions(text: &str, counted: &[Instructions]) -> Result<Accepted, Error> {
    let budgets = Budgets::parse(text)?;
    let mut document: DocumentMut = text.parse().map_err(|error| Error::Edit(Box::new(error)))?;
    let mut accepted = Accepted { text: text.to_owned(), changed: vec![], kept: vec![] };
    let (Some(budget), Some(first)) = (&budgets.instructions, counted.first()) else {
        accepted.kept.push("instructions: no counts, or no [instructions] to put them into".to_owned());
        return Ok(accepted);
    };
    if let Some(other) = counted.iter().find_map(|of| first.toolchain.difference(&of.toolchain)) {
        accepted.kept.push(format!("instructions: counted with several toolchains ({other})"));
        return Ok(accepted);
    }
    let scenes: BTreeMap<&String, f64> =
        counted.iter().flat_map(|of| &of.scenes).map(|(name, count)| (name, tenths(count.each()))).collect();
    let missing = budget.scenes.keys().filter(|name| !scenes.contains_key(name));
    accepted.kept.extend(missing.map(|name| format!("instructions {name}: not counted")));
    let moved = budget.toolchain.difference(&first.toolchain);
    if moved.is_some() && !accepted.kept.is_empty() {
        return Ok(accepted);
    }
    let Some(table) = find(&mut document, &["instructions"]).and_then(Item::as_table_like_mut) else {
        return Ok(accepted);
    };
    if let Some(moved) = moved {
        put_toolchain(table, &first.toolchain);
        accepted.changed.push(format!("instructions: {moved}"));
    }
    if !table.contains_key("scenes") {
        table.insert("scenes", toml_edit::table());
    }
    let Some(places) = table.get_mut("scenes").and_then(Item::as_table_like_mut) else { return Ok(accepted) };
    for (name, seen) in scenes {
        let old = budget.scenes.get(name);
        if old.is_some_and(|old| (seen - old).abs() < 1e-9) {
            continue;
        }
        match places.get_mut(name) {
            Some(item) => set(item, seen),
            None => drop(places.insert(name, toml_edit::value(seen))),
        }
        let old = old.map_or_else(|| "no budget".to_owned(), |old| format!("{old:.1}"));
        accepted.changed.push(format!("instructions {name}: {old} → {seen:.1}"));
    }
    accepted.text = document.to_string();
    Ok(accepted)
}

/// One digit after the point: what is left of a division by the number of operations.
fn tenths(count: f64) -> f64 {
    (count * 10.0).round() / 10.0
}

fn put_toolchain(table: &mut dyn TableLike, toolchain: &Toolchain) {
    let Toolchain { rustc, target, valgrind, libc, simd } = toolchain;
    let parts =
        [("rustc", rustc), ("target", target), ("valgrind", valgrind), ("libc", libc), ("simd", simd)];
    let Some(place) = table.get_mut("toolchain").and_then(Item::as_table_like_mut) else { return };
    for (name, value) in parts {
        if let Some(item) = place.get_mut(name) {
            replace(item, Value::from(value.as_str()));
        }
    }
}

/// Three digits after the point: what is left of a division by the number of rollouts.
fn rounded(count: f64) -> f64 {
    (count * 1000.0).round() / 1000.0
}

fn find<'a>(document: &'a mut DocumentMut, path: &[&str]) -> Option<&'a mut Item> {
    path.iter().try_fold(document.as_item_mut(), |item, key| {
        item.as_table_like_mut().and_then(|table: &mut dyn TableLike| table.get_mut(key))
    })
}

/// The number itself, or the `value` of a table.
fn set(item: &mut Item, count: f64) {
    let value = if count.fract() == 0.0 { Value::from(count as i64) } else { Value::from(count) };
    match item.as_table_like_mut() {
        Some(table) => {
            if let Some(inner) = table.get_mut("value") {
                replace(inner, value);
            }
        }
        None => replace(item, value),
    }
}

/// Another value with the white space and the comment of the old one.
fn replace(item: &mut Item, mut value: Value) {
    if let Some(old) = item.as_value() {
        *value.decor_mut() = old.decor().clone();
    }
    *item = Item::Value(value);
}
