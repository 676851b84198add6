//! Line charts with a few points a line, each to hover and to walk to; steps along the lower axis are ratios, not differences.

use super::markup::{Esc, Html};
use super::svg::{EndLabel, Scale, end_labels, hue, y_axis};

/// Height of a drawing in CSS pixels.
const HEIGHT: f64 = 220.0;

/// One line.
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    /// Its colour's place.
    pub(super) hue: usize,
    /// By rising x.
    pub(super) points: Vec<Point>,
}

/// One value.
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Shown on hover and on focus.
    pub(super) title: String,
}

/// Places along the lower axis, in percent; each doubling is as wide as the one before.
struct Across {
    places: Vec<f64>,
}

impl Across {
    fn of(series: &[Series<'_>]) -> Self {
        let mut places: Vec<f64> =
            series.iter().flat_map(|line| line.points.iter().map(|point| point.x)).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        Self { places }
    }

    fn percent(&self, x: f64) -> f64 {
        // What is 0 (no distance at all) stands one step before the smallest that is not.
        let least = self.places.iter().copied().find(|place| *place > 0.0).unwrap_or(1.0);
        let ln = |place: f64| place.max(least / 2.0).ln();
        let (first, last) =
            (self.places.first().map_or(0.0, |x| ln(*x)), self.places.last().map_or(0.0, |x| ln(*x)));
        if last > first { (ln(x) - first) / (last - first) * 100.0 } else { 50.0 }
    }
}

/// A figure with its caption. `tick` names a place on the lower axis, `across` says what it counts.
pub(super) fn chart(
    page: &mut Html,
    title: &str,
    (scale, across): (Scale, &str),
    tick: fn(f64) -> String,
    series: &[Series<'_>],
) {
    let places = Across::of(series);
    page.put(format_args!(
        "<figure>\n<figcaption>{0}</figcaption>\n<div class=\"plot\" data-marks><svg width=\"100%\" height=\"{HEIGHT}\" role=\"img\" \
         aria-label=\"{0}, by {1}; arrow keys tell the figures\">\n{2}",
        Esc(title),
        Esc(across),
        y_axis(scale)
    ));
    for x in &places.places {
        page.put(format_args!(
            "<text class=\"xtick\" x=\"{:.2}%\" y=\"100%\" dy=\"18\">{}</text>\n",
            places.percent(*x),
            Esc(&tick(*x))
        ));
    }
    for line in series {
        draw(page, line, |point| (places.percent(point.x), 100.0 - scale.percent(point.y)));
    }
    let end = |line: &Series<'_>| line.points.last().map_or(0.0, |point| 100.0 - scale.percent(point.y));
    let labels = series.iter().map(|line| EndLabel { y_percent: end(line), hue: line.hue, name: line.name });
    page.raw(&end_labels(labels.collect(), HEIGHT));
    page.raw("</svg></div>\n</figure>\n");
}

fn draw(page: &mut Html, line: &Series<'_>, place: impl Fn(&Point) -> (f64, f64)) {
    let hue = hue(line.hue);
    for pair in line.points.windows(2) {
        let ((x1, y1), (x2, y2)) = (place(&pair[0]), place(&pair[1]));
        page.put(format_args!(
            "<line class=\"curve {hue}\" x1=\"{x1:.2}%\" y1=\"{y1:.2}%\" x2=\"{x2:.2}%\" y2=\"{y2:.2}%\"/>\n"
        ));
    }
    for point in &line.points {
        let (x, y) = place(point);
        page.put(format_args!(
            "<circle class=\"knot {hue}\" cx=\"{x:.2}%\" cy=\"{y:.2}%\" r=\"3.5\"><title>{}: {}</title></circle>\n",
            Esc(line.name),
            Esc(&point.title)
        ));
    }
}
