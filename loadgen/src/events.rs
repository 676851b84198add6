//! A recording out of what a service tells of one system's past.

use std::collections::HashMap;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::account::Failure;
use crate::client::{Answer, Client};
use crate::error::Error;
use crate::options::Options;
use crate::recording::{ROLLOUTS_MAX, Recorded, Recording, Source};
use crate::setup::{authorized, system_url};

#[cfg(test)]
mod tests;

/// Events asked for at once; the service may give fewer.
const PAGE: u32 = 1_000;

const ACTION: &str = "read the system's events";

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Event>,
    next_seq: u64,
}

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    at: String,
    rollout_id: Option<String>,
}

/// The rollouts that a system has had, as its service tells them: when each began, and how long the client paused between its
/// reward and its `done`. What examples they were about the service doesn't know, and the pause before a reward can't be told
/// from the task's own time.
///
/// # Errors
/// When the options name no target, the service cannot be reached, refuses, or answers otherwise than the contract says.
pub async fn record_events(options: &Options, system: Uuid) -> Result<Recording, Error> {
    let Some(target) = &options.target else {
        return Err(Error::Options("events are read from a service: name the target".to_owned()));
    };
    let client = Client::new(options.timeout, 1)?;
    let failed = |failure| Error::Setup { action: ACTION, failure };
    let mut story = Story::default();
    let mut since_seq = 0;
    loop {
        let mut url = system_url(target, system, "events");
        url.set_query(Some(&format!("since_seq={since_seq}&limit={PAGE}")));
        let answer = client.call(authorized(client.get(url), options)).await.answer;
        let page: Page = answer.and_then(Answer::success).and_then(|a| a.json()).map_err(failed)?;
        let next = page.next_seq;
        let last = page.items.is_empty() || next <= since_seq;
        page.items.iter().try_for_each(|event| story.hear(event)).map_err(failed)?;
        if last || story.rollouts.len() >= ROLLOUTS_MAX {
            return Ok(Recording::new(Source::Events, story.rollouts));
        }
        since_seq = next;
    }
}

/// Rollouts heard of so far; those that are not done yet also by id.
#[derive(Debug, Default)]
struct Story {
    rollouts: Vec<Recorded>,
    open: HashMap<String, Open>,
}

#[derive(Debug)]
struct Open {
    place: usize,
    rewarded_us: Option<u64>,
}

impl Story {
    fn hear(&mut self, event: &Event) -> Result<(), Failure> {
        let Some(id) = &event.rollout_id else { return Ok(()) };
        match event.kind.as_str() {
            "mipro.rollout.started" => {
                let open = Open { place: self.rollouts.len(), rewarded_us: None };
                self.open.insert(id.clone(), open);
                self.rollouts.push(Recorded { at_us: unix_us(&event.at)?, seed: None, think_us: [0, 0] });
            }
            "mipro.reward.received" => {
                if let Some(open) = self.open.get_mut(id) {
                    open.rewarded_us = Some(unix_us(&event.at)?);
                }
            }
            "mipro.rollout.done" => {
                if let Some(Open { place, rewarded_us: Some(rewarded_us) }) = self.open.remove(id) {
                    self.rollouts[place].think_us[1] = unix_us(&event.at)?.saturating_sub(rewarded_us);
                }
            }
            "mipro.rollout.failed" | "mipro.rollout.expired" => drop(self.open.remove(id)),
            _ => {}
        }
        Ok(())
    }
}

fn unix_us(at: &str) -> Result<u64, Failure> {
    let parsed = OffsetDateTime::parse(at, &Rfc3339);
    let unusable = || Failure::invalid(format!("an event's `at` is no time: {at}"));
    let ns = parsed.map_err(|_| unusable())?.unix_timestamp_nanos();
    u64::try_from(ns / 1_000).map_err(|_| unusable())
}
