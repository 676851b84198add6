//! The page in the hands of a reader: Chromium, driven through ChromeDriver.

use std::io::Write as _;
use std::path::Path;

use mipro_bench_reports::html::{Flamegraph, render_with};

use crate::driver::Driver;
use crate::fixture;

const TAB: char = '\u{E004}';
const ENTER: char = '\u{E007}';
const ESCAPE: char = '\u{E00C}';
const RIGHT: char = '\u{E014}';
const LEFT: char = '\u{E012}';

fn full() -> String {
    render_with(&fixture::report(), &[fixture::flamegraph()])
}

/// Every scene on a page opened anew, in one browser: starting one takes longer than all of them.
#[test]
fn a_reader_can_use_the_page() {
    let Some(driver) = Driver::start() else { return };
    type Scene = (&'static str, fn(&Driver));
    let scenes: [Scene; 7] = [
        ("a click sorts and another turns around", sorting),
        ("values are told on hover", hovering),
        ("the keyboard reaches every value", walking),
        ("light and dark follow the system until told", theme),
        ("a click zooms into a flamegraph", zooming),
        ("nothing is wider than the screen", screens),
        ("it prints unfolded and folds up again", printing),
    ];
    for (name, scene) in scenes {
        let _ = writeln!(std::io::stderr(), "{name}");
        driver.open(&full());
        scene(&driver);
        assert_eq!(driver.console(), Vec::<String>::new(), "{name}");
    }
}

/// The texts of a column of the ladder, from the top.
fn column(driver: &Driver, index: usize) -> Vec<String> {
    let script = format!(
        "return [...document.querySelectorAll('#ladder tbody tr')].map(row => row.cells[{index}].textContent)"
    );
    serde_json::from_value(driver.run(&script)).unwrap()
}

/// What the tooltip says; nothing while it is hidden.
fn tip(driver: &Driver) -> Option<String> {
    let said =
        driver.run("const tip = document.getElementById('tip'); return tip.hidden ? null : tip.textContent");
    said.as_str().map(str::to_owned)
}

fn sorting(driver: &Driver) {
    let as_run = column(driver, 0);
    let heading = driver.find("#ladder thead th:nth-child(3) button");
    driver.click(&heading);
    let rising = column(driver, 2);
    assert_eq!((rising.len(), rising[0].as_str(), rising[8].as_str()), (10, "0.385", "2,376"));
    assert_eq!(rising[9], "–", "what has no figure stays last");
    driver.click(&heading);
    let falling = column(driver, 2);
    assert_eq!((falling[0].as_str(), falling[9].as_str()), ("2,376", "–"));
    driver.click(&driver.find("#ladder thead th:first-child button"));
    assert_eq!(column(driver, 0), as_run, "rungs sort in the ladder's order");
}

fn hovering(driver: &Driver) {
    assert_eq!(tip(driver), None);
    driver.hover(&driver.find("#stages .bars li:nth-child(2) rect.g-db"));
    assert_eq!(tip(driver).as_deref(), Some("blob: DB 1,739 ms, 72 % of the overhead"));
    driver.hover(&driver.find("h1"));
    assert_eq!(tip(driver), None);
    for (mark, said) in [
        ("#forest .near .card:first-child li:nth-child(3) circle", "pooled against blob, DB: "),
        ("#percentiles circle.knot", "blob: p50 2,376 ms"),
        ("#comparisons .plot circle.slice", "A, pair 0, at 0 s: "),
        ("#resources circle.knot", "same-region: 1 client, 0.710 % CPU"),
        ("#flames .fr rect", "all (1000 samples, 100.00%)"),
    ] {
        driver.hover(&driver.find(mark));
        let told = tip(driver).unwrap_or_default();
        assert!(told.starts_with(said), "{mark} tells {told:?}");
    }
}

fn walking(driver: &Driver) {
    driver.run(
        "const legend = document.querySelector('#stages .legend'); legend.tabIndex = -1; legend.focus()",
    );
    driver.press(&[TAB]);
    let first = tip(driver).expect("the drawing's first value");
    driver.press(&[RIGHT]);
    let second = tip(driver).unwrap();
    assert_ne!(first, second);
    driver.press(&[RIGHT, LEFT, LEFT]);
    assert_eq!(tip(driver).unwrap(), first);
    driver.press(&[ESCAPE]);
    assert_eq!(tip(driver), None);
    let all = driver.run(
        "return [...document.querySelectorAll('svg [data-tip]')].every(mark => mark.closest('[data-marks][tabindex=\"0\"], table'))",
    );
    assert_eq!(all, true, "a value that only a pointer reaches");
}

fn theme(driver: &Driver) {
    let ground = || driver.text("return getComputedStyle(document.body).backgroundColor");
    let (light, dark) = ("rgb(251, 250, 248)", "rgb(20, 22, 26)");
    driver.screen(1400, "light");
    assert_eq!(ground(), light);
    driver.screen(1400, "dark");
    assert_eq!(ground(), dark);
    driver.click(&driver.find("#theme"));
    assert_eq!(ground(), light);
    driver.click(&driver.find("#theme"));
    assert_eq!(ground(), dark);
}

/// The width of the flamegraph's frame of that name, in percent; nothing where it is not shown.
fn frame(driver: &Driver, name: &str) -> Option<f64> {
    let script = format!(
        "const mark = [...document.querySelectorAll('.fr rect')].find(mark => mark.dataset.tip.startsWith('{name} ('));
         const box = mark.parentNode; return box.hasAttribute('data-away') ? null : parseFloat(box.getAttribute('width'))"
    );
    driver.run(&script).as_f64()
}

fn zooming(driver: &Driver) {
    assert_eq!([frame(driver, "db"), frame(driver, "s3")], [Some(64.0), Some(26.0)]);
    driver.click(&driver.find(".fr[y='34']"));
    assert_eq!(
        [frame(driver, "db"), frame(driver, "s3"), frame(driver, "all")],
        [Some(100.0), None, Some(100.0)]
    );
    assert!((frame(driver, "[await]").unwrap() - 97.1875).abs() < 0.01, "its own part stays in proportion");
    driver.click(&driver.find(".fr[y='0']"));
    assert_eq!([frame(driver, "db"), frame(driver, "s3")], [Some(64.0), Some(26.0)]);
    // The same without a pointer: all, rollout, idle, db.
    driver.run("document.querySelector('[data-reset]').focus()");
    driver.press(&[TAB, RIGHT, RIGHT, RIGHT, ENTER]);
    assert_eq!([frame(driver, "db"), frame(driver, "s3")], [Some(100.0), None]);
    driver.press(&[ESCAPE]);
    assert_eq!(frame(driver, "s3"), Some(26.0));
    driver.click(&driver.find(".flame input"));
    driver.press(&['a', 'w', 'a', 'i', 't']);
    assert_eq!(
        driver.text("return document.querySelector('.flame output').textContent"),
        "2 frames, 87.2 % of the width"
    );
}

/// Screens as narrow as a phone's: only tables and the like may be wider, in boxes of their own.
fn screens(driver: &Driver) {
    for (width, theme) in [(1400, "light"), (1400, "dark"), (400, "light")] {
        driver.screen(width, theme);
        let wide = driver.run("return document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(wide <= u64::from(width), "{wide} of {width}");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{width}-{theme}.png"));
        driver.picture(&path);
    }
}

fn printing(driver: &Driver) {
    let open = || driver.run("return document.querySelectorAll('details[open]').length").as_u64().unwrap();
    let before = open();
    driver.run("addEventListener('beforeprint', () => { document.title = document.querySelectorAll('details:not([open])').length })");
    assert!(driver.print().starts_with(b"%PDF-"));
    assert_eq!(driver.text("return document.title"), "0", "folded up on paper");
    assert_eq!(open(), before);
}

/// As many flamegraphs as a full ladder can have, each deeper and finer than any screen shows.
#[test]
fn the_page_of_a_full_ladder_stays_small() {
    let mut rows = String::new();
    for index in 0..40_000_u32 {
        let (x, y) = (f64::from(index % 400) / 4.0, 16 * (index / 400));
        rows += &format!(
            "<g><title>some::module::function_{index} (25 samples, 0.25%)</title><rect x=\"{x}%\" y=\"{y}\" width=\"0.25%\"/></g>"
        );
    }
    let svg = format!("<svg><g><title>all</title><rect x=\"0%\" y=\"2000\" width=\"100%\"/></g>{rows}</svg>");
    let flames: Vec<Flamegraph> =
        (0..30).map(|index| Flamegraph { name: format!("cpu-{index:02}"), svg: svg.clone() }).collect();
    let html = render_with(&fixture::report(), &flames);
    assert!(html.len() < 3_000_000, "{} bytes", html.len());
    assert!(full().len() < 1_000_000, "{} bytes without", full().len());
    assert!(html.contains("cpu-29") && html.contains("frames are too narrow to draw"));
}
