//! Folded stacks, as profilers exchange them: a line `root;caller;callee 123` a stack, the number being samples or nanoseconds.

use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// Different stacks kept unless told otherwise.
pub const STACKS_MAX: usize = 20_000;
/// What goes beyond the bound is counted here, so that totals stay true.
pub const BEYOND: &str = "[stacks beyond the bound]";

/// Counts by stack, in the order of their text. Of different stacks only so many are kept; what further ones count is under
/// [`BEYOND`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    stacks: BTreeMap<String, u64>,
    stacks_max: usize,
}

/// A line that is no stack with a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFolded {
    /// From 1.
    pub line: usize,
}

impl std::fmt::Display for NotFolded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {} is no stack with a count", self.line)
    }
}

impl std::error::Error for NotFolded {}

impl Default for Folded {
    fn default() -> Self {
        Self::bounded(STACKS_MAX)
    }
}

impl Folded {
    /// Keeps at most `stacks_max` different stacks, besides [`BEYOND`].
    #[must_use]
    pub fn bounded(stacks_max: usize) -> Self {
        Self { stacks: BTreeMap::new(), stacks_max }
    }

    /// Adds to a stack, from the root. What separates frames or stacks in the text becomes a space or a colon in a name.
    pub fn add<'a>(&mut self, frames: impl IntoIterator<Item = &'a str>, count: u64) {
        let mut stack = String::new();
        // Without a name a frame could not be told from none.
        for frame in frames.into_iter().map(str::trim).filter(|frame| !frame.is_empty()) {
            if !stack.is_empty() {
                stack.push(';');
            }
            let plain = |c: char| match c {
                ';' => ':',
                c if c.is_control() => ' ',
                c => c,
            };
            stack.extend(frame.chars().map(plain));
        }
        self.put(stack, count);
    }

    fn put(&mut self, stack: String, count: u64) {
        if stack.is_empty() || count == 0 {
            return;
        }
        let full = self.stacks.len() - usize::from(self.stacks.contains_key(BEYOND)) >= self.stacks_max;
        let stack = if full && !self.stacks.contains_key(&stack) { BEYOND.to_owned() } else { stack };
        let sum = self.stacks.entry(stack).or_insert(0);
        *sum = sum.saturating_add(count);
    }

    /// Each stack with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.stacks.iter().map(|(stack, count)| (stack.as_str(), *count))
    }

    /// All counts together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.stacks.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// What is counted on stacks that end in `frame`.
    #[must_use]
    pub fn total_at(&self, frame: &str) -> u64 {
        let ends = |stack: &str| stack.rsplit(';').next() == Some(frame);
        self.iter().filter(|(stack, _)| ends(stack)).map(|(_, count)| count).sum()
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }

    /// The stacks for which `keep` holds.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        let stacks = self.iter().filter(|(stack, _)| keep(stack));
        Self {
            stacks: stacks.map(|(stack, count)| (stack.to_owned(), count)).collect(),
            stacks_max: self.stacks_max,
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.stacks.clear();
    }

    /// A line a stack, in the order of their text.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.iter().map(|(stack, count)| format!("{stack} {count}\n")).collect()
    }

    /// Reads what [`Folded::to_text`], or another profiler, has written. Empty lines are passed over, spaces around frames dropped.
    ///
    /// # Errors
    /// The first line that is no stack with a count.
    pub fn parse(text: &str) -> Result<Self, NotFolded> {
        let mut folded = Self::default();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let (stack, count) = entry(line).ok_or(NotFolded { line: index + 1 })?;
            folded.add(stack.split(';'), count);
        }
        Ok(folded)
    }
}

/// A stack and its count.
pub(crate) fn entry(line: &str) -> Option<(&str, u64)> {
    let (stack, count) = line.trim_end().rsplit_once(' ')?;
    let stack = stack.trim();
    let count = count.parse().ok()?;
    (!stack.is_empty()).then_some((stack, count))
}
