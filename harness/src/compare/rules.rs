//! What a comparison asks, decided by the pilots before the first slice that counts.

use std::collections::BTreeSet;

use mipro_bench_reports::Rung;
use mipro_bench_reports::compare::Endpoint;

use super::Seen;

use crate::pacing::Pacing;

/// Share of the service's own time from which a stage is gated: of smaller ones a margin says nothing that anybody would
/// notice, and each gate more is one more that noise can hold open.
const STAGE_SHARE_MIN: f64 = 0.05;
/// The generator's and the LLM's own times: none of the service's doing.
const NOT_OURS: [&str; 3] = ["llm.connect", "llm.first_byte", "llm.body"];

/// The whole rollout's and the service's own median are gated, and the median of every stage that has a share worth a gate
/// and runs in nearly each rollout of both sides; at light load, the whole rollout's p90, too. The steps of a rollout, the other stages,
/// and the tails are shown. A stage's time is what it takes of one rollout, over all its calls: that of a single call would mix
/// calls that wait with calls that don't, and its median would stand on neither.
pub(crate) fn endpoints(pilots: &[Seen; 2], margin: f64, pacing: Pacing) -> Vec<Endpoint> {
    let [a, b] = pilots.each_ref().map(|pilot| &pilot.rung);
    let mut endpoints = vec![Endpoint::gated("rollout.response", 0.5, margin)];
    if a.overhead.count > 0 && b.overhead.count > 0 {
        endpoints.push(Endpoint::gated("overhead", 0.5, margin));
    }
    // Which call of a rollout it is: the whole is gated, its parts explain it.
    let steps: BTreeSet<&String> = a.steps.keys().chain(b.steps.keys()).collect();
    endpoints.extend(steps.iter().map(|step| Endpoint::shown(&format!("steps.{step}.service"), 0.5)));
    let names: BTreeSet<&String> = a.stages.keys().chain(b.stages.keys()).collect();
    for stage in names {
        let name = format!("stages.{stage}");
        let steady = pilots.iter().all(|pilot| pilot.steady.contains(stage));
        let weighs = [a, b].into_iter().any(|rung| share(rung, stage) >= STAGE_SHARE_MIN);
        let gated = steady && weighs && !NOT_OURS.contains(&stage.as_str());
        endpoints.push(if gated { Endpoint::gated(&name, 0.5, margin) } else { Endpoint::shown(&name, 0.5) });
    }
    // Near saturation a tail is made of queues, and says more about the load than about a side.
    endpoints.push(if pacing == Pacing::Light {
        Endpoint::gated("rollout.response", 0.9, margin)
    } else {
        Endpoint::shown("rollout.response", 0.9)
    });
    endpoints.push(Endpoint::shown("overhead", 0.9));
    endpoints.extend(["rollout.response", "overhead"].map(|name| Endpoint::shown(name, 0.99)));
    endpoints
}

/// A stage's part of what the service itself takes for a rollout.
fn share(rung: &Rung, stage: &str) -> f64 {
    let own_us = rung.overhead.mean_us.unwrap_or(0.0);
    let stage_us = rung.stages.get(stage).map_or(0.0, |stage| stage.per_rollout_us);
    if own_us > 0.0 { stage_us / own_us } else { 0.0 }
}
