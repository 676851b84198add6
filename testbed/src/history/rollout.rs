//! The checks of one rollout: what its clients were told, against its events.

use super::truth::{Event, Kind};
use super::verdict::Problem;
use super::{Answer, Call, Observation, Outcome, Status};

const START: &str = "the start";
const REWARD: &str = "the reward";
const END: &str = "the end";
const FAILURE: &str = "the failure";

type Report<'r> = &'r mut dyn FnMut(Problem);

/// A rollout's events by kind, and the calls about it.
#[derive(Default)]
pub(super) struct Rollout<'a> {
    started: Vec<(u64, &'a str)>,
    rewarded: Vec<(u64, &'a str, f64)>,
    done: Vec<u64>,
    failed: Vec<u64>,
    pub(super) seen: Vec<&'a Observation>,
}

impl<'a> Rollout<'a> {
    pub(super) fn add(&mut self, event: &'a Event) {
        match &event.kind {
            Kind::Started { candidate, .. } => self.started.push((event.seq, candidate)),
            Kind::Rewarded { candidate, reward, .. } => {
                self.rewarded.push((event.seq, candidate, *reward));
            }
            Kind::Done { .. } => self.done.push(event.seq),
            Kind::Failed { .. } => self.failed.push(event.seq),
            _ => {}
        }
    }

    pub(super) fn check(&self, id: &str, report: Report<'_>) {
        self.once(id, report);
        self.in_order(id, report);
        for observation in &self.seen {
            if let Outcome::Acknowledged(answer) = &observation.outcome {
                self.kept(id, &observation.call, answer, report);
            }
        }
        self.explained(id, report);
        self.first_once(id, report);
    }

    fn once(&self, id: &str, report: Report<'_>) {
        let started = self.started.iter().map(|(seq, _)| *seq).collect();
        let rewarded = self.rewarded.iter().map(|(seq, ..)| *seq).collect();
        for (what, at) in
            [(START, started), (REWARD, rewarded), (END, self.done.clone()), (FAILURE, self.failed.clone())]
        {
            if at.len() > 1 {
                report(Problem::Doubled { what, rollout: id.to_owned(), at });
            }
        }
    }

    fn in_order(&self, id: &str, report: Report<'_>) {
        let started = self.started.first().map(|(seq, _)| *seq);
        let rewarded = self.rewarded.first().map(|(seq, ..)| *seq);
        let (done, failed) = (self.done.first().copied(), self.failed.first().copied());
        let rollout = || id.to_owned();
        for (later, seq) in [(REWARD, rewarded), (END, done), (FAILURE, failed)] {
            if let Some(later_seq) = seq.filter(|seq| started.is_none_or(|start| start > *seq)) {
                let (earlier, earlier_seq) = (START, started);
                report(Problem::OutOfOrder { rollout: rollout(), earlier, earlier_seq, later, later_seq });
            }
        }
        if let (Some(reward), Some(end)) = (rewarded, done)
            && reward > end
            && !self.may_be_late()
        {
            let (earlier, earlier_seq, later) = (REWARD, Some(reward), END);
            report(Problem::OutOfOrder { rollout: rollout(), earlier, earlier_seq, later, later_seq: end });
        }
        if let (Some(reward), Some(failure)) = (rewarded, failed) {
            // Whichever came first, the other had to be refused.
            let (later, later_seq) = (FAILURE, failure);
            let (earlier, earlier_seq) = (REWARD, Some(reward));
            report(Problem::OutOfOrder { rollout: rollout(), earlier, earlier_seq, later, later_seq });
        }
    }

    /// A first reward may follow a `done` that carried none. One client makes its calls one after the other, so that its
    /// `done` has to stand before its reward call; calls of two clients have no order.
    fn may_be_late(&self) -> bool {
        let mut bare_by = Vec::new();
        let bare = |call: &Call| matches!(call, Call::Report { status: Status::Done, reward: None, .. });
        let clients: Vec<u32> =
            self.seen.iter().filter(|o| bare(&o.call) && o.outcome.may_apply()).map(|o| o.client).collect();
        for observation in &self.seen {
            if bare(&observation.call) && observation.outcome.may_apply() {
                bare_by.push(observation.client);
            }
            let rewards = observation.call.reward().is_some() && observation.outcome.may_apply();
            let other = clients.iter().any(|client| *client != observation.client);
            if rewards && (other || bare_by.contains(&observation.client)) {
                return true;
            }
        }
        false
    }

    /// What was acknowledged is there, as it was acknowledged, and no later than the version said.
    fn kept(&self, id: &str, call: &Call, answer: &Answer, report: Report<'_>) {
        let rollout = || id.to_owned();
        let lost = |what: &str| Problem::Lost { what: what.to_owned(), rollout: rollout() };
        let mut places = Vec::new();
        match self.started.first() {
            Some((seq, candidate)) => {
                places.push((START, *seq));
                if let Some(acknowledged) = answer.candidate.as_ref().filter(|said| said != candidate) {
                    let (acknowledged, found) = (acknowledged.clone(), (*candidate).to_owned());
                    report(Problem::Altered { rollout: rollout(), acknowledged, found, seq: *seq });
                }
            }
            None => report(lost(START)),
        }
        if let Some(sent) = call.reward() {
            match self.rewarded.first() {
                Some((seq, _, found)) if *found == sent => places.push((REWARD, *seq)),
                Some((seq, _, found)) => {
                    let (acknowledged, found) = (format!("reward {sent}"), format!("reward {found}"));
                    report(Problem::Altered { rollout: rollout(), acknowledged, found, seq: *seq });
                }
                None => report(lost(&format!("{REWARD} {sent}"))),
            }
        }
        if call.closes() {
            // A `done` to a failed rollout is answered, and changes nothing.
            match self.done.first().or_else(|| self.failed.first()) {
                Some(seq) => places.push((END, *seq)),
                None => report(lost(END)),
            }
        }
        if call.fails() {
            match self.failed.first() {
                Some(seq) => places.push((FAILURE, *seq)),
                None => report(lost(FAILURE)),
            }
        }
        let Some(version) = answer.version else { return };
        for (what, seq) in places.into_iter().filter(|(_, seq)| *seq > version) {
            report(Problem::AcknowledgedBefore { what, rollout: rollout(), version, seq });
        }
    }

    /// Every event was asked for by a call that may have been applied.
    fn explained(&self, id: &str, report: Report<'_>) {
        let mut explain = |seq: u64, what: String, asks: &dyn Fn(&Call) -> bool| {
            let asked = || self.seen.iter().filter(|observation| asks(&observation.call));
            if asked().any(|observation| observation.outcome.may_apply()) {
                return;
            }
            let refused = asked().find_map(|observation| match observation.outcome {
                Outcome::Refused(code) => Some(code),
                _ => None,
            });
            let rollout = id.to_owned();
            report(match refused {
                Some(code) => Problem::RefusedButApplied { what, rollout, code, seq },
                None => Problem::Invented { what, rollout, seq },
            });
        };
        for (seq, _) in &self.started {
            explain(*seq, START.to_owned(), &|call| !matches!(call, Call::Read));
        }
        for (seq, _, reward) in &self.rewarded {
            explain(*seq, format!("{REWARD} {reward}"), &|call| call.reward() == Some(*reward));
        }
        for seq in &self.done {
            explain(*seq, END.to_owned(), &Call::closes);
        }
        for seq in &self.failed {
            explain(*seq, FAILURE.to_owned(), &Call::fails);
        }
    }

    /// Of the answers to one and the same call, at most one may say that it was the first.
    fn first_once(&self, id: &str, report: Report<'_>) {
        let first = |observation: &&&Observation| matches!(&observation.outcome, Outcome::Acknowledged(answer) if answer.duplicate == Some(false));
        let firsts: Vec<&Call> =
            self.seen.iter().filter(first).map(|observation| &observation.call).collect();
        for (index, call) in firsts.iter().enumerate() {
            let count = firsts.iter().filter(|other| *other == call).count();
            if count > 1 && !firsts[..index].contains(call) {
                report(Problem::FirstTwice { rollout: id.to_owned(), count });
            }
        }
    }
}
