//! The top of the page: the sentence, the verdict strip, and what it was all measured on.

use super::markup::{Esc, Html};
use crate::format::{NOTHING, bytes, counted, percent, thousands, times, with_ms};
use crate::headline::{added_us, before_after, headline, killed, llm_unchanged, llm_us};
use crate::schema::{CompareVerdict, ProfiledSide, Report, Rung};
use crate::view;

struct Tile {
    label: &'static str,
    figure: String,
    detail: String,
    tone: &'static str,
}

pub(super) fn render(page: &mut Html, report: &Report) {
    page.put(format_args!(
        "<header>\n<p class=\"eyebrow\"><span>mipro {}</span><span>{}</span>\
         <button id=\"theme\" type=\"button\" hidden aria-label=\"Switch between light and dark\">◐</button></p>\n<h1>{}</h1>\n",
        command(report),
        Esc(&report.run.id),
        Esc(&headline(report))
    ));
    page.raw("<ul class=\"tiles\" aria-label=\"Verdicts\">\n");
    for tile in tiles(report) {
        page.put(format_args!(
            "<li class=\"tile{}\"><span class=\"label\">{}</span><strong>{}</strong><span class=\"detail\">{}</span></li>\n",
            tile.tone,
            tile.label,
            Esc(&tile.figure),
            Esc(&tile.detail)
        ));
    }
    page.raw("</ul>\n");
    fingerprint(page, report);
    page.raw("</header>\n");
}

fn tiles(report: &Report) -> Vec<Tile> {
    let mut tiles = Vec::new();
    if let Some((before, after)) = before_after(report) {
        let (was, is, which) = added_us(before, after);
        let added = |label, rung: &Rung, us: f64, tone| Tile {
            label,
            figure: with_ms(us),
            detail: format!("{which} · {}", rung.name),
            tone,
        };
        if std::ptr::eq(before, after) {
            tiles.push(added("Service adds", before, was, ""));
        } else {
            tiles.push(added("Service added, before", before, was, ""));
            tiles.push(added("Service adds, after", after, is, " is-key"));
            if was > 0.0 && is > 0.0 {
                let (figure, detail) = if was >= is {
                    (times(was / is), "less overhead".to_owned())
                } else {
                    (times(is / was), "more overhead".to_owned())
                };
                tiles.push(Tile {
                    label: "Change",
                    figure,
                    detail,
                    tone: if was >= is { " is-good" } else { " is-bad" },
                });
            }
        }
        tiles.extend(dominant(before));
        tiles.push(loss(before, after));
        tiles.push(llm(before, after));
    }
    tiles.extend(comparisons(report));
    tiles.extend(report.profile.iter().flat_map(|profile| &profile.sides).filter_map(profiled));
    if report.profile.is_none() || !report.rungs.is_empty() {
        tiles.push(checks(report));
    }
    tiles
}

/// What wrote the report, as far as the page is concerned.
pub(super) fn command(report: &Report) -> &'static str {
    if report.profile.is_some() { "profile" } else { "bench" }
}

/// How much of a side's time is waiting.
fn profiled(side: &ProfiledSide) -> Option<Tile> {
    let wall = side.wall.as_ref()?;
    let waiting = wall.await_us.filter(|_| wall.per_rollout_us > 0.0);
    let waiting =
        waiting.map_or_else(String::new, |us| format!(" · {} waiting", percent(us / wall.per_rollout_us)));
    Some(Tile {
        label: "A rollout inside the service",
        figure: with_ms(wall.per_rollout_us),
        detail: format!("{}{waiting}", side.name),
        tone: "",
    })
}

/// What the service's time was spent on before: the first question of most readers.
fn dominant(before: &Rung) -> Option<Tile> {
    let (group, us) = view::dominant_group(before)?;
    let (stage, stage_us) = view::dominant_stage(before)?;
    let whole = view::overhead_mean_us(before);
    Some(Tile {
        label: "Most of it, before",
        figure: format!("{} {}", view::label(group), percent(us / whole)),
        detail: format!("{stage} {}", percent(stage_us / whole)),
        tone: "",
    })
}

fn loss(before: &Rung, after: &Rung) -> Tile {
    let label = "Rewards lost on a kill";
    let (was, is) = (killed(before), killed(after));
    if was.is_none() && is.is_none() {
        return Tile { label, figure: NOTHING.to_owned(), detail: "not measured".to_owned(), tone: "" };
    }
    let figure = |count: Option<crate::LossCount>| {
        count.map_or_else(|| NOTHING.to_owned(), |count| thousands(count.lost as f64))
    };
    let of = is.or(was).map_or(0, |count| count.acknowledged);
    Tile {
        label,
        figure: format!("{} → {}", figure(was), figure(is)),
        detail: format!("of {} acknowledged", thousands(of as f64)),
        tone: if is.is_some_and(|count| count.lost > 0) { " is-bad" } else { " is-good" },
    }
}

fn llm(before: &Rung, after: &Rung) -> Tile {
    let label = "LLM’s part";
    match (llm_us(before), llm_us(after)) {
        (Some(was), Some(is)) if llm_unchanged(was, is) => {
            Tile { label, figure: with_ms(is), detail: format!("unchanged (was {})", with_ms(was)), tone: "" }
        }
        (Some(was), Some(is)) => Tile {
            label,
            figure: with_ms(is),
            detail: format!("changed (was {})", with_ms(was)),
            tone: " is-bad",
        },
        _ => Tile { label, figure: NOTHING.to_owned(), detail: "not measured".to_owned(), tone: "" },
    }
}

/// The comparisons' verdicts, the worst of them as the figure.
fn comparisons(report: &Report) -> Option<Tile> {
    let severity = |verdict: &CompareVerdict| match verdict {
        CompareVerdict::Regress => 4,
        CompareVerdict::Invalid { .. } => 3,
        CompareVerdict::Inconclusive { .. } => 2,
        CompareVerdict::Pass { improved: false } => 1,
        CompareVerdict::Pass { improved: true } | CompareVerdict::Shown => 0,
    };
    let worst = report.comparisons.iter().max_by_key(|comparison| severity(&comparison.verdict))?;
    let tone = match severity(&worst.verdict) {
        4 => " is-bad",
        2 | 3 => "",
        _ => " is-good",
    };
    let more = match report.comparisons.len() {
        1 => String::new(),
        count => format!(", the worst of {count}"),
    };
    let detail = format!("{} against {}{more}", worst.b, worst.a);
    Some(Tile { label: "Comparison", figure: worst.verdict.word().to_owned(), detail, tone })
}

fn checks(report: &Report) -> Tile {
    let sound = report.rungs.iter().filter(|rung| rung.validity.ok && rung.accounting.holds()).count();
    let failed = report.verdicts.iter().filter(|verdict| verdict.outcome != "pass").count();
    let all = sound == report.rungs.len() && failed == 0 && !report.run.interrupted;
    let detail = match (report.run.interrupted, failed) {
        (true, _) => "interrupted: partial".to_owned(),
        (false, 0) if report.verdicts.is_empty() => "rungs valid and accounted for".to_owned(),
        (false, 0) => format!("rungs valid; {} pass", counted(report.verdicts.len(), "check", "checks")),
        (false, failed) => format!("rungs valid; {} not passed", counted(failed, "check", "checks")),
    };
    Tile {
        label: "Soundness",
        figure: format!("{sound} of {}", report.rungs.len()),
        detail,
        tone: if all { " is-good" } else { " is-bad" },
    }
}

fn fingerprint(page: &mut Html, report: &Report) {
    let (run, environment) = (&report.run, &report.environment);
    let dirty = if run.dirty { " + uncommitted changes" } else { "" };
    let facts = [
        ("Stack", format!("{}: {}, {}", environment.stack, environment.database, environment.object_store)),
        ("Link", environment.link.clone()),
        ("LLM", environment.llm.clone()),
        ("Data set", environment.dataset.clone()),
        ("Logs on", environment.log_filesystem.clone()),
        (
            "Machine",
            format!(
                "{}, {}, {}",
                environment.cpu,
                counted(environment.cores as usize, "core", "cores"),
                bytes(environment.memory_bytes as f64)
            ),
        ),
        ("System", format!("{}, kernel {}", environment.os, environment.kernel)),
        ("Noise", format!("{:.1} % of CPU time stolen. {}", environment.steal_pct, environment.noise)),
        ("A/A", noise_floor(report)),
        ("Commit", format!("{}{dirty}", run.commit)),
        ("Seed", run.seed.to_string()),
        ("Time", format!("{} to {}", plain_time(&run.started_at), plain_time(&run.finished_at))),
    ];
    page.raw("<details class=\"fingerprint\" open><summary>Measured on</summary>\n<dl>\n");
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        page.put(format_args!("<div><dt>{name}</dt><dd>{}</dd></div>\n", Esc(value)));
    }
    page.put(format_args!(
        "<div class=\"full\"><dt>Command</dt><dd><code>mipro {}</code></dd></div>\n</dl>\n</details>\n",
        Esc(run.command.strip_prefix("mipro ").unwrap_or(&run.command))
    ));
}

/// How far the machine differs from itself: what no comparison made on it can tell from nothing.
fn noise_floor(report: &Report) -> String {
    let Some(floor) = &report.environment.noise_floor else { return String::new() };
    let one = |noise: &crate::Noise| {
        format!(
            "{} p{} ±{} (false alarms {} of {})",
            noise.endpoint,
            noise.quantile * 100.0,
            percent(noise.half_width),
            noise.false_alarms,
            noise.comparisons
        )
    };
    let measured: Vec<String> = floor.fresh.iter().filter(|noise| noise.comparisons > 0).map(one).collect();
    if measured.is_empty() {
        return String::new();
    }
    format!(
        "A against itself, {} pairs: {}; measured {}",
        floor.pairs,
        measured.join(", "),
        plain_time(&floor.measured_at)
    )
}

/// `2026-03-02 10:15:02 UTC` for an RFC 3339 time in UTC; other texts as they are.
fn plain_time(text: &str) -> String {
    match (text.split_once('T'), text.ends_with('Z')) {
        (Some((date, time)), true) if date.len() == 10 && time.len() >= 9 && time.is_ascii() => {
            format!("{date} {} UTC", &time[..8])
        }
        _ => text.to_owned(),
    }
}

pub(super) fn foot(page: &mut Html, report: &Report) {
    let invalid = report.rungs.iter().filter(|rung| !view::sound(rung)).count();
    let marked = if invalid > 0 { " A rung marked ! must not be believed: see Accounting." } else { "" };
    page.put(format_args!(
        "<footer>\n<p>Stages are exclusive: each instant of a request is charged to one stage, and <em>other</em> is what none claims. \
         A percentile is shown only with 10 samples or more beyond it. All figures are in <code>report.json</code> beside this page, \
         with every histogram.{marked}</p>\n</footer>\n"
    ));
}
