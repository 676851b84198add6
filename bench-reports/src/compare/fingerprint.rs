//! Which saved reports may stand beside each other: figures of different machines, links or seeds have no ratio.

use crate::schema::{Environment, Report};

#[cfg(test)]
mod tests;

/// Everything in which two runs differ that their figures depend on; they may be compared where there is nothing.
#[must_use]
pub fn differences(a: &Report, b: &Report) -> Vec<String> {
    let mut found = Vec::new();
    let mut hold = |what: &str, a: &str, b: &str| {
        if a != b {
            found.push(format!("{what}: {} and {}", or_unknown(a), or_unknown(b)));
        }
    };
    type Text = fn(&Environment) -> &String;
    let texts: [(&str, Text); 10] = [
        ("CPU", |of| &of.cpu),
        ("kernel", |of| &of.kernel),
        ("operating system", |of| &of.os),
        ("stack", |of| &of.stack),
        ("database", |of| &of.database),
        ("object store", |of| &of.object_store),
        ("link", |of| &of.link),
        ("LLM", |of| &of.llm),
        ("dataset", |of| &of.dataset),
        ("file system of the logs", |of| &of.log_filesystem),
    ];
    for (what, text) in texts {
        hold(what, text(&a.environment), text(&b.environment));
    }
    hold("cores", &a.environment.cores.to_string(), &b.environment.cores.to_string());
    hold("seed", &a.run.seed.to_string(), &b.run.seed.to_string());
    for rung in &a.rungs {
        let Some(other) = b.rungs.iter().find(|other| other.name == rung.name) else { continue };
        let name = &rung.name;
        hold(
            &format!("{name}, rollouts in flight"),
            &rung.concurrency.to_string(),
            &other.concurrency.to_string(),
        );
        hold(&format!("{name}, systems"), &rung.systems.to_string(), &other.systems.to_string());
    }
    for (side, report) in [("first", a), ("second", b)] {
        if report.run.interrupted {
            found.push(format!("the {side} run was interrupted"));
        }
    }
    if !a.rungs.iter().any(|rung| b.rungs.iter().any(|other| other.name == rung.name)) {
        found.push("they have no rung in common".to_owned());
    }
    found
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}
