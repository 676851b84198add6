//! Which member of the workspace may use which: the arrows of ARCHITECTURE.md, read from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Member → the members it may use in what it ships.
const SHIPPED: &[(&str, &[&str])] = &[
    ("mipro-telemetry", &[]),
    ("mipro-allocations", &[]),
    ("mipro-microbench", &["mipro-bench-reports"]),
    ("mipro-bench-reports", &["mipro-telemetry"]),
    ("mipro-testbed", &["mipro-telemetry"]),
    ("mipro-mock-llm", &["mipro-telemetry"]),
    ("mipro-service", &["mipro-telemetry", "mipro-allocations"]),
    ("mipro-loadgen", &["mipro-telemetry", "mipro-bench-reports"]),
    (
        "mipro-harness",
        &["mipro-telemetry", "mipro-allocations", "mipro-bench-reports", "mipro-loadgen", "mipro-testbed"],
    ),
    (
        "mipro-cli",
        &[
            "mipro-telemetry",
            "mipro-allocations",
            "mipro-bench-reports",
            "mipro-loadgen",
            "mipro-testbed",
            "mipro-harness",
            "mipro-mock-llm",
            "mipro-service",
        ],
    ),
];

/// What tests and benches may use besides.
const IN_TESTS: &[(&str, &[&str])] = &[
    ("mipro-allocations", &["mipro-telemetry"]),
    ("mipro-microbench", &["mipro-telemetry", "mipro-service", "mipro-loadgen"]),
    ("mipro-service", &["mipro-testbed", "mipro-mock-llm"]),
];

type Arrows = BTreeMap<String, BTreeSet<String>>;

fn table(rows: &[(&str, &[&str])]) -> Arrows {
    rows.iter().map(|(from, to)| ((*from).to_owned(), to.iter().map(|t| (*t).to_owned()).collect())).collect()
}

fn forbidden(used: &Arrows, allowed: &Arrows) -> Vec<String> {
    let none = BTreeSet::new();
    let beyond = |(from, to): (&String, &BTreeSet<String>)| {
        let allowed = allowed.get(from).unwrap_or(&none);
        to.difference(allowed).map(|t| format!("{from} → {t}")).collect::<Vec<_>>()
    };
    used.iter().flat_map(beyond).collect()
}

fn used(kinds: &[DependencyKind]) -> Arrows {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let metadata = MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .other_options(vec!["--offline".to_owned()])
        .exec()
        .expect("cargo metadata runs in this checkout");
    let members: BTreeSet<String> =
        metadata.workspace_packages().iter().map(|p| p.name.to_string()).collect();
    let arrows_of = |package: &&cargo_metadata::Package| {
        let to = package.dependencies.iter().filter(|d| kinds.contains(&d.kind) && members.contains(&d.name));
        (package.name.to_string(), to.map(|d| d.name.clone()).collect())
    };
    metadata.workspace_packages().iter().map(arrows_of).collect()
}

#[test]
fn no_member_ships_with_an_arrow_the_architecture_forbids() {
    let used = used(&[DependencyKind::Normal, DependencyKind::Build]);
    assert_eq!(used.len(), SHIPPED.len(), "a member is missing from the table: {:?}", used.keys());
    assert_eq!(forbidden(&used, &table(SHIPPED)), Vec::<String>::new());
}

#[test]
fn tests_use_only_what_they_may_besides() {
    let mut allowed = table(SHIPPED);
    for (from, to) in table(IN_TESTS) {
        allowed.entry(from).or_default().extend(to);
    }
    assert_eq!(forbidden(&used(&[DependencyKind::Development]), &allowed), Vec::<String>::new());
}

#[test]
fn a_forbidden_arrow_is_named() {
    let used = table(&[("mipro-loadgen", &["mipro-service", "mipro-telemetry"])]);
    assert_eq!(forbidden(&used, &table(SHIPPED)), ["mipro-loadgen → mipro-service"]);
}
