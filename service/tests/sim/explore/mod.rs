//! Every interleaving of a few messages, on the service's own code: the gate against the watermark and the log's end; a
//! shard's requests against the ends of its loads and saves.
//!
//! Not with `shuttle` or `loom`. What can go wrong here is the order of messages between tasks, each of which is handled in
//! one synchronous step; within a step there is no shared memory but tokio's own channels, which those tools can't see into
//! (they replace `std::sync`, and tokio is built with loom by its own authors). So this runs the production code
//! on one thread, holds back every answer of the stores and every rise of the watermark, and tries all orders in which they
//! can be let through. Nothing is sampled: a search ends when there is no order left.

mod gate;
mod held;
mod shard;

/// The choices of one execution: given ones first, then always the first of what there is.
#[derive(Debug, Default)]
struct Choices {
    path: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    /// One of `options` ways to go on.
    fn choose(&mut self, options: usize) -> usize {
        if self.at == self.path.len() {
            self.path.push((0, options));
        }
        let (choice, known) = self.path[self.at];
        assert_eq!(known, options, "the same choices lead to the same place");
        self.at += 1;
        choice
    }

    /// The next path in depth-first order; false: there is none.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, options)) = self.path.pop() {
            if choice + 1 < options {
                self.path.push((choice + 1, options));
                return true;
            }
        }
        false
    }
}

/// Runs `execution` along every path. Gives how many there are.
///
/// # Panics
/// One of them finds something wrong: it is told with its path.
fn explore(executions_max: u64, mut execution: impl FnMut(&mut Choices) -> Result<(), String>) -> u64 {
    let mut choices = Choices::default();
    let mut executions = 0;
    loop {
        executions += 1;
        if let Err(wrong) = execution(&mut choices) {
            let path: Vec<usize> = choices.path.iter().map(|(choice, _)| *choice).collect();
            panic!("{wrong}; execution {executions}, choices {path:?}");
        }
        assert!(executions <= executions_max, "more interleavings than expected: {executions_max}");
        if !choices.advance() {
            return executions;
        }
    }
}
