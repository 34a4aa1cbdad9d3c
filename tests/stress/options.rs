//! The command line.

use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::Parser;

/// Hard times for pushmux: load, faults, and a count of everything.
#[derive(Debug, Parser)]
#[command(name = "stress")]
pub struct Options {
    /// Scenarios to run; all of them but `cut` when none is named.
    pub scenarios: Vec<String>,
    /// What chance makes of it: the variable `PUSHMUX_STRESS_SEED` says the same, and
    /// without either it is another one each time.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Seeds of the simulation to play, such as 1..200, both included.
    #[arg(long, value_name = "FROM..TO")]
    pub seeds: Option<Seeds>,
    /// So many times the usual number of messages, where a scenario knows how: churn.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub scale: u16,
    /// Run the soak for so many minutes instead.
    #[arg(long, value_name = "MINUTES")]
    pub soak: Option<f64>,
}

/// A range of seeds.
#[derive(Clone, Debug)]
pub struct Seeds(pub RangeInclusive<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = text.split_once("..").and_then(|(from, to)| {
            Some(from.parse::<u64>().ok()?..=to.trim_start_matches('=').parse().ok()?)
        });
        let range = range.filter(|range| !range.is_empty());
        range.map(Self).ok_or_else(|| "expected something like 1..200".into())
    }
}
