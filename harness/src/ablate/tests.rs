use mipro_bench_reports::{Accounting, Recorder};

use super::*;

/// A rung whose overhead lies evenly around `ms`, within a hundredth.
fn rung(name: &str, ms: f64) -> Rung {
    let values = (0..100).map(|n| (ms * 1e6 * (0.99 + 0.0002 * f64::from(n))) as u64);
    let overhead = values.collect::<Recorder>().to_dist();
    let mut rung = Rung { name: name.to_owned(), overhead, ..Rung::default() };
    rung.accounting = Accounting { intended: 100, ok: 100, ..Accounting::default() };
    rung
}

#[test]
fn every_variation_differs_in_what_its_name_says() {
    let (blob, full) = (RungName::Blob.plan(), full());
    let changes = |a: &RungPlan, b: &RungPlan| {
        let changed = [
            a.keeping != b.keeping,
            a.pooled != b.pooled,
            a.one_call != b.one_call,
            a.parallel != b.parallel,
            a.link != b.link,
        ];
        changed.iter().filter(|c| **c).count()
    };
    let mut labels = std::collections::BTreeSet::new();
    for optimization in OPTIMIZATIONS {
        let (alone, without) = (optimization.alone(), optimization.without());
        assert_eq!((changes(&blob, &alone), changes(&full, &without)), (1, 1), "{:?}", optimization.rung);
        labels.extend([alone.label, without.label]);
    }
    assert_eq!(labels.len(), 2 * OPTIMIZATIONS.len());
    let rungs: Vec<RungName> = OPTIMIZATIONS.iter().map(|of| of.rung).collect();
    let all: Vec<RungName> = RungName::ALL
        .iter()
        .copied()
        .filter(|r| r.plan().turns_on != RungName::Blob.plan().turns_on)
        .collect();
    assert_eq!(rungs, all[1..], "every rung above blob turns one on");
}

#[test]
fn where_the_order_matters_the_report_says_so() {
    let ladder = [rung("blob", 1_000.0), rung("pooled", 600.0)];
    let same =
        [rung("blob", 1_000.0), rung("blob+pooled", 601.0), rung("full", 5.0), rung("full-pooled", 405.0)];
    let agrees = row(OPTIMIZATIONS[0], &ladder, &same);
    assert!(!agrees.order_matters, "{agrees:?}");
    assert!((agrees.ladder.unwrap().saved_us - 400_000.0).abs() < 2_000.0, "{agrees:?}");
    // Where nothing waits for the database any more, kept connections to it save nothing.
    let last =
        [rung("blob", 1_000.0), rung("blob+pooled", 600.0), rung("full", 5.0), rung("full-pooled", 5.0)];
    let differs = row(OPTIMIZATIONS[0], &ladder, &last);
    assert!(differs.order_matters, "{differs:?}");
}

#[test]
fn a_step_over_a_rung_that_did_not_run_is_nobodys() {
    let ladder = [rung("blob", 1_000.0), rung("write-through", 300.0)];
    assert_eq!(row(OPTIMIZATIONS[1], &ladder, &[]).ladder, None);
    assert_eq!(row(OPTIMIZATIONS[0], &ladder, &[]).ladder, None);
}

#[test]
fn a_saving_is_no_surer_than_its_medians() {
    let seen = saving(&rung("a", 100.0), &rung("b", 40.0)).unwrap();
    assert!(seen.lower_us < seen.saved_us && seen.saved_us < seen.upper_us, "{seen:?}");
    assert!(seen.lower_us > 59_000.0 && seen.upper_us < 61_000.0, "{seen:?}");
    assert_eq!(saving(&Rung::default(), &rung("b", 40.0)), None);
}

#[test]
fn each_of_the_five_options_stands_beside_its_estimate() {
    let variants = [
        rung("blob", 3_000.0),
        rung("blob+write-through", 1_800.0),
        rung("blob+write-back", 300.0),
        rung("blob+pooled", 2_500.0),
        rung("blob+same-region", 1_000.0),
    ];
    let options = options::seed_options(&[], &variants);
    let numbers: Vec<&str> = options.iter().map(|of| &of.option[..1]).collect();
    assert_eq!(numbers, ["1", "2", "3", "4", "5"]);
    let expected: Vec<Option<bool>> = options.iter().map(|of| of.as_expected).collect();
    assert_eq!(expected, [Some(true), Some(true), None, None, Some(false)]);
    assert!((options[3].saved_ms.unwrap() - 500.0).abs() < 5.0, "{:?}", options[3]);
    assert_eq!(options[2].measured, "not measured");
}

#[test]
fn parallel_rollouts_are_judged_by_how_long_a_run_takes() {
    let mut parallel = rung("parallel", 1.0);
    parallel.wall_seconds = 20.0;
    parallel.rollout.service.mean_us = Some(2_000_000.0);
    let options = options::seed_options(&[parallel], &[]);
    assert_eq!(
        options[2].measured,
        "in the ladder: 100 rollouts in 20.0 s, one after the other 200.0 s, 10.0 times"
    );
}

#[test]
fn a_distance_is_a_link_of_its_own() {
    let link = at_distance(15_000);
    assert_eq!((link.db.rtt_us, link.s3.rtt_us, link.fitted), (15_000, 15_000, false));
    assert_eq!(link.name.parse::<LinkSpec>().map(|parsed| (parsed.db, parsed.s3)), Ok((link.db, link.s3)));
}
