//! Tables, as text and as Markdown.

use super::goals::{self, outcomes};
use super::record::{Record, Round};
use super::scenario::{SCENARIOS, Scenario, label};
use super::server::Server;
use super::spread::Spread;

/// Rows of cells; the first row is the head.
struct Table(Vec<Vec<String>>);

impl Table {
    fn text(&self) -> String {
        let columns = self.0.first().map_or(0, Vec::len);
        let width = |column: usize| self.0.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
        };
        self.0.iter().map(line).collect()
    }

    fn markdown(&self) -> String {
        let line = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
        let mut lines: Vec<_> = self.0.iter().map(line).collect();
        if let Some(head) = self.0.first() {
            lines.insert(1, format!("{}|\n", "|---".repeat(head.len())));
        }
        lines.concat()
    }
}

/// All for a terminal.
pub(crate) fn text(record: &Record) -> String {
    let mut text = format!("{}\n", course(record));
    for scenario in measured(record) {
        text +=
            &format!("\n{}  {}\n{}", scenario.id, scenario.title, figures(record, scenario).text());
        for note in notes(record, scenario) {
            text += &format!("  {note}\n");
        }
    }
    text + &format!("\nGoals\n{}", reached(record).text())
}

/// All for a document.
pub(crate) fn markdown(record: &Record) -> String {
    let mut text = format!("{}\n\n{}\n", course(record), reached(record).markdown());
    for (server, version) in &record.versions {
        text += &format!("* {server}: {version}\n");
    }
    for scenario in measured(record) {
        let Scenario { id, title, .. } = scenario;
        text += &format!("\n### {id}: {title}\n");
        if scenario.panels > 0 {
            text += &format!("![{title}](performance/{})\n", super::chart::file(scenario));
        }
        text += &format!("\n{}", figures(record, scenario).markdown());
        for note in notes(record, scenario) {
            text += &format!("\n{note}\n");
        }
    }
    text
}

/// Scenarios with results.
pub(crate) fn measured(record: &Record) -> impl Iterator<Item = &'static Scenario> {
    SCENARIOS
        .iter()
        .filter(|scenario| record.results.iter().any(|round| round.scenario == scenario.id))
}

fn course(record: &Record) -> String {
    let Record { machine, began, minutes, rounds, seconds, .. } = record;
    format!(
        "{}, {} cores of {}, {:.0} GiB, Linux {}. Median (minimum–maximum) of {rounds} rounds of {seconds} s. The run took {minutes:.0} minutes; the load average before it was {:.2}.",
        began.split('T').next().unwrap_or(began),
        machine.cores,
        machine.cpu,
        machine.memory_gib,
        machine.kernel,
        machine.load_before
    )
}

fn reached(record: &Record) -> Table {
    let mut rows = vec![["", "pushmux", "goal", "found", "goal is"].map(String::from).to_vec()];
    for scenario in measured(record) {
        for outcome in outcomes(record, scenario) {
            let (figure, verdict) = (outcome.figure(), outcome.verdict().to_owned());
            rows.push(vec![scenario.id.to_owned(), outcome.what, outcome.goal, figure, verdict]);
        }
    }
    Table(rows)
}

fn figures(record: &Record, scenario: &Scenario) -> Table {
    let metrics = scenario.metrics;
    let has_floor =
        record.versions.contains_key(&Server::Floor) && scenario.servers.contains(&Server::Floor);
    let mut head = vec![String::new()];
    head.extend(metrics.iter().map(|metric| metric.name().to_owned()));
    if has_floor {
        head.insert(2, "× floor".into());
    }
    let mut rows = vec![head];
    for (load, server) in scenario.pairs() {
        if record.rounds_of(scenario.id, load, server).next().is_none() {
            continue;
        }
        let cell = |spread: Option<Spread>| spread.map_or_else(|| "–".into(), Spread::text);
        let mut row = vec![label(load, server)];
        row.extend(
            metrics.iter().map(|metric| cell(record.spread(scenario.id, load, server, *metric))),
        );
        if has_floor {
            row.insert(2, cell(goals::to_floor(record, scenario, load, server)));
        }
        rows.push(row);
    }
    Table(rows)
}

/// What was wrong or doubtful, and in how many rounds.
fn notes(record: &Record, scenario: &Scenario) -> Vec<String> {
    let mut notes = Vec::new();
    for (load, server) in scenario.pairs() {
        let mut faults =
            record.rounds_of(scenario.id, load, server).filter_map(|it| it.fault.as_ref());
        if let Some(fault) = faults.next() {
            notes.push(format!(
                "{}: {} of {} rounds were not good, such as: {fault}.",
                label(load, server),
                faults.count() + 1,
                record.rounds
            ));
        }
    }
    for (sign, meaning) in DOUBTS {
        let mut found = Vec::new();
        for (load, server) in scenario.pairs() {
            let rounds = record.rounds_of(scenario.id, load, server);
            let doubtful = |round: &&Round| round.warnings.iter().any(|it| it.contains(sign));
            let count = rounds.filter(doubtful).count();
            if count > 0 {
                found.push(format!("{} {count}", label(load, server)));
            }
        }
        if !found.is_empty() {
            notes.push(format!("{meaning}; rounds: {}.", found.join(", ")));
        }
    }
    notes
}

/// What `pushmux bench` warns of, and what that means here.
const DOUBTS: [(&str, &str); 3] = [
    ("measure the generator", "The load generator was the limit, so that rates are its own"),
    ("were reached, not", "The server did not keep up with the rate asked for"),
    ("waited for a CPU", "The load generator waited for a CPU for more than a quarter of the time"),
];
