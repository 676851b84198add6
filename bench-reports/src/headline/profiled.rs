//! The sentence of a run that only profiled.

use mipro_telemetry::{Group, Stage};

use crate::format::{percent, with_ms};
use crate::schema::{Profile, ProfiledSide, WallProfile};
use crate::view::label;

/// Where a rollout's time goes, side by side.
pub(super) fn sentence(profile: &Profile) -> String {
    let walls: Vec<String> = profile.sides.iter().filter_map(waits).collect();
    let cpus: Vec<String> = profile.sides.iter().filter_map(cpu).collect();
    let mut text = match walls.len() {
        0 => "No wall-clock profile could be taken".to_owned(),
        _ => format!("Of a rollout's time inside the service: {}", walls.join("; ")),
    };
    match cpus.len() {
        0 => text.push_str(". Where CPU time went was not recorded."),
        _ => text.push_str(&format!(". CPU a rollout: {}.", cpus.join("; "))),
    }
    text
}

/// `blob waits for 99 % of 2,449 ms, 1,768 ms of it DB`.
fn waits(side: &ProfiledSide) -> Option<String> {
    let wall = side.wall.as_ref()?;
    let whole = with_ms(wall.per_rollout_us);
    let most = longest(wall)
        .map_or_else(String::new, |(group, us)| format!(", {} of it {}", with_ms(us), label(group)));
    Some(match wall.await_us.filter(|_| wall.per_rollout_us > 0.0) {
        Some(us) => format!("{} waits for {} of {whole}{most}", side.name, percent(us / wall.per_rollout_us)),
        None => format!("{} spends {whole}{most}", side.name),
    })
}

/// The roll-up of stages that takes the longest.
fn longest(wall: &WallProfile) -> Option<(Group, f64)> {
    let of = |group: Group| {
        let mine =
            wall.stages.iter().filter(|s| Stage::from_name(&s.stage).is_some_and(|s| s.group() == group));
        (group, mine.map(|stage| stage.per_rollout_us).sum::<f64>())
    };
    let groups = Group::ALL.iter().map(|group| of(*group)).filter(|(_, us)| *us > 0.0);
    groups.max_by(|a, b| a.1.total_cmp(&b.1))
}

fn cpu(side: &ProfiledSide) -> Option<String> {
    let cpu = side.cpu.as_ref()?;
    Some(format!("{} in {}", with_ms(cpu.per_rollout_us), side.name))
}
