//! Finding the highest rate at which a condition still holds: exponential steps up, then halving the interval, then a longer
//! stage that confirms. The search itself is pure: it says which rate to try, and is told how that went.

#[cfg(test)]
mod tests;

/// The search ends when the interval between a rate that held and one that did not is this narrow.
pub const PRECISION: f64 = 0.03;

/// A rate that does not confirm is lowered by this share.
const BACK_OFF: f64 = 0.05;

/// Most rates that are tried for confirmation.
const CONFIRMATIONS_MAX: u32 = 3;

/// How one stage at a rate went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// The condition held.
    Held,
    /// It did not.
    Broke,
    /// The generator could not offer this rate: nothing is known of the service.
    GeneratorLimit,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// Run a stage at this rate, per second.
    Try(f64),
    /// Run a longer stage at this rate.
    Confirm(f64),
    /// The search is over.
    Done(Knee),
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Knee {
    /// The condition holds at this rate, confirmed, and not at one at most [`PRECISION`] above (or above what was confirmed
    /// only after backing off).
    At {
        /// Highest rate that held.
        rate: f64,
        /// Lowest rate that did not.
        broke_at: f64,
    },
    /// The condition does not even hold at the lowest rate allowed.
    Below(f64),
    /// It held at the highest rate that was allowed, or that the generator can offer.
    AtLeast {
        /// Highest rate that held.
        rate: f64,
        /// Whether the generator was what gave out.
        generator: bool,
    },
    /// What held in short stages did not hold in longer ones: nothing steady to report.
    Unsteady(f64),
}

/// The search.
#[derive(Debug, Clone)]
pub struct Search {
    lowest: f64,
    highest: f64,
    held: Option<f64>,
    broke: Option<f64>,
    generator: bool,
    next: Next,
    confirmations: u32,
}

impl Search {
    /// Begins at `first` and stays within `lowest` and `highest` (all above 0, in that order around it).
    #[must_use]
    pub fn new(first: f64, lowest: f64, highest: f64) -> Self {
        let next = Next::Try(first.clamp(lowest, highest));
        Self { lowest, highest, held: None, broke: None, generator: false, next, confirmations: 0 }
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> Next {
        self.next
    }

    /// How that went.
    pub fn tell(&mut self, trial: Trial) {
        self.next = match self.next {
            Next::Done(knee) => Next::Done(knee),
            Next::Try(rate) => self.tried(rate, trial),
            Next::Confirm(rate) => self.confirmed(rate, trial),
        };
    }

    fn tried(&mut self, rate: f64, trial: Trial) -> Next {
        match trial {
            Trial::Held => self.held = Some(rate),
            Trial::Broke | Trial::GeneratorLimit => {
                self.broke = Some(rate);
                self.generator = trial == Trial::GeneratorLimit;
            }
        }
        match (self.held, self.broke) {
            (None, _) if rate <= self.lowest => Next::Done(Knee::Below(self.lowest)),
            (None, _) => Next::Try((rate / 2.0).max(self.lowest)),
            (Some(held), None) if held >= self.highest => Next::Confirm(held),
            (Some(held), None) => Next::Try((held * 2.0).min(self.highest)),
            (Some(held), Some(broke)) if broke <= held * (1.0 + PRECISION) => Next::Confirm(held),
            (Some(held), Some(broke)) => Next::Try((held + broke) / 2.0),
        }
    }

    fn confirmed(&mut self, rate: f64, trial: Trial) -> Next {
        self.confirmations += 1;
        if trial == Trial::Held {
            return Next::Done(match self.broke {
                Some(broke_at) if !self.generator => Knee::At { rate, broke_at },
                _ => Knee::AtLeast { rate, generator: self.generator },
            });
        }
        let lower = rate * (1.0 - BACK_OFF);
        if self.confirmations == CONFIRMATIONS_MAX || lower < self.lowest {
            return Next::Done(Knee::Unsteady(rate));
        }
        self.broke = Some(rate);
        self.generator = trial == Trial::GeneratorLimit;
        Next::Confirm(lower)
    }
}
