//! The command line of a run.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::dialect::Dialect;
use super::process::Processes;
use super::settings::{Length, Settings, Wait};
use super::stamp;
use super::subscribers::BUFFER;
use super::target::Target;

/// Who receives; openITCOCKPIT has users and browsers instead.
#[derive(Debug, Args)]
pub(super) struct Audience {
    /// WebSocket subscribers.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) subscribers: u32,
    /// Topics; subscribers are spread over them evenly, messages go to one after the other.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) topics: u16,
    /// Name of the topic; with several, NAME-0, NAME-1 and so on.
    #[arg(long, value_name = "NAME", default_value = "bench")]
    pub(super) topic: String,
}

impl Audience {
    /// The topics' names.
    ///
    /// # Errors
    /// Naming the flag.
    pub(super) fn names(&self) -> Result<Vec<String>, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.topic.is_empty() || !self.topic.chars().all(plain) {
            return Err(format!(
                "--topic: found {:?}, expected letters, digits, `-`, `_` and `.`",
                self.topic
            ));
        }
        if self.topics == 1 {
            return Ok(vec![self.topic.clone()]);
        }
        Ok((0..self.topics).map(|index| format!("{}-{index}", self.topic)).collect())
    }
}

/// Publishes a second.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rate {
    Max,
    PerSecond(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse() {
            Ok(rate) if (0.001..=1e7).contains(&rate) => Ok(Self::PerSecond(rate)),
            _ => Err("expected max, or messages a second, such as 0.5 or 2000".into()),
        }
    }
}

/// The load, whatever the server.
#[derive(Debug, Args)]
pub(super) struct Load {
    /// Bytes of a message; the first 44 are its stamp.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(stamp::LENGTH as i64..=(BUFFER / 8) as i64))]
    payload: u32,
    /// Publishes a second in all, or max: the next one when the one before is done.
    #[arg(long, value_name = "N", default_value = "max")]
    rate: Rate,
    /// Publishes that may be under way, each on a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=128))]
    in_flight: u8,
    /// What makes a publish done [default: delivered with --in-flight 1, else answered]
    #[arg(long)]
    wait: Option<Wait>,
    /// Messages that may be published and not be with every subscriber yet; beyond it
    /// publishers wait [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    undelivered: Option<u16>,
    /// How long to measure.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Measure so many messages, however long that takes.
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u32).range(1..))]
    messages: Option<u32>,
    /// How long to publish before measuring; what comes then is checked as well.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    warmup: Duration,
    /// Subscribers that stop reading once they have subscribed. They need not get everything.
    #[arg(long, value_name = "N", default_value_t = 0)]
    slow: u32,
    /// Subscribers that come, subscribe and go beside the load, each second.
    #[arg(long, value_name = "N", default_value_t = 0)]
    churn: u32,
    /// In the middle all subscribers drop their connection and come back at once. From then
    /// on each one must have what is sent after its subscription.
    #[arg(long)]
    reconnect_storm: bool,
    /// Only connect and subscribe, and tell the server's memory for each connection.
    #[arg(long, conflicts_with_all = ["slow", "churn", "reconnect_storm", "messages", "svg"])]
    idle: bool,
    /// How long to wait for the last messages before they count as lost.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    settle: Duration,
    /// Receiving threads.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    threads: u8,
    /// A process of the server, repeat for more; without it the process is looked for that
    /// listens on the port.
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Write all figures to a file, as JSON: times in nanoseconds, sizes in bytes.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the latency over time.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Load {
    pub(super) fn payload(&self) -> usize {
        self.payload as usize
    }

    /// How many messages will be published at most, without probes, if that is known.
    pub(super) fn messages(&self, topics: usize) -> Option<f64> {
        let rate = match self.rate {
            Rate::Max => None,
            Rate::PerSecond(rate) => Some(rate),
        };
        // One is due at once, and where the last one falls is a matter of rounding.
        let within = |time: Duration| Some((time.as_secs_f64() * rate?).ceil() + 1.0);
        let warm = if self.warmup.is_zero() { 0.0 } else { within(self.warmup)? };
        let measured = match self.messages {
            Some(messages) => f64::from(messages),
            None => within(self.duration)?,
        };
        // After a storm each topic gets one that shows that all are back.
        let proof = if self.reconnect_storm { topics as f64 } else { 0.0 };
        Some(warm + measured + proof)
    }

    /// The run that this load makes of a dialect.
    ///
    /// # Errors
    /// Naming the flag, what was found and what would be right.
    pub(super) fn settings(
        self,
        dialect: Box<dyn Dialect>,
        [subscribe_to, publish_to]: [&Target; 2],
        subscribers: usize,
        topics: usize,
    ) -> Result<Settings, String> {
        let (lanes, slow) = (usize::from(self.in_flight), self.slow as usize);
        if topics > subscribers {
            return Err(format!(
                "--topics: found {topics}, expected no more than the {subscribers} subscribers"
            ));
        }
        if slow >= subscribers {
            return Err(format!(
                "--slow: found {slow}, expected fewer than the {subscribers} subscribers"
            ));
        }
        if self.messages.is_none() && self.duration.is_zero() {
            return Err("--duration: found 0s, expected something like 10s".into());
        }
        if let Some(pid) = self.pid.iter().find(|pid| !Processes::one(**pid).are_alive()) {
            return Err(format!("--pid: found {pid}, expected the number of a running process"));
        }
        let by_lanes = if lanes == 1 { Wait::Delivered } else { Wait::Answered };
        Ok(Settings {
            dialect,
            subscribe_to: subscribe_to.address,
            publish_to: publish_to.address,
            subscribers,
            topics,
            payload: self.payload(),
            rate: match self.rate {
                Rate::Max => None,
                Rate::PerSecond(rate) => Some(rate),
            },
            lanes,
            wait: self.wait.unwrap_or(by_lanes),
            undelivered: self.undelivered.map(usize::from),
            length: self.messages.map_or(Length::Time(self.duration), Length::Messages),
            warm_up: self.warmup,
            slow,
            churn: self.churn,
            storm: self.reconnect_storm,
            idle: self.idle,
            pids: self.pid,
            settle: self.settle,
            threads: usize::from(self.threads).min(subscribers),
            json: self.json,
            svg: self.svg,
        })
    }
}
