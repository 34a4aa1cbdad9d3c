//! A scenario as a picture: bars with whiskers from the least to the greatest.

use super::metric::Metric;
use super::record::Record;
use super::scenario::{Scenario, To, label};
use super::server::Server;
use super::spread::{Spread, number};

const WIDTH: f64 = 720.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 34.0;
const ROW: f64 = 24.0;
const BAR: f64 = 14.0;
/// Around a panel's rows: its name above, room below.
const HEAD: f64 = 22.0;
const FOOT: f64 = 22.0;

/// Colours that can be told apart on white and on black, and by those who see no red.
const STYLE: &str = "svg{background:#fff;color:#222;font:12px sans-serif}\
text{fill:currentColor}.title{font-size:14px}.bar{fill:#8a8a8a}.pushmux{fill:#0072b2}\
.whisker{stroke:currentColor;stroke-width:1.2}.axis{stroke:currentColor;opacity:.4}\
.goal{stroke:#d55e00;stroke-width:1.5;stroke-dasharray:4 3}text.goal{fill:#d55e00;stroke:none}\
@media(prefers-color-scheme:dark){svg{background:#111;color:#ddd}.bar{fill:#777}\
.pushmux{fill:#56b4e9}.goal{stroke:#e69f00}text.goal{fill:#e69f00}}";

struct Bar {
    label: String,
    server: Server,
    spread: Spread,
}

/// The name of a scenario's file.
pub(crate) fn file(scenario: &Scenario) -> String {
    format!("{}.svg", scenario.id.to_lowercase())
}

/// The picture, if there is something to see.
pub(crate) fn draw(record: &Record, scenario: &Scenario) -> Option<String> {
    let mut body = String::new();
    let mut y = TOP;
    for metric in &scenario.metrics[..scenario.panels] {
        let bars = bars(record, scenario, *metric);
        if !bars.is_empty() {
            body += &panel(*metric, &bars, goal(record, scenario, *metric), y);
            y += HEAD + ROW * bars.len() as f64 + FOOT;
        }
    }
    (!body.is_empty()).then(|| {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\">\n<style>{STYLE}</style>\n<text class=\"title\" x=\"10\" y=\"20\">{}: {}</text>\n{body}</svg>\n",
            scenario.id,
            escape(scenario.title)
        )
    })
}

fn bars(record: &Record, scenario: &Scenario, metric: Metric) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (load, server) in scenario.pairs() {
        if let Some(spread) = record.spread(scenario.id, load, server, metric) {
            bars.push(Bar { label: label(load, server), server, spread });
        }
    }
    bars
}

/// The lowest goal of pushmux, in the metric's unit.
fn goal(record: &Record, scenario: &Scenario, metric: Metric) -> Option<f64> {
    let goals = scenario.goals.iter().filter(|goal| goal.metric == metric);
    let limits = goals.filter_map(|goal| {
        let of = |scenario: &Scenario, load: usize, server| {
            record.spread(scenario.id, &scenario.loads[load], server, metric)
        };
        let by = match goal.to {
            To::One => 1.0,
            To::Server(server) => of(scenario, goal.load, server)?.median,
            To::Load(load) => of(scenario, load, Server::Pushmux)?.median,
            To::Scenario(id) => of(Scenario::by_id(id)?, 0, Server::Pushmux)?.median,
        };
        Some(goal.at_most * by)
    });
    limits.min_by(f64::total_cmp)
}

fn panel(metric: Metric, bars: &[Bar], goal: Option<f64>, top: f64) -> String {
    let most = bars.iter().map(|bar| bar.spread.max).chain(goal).fold(0.0, f64::max);
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * value / most.max(f64::MIN_POSITIVE);
    let (start, end) = (top + HEAD, top + HEAD + ROW * bars.len() as f64);
    let mut svg = format!("<text x=\"{LEFT}\" y=\"{:.1}\">{}</text>\n", top + 14.0, metric.name());
    for (index, bar) in bars.iter().enumerate() {
        let Spread { median, min, max } = bar.spread;
        let middle = start + ROW * (index as f64 + 0.5);
        let class = if bar.server == Server::Pushmux { "bar pushmux" } else { "bar" };
        svg += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BAR}\"/>\n\
             <path class=\"whisker\" d=\"M{:.1} {middle:.1}H{:.1}M{:.1} {:.1}v8M{:.1} {:.1}v8\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            LEFT - 8.0,
            middle + 4.0,
            escape(&bar.label),
            middle - BAR / 2.0,
            x(median) - LEFT,
            x(min),
            x(max),
            x(min),
            middle - 4.0,
            x(max),
            middle - 4.0,
            x(max) + 6.0,
            middle + 4.0,
            number(median),
        );
    }
    svg += &format!(
        "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{start:.1}\" x2=\"{LEFT}\" y2=\"{end:.1}\"/>\n"
    );
    if let Some(goal) = goal {
        svg += &format!(
            "<line class=\"goal\" x1=\"{0:.1}\" y1=\"{1:.1}\" x2=\"{0:.1}\" y2=\"{end:.1}\"/>\n\
             <text class=\"goal\" x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"middle\">goal</text>\n",
            x(goal),
            start - 2.0,
            end + 12.0
        );
    }
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
