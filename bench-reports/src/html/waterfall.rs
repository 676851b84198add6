//! One rung's overhead as a waterfall: each stage begins where the one before ended, and the last ends at the whole.

use mipro_telemetry::{Group, Stage};

use super::markup::{Esc, Html};
use super::svg::{Scale, axis, grid, group_class};
use crate::format::{ms, percent};
use crate::schema::{Report, Rung};
use crate::view::{self, Part};

pub(super) fn render(page: &mut Html, report: &Report) {
    let mut rungs = report.rungs.iter().filter(|rung| view::dominant_stage(rung).is_some()).peekable();
    if rungs.peek().is_none() {
        return;
    }
    page.raw(
        "<h3>Stage by stage</h3>\n<p class=\"note\">What the service adds to one rollout, each stage beginning where the one before ended; \
         <em>other</em> is what no stage claims. The LLM’s time is not in it.</p>\n",
    );
    for (index, rung) in rungs.enumerate() {
        // The first is the state of things before: the one that readers look for.
        waterfall(page, rung, index == 0);
    }
}

fn waterfall(page: &mut Html, rung: &Rung, open: bool) {
    let parts = view::overhead_stages(rung);
    let whole: f64 = parts.iter().map(|(_, us)| us).sum();
    let Some((largest, largest_us)) = view::dominant_stage(rung) else { return };
    let open = if open { " open" } else { "" };
    page.put(format_args!(
        "<details class=\"fall\"{open}><summary><strong>{}</strong> adds {} ms on average, mostly <code>{}</code> ({})</summary>\n\
         <ul class=\"bars falls\" data-marks>\n",
        Esc(&rung.name),
        Esc(&ms(whole)),
        Esc(largest),
        Esc(&percent(largest_us / whole))
    ));
    let scale = Scale::linear(whole / 1000.0);
    let mut from = 0.0;
    for part in &parts {
        row(page, *part, from, whole, scale, part.0 == largest);
        from += part.1;
    }
    page.put(format_args!(
        "<li class=\"scale\"><span></span>{}<span></span></li>\n</ul>\n</details>\n",
        axis(scale, " ms")
    ));
}

fn row(page: &mut Html, (name, us): Part<'_>, from_us: f64, whole_us: f64, scale: Scale, largest: bool) {
    let (x, end) = (scale.percent(from_us / 1000.0), scale.percent((from_us + us) / 1000.0));
    let class = group_class(Stage::from_name(name).map_or(Group::Other, Stage::group));
    let (share, ms) = (percent(us / whole_us), ms(us));
    let (share, ms) = (Esc(&share), Esc(&ms));
    let largest = if largest { " class=\"largest\"" } else { "" };
    page.put(format_args!(
        "<li{largest}><code class=\"who\">{name}</code>\
         <svg class=\"bar\" width=\"100%\" height=\"16\" role=\"img\" aria-label=\"{name} {ms} milliseconds, {share}\">{grid}\
         <rect class=\"{class}\" x=\"{x:.3}%\" width=\"{width:.3}%\" height=\"16\"><title>{name}: {ms} ms, {share} of the overhead</title></rect></svg>\
         <span class=\"figure\">{ms} ms <i>{share}</i></span></li>\n",
        name = Esc(name),
        grid = grid(scale, 20),
        // A sliver stays visible.
        width = (end - x).max(0.15),
    ));
}
