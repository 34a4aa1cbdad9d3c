//! What a run leaves behind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::metric::Metric;
use super::scenario::Load;
use super::server::Server;
use super::spread::Spread;

/// A whole run.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Record {
    pub(crate) machine: Machine,
    /// When it began, in UTC.
    pub(crate) began: String,
    pub(crate) minutes: f64,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) versions: BTreeMap<Server, String>,
    /// Median, least and greatest of all figures: scenario, load, server, figure.
    pub(crate) summary: BTreeMap<String, BTreeMap<Metric, Spread>>,
    pub(crate) results: Vec<Round>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// What was runnable in the minute before the run, on average.
    pub(crate) load_before: f64,
}

/// One server under one load, once.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Round {
    pub(crate) scenario: String,
    pub(crate) load: String,
    pub(crate) server: Server,
    /// From 1.
    pub(crate) number: usize,
    pub(crate) figures: BTreeMap<Metric, f64>,
    /// Why the round was not good.
    pub(crate) fault: Option<String>,
    /// Why the figures may not be the server's.
    pub(crate) warnings: Vec<String>,
}

impl Record {
    /// The rounds of one server under one load, in order.
    pub(crate) fn rounds_of<'a>(
        &'a self,
        scenario: &'a str,
        load: &'a Load,
        server: Server,
    ) -> impl Iterator<Item = &'a Round> {
        self.results.iter().filter(move |round| {
            round.scenario == scenario && round.load == load.name && round.server == server
        })
    }

    /// A figure by round.
    pub(crate) fn values<'a>(
        &'a self,
        scenario: &'a str,
        load: &'a Load,
        server: Server,
        metric: Metric,
    ) -> impl Iterator<Item = (usize, f64)> {
        let rounds = self.rounds_of(scenario, load, server);
        rounds.filter_map(move |round| Some((round.number, *round.figures.get(&metric)?)))
    }

    pub(crate) fn spread(
        &self,
        scenario: &str,
        load: &Load,
        server: Server,
        metric: Metric,
    ) -> Option<Spread> {
        Spread::of(self.values(scenario, load, server, metric).map(|(_, value)| value))
    }

    /// Fills in the summary.
    pub(crate) fn summarize(&mut self) {
        let mut values: BTreeMap<String, BTreeMap<Metric, Vec<f64>>> = BTreeMap::new();
        for Round { scenario, load, server, figures, .. } in &self.results {
            let words = [scenario, load, server.id()].map(String::from);
            let key: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
            let metrics = values.entry(key.join(", ")).or_default();
            for (metric, value) in figures {
                metrics.entry(*metric).or_default().push(*value);
            }
        }
        let spreads = |metrics: BTreeMap<Metric, Vec<f64>>| {
            let spreads = metrics.into_iter();
            spreads.filter_map(|(metric, values)| Some((metric, Spread::of(values)?))).collect()
        };
        self.summary = values.into_iter().map(|(key, metrics)| (key, spreads(metrics))).collect();
    }
}
