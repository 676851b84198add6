//! A summary fit for a pull request's comment: verdicts first, figures behind a fold.

use std::fmt::Write as _;

use crate::format::{NOTHING, ms_or_nothing, per_rollout, times};
use crate::headline;
use crate::schema::{Comparison, Report, Rung};
use crate::view::{s3_requests, sound};

/// By this line a workflow finds the comment again that it has to replace.
pub const MARK: &str = "<!-- mipro report -->";

/// The longest comment that GitHub takes has 65,536 characters.
const CHARACTERS_MAX: usize = 60_000;

/// Headline, comparisons, checks that did not pass, the ladder, and where it was measured. Any text from outside is escaped, so
/// that it can't break out of a cell, mention anybody or load anything.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut page = format!("{MARK}\n**{}**\n", text(&headline(report)));
    for comparison in &report.comparisons {
        compared(&mut page, comparison);
    }
    checks(&mut page, report);
    ladder(&mut page, report);
    let environment = &report.environment;
    let _ = writeln!(
        page,
        "\n{} · {} · {} cores · {:.1} % stolen · stack {} · link {} · LLM {}",
        text(&report.run.id),
        text(&environment.cpu),
        environment.cores,
        environment.steal_pct,
        text(&environment.stack),
        text(&environment.link),
        text(&environment.llm)
    );
    if page.chars().count() > CHARACTERS_MAX {
        page = page.chars().take(CHARACTERS_MAX).collect();
        page.push_str("\n\n… cut off: the whole of it is in report.html.\n");
    }
    page
}

fn compared(page: &mut String, comparison: &Comparison) {
    let Comparison { a, b, rung, pairs, verdict, .. } = comparison;
    let at = if rung.is_empty() { String::new() } else { format!(", rung {}", text(rung)) };
    let _ = writeln!(
        page,
        "\n### {} {} against {}{at}\n\n{pairs} pairs, {} set aside; intervals of {:.0} %.",
        verdict.word(),
        text(b),
        text(a),
        comparison.pairs_invalid.len(),
        (1.0 - 2.0 * comparison.alpha) * 100.0
    );
    let detail = verdict.detail();
    if !detail.is_empty() {
        let _ = writeln!(page, "{}.", text(&detail));
    }
    page.push_str("\n| what | before → after, ms | change | asked | verdict |\n|---|--:|--:|--:|---|\n");
    for endpoint in &comparison.endpoints {
        let change = endpoint.effect.map_or_else(|| NOTHING.to_owned(), |effect| effect.with_interval());
        let _ = writeln!(
            page,
            "| {} | {} → {} | {change} | {} | {} |",
            text(&endpoint.title()),
            ms_or_nothing(endpoint.a_us),
            ms_or_nothing(endpoint.b_us),
            endpoint.rule(),
            endpoint.verdict.word()
        );
    }
}

fn checks(page: &mut String, report: &Report) {
    if report.verdicts.is_empty() {
        return;
    }
    let failed: Vec<_> = report.verdicts.iter().filter(|verdict| verdict.outcome != "pass").collect();
    let passed = report.verdicts.len() - failed.len();
    let _ = writeln!(page, "\n### Checks: {passed} of {} pass\n", report.verdicts.len());
    for verdict in failed {
        let (outcome, name) = (text(&verdict.outcome), text(&verdict.name));
        let _ = writeln!(page, "- **{outcome}** {name}: {}", text(&verdict.detail));
    }
}

fn ladder(page: &mut String, report: &Report) {
    if report.rungs.is_empty() {
        return;
    }
    page.push_str(
        "\n<details><summary>The ladder</summary>\n\n| rung | rollout p50 ms | overhead p50 ms | less | DB round trips | S3 requests | \
         log syncs |\n|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for rung in &report.rungs {
        row(page, rung);
    }
    page.push_str("\nRequests per rollout: waited for + behind.\n\n</details>\n");
}

fn row(page: &mut String, rung: &Rung) {
    let (critical, background) = (&rung.counts.critical, &rung.counts.background);
    let pair = |waited: f64, behind: f64| format!("{} + {}", per_rollout(waited), per_rollout(behind));
    let _ = writeln!(
        page,
        "| {}{} | {} | {} | {} | {} | {} | {} |",
        text(&rung.name),
        if sound(rung) { "" } else { " **not to be believed**" },
        ms_or_nothing(rung.rollout.response.p50_us),
        ms_or_nothing(rung.overhead.p50_us),
        rung.speedup.map_or_else(|| NOTHING.to_owned(), |speedup| times(speedup.overhead)),
        pair(critical.db_round_trips, background.db_round_trips),
        pair(s3_requests(critical), s3_requests(background)),
        per_rollout(critical.log_syncs + background.log_syncs)
    );
}

/// Text as it stands in Markdown: nothing of it is markup, a mention or a line break.
fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for c in raw.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            // A mention is an @ before a letter; what has no width between them leaves it readable.
            '@' => safe.push_str("@\u{200b}"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '~' | '#' | '!' => {
                safe.push('\\');
                safe.push(c);
            }
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
