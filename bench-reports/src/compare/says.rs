//! A comparison in words: one line an endpoint, and what to do next.

use std::fmt::Write as _;

use super::judge::percent;
use crate::format::{NOTHING, counted, ms_or_nothing, three_digits};
use crate::schema::{CompareVerdict, Comparison, Effect, EndpointComparison, GateRule};

impl EndpointComparison {
    /// `rollout.response p50`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} p{}", self.name, self.quantile * 100.0)
    }

    /// What is asked of it: `margin +5.0 %`, `ceiling 40.0 ms`, or nothing.
    #[must_use]
    pub fn rule(&self) -> String {
        match self.gate {
            GateRule::Margin { share } => format!("margin {}", percent(share)),
            GateRule::Ceiling { max_us } => format!("ceiling {} ms", three_digits(max_us / 1000.0)),
            GateRule::Shown => String::new(),
        }
    }

    /// What was seen: `12.3 → 13.6 ms  +10.4 % (+6.1 % … +14.9 %)`.
    #[must_use]
    pub fn seen(&self) -> String {
        let values = format!("{} → {} ms", ms_or_nothing(self.a_us), ms_or_nothing(self.b_us));
        let Some(effect) = self.effect else { return values };
        format!("{values}  {}", effect.with_interval())
    }
}

impl Effect {
    /// `+10.4 % (+6.1 % … +14.9 %)`.
    #[must_use]
    pub fn with_interval(&self) -> String {
        format!("{} ({} … {})", percent(self.share), percent(self.lower), percent(self.upper))
    }
}

impl CompareVerdict {
    /// What follows the verdict's word: reasons, and about how many more pairs; empty where it says all.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Pass { .. } | Self::Regress | Self::Shown => String::new(),
            Self::Inconclusive { more_pairs: Some(more), reason } => {
                format!("{reason}; about {}", counted(*more as usize, "more pair", "more pairs"))
            }
            Self::Inconclusive { more_pairs: None, reason } => reason.clone(),
            Self::Invalid { reasons } => reasons.join("; "),
        }
    }
}

impl Comparison {
    /// For the terminal, without colours: a line for what was compared, one per endpoint, one for the verdict.
    #[must_use]
    pub fn to_text(&self) -> String {
        let confidence = (1.0 - 2.0 * self.alpha) * 100.0;
        let mut text = format!("A {}, B {}", or_unnamed(&self.a), or_unnamed(&self.b));
        if !self.rung.is_empty() {
            let _ = write!(text, ", rung {}", self.rung);
        }
        let _ = write!(text, ": {}", counted(self.pairs as usize, "pair", "pairs"));
        if !self.pairs_invalid.is_empty() {
            let _ = write!(text, ", {} more set aside", self.pairs_invalid.len());
        }
        let _ = writeln!(text, "; intervals of {} %", three_digits(confidence));
        let rows: Vec<[String; 5]> = self.endpoints.iter().map(row).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 4] = std::array::from_fn(width);
        for row in &rows {
            let mut line = String::from("  ");
            for (cell, width) in row.iter().zip(widths) {
                let _ = write!(line, "{cell:<width$}  ");
            }
            line.push_str(&row[4]);
            let _ = writeln!(text, "{}", line.trim_end());
        }
        for pair in &self.pairs_invalid {
            let _ = writeln!(text, "  pair {} set aside: {}", pair.pair, pair.reasons.join(", "));
        }
        let _ = write!(text, "{}", self.verdict.word());
        let detail = self.verdict.detail();
        let _ = writeln!(text, "{}{detail}", if detail.is_empty() { "" } else { ": " });
        text
    }
}

/// Title, figures, rule, verdict, and what the interval rests on.
fn row(endpoint: &EndpointComparison) -> [String; 5] {
    let basis = endpoint.effect.map_or_else(String::new, |effect| {
        let lag1 =
            effect.lag1.map_or_else(|| NOTHING.to_owned(), |lag1| format!("{lag1:.2}").replace('-', "−"));
        let of = if effect.block_pairs == 1 { "" } else { " (resampled by quads)" };
        format!("detectable {}, lag-1 {lag1}{of}", percent(effect.detectable))
    });
    [endpoint.title(), endpoint.seen(), endpoint.rule(), endpoint.verdict.word().to_owned(), basis]
}

fn or_unnamed(label: &str) -> &str {
    if label.is_empty() { "(unnamed)" } else { label }
}
