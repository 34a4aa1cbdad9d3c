//! What can be said after `cargo bench --bench fanout --`.

use std::str::FromStr;
use std::time::Duration;

const USAGE: &str = "usage: cargo bench --bench fanout -- [--rounds N] [--seconds S] [--quick]
  --rounds N    rounds per scenario, each one of the server and one of the floor (5)
  --seconds S   how long a round lasts (2)
  --quick       2 rounds of 0.5 seconds: does it work, not how fast is it";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
}

impl Options {
    /// An unoptimised build (`cargo test --all-targets` makes one) is only ever quick.
    pub(crate) fn from_args() -> Result<Self, String> {
        let mut options = Self { rounds: 5, time: Duration::from_secs(2) };
        if cfg!(debug_assertions) {
            eprintln!("Not an optimised build: a quick run, whose numbers mean nothing.");
            options = Self::quick();
        }
        options.parse(std::env::args().skip(1)).map_err(|fault| fault + USAGE)
    }

    fn quick() -> Self {
        Self { rounds: 2, time: Duration::from_millis(500) }
    }

    fn parse(mut self, mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        while let Some(arg) = args.next() {
            match arg.as_str() {
                // Cargo adds it.
                "--bench" => {}
                "--quick" => self = Self::quick(),
                "--rounds" => self.rounds = value(&arg, args.next())?,
                "--seconds" => self.time = seconds(value(&arg, args.next())?)?,
                "--help" | "-h" => return Err(String::new()),
                _ => return Err(format!("unknown option {arg}\n")),
            }
        }
        if self.rounds == 0 {
            return Err("--rounds must be at least 1\n".into());
        }
        Ok(self)
    }
}

fn value<T: FromStr>(name: &str, text: Option<String>) -> Result<T, String> {
    let text = text.ok_or_else(|| format!("{name} needs a value\n"))?;
    text.parse().map_err(|_| format!("{name}: {text} is no number\n"))
}

fn seconds(value: f64) -> Result<Duration, String> {
    let time = Duration::try_from_secs_f64(value).ok().filter(|time| !time.is_zero());
    time.ok_or_else(|| format!("--seconds: {value} is no length of time\n"))
}
