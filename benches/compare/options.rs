//! What can be said after `cargo bench --bench compare --`.

use std::path::PathBuf;
use std::str::FromStr;

use super::report::scenario::{SCENARIOS, Scenario};
use super::report::server::Server;

const USAGE: &str = "usage: cargo bench --bench compare -- [OPTIONS]
  --rounds N       rounds of each scenario, each with every server in turn (5)
  --seconds S      how long a round measures (3)
  --quick          1 round of 0.5 seconds: does it work, not how fast is it
  --only A,C       these scenarios: A A128 A4K B C D E F O
  --peers a,b      these beside pushmux: floor joining nchan ws (all that are installed)
  --out DIR        where compare.json goes and all that `pushmux bench` wrote
                   (target/bench/compare)
  --publish        put the run into docs/performance/ and docs/performance.md
  --charts FILE    measure nothing: do that with this compare.json";

pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) scenarios: Vec<&'static Scenario>,
    pub(crate) servers: Vec<Server>,
    pub(crate) out: Option<PathBuf>,
    pub(crate) publish: bool,
    pub(crate) charts: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// What is wrong, and the usage.
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        Self::read(args).map_err(|fault| format!("{fault}{USAGE}"))
    }

    fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rounds: 5,
            seconds: 3.0,
            scenarios: SCENARIOS.iter().collect(),
            servers: Server::ALL.into(),
            out: None,
            publish: false,
            charts: None,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg}: found no value\n"));
            match arg.as_str() {
                // Cargo adds it.
                "--bench" => {}
                "--quick" => (options.rounds, options.seconds) = (1, 0.5),
                "--rounds" => options.rounds = number(&arg, &value()?, 1..=100)?,
                "--seconds" => options.seconds = number(&arg, &value()?, 0.1..=600.0)?,
                "--only" => options.scenarios = scenarios(&value()?)?,
                "--peers" => options.servers = servers(&value()?)?,
                "--out" => options.out = Some(value()?.into()),
                "--publish" => options.publish = true,
                "--charts" => options.charts = Some(value()?.into()),
                "--help" | "-h" => return Err(String::new()),
                _ => return Err(format!("{arg}: no such option\n")),
            }
        }
        Ok(options)
    }
}

fn number<T: FromStr + PartialOrd + std::fmt::Debug>(
    flag: &str,
    text: &str,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, String> {
    let found = text.parse().ok().filter(|number| range.contains(number));
    found.ok_or_else(|| format!("{flag}: found {text:?}, expected a number in {range:?}\n"))
}

/// In the order of the list, whatever was said.
fn scenarios(text: &str) -> Result<Vec<&'static Scenario>, String> {
    let mut ids = Vec::new();
    for id in text.split(',') {
        let scenario = Scenario::by_id(id.trim());
        ids.push(
            scenario.ok_or_else(|| format!("--only: found {id:?}, which is no scenario\n"))?.id,
        );
    }
    Ok(SCENARIOS.iter().filter(|scenario| ids.contains(&scenario.id)).collect())
}

fn servers(text: &str) -> Result<Vec<Server>, String> {
    let mut named = vec![Server::Pushmux];
    for id in text.split(',') {
        let server = Server::ALL.into_iter().find(|server| server.id() == id.trim());
        named.push(server.ok_or_else(|| format!("--peers: found {id:?}, which is no peer\n"))?);
    }
    Ok(Server::ALL.into_iter().filter(|server| named.contains(server)).collect())
}
