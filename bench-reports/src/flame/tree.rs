//! Folded stacks as a tree, and where its frames stand.

use std::collections::BTreeMap;

use mipro_telemetry::Folded;

/// Deepest frame that is kept; what is called below it counts there.
const DEPTH_MAX: usize = 200;

/// A frame with all that is called from it: what it counts in the profile that is drawn, and in the one before.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) before: f64,
    pub(super) after: f64,
    children: BTreeMap<String, Node>,
}

/// A frame and its place: in percent of the whole, and in rows from the root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a> {
    pub(super) name: &'a str,
    pub(super) node: &'a Node,
    pub(super) depth: usize,
    pub(super) x: f64,
    pub(super) width: f64,
}

impl Node {
    pub(super) fn of(folded: &Folded) -> Self {
        Self::of_both(&Folded::default(), 1.0, folded)
    }

    /// `before`, its counts times `factor`, and `after` in one tree.
    pub(super) fn of_both(before: &Folded, factor: f64, after: &Folded) -> Self {
        let mut root = Self::default();
        for (stack, count) in before.iter() {
            root.put(stack, |node| node.before += count as f64 * factor);
        }
        for (stack, count) in after.iter() {
            root.put(stack, |node| node.after += count as f64);
        }
        root
    }

    fn put(&mut self, stack: &str, add: impl Fn(&mut Self)) {
        add(self);
        let mut node = self;
        for name in stack.split(';').take(DEPTH_MAX) {
            node = node.children.entry(name.to_owned()).or_default();
            add(node);
        }
    }

    /// The largest change of any frame, either way.
    pub(super) fn largest_change(&self) -> f64 {
        let own = (self.after - self.before).abs();
        self.children.values().map(Self::largest_change).fold(own, f64::max)
    }

    /// Each frame from the root down, its children in the order of their names; of one for which `visit` says no, none is visited.
    pub(super) fn walk(&self, visit: &mut dyn FnMut(Placed<'_>) -> bool) {
        if self.after > 0.0 {
            self.below("all", 0, 0.0, 100.0 / self.after, visit);
        }
    }

    fn below(&self, name: &str, depth: usize, x: f64, scale: f64, visit: &mut dyn FnMut(Placed<'_>) -> bool) {
        if self.after <= 0.0 || !visit(Placed { name, node: self, depth, x, width: self.after * scale }) {
            return;
        }
        let mut from = x;
        for (name, child) in &self.children {
            child.below(name, depth + 1, from, scale, visit);
            from += child.after * scale;
        }
    }
}
