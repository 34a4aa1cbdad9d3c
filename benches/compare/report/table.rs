//! Tables, as text and as Markdown.

use super::goals::outcomes;
use super::record::Record;
use super::scenario::{SCENARIOS, Scenario};

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
    text + &format!("\nGoals\n{}", goals(record).text())
}

/// All for a document.
pub(crate) fn markdown(record: &Record) -> String {
    let mut text = format!("{}\n\n{}\n", course(record), goals(record).markdown());
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

fn goals(record: &Record) -> Table {
    let mut rows = vec![["", "pushmux", "goal", "found", ""].map(String::from).to_vec()];
    for scenario in measured(record) {
        for outcome in outcomes(record, scenario) {
            let verdict = match outcome.met {
                Some(false) => format!("**{}**", outcome.verdict()),
                _ => outcome.verdict().to_owned(),
            };
            let figure = outcome.figure();
            rows.push(vec![scenario.id.to_owned(), outcome.what, outcome.goal, figure, verdict]);
        }
    }
    Table(rows)
}

fn figures(record: &Record, scenario: &Scenario) -> Table {
    let metrics = scenario.metrics;
    let mut head = vec![String::new()];
    head.extend(metrics.iter().map(|metric| metric.name().to_owned()));
    let mut rows = vec![head];
    for load in scenario.loads {
        for server in scenario.servers {
            if record.rounds_of(scenario.id, load, *server).next().is_none() {
                continue;
            }
            let name =
                if load.name.is_empty() { String::new() } else { format!(", {}", load.name) };
            let mut row = vec![format!("{server}{name}")];
            row.extend(metrics.iter().map(|metric| {
                let spread = record.spread(scenario.id, load, *server, *metric);
                spread.map_or_else(|| "–".into(), super::spread::Spread::text)
            }));
            rows.push(row);
        }
    }
    Table(rows)
}

/// What was wrong or doubtful, each with how often.
fn notes(record: &Record, scenario: &Scenario) -> Vec<String> {
    let mut notes = Vec::new();
    for load in scenario.loads {
        for server in scenario.servers {
            let rounds: Vec<_> = record.rounds_of(scenario.id, load, *server).collect();
            let faulty: Vec<_> = rounds.iter().filter_map(|round| round.fault.as_ref()).collect();
            if let Some(fault) = faulty.first() {
                notes.push(format!(
                    "{server}: {} of {} rounds were not good, such as: {fault}.",
                    faulty.len(),
                    rounds.len()
                ));
            }
            let generator = |warning: &&String| warning.contains("measure the generator");
            let bound = rounds.iter().filter(|round| round.warnings.iter().any(|w| generator(&w)));
            let bound = bound.count();
            if bound > 0 {
                notes.push(format!(
                    "{server}: in {bound} of {} rounds the load generator was the limit, so that rates are its own.",
                    rounds.len()
                ));
            }
        }
    }
    notes
}
