//! A profile on the terminal: the longest stages of each side, and what could not be had.

use super::{Page, Tone};
use crate::format::{NOTHING, counted, percent, thousands, with_ms};
use crate::schema::{CpuProfile, ProfiledSide, Report, WallProfile};

/// Stages that are shown.
const STAGES_SHOWN: usize = 8;

impl Page {
    /// Nothing for a run that did not profile.
    pub(super) fn profile(&mut self, report: &Report) {
        let Some(profile) = &report.profile else { return };
        for side in &profile.sides {
            self.profiled_side(side);
        }
        for note in &profile.notes {
            self.line("", Tone::Plain);
            self.paragraph(note, Tone::Dim);
        }
    }

    fn profiled_side(&mut self, side: &ProfiledSide) {
        self.heading(&side.name, "a rollout's calls, inside the service");
        if let Some(wall) = &side.wall {
            self.stages(wall);
        }
        if let Some(cpu) = &side.cpu {
            self.paragraph(&cpu_line(cpu), Tone::Plain);
        }
    }

    fn stages(&mut self, wall: &WallProfile) {
        for stage in wall.stages.iter().take(STAGES_SHOWN) {
            let share = percent(stage.per_rollout_us / wall.per_rollout_us.max(f64::MIN_POSITIVE));
            let time = with_ms(stage.per_rollout_us);
            self.line(&format!("  {:<18}{time:>12}{share:>9}", stage.stage), Tone::Plain);
        }
        let or_nothing = |us: Option<f64>| us.map_or_else(|| NOTHING.to_owned(), with_ms);
        let line = format!(
            "wall clock {}, waiting {}, over {}; the slowest took {}",
            with_ms(wall.per_rollout_us),
            or_nothing(wall.await_us),
            counted(wall.rollouts as usize, "rollout", "rollouts"),
            or_nothing(wall.slowest_us),
        );
        self.paragraph(&line, Tone::Plain);
    }
}

fn cpu_line(cpu: &CpuProfile) -> String {
    format!(
        "CPU {}: {} samples over {}, {}",
        with_ms(cpu.per_rollout_us),
        thousands(cpu.samples as f64),
        counted(cpu.rollouts as usize, "rollout", "rollouts"),
        cpu.recorder
    )
}
