//! Latency over time as a picture.

use std::fmt::Write as _;

use super::figures::Figures;
use super::report;
use super::timeline::Slice;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 40.0;

/// Colours that can be told apart on white and on black, and by those who see no red.
const STYLE: &str = "svg{background:#fff;color:#222;font:12px sans-serif}\
text{fill:currentColor}.grid{stroke:currentColor;opacity:.15}\
polyline{fill:none;stroke-width:1.5}\
.p50{stroke:#0072b2;fill:#0072b2}.p99{stroke:#d55e00;fill:#d55e00}.max{stroke:#777;fill:#777}\
polyline.p50,polyline.p99,polyline.max{fill:none}text.p50,text.p99,text.max{stroke:none}\
@media(prefers-color-scheme:dark){svg{background:#111;color:#ddd}\
.p50{stroke:#56b4e9;fill:#56b4e9}.p99{stroke:#e69f00;fill:#e69f00}.max{stroke:#aaa;fill:#aaa}}";

/// What a line shows of a slice.
type Value = fn(&Slice) -> u64;

/// The lines, the lowest first.
const LINES: [(&str, Value); 3] =
    [("p50", |slice| slice.p50), ("p99", |slice| slice.p99), ("max", |slice| slice.max)];

/// The picture of a run.
pub(super) fn picture(figures: &Figures) -> String {
    let slices = figures.tally.timeline.as_ref().map(super::timeline::Timeline::slices);
    draw(&report::course(&figures.progress.settings), &slices.unwrap_or_default())
}

fn draw(title: &str, slices: &[Slice]) -> String {
    let axes = Axes::around(slices);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\">\n<style>{STYLE}</style>\n<text x=\"{LEFT}\" y=\"16\">{}</text>\n",
        escape(title)
    );
    for (index, (name, _)) in LINES.iter().enumerate() {
        let x = LEFT + index as f64 * 50.0;
        // Writing to a text cannot fail.
        let _ = writeln!(svg, "<text class=\"{name}\" x=\"{x}\" y=\"32\">{name}</text>");
    }
    for value in axes.steps() {
        let (y, end, label) = (axes.y(value), WIDTH - RIGHT, report::time(value));
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{end}\" y2=\"{y:.1}\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    for part in 0..=4 {
        let at = axes.end * part / 4;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.1} s</text>",
            axes.x(at),
            HEIGHT - BOTTOM + 18.0,
            at as f64 / 1e9
        );
    }
    // The highest first: where lines meet, the lower one is the news.
    for (name, value) in LINES.into_iter().rev() {
        let point = |slice: &Slice| format!("{:.1},{:.1}", axes.x(slice.at), axes.y(value(slice)));
        let points: Vec<_> = slices.iter().map(point).collect();
        let _ = writeln!(svg, "<polyline class=\"{name}\" points=\"{}\"/>", points.join(" "));
    }
    svg += "</svg>\n";
    svg
}

/// Time to the right, latency upwards, each decade as high as the others.
struct Axes {
    /// In nanoseconds.
    end: u64,
    low: u64,
    high: u64,
}

impl Axes {
    fn around(slices: &[Slice]) -> Self {
        let lowest = slices.iter().map(|slice| slice.p50).min().unwrap_or(1000).max(1000);
        let highest = slices.iter().map(|slice| slice.max).max().unwrap_or(0);
        let low = 10_u64.pow(lowest.ilog10());
        let mut high = low * 10;
        while high < highest {
            high *= 10;
        }
        Self { end: slices.last().map_or(1, |slice| slice.at.max(1)), low, high }
    }

    fn steps(&self) -> impl Iterator<Item = u64> {
        let high = self.high;
        std::iter::successors(Some(self.low), |value| Some(value * 10))
            .take_while(move |value| *value <= high)
    }

    fn x(&self, at: u64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * at as f64 / self.end as f64
    }

    fn y(&self, value: u64) -> f64 {
        let (low, high) = ((self.low as f64).ln(), (self.high as f64).ln());
        let share = ((value.max(self.low) as f64).ln() - low) / (high - low);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every element is closed, in order; returns their names.
    fn elements(svg: &str) -> Vec<&str> {
        let (mut open, mut names) = (Vec::new(), Vec::new());
        for part in svg.split('<').skip(1) {
            let (tag, text) = part.split_once('>').expect("a whole tag");
            assert!(!text.contains('>') && tag.matches('"').count() % 2 == 0, "{part}");
            let name = tag.split([' ', '/']).next().unwrap();
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None if tag.ends_with('/') => names.push(name),
                None => {
                    names.push(name);
                    open.push(name);
                }
            }
        }
        assert_eq!(open, [""; 0]);
        names
    }

    #[test]
    fn pictures_are_well_formed_and_stay_within_their_frame() {
        let slice = |at: u64| Slice {
            at: at * 100_000_000,
            count: 1,
            p50: 40_000 + at,
            p99: 2_000_000,
            max: 90_000_000 * (at + 1),
        };
        for count in [0, 1, 2, 100] {
            let slices: Vec<_> = (0..count).map(slice).collect();
            let svg = draw("a < b & c", &slices);
            let names = elements(&svg);
            assert_eq!(names.iter().filter(|name| **name == "polyline").count(), 3);
            for points in svg.split("points=\"").skip(1) {
                let points = points.split('"').next().unwrap();
                assert_eq!(points.split_whitespace().count() as u64, count);
                for point in points.split_whitespace() {
                    let (x, y) = point.split_once(',').unwrap();
                    assert!((0.0..=WIDTH).contains(&x.parse().unwrap()), "{point}");
                    assert!((0.0..=HEIGHT).contains(&y.parse().unwrap()), "{point}");
                }
            }
        }
    }
}
