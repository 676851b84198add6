//! Lets the caller measure what the policy does, without the heart knowing a clock.

/// Wraps the two things a policy does. An engine implements it with its stage clock.
pub trait Probe {
    /// Runs `work`, which picks a candidate.
    fn suggest<R>(&mut self, work: impl FnOnce() -> R) -> R;
    /// Runs `work`, which learns from a reward.
    fn observe<R>(&mut self, work: impl FnOnce() -> R) -> R;
}

/// Measures nothing: for replay and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProbe;

impl Probe for NoProbe {
    fn suggest<R>(&mut self, work: impl FnOnce() -> R) -> R {
        work()
    }

    fn observe<R>(&mut self, work: impl FnOnce() -> R) -> R {
        work()
    }
}
