//! The numbers: medians over the rounds with their spread, as a table and as JSON.

use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Publishing;
use super::frames::PAYLOAD;
use super::options::Options;
use super::rig::Round;

/// Below this, the 10 ms steps of the CPU time are more than 4 % of a round.
const COARSE: f64 = 0.25;

/// The rounds of one scenario; the server's and the floor's are pairs.
pub(crate) struct Measured {
    subscribers: usize,
    publishing: Publishing,
    pub(crate) server: Vec<Round>,
    pub(crate) floor: Vec<Round>,
}

pub(crate) struct Report {
    options: Options,
    scenarios: Vec<Measured>,
}

/// Median, least and greatest of some rounds.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let (n, half) = (values.len(), values.len() / 2);
        let median =
            if n % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) };
        Self { median, min: values[0], max: values[n - 1] }
    }

    fn text(self, decimals: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.decimals$} ({min:.decimals$}-{max:.decimals$})")
    }

    fn json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

impl Round {
    fn rate(&self) -> f64 {
        self.deliveries as f64 / self.seconds
    }

    /// CPU seconds per million deliveries, or microseconds per delivery.
    fn cost(&self) -> f64 {
        self.cpu.total() * 1e6 / self.deliveries as f64
    }

    fn user_cost(&self) -> f64 {
        self.cpu.user * 1e6 / self.deliveries as f64
    }

    fn json(&self) -> Value {
        json!({
            "messages": self.messages,
            "deliveries": self.deliveries,
            "seconds": self.seconds,
            "cpu_user_seconds": self.cpu.user,
            "cpu_system_seconds": self.cpu.system,
        })
    }
}

impl Measured {
    pub(crate) fn new(subscribers: usize, publishing: Publishing) -> Self {
        Self { subscribers, publishing, server: vec![], floor: vec![] }
    }

    /// Server to floor, of each pair of neighbouring rounds.
    fn ratio(&self, value: fn(&Round) -> f64) -> Spread {
        let pairs = self.server.iter().zip(&self.floor);
        Spread::of(pairs.map(|(server, floor)| value(server) / value(floor)))
    }

    /// Whether some round took too little CPU time to be told in steps of 10 ms.
    fn coarse(&self) -> bool {
        self.server.iter().chain(&self.floor).any(|round| round.cpu.total() < COARSE)
    }

    fn json(&self) -> Value {
        json!({
            "subscribers": self.subscribers,
            "publishing": self.publishing.name,
            "publisher_connections": self.publishing.connections,
            "in_flight": u64::from(self.publishing.connections) * self.publishing.window,
            "server": side(&self.server),
            "floor": side(&self.floor),
            "server_to_floor": {
                "cpu_per_delivery": self.ratio(Round::cost).json(),
                "deliveries_per_second": self.ratio(Round::rate).json(),
            },
            "cpu_is_coarse": self.coarse(),
        })
    }

    fn print(&self) {
        let title = format!("{} x {}", self.subscribers, self.publishing.name);
        let mark = if self.coarse() { " *" } else { "" };
        let cpu = self.ratio(Round::cost).text(2) + mark;
        let rate = self.ratio(Round::rate).text(2);
        row(&title, "server", &self.server, &cpu, &rate);
        row("", "floor", &self.floor, "", "");
    }
}

fn side(rounds: &[Round]) -> Value {
    json!({
        "deliveries_per_second": Spread::of(rounds.iter().map(Round::rate)).json(),
        "cpu_seconds_per_million": Spread::of(rounds.iter().map(Round::cost)).json(),
        "cpu_user_seconds_per_million": Spread::of(rounds.iter().map(Round::user_cost)).json(),
        "rounds": rounds.iter().map(Round::json).collect::<Vec<_>>(),
    })
}

fn row(title: &str, side: &str, rounds: &[Round], cpu_ratio: &str, rate_ratio: &str) {
    let rate = Spread::of(rounds.iter().map(Round::rate)).text(0);
    let cost = Spread::of(rounds.iter().map(Round::cost)).text(2);
    let user = Spread::of(rounds.iter().map(Round::user_cost)).median;
    let cost = format!("{cost} [{user:.2}]");
    line([title, side, &rate, &cost, cpu_ratio, rate_ratio]);
}

fn line([title, side, rate, cost, cpu_ratio, rate_ratio]: [&str; 6]) {
    let line =
        format!("{title:<21} {side:<6}  {rate:<25}  {cost:<29}  {cpu_ratio:<20}  {rate_ratio:<18}");
    println!("{}", line.trim_end());
}

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        Self { options: options.clone(), scenarios: vec![] }
    }

    pub(crate) fn add(&mut self, measured: Measured) {
        self.scenarios.push(measured);
    }

    pub(crate) fn print(&self) {
        let (rounds, seconds) = (self.options.rounds, self.options.time.as_secs_f64());
        println!("\nFan-out of {PAYLOAD}-byte texts over loopback: median (min-max) of {rounds}");
        println!("rounds of {seconds} s each; CPU of the server process alone [user part].\n");
        line([
            "subscribers x sending",
            "",
            "deliveries/s",
            "CPU s/million",
            "CPU to floor",
            "rate to floor",
        ]);
        self.scenarios.iter().for_each(Measured::print);
        if self.scenarios.iter().any(Measured::coarse) {
            println!("\n* a round with less than {COARSE} s of CPU time, which is told in 10 ms");
        }
    }

    /// Writes `bench/fanout.json` below the target folder.
    pub(crate) fn write(&self) {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let path = target.join("bench").join("fanout.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("{:#}\n", self.json())).unwrap();
        println!("\nWritten to {}", path.display());
    }

    fn json(&self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        json!({
            "benchmark": "fanout",
            "version": env!("CARGO_PKG_VERSION"),
            "optimised": !cfg!(debug_assertions),
            "unix_time": now,
            "machine": machine(),
            "payload_bytes": PAYLOAD,
            "rounds": self.options.rounds,
            "seconds_per_round": self.options.time.as_secs_f64(),
            "scenarios": self.scenarios.iter().map(Measured::json).collect::<Vec<_>>(),
        })
    }
}

fn machine() -> Value {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "cpu": model.map(|(_, model)| model),
        "cores": std::thread::available_parallelism().map_or(0, NonZero::get),
        "kernel": kernel.trim(),
    })
}
