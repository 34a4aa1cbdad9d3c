//! What the benchmark `compare` makes of its figures: `cargo test` does not run it.

use std::collections::BTreeMap;

use serde_json::json;

#[expect(dead_code, reason = "the benchmark uses all of it")]
#[path = "../benches/compare/report/mod.rs"]
mod report;

use report::metric::Metric;
use report::record::{Machine, Record, Round};
use report::scenario::{SCENARIOS, Scenario};
use report::server::Server;
use report::spread::{Spread, number};
use report::{chart, document, goals, table};

/// Three rounds of scenario A, in which pushmux takes 1.1, 1.3 and 1.2 times what the floor
/// takes, and nchan loses messages.
fn record() -> Record {
    let mut results = Vec::new();
    for (number, floor, ratio) in [(1, 2.0, 1.1), (2, 4.0, 1.3), (3, 1.0, 1.2)] {
        for (server, cpu) in
            [(Server::Floor, floor), (Server::Pushmux, floor * ratio), (Server::Nchan, floor * 5.0)]
        {
            results.push(Round {
                scenario: "A".into(),
                load: String::new(),
                server,
                number,
                figures: BTreeMap::from([(Metric::CpuPerDelivery, cpu)]),
                fault: (server == Server::Nchan).then(|| "3 messages were lost".into()),
                warnings: vec!["the receiver waited for a CPU for 40 % of the time".into()],
            });
        }
    }
    let versions = BTreeMap::from([(Server::Floor, "cheap".into())]);
    let mut record = Record {
        machine: Machine { cpu: "A & B".into(), ..Machine::default() },
        began: "2026-01-02T03:04:05Z".into(),
        minutes: 1.0,
        rounds: 3,
        seconds: 1.0,
        versions,
        summary: BTreeMap::new(),
        results,
    };
    record.summarize();
    record
}

fn scenario(id: &str) -> &'static Scenario {
    Scenario::by_id(id).unwrap()
}

#[test]
fn a_spread_is_median_least_and_greatest() {
    let spread = |values: &[f64]| Spread::of(values.iter().copied());
    assert_eq!(spread(&[]), None);
    assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
    assert_eq!(spread(&[4.0, 1.0]).unwrap().text(), "2.50 (1–4)");
    assert_eq!(spread(&[1.234, 12.34, 1234.5]).unwrap().text(), "12.3 (1.23–1,234)");
    assert_eq!(spread(&[7.0]).unwrap().text(), "7");
    let numbers = [0.0, 0.123, -1234.6, 99.96, 123_456_789.0].map(number);
    assert_eq!(numbers, ["0", "0.12", "-1,235", "100.0", "123,456,789"]);
}

#[test]
fn ratios_are_taken_round_by_round() {
    let record = record();
    let outcome = &goals::outcomes(&record, scenario("A"))[0];
    let found = outcome.found.unwrap();
    // The ratio of the medians would be 1.1.
    assert!((found.median - 1.2).abs() < 1e-9 && (found.max - 1.3).abs() < 1e-9, "{found:?}");
    assert_eq!((outcome.met, outcome.verdict()), (Some(false), "MISSED"));
    assert_eq!(record.summary["A, floor"][&Metric::CpuPerDelivery].text(), "2 (1–4)");
    // Nobody measured what these need.
    for id in ["A128", "B", "D", "F"] {
        for outcome in goals::outcomes(&record, scenario(id)) {
            assert_eq!((outcome.met, outcome.figure().as_str()), (None, "–"), "{id}");
        }
    }
}

#[test]
fn tables_say_what_was_lost_and_what_was_missed() {
    let (text, markdown) = (table::text(&record()), table::markdown(&record()));
    for text in [&text, &markdown] {
        assert!(text.contains("2026-01-02"), "{text}");
        assert!(text.contains("nginx + nchan: 3 of 3 rounds were not good, such as: 3 messages"));
        assert!(text.contains("rounds: floor 3, pushmux 3, nginx + nchan 3."), "{text}");
        assert!(!text.contains("A128"), "{text}");
    }
    let row = "| A | CPU per delivery, µs | ≤ 1.15 × floor | 1.20 (1.10–1.30) | MISSED |";
    assert!(markdown.contains(row), "{markdown}");
    let row = "| pushmux | 2.20 (1.20–5.20) | 1.20 (1.10–1.30) | – | – |";
    assert!(markdown.contains(row), "{markdown}");
    assert!(markdown.contains("](performance/a.svg)"), "{markdown}");
}

#[test]
fn charts_stay_within_their_frame() {
    let record = record();
    let svg = chart::draw(&record, scenario("A")).unwrap();
    assert_eq!(svg.matches("<rect ").count(), 3);
    assert_eq!(svg.matches("class=\"bar pushmux\"").count(), 1);
    assert_eq!(svg.matches("<path class=\"whisker\"").count(), 3);
    assert!(svg.contains(">goal</text>") && svg.contains("prefers-color-scheme:dark"));
    for part in svg.split(" x=\"").skip(1) {
        let x: f64 = part.split('"').next().unwrap().parse().unwrap();
        assert!((0.0..=720.0).contains(&x), "{part}");
    }
    assert!(chart::draw(&record, scenario("B")).is_none());
}

#[test]
fn figures_go_between_the_marks_of_the_document() {
    let text = include_str!("../docs/performance.md");
    let once = document::with_figures(text, "| new |").unwrap();
    assert!(once.contains("\n| new |\n") && once.len() < text.len(), "{once}");
    assert_eq!(document::with_figures(&once, "| new |").unwrap(), once);
    assert!(document::with_figures("nothing", "").unwrap_err().contains("<!-- figures"));
}

#[test]
fn the_published_run_can_be_read_and_is_what_the_document_shows() {
    let record: Record =
        serde_json::from_str(include_str!("../docs/performance/compare.json")).unwrap();
    let text = include_str!("../docs/performance.md");
    assert_eq!(document::with_figures(text, &table::markdown(&record)).unwrap(), text);
    for scenario in table::measured(&record) {
        let path = format!("docs/performance/{}", chart::file(scenario));
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if let Some(svg) = chart::draw(&record, scenario) {
            assert_eq!(std::fs::read_to_string(&path).unwrap(), svg, "{}", path.display());
        }
    }
}

#[test]
fn figures_come_from_what_bench_writes() {
    let round = json!({
        "settings": { "slow": 10, "idle": false },
        "received": { "per_second": 5.0, "slow_disconnected": 9,
            "first_to_last_ns": { "p50": 2_000_000, "p99": 3_000_000 } },
        "server": {
            "each_delivery": { "cpu_ns": 1500.0, "user_ns": 500.0 },
            "each_publish": { "cpu_ns": 20_000.0 },
            "rss_bytes": { "subscribed": 1_048_576, "peak": 3_145_728 },
        },
    });
    let figures: BTreeMap<_, _> = Metric::all(&round).collect();
    for (metric, value) in [
        (Metric::CpuPerDelivery, 1.5),
        (Metric::CpuPerPublish, 20.0),
        (Metric::PublishesPerCpuSecond, 50_000.0),
        (Metric::SpreadP99, 3.0),
        (Metric::Growth, 2048.0),
        (Metric::CutOff, 9.0),
    ] {
        assert_eq!(figures.get(&metric), Some(&value), "{metric:?}");
    }
    assert!(!figures.contains_key(&Metric::LatencyP50));
}

#[test]
fn every_scenario_is_whole() {
    for scenario in SCENARIOS {
        assert!(scenario.servers.contains(&Server::Pushmux) && !scenario.loads.is_empty());
        assert!(scenario.panels <= scenario.metrics.len(), "{}", scenario.id);
        for goal in scenario.goals {
            assert!(goal.load < scenario.loads.len() && goal.at_most > 0.0, "{}", scenario.id);
        }
    }
}
