//! `mipro aa`

use std::fmt::Write as _;

use anyhow::Context as _;
use mipro_bench_reports::{Noise, NoiseFloor};
use mipro_harness::aa::AaOptions;
use mipro_harness::subject::{Naming, Subject};

use super::bench::Interrupt;
use super::compare::{compare_options, could_not};
use super::ground::check_dataset;
use super::scratch::Scratch;
use super::screen::Screen;
use super::{noise, print};
use crate::args::{AaArgs, Inconclusive, ReportFormat};
use crate::exit::Code;

pub(crate) async fn run(args: AaArgs) -> anyhow::Result<Code> {
    let format = args.ground.show.format;
    anyhow::ensure!(
        matches!(format, ReportFormat::Text | ReportFormat::Json),
        "--format: a noise floor is printed as text or json"
    );
    let options = options(&args)?;
    check_dataset(args.ground.dataset.as_deref())?;
    let interrupt = Interrupt::watch()?;
    let scratch = Scratch::new(&mipro_harness::environment::scratch_parent())?;
    let screen = Screen { quiet: args.ground.show.quiet, no_color: args.ground.show.no_color };
    let running = mipro_harness::aa::run(&options, scratch.path(), &screen, &interrupt.token);
    let outcome = tokio::select! {
        outcome = Box::pin(running) => outcome,
        // Dropping the run ends its children.
        () = interrupt.at_once.cancelled() => return Ok(interrupt.code().unwrap_or(Code::Interrupted)),
    };
    let done = match outcome {
        Ok(done) => done,
        Err(error) => return could_not(error, &scratch),
    };
    print(&match format {
        ReportFormat::Json => {
            serde_json::to_string_pretty(&done.floor).context("plain numbers and text")? + "\n"
        }
        _ => text(&done.floor),
    })?;
    if let Some(code) = interrupt.code() {
        // A floor of fewer comparisons than were asked for is shown and not kept.
        return Ok(code);
    }
    noise::write(&args.keep, &done.floor)?;
    Ok(Code::Ok)
}

fn options(args: &AaArgs) -> anyhow::Result<AaOptions> {
    let side = Subject::parse(&args.side, Naming::Plain, args.pairing.rung).context("--side")?;
    let command = format!("mipro aa --side {side} --runs {}", args.runs);
    let compare =
        compare_options(&args.ground, &args.pairing, [side.clone(), side], Inconclusive::Extend, &command)?;
    Ok(AaOptions { compare, runs: args.runs, redrawn: args.redrawn })
}

/// One sentence, then a row for each endpoint and kind.
fn text(floor: &NoiseFloor) -> String {
    let mut text = String::new();
    if let Some(own) = floor.fresh.iter().find(|of| of.endpoint == "overhead").or_else(|| floor.fresh.first())
    {
        let _ = writeln!(
            text,
            "held against itself, {} p{} differs by ±{:.1} % (half an interval); {} of {} comparisons raised a false alarm, with 95 % \
             confidence at most {:.1} %",
            own.endpoint,
            own.quantile * 100.0,
            own.half_width * 100.0,
            own.false_alarms,
            own.comparisons,
            own.rate_upper * 100.0
        );
    }
    let _ = writeln!(text, "{} pairs a comparison, {} rollouts a slice", floor.pairs, floor.rollouts);
    for (kind, of) in [("fresh", &floor.fresh), ("redrawn", &floor.redrawn)] {
        let measured: Vec<&Noise> = of.iter().filter(|noise| noise.comparisons > 0).collect();
        if measured.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "\n{:<28} {:>11} {:>6} {:>9} {:>10} {:>8}",
            kind, "comparisons", "alarms", "at most", "half width", "noise"
        );
        for noise in measured {
            let name = format!("{} p{}", noise.endpoint, noise.quantile * 100.0);
            let _ = writeln!(
                text,
                "{name:<28} {:>11} {:>6} {:>7.1} % {:>8.1} % {:>6.1} %",
                noise.comparisons,
                noise.false_alarms,
                noise.rate_upper * 100.0,
                noise.half_width * 100.0,
                noise.noise * 100.0
            );
        }
    }
    text
}

#[cfg(test)]
mod tests;
