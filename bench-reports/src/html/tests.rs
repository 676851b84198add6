use sha2::{Digest as _, Sha256};

use super::svg::{Scale, tick};
use super::*;

#[test]
fn the_policy_lets_exactly_our_script_run() {
    use base64::Engine as _;
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(SCRIPT));
    assert_eq!(
        SCRIPT_HASH,
        format!("sha256-{hash}"),
        "html/script.js changed: put its new hash into SCRIPT_HASH"
    );
}

#[test]
fn texts_cannot_break_out() {
    assert_eq!(
        Esc("<a href='x' title=\"y\">&\n\u{1b}[0m").to_string(),
        "&lt;a href=&#39;x&#39; title=&quot;y&quot;&gt;&amp; \u{FFFD}[0m"
    );
}

#[test]
fn scales_hold_their_values() {
    let log = Scale::log([0.31, 2912.0, 0.0, f64::NAN].into_iter());
    assert_eq!(log, Scale::Log { from: -1, to: 4 });
    assert_eq!(
        log.ticks().iter().map(|value| tick(*value)).collect::<Vec<_>>(),
        ["0.1", "1", "10", "100", "1,000", "10k"]
    );
    assert!((log.percent(1.0) - 20.0).abs() < 1e-9);
    assert_eq!([log.percent(0.0), log.percent(-1.0), log.percent(1e9)], [0.0, 0.0, 100.0]);
    assert_eq!(Scale::log([5.0].into_iter()), Scale::Log { from: 0, to: 1 });
    assert_eq!(Scale::log(std::iter::empty()), Scale::Log { from: 0, to: 1 });

    let linear = Scale::linear(5100.0);
    assert_eq!(linear, Scale::Linear { max: 6000.0 });
    assert_eq!(
        linear.ticks().iter().map(|value| tick(*value)).collect::<Vec<_>>(),
        ["0", "2,000", "4,000", "6,000"]
    );
    assert!((linear.percent(1500.0) - 25.0).abs() < 1e-9);
    assert!(Scale::linear(0.0).percent(0.0).abs() < 1e-9);
}

#[test]
fn ratios_are_as_far_down_as_up() {
    let scale = Scale::Ratio { low: 0.1, high: 10.0 };
    assert!((scale.percent(1.0) - 50.0).abs() < 1e-9);
    assert!((scale.percent(0.5) + scale.percent(2.0) - 100.0).abs() < 1e-9);
    assert_eq!([scale.percent(0.0), scale.percent(0.01), scale.percent(99.0)], [0.0, 0.0, 100.0]);
    let ticks =
        |low, high| Scale::Ratio { low, high }.ticks().iter().map(|value| tick(*value)).collect::<Vec<_>>();
    assert_eq!(ticks(0.1, 3.0), ["0.1", "0.2", "0.5", "1", "2"]);
    assert_eq!(ticks(0.0001, 3.0), ["0.0001", "0.001", "0.01", "0.1", "1"]);
    assert_eq!(ticks(0.78, 1.28), ["0.8", "0.9", "1", "1.10", "1.20"]);
    assert_eq!(ticks(0.93, 1.07), ["0.95", "1", "1.05"]);
}
