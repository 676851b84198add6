//! What was found, as files and as figures of the report.

use mipro_bench_reports::flame::views::{View, differences, file_label, single};
use mipro_bench_reports::flame::waits::Waits;
use mipro_bench_reports::flame::{self, Heading, Scale, Unit};
use mipro_bench_reports::{CpuProfile, ProfiledSide, ProfiledStage, WallProfile};
use mipro_telemetry::Folded;

use super::Found;
use super::perf::{Cpu, HERTZ};
use super::wall::Wall;

/// Stages in the report; a service has fewer.
const STAGES_MAX: usize = 32;

/// One side's view.
struct Picture<'a> {
    view: View,
    label: String,
    stacks: &'a Folded,
    rollouts: u64,
}

impl Picture<'_> {
    fn unit(&self) -> Unit {
        match self.view {
            View::Cpu => Unit::Samples,
            View::Wall | View::Busy => Unit::Nanoseconds { rollouts: self.rollouts },
        }
    }
}

/// Every file, and every side's figures.
pub(super) fn draw(found: &[Found]) -> (Vec<(String, String)>, Vec<ProfiledSide>) {
    let (mut files, mut sides, mut drawn) = (Vec::new(), Vec::new(), Vec::new());
    for (index, side) in found.iter().enumerate() {
        let label = distinct(found, index);
        let mut views = Vec::with_capacity(View::ALL.len());
        if let Some(wall) = &side.wall {
            views.push((View::Wall, &wall.stacks, wall.rollouts));
            views.extend(wall.busy.as_ref().map(|busy| (View::Busy, busy, wall.rollouts)));
            // The file has more than the picture: jobs, and work behind the answers.
            files.push((format!("{}.folded", single(View::Wall, &label)), wall.all.to_text()));
            files.extend(
                wall.trace
                    .iter()
                    .map(|trace| (format!("slowest-{}.trace.json", file_label(&label)), trace.clone())),
            );
        }
        views.extend(side.cpu.as_ref().map(|cpu| (View::Cpu, &cpu.stacks, cpu.rollouts)));
        for (view, stacks, rollouts) in views {
            let picture = Picture { view, label: label.clone(), stacks, rollouts };
            if view != View::Wall {
                files.push((format!("{}.folded", single(view, &label)), stacks.to_text()));
            }
            files.push((format!("{}.svg", single(view, &label)), alone(&picture)));
            drawn.push(picture);
        }
        sides.push(ProfiledSide {
            name: side.label.clone(),
            wall: side.wall.as_ref().map(wall_figures),
            cpu: side.cpu.as_ref().map(cpu_figures),
        });
    }
    for view in [View::Wall, View::Cpu] {
        let both: Vec<&Picture<'_>> = drawn.iter().filter(|picture| picture.view == view).collect();
        if let [a, b] = both.as_slice() {
            files.extend(held_together(a, b));
        }
    }
    (files, sides)
}

/// A side's name in file names; the second of two that would be called the same says so.
fn distinct(found: &[Found], index: usize) -> String {
    let label = &found[index].label;
    let same = found[..index].iter().any(|other| file_label(&other.label) == file_label(label));
    if same { format!("{label} b") } else { label.clone() }
}

fn alone(picture: &Picture<'_>) -> String {
    let title = format!("{}: {}", picture.view.title(), picture.label);
    flame::svg(picture.stacks, &Heading { title: &title, note: picture.view.note(), unit: picture.unit() })
}

/// Both differences: a frame that is gone has no width, so that one alone hides what was won.
fn held_together(a: &Picture<'_>, b: &Picture<'_>) -> [(String, String); 2] {
    let scale = match a.view {
        View::Cpu => Scale::Normalised,
        View::Wall | View::Busy => Scale::Absolute,
    };
    let [there, back] = differences(a.view, &a.label, &b.label);
    let one = |name: String, was: &Picture<'_>, is: &Picture<'_>| {
        let title = format!("{}: {} against {}", is.view.title(), is.label, was.label);
        let scaled = if scale == Scale::Normalised { " Samples are scaled to the same total." } else { "" };
        let note = format!(
            "Widths of {is}; red takes more than in {was}, blue less.{scaled} What {is} does not do has no width here.",
            is = is.label,
            was = was.label
        );
        let heading = Heading { title: &title, note: &note, unit: is.unit() };
        (format!("{name}.svg"), flame::difference(&per_rollout(was, is), is.stacks, scale, &heading))
    };
    [one(there, a, b), one(back, b, a)]
}

/// `was` for as many rollouts as `is` has, where the two were driven for different ones (a run that was interrupted).
fn per_rollout(was: &Picture<'_>, is: &Picture<'_>) -> Folded {
    if was.rollouts == is.rollouts || was.view == View::Cpu {
        return was.stacks.clone();
    }
    let mut scaled = Folded::default();
    for (stack, count) in was.stacks.iter() {
        let count = count as f64 * is.rollouts as f64 / was.rollouts.max(1) as f64;
        scaled.add(stack.split(';'), count.round() as u64);
    }
    scaled
}

fn wall_figures(wall: &Wall) -> WallProfile {
    let waits = Waits::of(&wall.stacks);
    let us = |ns: u64| ns as f64 / 1e3 / wall.rollouts as f64;
    let stages = waits.stages.iter().take(STAGES_MAX);
    WallProfile {
        rollouts: wall.rollouts,
        per_rollout_us: us(waits.total_ns),
        await_us: wall.from_spans.then(|| us(waits.await_ns)),
        stages: stages
            .map(|(stage, ns)| ProfiledStage { stage: stage.clone(), per_rollout_us: us(*ns) })
            .collect(),
        slowest_us: wall.slowest_ns.map(|ns| ns as f64 / 1e3),
        source: if wall.from_spans { "spans" } else { "server-timing" }.to_owned(),
    }
}

fn cpu_figures(cpu: &Cpu) -> CpuProfile {
    let samples = cpu.stacks.total();
    CpuProfile {
        rollouts: cpu.rollouts,
        samples,
        per_rollout_us: samples as f64 * 1e6 / f64::from(HERTZ) / cpu.rollouts as f64,
        recorder: format!("perf, cpu-clock at {HERTZ} Hz"),
    }
}
