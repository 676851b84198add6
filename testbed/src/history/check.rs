//! The checks over a whole system; those of one rollout are in [`super::rollout`].

use std::collections::{BTreeMap, BTreeSet};

use super::rollout::Rollout;
use super::truth::{Event, Kind, State, Truth, same_mean};
use super::verdict::{Problem, Verdict};
use super::{Observation, Outcome};

/// Checks observations against what is there in the end. `truths` are by the observations' names of systems.
///
/// The observations must be complete: a call that nobody wrote down, and that was applied, counts as invented.
#[must_use]
pub fn check(observations: &[Observation], truths: &BTreeMap<String, Truth>) -> Verdict {
    let mut verdict = Verdict::default();
    let mut by_system: BTreeMap<&str, Vec<&Observation>> = BTreeMap::new();
    for observation in observations {
        by_system.entry(&observation.system).or_default().push(observation);
        match observation.outcome {
            Outcome::Acknowledged(_) | Outcome::Saw(_) => verdict.acknowledged += 1,
            Outcome::Refused(_) => verdict.refused += 1,
            Outcome::Unknown => verdict.unknown += 1,
        }
    }
    let names: BTreeSet<&str> = by_system.keys().copied().chain(truths.keys().map(String::as_str)).collect();
    for name in names {
        verdict.systems += 1;
        let seen = by_system.remove(name).unwrap_or_default();
        match truths.get(name) {
            Some(truth) => System { name, seen: &seen, truth, verdict: &mut verdict }.check(),
            None => verdict.found(name, Problem::NoTruth),
        }
    }
    verdict
}

struct System<'a> {
    name: &'a str,
    seen: &'a [&'a Observation],
    truth: &'a Truth,
    verdict: &'a mut Verdict,
}

impl System<'_> {
    fn check(mut self) {
        self.places();
        self.rollouts();
        self.learned();
        self.state();
        self.versions();
        self.readings();
    }

    fn found(&mut self, problem: Problem) {
        self.verdict.found(self.name, problem);
    }

    fn last(&self) -> u64 {
        self.truth.events.last().map_or(0, |event| event.seq)
    }

    fn places(&mut self) {
        let mut expected = 1;
        for event in &self.truth.events {
            if event.seq != expected {
                self.verdict.found(self.name, Problem::NotDense { expected, found: event.seq });
            }
            expected = event.seq + 1;
        }
    }

    fn rollouts(&mut self) {
        let mut rollouts: BTreeMap<&str, Rollout<'_>> = BTreeMap::new();
        for event in &self.truth.events {
            if let Some(id) = rollout_of(event) {
                rollouts.entry(id).or_default().add(event);
            }
        }
        for observation in self.seen {
            if let Some(id) = observation.call.rollout() {
                rollouts.entry(id).or_default().seen.push(observation);
            }
        }
        for (id, rollout) in &rollouts {
            // Every acknowledged call about a lost effect finds it missing; it is lost once.
            let mut found = Vec::new();
            rollout.check(id, &mut |problem| {
                if !found.contains(&problem) {
                    found.push(problem);
                }
            });
            found.into_iter().for_each(|problem| self.verdict.found(self.name, problem));
        }
    }

    /// What the optimizer said after each reward is the fold of the rewards so far.
    fn learned(&mut self) {
        let mut folded = State::default();
        for event in &self.truth.events {
            folded.apply(event);
            let Kind::Learned { candidate, rewards, mean } = &event.kind else { continue };
            let totals = folded.candidates.get(candidate).copied().unwrap_or_default();
            if totals.rewards != *rewards || !totals.mean.is_some_and(|folded| same_mean(folded, *mean)) {
                let problem = Problem::NotTheFold {
                    what: format!("what was learned of {candidate} at {}", event.seq),
                    found: format!("{rewards} rewards, mean {mean}"),
                    folded: format!("{} rewards, mean {:?}", totals.rewards, totals.mean),
                };
                self.verdict.found(self.name, problem);
            }
        }
    }

    fn state(&mut self) {
        let (state, folded) = (&self.truth.state, State::fold(&self.truth.events));
        let counts = [
            ("version", state.version, folded.version),
            ("rollout_count", state.rollouts, folded.rollouts),
            ("reward_count", state.rewards, folded.rewards),
            ("done_count", state.done, folded.done),
            ("failed_count", state.failed, folded.failed),
            ("expired_count", state.expired, folded.expired),
        ];
        for (what, found, folded) in counts.into_iter().filter(|(_, found, folded)| found != folded) {
            let (what, found, folded) = (what.to_owned(), found.to_string(), folded.to_string());
            self.found(Problem::NotTheFold { what, found, folded });
        }
        let ids: BTreeSet<&String> = state.candidates.keys().chain(folded.candidates.keys()).collect();
        for id in ids {
            let (found, folded) = (state.candidates.get(id), folded.candidates.get(id));
            let same = found.zip(folded).is_some_and(|(a, b)| {
                let means = match (a.mean, b.mean) {
                    (Some(a), Some(b)) => same_mean(a, b),
                    (a, b) => a == b,
                };
                a.rollouts == b.rollouts && a.rewards == b.rewards && means
            });
            if !same {
                let (found, folded) = (format!("{found:?}"), format!("{folded:?}"));
                self.verdict
                    .found(self.name, Problem::NotTheFold { what: format!("candidate {id}"), found, folded });
            }
        }
    }

    /// Versions one client sees never go back and never lie beyond the end.
    fn versions(&mut self) {
        let last = self.last();
        let mut highest: BTreeMap<u32, u64> = BTreeMap::new();
        for observation in self.seen {
            let client = observation.client;
            let version = match &observation.outcome {
                Outcome::Acknowledged(answer) => answer.version,
                Outcome::Saw(reading) => Some(reading.version),
                Outcome::Refused(_) | Outcome::Unknown => None,
            };
            let Some(version) = version else { continue };
            let before = highest.entry(client).or_default();
            if version < *before {
                let problem = Problem::WentBack { client, before: *before, after: version };
                self.verdict.found(self.name, problem);
            }
            if version > last {
                self.verdict.found(self.name, Problem::ShownThenLost { client, version, last });
            }
            *before = version.max(*before);
        }
    }

    /// What a read showed is what the events up to that version make.
    fn readings(&mut self) {
        let mut at: BTreeMap<u64, (u64, u64)> = BTreeMap::from([(0, (0, 0))]);
        let mut folded = State::default();
        for event in &self.truth.events {
            folded.apply(event);
            at.insert(event.seq, (folded.rollouts, folded.rewards));
        }
        for observation in self.seen {
            let Outcome::Saw(reading) = &observation.outcome else { continue };
            let Some(counts) = at.get(&reading.version) else { continue };
            if *counts != (reading.rollouts, reading.rewards) {
                let said = |rollouts, rewards| format!("{rollouts} rollouts and {rewards} rewards");
                let problem = Problem::ShownOtherwise {
                    client: observation.client,
                    version: reading.version,
                    shown: said(reading.rollouts, reading.rewards),
                    folded: said(counts.0, counts.1),
                };
                self.verdict.found(self.name, problem);
            }
        }
    }
}

fn rollout_of(event: &Event) -> Option<&str> {
    match &event.kind {
        Kind::Started { rollout, .. }
        | Kind::Rewarded { rollout, .. }
        | Kind::Done { rollout }
        | Kind::Failed { rollout } => Some(rollout),
        Kind::Created
        | Kind::CandidateAdded { .. }
        | Kind::Learned { .. }
        | Kind::Expired { .. }
        | Kind::Other => None,
    }
}
