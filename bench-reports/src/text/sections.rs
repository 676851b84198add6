//! The report's parts, each a table or a few lines; a part without figures is left out or says what was not measured.

use super::table::{Align, Cell, Table};
use super::{Page, Tone, harmless};
use crate::format::{
    NOTHING, bytes, counted, ms, ms_or_nothing, per_rollout, percent, thousands, three_digits, times,
};
use crate::losses::losses;
use crate::schema::{CompareVerdict, Report, Rung};
use crate::seed_table::{SEED_DATABASE_SAYS_MS, caveat};
use crate::view::{self, Attribution, GROUPS};

fn marked_name(rung: &Rung) -> Cell {
    if rung.validity.ok && rung.accounting.holds() {
        Cell::toned(&rung.name, Tone::Strong)
    } else {
        Cell::toned(format!("{} !", rung.name), Tone::Bad)
    }
}

fn lost_cell(count: Option<crate::LossCount>) -> Cell {
    let tone = match count {
        None => Tone::Dim,
        Some(count) if count.lost > 0 => Tone::Bad,
        Some(_) => Tone::Good,
    };
    Cell::toned(view::lost_of(count), tone)
}

fn verdict_tone(verdict: &CompareVerdict) -> Tone {
    match verdict {
        CompareVerdict::Pass { .. } => Tone::Good,
        CompareVerdict::Regress => Tone::Bad,
        CompareVerdict::Inconclusive { .. } | CompareVerdict::Invalid { .. } => Tone::Strong,
        CompareVerdict::Shown => Tone::Dim,
    }
}

impl Page {
    fn table(&mut self, table: &Table) {
        let text = table.render(self.style);
        self.text.push_str(&text);
    }

    pub(super) fn ladder(&mut self, report: &Report) {
        use Align::{Left, Right};
        self.heading("Ladder", "ms per rollout; rollout and overhead are p50, stages are exclusive means");
        let mut columns = vec![("rung", Left), ("durability", Left), ("rollout", Right), ("overhead", Right)];
        columns.extend(GROUPS.map(|group| (group.name(), Right)));
        columns.push(("speedup", Right));
        let mut table = Table::new(&columns);
        for rung in &report.rungs {
            let mut row = vec![
                marked_name(rung),
                (&rung.durability).into(),
                ms_or_nothing(rung.rollout.response.p50_us).into(),
                Cell::toned(ms_or_nothing(rung.overhead.p50_us), Tone::Strong),
            ];
            row.extend(GROUPS.map(|group| Cell::from(ms_or_nothing(view::group_us(rung, group)))));
            let speedup = rung.speedup.filter(|_| view::through_service(rung));
            row.push(speedup.map_or_else(|| NOTHING.to_owned(), |speedup| times(speedup.overhead)).into());
            table.row(row);
        }
        self.table(&table);
        self.paragraph(
            &format!(
                "Overhead: what the service's calls add to a rollout, its LLM time taken out. Speedup: of the overhead, against the \
                 first rung that has one. {NOTHING}: not measured, or too few rollouts for a p50."
            ),
            Tone::Dim,
        );
        if let Some(losses) = losses(report) {
            self.paragraph(&losses, Tone::Plain);
        }
    }

    /// The views of a rollout's time, where the load generator itself was what ran: response and service apart, and the lag
    /// between them in its parts.
    pub(super) fn times(&mut self, report: &Report) {
        use Align::{Left, Right};
        let mut table = Table::new(&[
            ("rung", Left),
            ("time", Left),
            ("samples", Right),
            ("mean", Right),
            ("p50", Right),
            ("p90", Right),
            ("p99", Right),
            ("p99.9", Right),
            ("max", Right),
        ])
        .keys(2);
        for rung in report.rungs.iter().filter(|r| r.name == "load" || r.rollout.pacer_lag.is_some()) {
            let times = &rung.rollout;
            let mut name = marked_name(rung);
            for (view, dist) in [
                ("response", Some(&times.response)),
                ("service", Some(&times.service)),
                ("lag", times.lag.as_ref()),
                ("  the pacer's", times.pacer_lag.as_ref()),
                ("  for a slot", times.slot_wait.as_ref()),
            ] {
                let Some(dist) = dist else { continue };
                let mut row = vec![
                    std::mem::replace(&mut name, Cell::from("")),
                    view.into(),
                    thousands(dist.count as f64).into(),
                ];
                let shown = [dist.mean_us, dist.p50_us, dist.p90_us, dist.p99_us, dist.p99_9_us, dist.max_us];
                row.extend(shown.map(|us| Cell::from(ms_or_nothing(us))));
                table.row(row);
            }
        }
        if table.is_empty() {
            return;
        }
        self.heading(
            "Times",
            "ms; response = intended start to done = lag + service; what was due and not done counts until the end",
        );
        self.table(&table);
    }

    pub(super) fn turns_on(&mut self, report: &Report) {
        use Align::{Left, Right, Wrap};
        self.heading("What each rung turns on", "over the one before");
        let mut table =
            Table::new(&[("rung", Left), ("turns on", Wrap), ("rollouts", Right), ("in flight", Right)]);
        for rung in &report.rungs {
            table.row(vec![
                marked_name(rung),
                (&rung.turns_on).into(),
                thousands(rung.rollouts as f64).into(),
                rung.concurrency.to_string().into(),
            ]);
        }
        self.table(&table);
    }

    pub(super) fn costs(&mut self, report: &Report) {
        use Align::{Left, Right};
        self.heading(
            "What each rung costs and loses",
            "requests per rollout: waited for + in the background; rewards lost of those acknowledged",
        );
        let mut table = Table::new(&[
            ("rung", Left),
            ("DB round trips", Right),
            ("S3 requests", Right),
            ("S3 bytes", Right),
            ("LLM calls", Right),
            ("log syncs", Right),
            ("lost: killed", Right),
            ("host gone", Right),
            ("calls at once", Right),
        ]);
        for rung in &report.rungs {
            let (critical, background) = (&rung.counts.critical, &rung.counts.background);
            let pair =
                |waited: f64, behind: f64| format!("{} + {}", per_rollout(waited), per_rollout(behind));
            let loss = rung.loss.clone().unwrap_or_default();
            table.row(vec![
                marked_name(rung),
                pair(critical.db_round_trips, background.db_round_trips).into(),
                pair(view::s3_requests(critical), view::s3_requests(background)).into(),
                bytes(critical.s3_bytes + background.s3_bytes).into(),
                per_rollout(critical.llm_calls + background.llm_calls).into(),
                per_rollout(critical.log_syncs + background.log_syncs).into(),
                lost_cell(loss.process_killed),
                lost_cell(loss.host_gone),
                lost_cell(loss.concurrent_calls),
            ]);
        }
        self.table(&table);
        if let Some(allocations) = view::allocations(&report.rungs) {
            self.paragraph(&allocations, Tone::Plain);
        }
        if report.rungs.iter().all(|rung| rung.loss.is_none()) {
            self.paragraph("Loss was not measured in this run.", Tone::Dim);
        }
    }

    pub(super) fn seed(&mut self, report: &Report) {
        use Align::{Left, Right};
        if report.seed_rows.is_empty() {
            return;
        }
        self.heading("The seed's table beside ours", "ms; ours is the p50 of rung blob");
        let mut table = Table::new(&[
            ("operation", Left),
            ("row", Left),
            ("seed min", Right),
            ("seed max", Right),
            ("seed avg", Right),
            ("ours", Right),
            ("samples", Right),
            ("", Left),
        ])
        .keys(2);
        let mut last = "";
        for row in &report.seed_rows {
            let (word, tone) = match (row.p50_ms, row.inside) {
                (None, _) if row.samples > 0 => ("too few samples", Tone::Dim),
                (None, _) => ("not measured", Tone::Dim),
                (Some(_), true) => ("inside", Tone::Good),
                (Some(ms), false) if ms < row.seed_min_ms => ("below", Tone::Bad),
                (Some(_), false) => ("above", Tone::Bad),
            };
            table.row(vec![
                Cell::toned(if row.operation == last { "" } else { &row.operation }, Tone::Strong),
                (&row.row).into(),
                thousands(row.seed_min_ms).into(),
                thousands(row.seed_max_ms).into(),
                thousands(row.seed_avg_ms).into(),
                row.p50_ms.map_or_else(|| NOTHING.to_owned(), three_digits).into(),
                thousands(row.samples as f64).into(),
                Cell::toned(word, tone),
            ]);
            last = &row.operation;
        }
        self.table(&table);
        self.paragraph(&caveat(), Tone::Dim);
    }

    pub(super) fn operations(&mut self, report: &Report) {
        use Align::{Left, Right};
        let mut columns = vec![("rung", Left), ("operation", Left), ("total", Right)];
        columns.extend(GROUPS.map(|group| (group.name(), Right)));
        columns.extend([("sum", Right), ("other %", Right)]);
        let mut table = Table::new(&columns).keys(2);
        for rung in &report.rungs {
            let mut name = marked_name(rung);
            for (operation, figures) in view::operations(rung) {
                let Some(parts) = Attribution::of(figures) else { continue };
                let mut row = vec![
                    std::mem::replace(&mut name, Cell::from("")),
                    operation.into(),
                    ms(parts.total_us).into(),
                ];
                row.extend(parts.groups_us.map(|us| Cell::from(ms(us))));
                row.push(match parts.adds_up() {
                    true => Cell::toned("= total", Tone::Good),
                    false => Cell::toned(format!("{} off", ms(parts.unlisted_us)), Tone::Bad),
                });
                row.push(parts.other_share().map_or_else(|| NOTHING.to_owned(), percent).into());
                table.row(row);
            }
        }
        if table.is_empty() {
            return;
        }
        self.heading("Attribution", "mean ms per call; stages + other = total");
        self.table(&table);
        let shares: Vec<String> = report
            .rungs
            .iter()
            .filter_map(|rung| Some(format!("{} {}", rung.name, percent(view::other_share(rung)?))))
            .collect();
        if !shares.is_empty() {
            self.paragraph(
                &format!("other's share of a rollout's overhead: {}", shares.join(", ")),
                Tone::Dim,
            );
        }
    }

    pub(super) fn database(&mut self, report: &Report) {
        use Align::{Left, Right, Wrap};
        let mut table = Table::new(&[
            ("rung", Left),
            ("the database says it spent, per statement", Wrap),
            ("the client waited, per call", Right),
            ("per rollout", Right),
        ]);
        for rung in &report.rungs {
            let says = &rung.database.server_execution_us;
            let Some(waited) = view::database_wait_us(rung).filter(|_| !says.is_empty()) else { continue };
            let says: Vec<String> = says.iter().map(|(kind, us)| format!("{kind} {} ms", ms(*us))).collect();
            let per_rollout = view::group_us(rung, mipro_telemetry::Group::Db);
            table.row(vec![
                marked_name(rung),
                says.join(", ").into(),
                format!("{} ms", ms(waited)).into(),
                format!("{} ms", ms_or_nothing(per_rollout)).into(),
            ]);
        }
        if table.is_empty() {
            return;
        }
        let note = format!("the seed saw {SEED_DATABASE_SAYS_MS} ms against 200–740 ms");
        self.heading("What the database says, and what the client waited", &note);
        self.table(&table);
    }

    pub(super) fn growth(&mut self, report: &Report) {
        use Align::{Left, Right};
        let mut table = Table::new(&[
            ("rung", Left),
            ("history", Right),
            ("smallest", Right),
            ("largest", Right),
            ("per rollout", Right),
            ("PUT p50 ms", Right),
            ("GET p50 ms", Right),
        ]);
        for rung in &report.rungs {
            let Some(growth) = rung.state_growth else { continue };
            table.row(vec![
                marked_name(rung),
                thousands(growth.history as f64).into(),
                bytes(growth.bytes_min as f64).into(),
                bytes(growth.bytes_max as f64).into(),
                format!(
                    "{}{}",
                    if growth.bytes_per_rollout >= 0.0 { "+" } else { "-" },
                    bytes(growth.bytes_per_rollout.abs())
                )
                .into(),
                ms_or_nothing(view::ran(growth.put_p50_us)).into(),
                ms_or_nothing(view::ran(growth.get_p50_us)).into(),
            ]);
        }
        if !table.is_empty() {
            self.heading(
                "How one system's stored state grows",
                "bytes of one whole-state PUT; slope by least squares",
            );
            self.table(&table);
        }
    }

    pub(super) fn makespan(&mut self, report: &Report) {
        let mut first = true;
        for rung in &report.rungs {
            let Some(makespan) = rung.makespan else { continue };
            if std::mem::take(&mut first) {
                self.heading(
                    "Makespan",
                    "against the mock LLM's own planned delays, laid out on the lanes in flight",
                );
            }
            self.line(
                &format!(
                    "{}: {} rollouts, {} in flight: {} s, planned {} s, {}",
                    rung.name,
                    thousands(rung.rollouts as f64),
                    rung.concurrency,
                    three_digits(makespan.measured_seconds),
                    three_digits(makespan.planned_seconds),
                    times(makespan.ratio)
                ),
                Tone::Plain,
            );
        }
    }

    pub(super) fn resources(&mut self, report: &Report) {
        use Align::{Left, Right};
        if report.rungs.iter().all(|rung| rung.resources.is_empty()) {
            return;
        }
        self.heading("Resources of the service", "by clients; CPU in percent of one core, memory resident");
        let mut table = Table::new(&[("rung", Left), ("clients", Right), ("CPU %", Right), ("RSS", Right)]);
        for rung in &report.rungs {
            for point in &rung.resources {
                table.row(vec![
                    marked_name(rung),
                    point.clients.to_string().into(),
                    three_digits(point.cpu_pct).into(),
                    bytes(point.rss_bytes as f64).into(),
                ]);
            }
        }
        self.table(&table);
    }

    pub(super) fn comparisons(&mut self, report: &Report) {
        use Align::{Left, Right, Wrap};
        for comparison in &report.comparisons {
            let on =
                if comparison.rung.is_empty() { String::new() } else { format!(" on {}", comparison.rung) };
            let title = harmless(&format!("{} against {}{on}", comparison.b, comparison.a));
            let pairs = counted(comparison.pairs as usize, "pair", "pairs");
            let confidence = view::confidence(comparison.alpha);
            self.heading(
                &title,
                &format!("{pairs}, {} set aside; {confidence} % intervals", comparison.pairs_invalid.len()),
            );
            let mut table = Table::new(&[
                ("verdict", Left),
                ("what", Left),
                ("A ms", Right),
                ("B ms", Right),
                ("change", Left),
                ("asked", Wrap),
            ]);
            for endpoint in &comparison.endpoints {
                let change =
                    endpoint.effect.map_or_else(|| NOTHING.to_owned(), |effect| effect.with_interval());
                table.row(vec![
                    Cell::toned(endpoint.verdict.word(), verdict_tone(&endpoint.verdict)),
                    endpoint.title().into(),
                    ms_or_nothing(endpoint.a_us).into(),
                    ms_or_nothing(endpoint.b_us).into(),
                    change.into(),
                    endpoint.rule().into(),
                ]);
            }
            self.table(&table);
            let detail = comparison.verdict.detail();
            let colon = if detail.is_empty() { "" } else { ": " };
            let said = format!("{}{colon}{detail}", comparison.verdict.word());
            self.paragraph(&said, verdict_tone(&comparison.verdict));
        }
    }

    pub(super) fn accounting(&mut self, report: &Report) {
        use Align::{Left, Right, Wrap};
        self.heading("Accounting", "intended = ok + every error class + unsent + in flight at the end");
        let mut table = Table::new(&[
            ("rung", Left),
            ("intended", Right),
            ("ok", Right),
            ("not ok", Wrap),
            ("sum", Left),
            ("wall s", Right),
            ("figures", Wrap),
        ]);
        for rung in &report.rungs {
            let accounting = &rung.accounting;
            let not_ok: Vec<String> = view::not_ok(accounting)
                .iter()
                .filter(|(_, count)| *count > 0)
                .map(|(name, count)| format!("{name} {}", thousands(*count as f64)))
                .collect();
            let none = not_ok.is_empty();
            table.row(vec![
                marked_name(rung),
                thousands(accounting.intended as f64).into(),
                thousands(accounting.ok as f64).into(),
                if none { Cell::toned("0", Tone::Plain) } else { Cell::toned(not_ok.join(", "), Tone::Bad) },
                if accounting.holds() {
                    Cell::toned("holds", Tone::Good)
                } else {
                    Cell::toned("BROKEN", Tone::Bad)
                },
                three_digits(rung.wall_seconds).into(),
                if rung.validity.ok {
                    Cell::toned("valid", Tone::Good)
                } else {
                    Cell::toned(format!("invalid: {}", rung.validity.reasons.join("; ")), Tone::Bad)
                },
            ]);
        }
        self.table(&table);
    }

    pub(super) fn verdicts(&mut self, report: &Report) {
        if report.verdicts.is_empty() {
            return;
        }
        self.heading("Checks", "");
        let mut table =
            Table::new(&[("outcome", Align::Left), ("check", Align::Wrap), ("figures", Align::Wrap)]);
        for verdict in &report.verdicts {
            let tone = if verdict.outcome == "pass" { Tone::Good } else { Tone::Bad };
            table.row(vec![
                Cell::toned(&verdict.outcome, tone),
                (&verdict.name).into(),
                (&verdict.detail).into(),
            ]);
        }
        self.table(&table);
    }
}
