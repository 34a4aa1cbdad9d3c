//! Whether pushmux reaches its goals.

use std::collections::BTreeMap;

use super::record::Record;
use super::scenario::{Goal, Load, Scenario, To};
use super::server::Server;
use super::spread::{Spread, number};

/// A goal and what became of it.
pub(crate) struct Outcome {
    pub(crate) what: String,
    pub(crate) goal: String,
    /// None where a server that it takes was not there.
    pub(crate) found: Option<Spread>,
    pub(crate) met: Option<bool>,
}

/// What became of a scenario's goals.
pub(crate) fn outcomes(record: &Record, scenario: &Scenario) -> Vec<Outcome> {
    scenario.goals.iter().map(|goal| outcome(record, scenario, goal)).collect()
}

fn outcome(record: &Record, scenario: &Scenario, goal: &Goal) -> Outcome {
    let load = &scenario.loads[goal.load];
    let ours = record.values(scenario.id, load, Server::Pushmux, goal.metric);
    let found = match divisors(record, scenario, goal) {
        None => Spread::of(ours.map(|(_, value)| value)),
        Some(divisors) => ratio(ours, &divisors),
    };
    let by = match goal.to {
        To::One => String::new(),
        To::Server(server) => format!(" × {server}"),
        To::Load(other) => format!(" × {}", scenario.loads[other].name),
        To::Scenario(id) => format!(" × scenario {id}"),
    };
    let behind = if load.name.is_empty() { String::new() } else { format!(", {}", load.name) };
    Outcome {
        what: format!("{}{behind}", goal.metric.name()),
        goal: format!("≤ {}{by}", number(goal.at_most)),
        met: found.map(|found| found.median <= goal.at_most),
        found,
    }
}

/// The first metric of a scenario, divided by the floor's in the same round.
pub(crate) fn to_floor(
    record: &Record,
    scenario: &Scenario,
    load: &Load,
    server: Server,
) -> Option<Spread> {
    let metric = *scenario.metrics.first()?;
    let floor = record.values(scenario.id, load, Server::Floor, metric).collect();
    ratio(record.values(scenario.id, load, server, metric), &floor)
}

/// Round by round.
fn ratio(
    values: impl Iterator<Item = (usize, f64)>,
    divisors: &BTreeMap<usize, f64>,
) -> Option<Spread> {
    let ratios = values.filter_map(|(round, value)| Some(value / divisors.get(&round)?));
    Spread::of(ratios.filter(|ratio| ratio.is_finite()))
}

/// What each round is divided by.
fn divisors(record: &Record, scenario: &Scenario, goal: &Goal) -> Option<BTreeMap<usize, f64>> {
    let (of, load, server) = match goal.to {
        To::One => return None,
        To::Server(server) => (scenario, goal.load, server),
        To::Load(other) => (scenario, other, Server::Pushmux),
        To::Scenario(id) => (Scenario::by_id(id)?, 0, Server::Pushmux),
    };
    Some(record.values(of.id, &of.loads[load], server, goal.metric).collect())
}

impl Outcome {
    pub(crate) fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None => "not measured",
        }
    }

    pub(crate) fn figure(&self) -> String {
        self.found.map_or_else(|| "–".into(), Spread::text)
    }
}
