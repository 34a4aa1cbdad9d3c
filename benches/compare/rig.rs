//! One round: a server, `pushmux bench` on it, and what came of it.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::report::metric::Metric;
use super::report::record::Round;
use super::report::scenario::{Dialect, Length, Load, Scenario, label};
use super::report::server::Server;
use super::servers::{self, Running};

/// How long a load may take beside what it measures: signing, connecting, settling.
const PATIENCE: Duration = Duration::from_mins(2);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Which round it is.
pub(crate) struct Place {
    pub(crate) scenario: &'static Scenario,
    pub(crate) load: &'static Load,
    pub(crate) server: Server,
    /// From 1.
    pub(crate) number: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, load, server, number } = self;
        write!(f, "{}, round {number}: {}", scenario.id, label(load, *server))
    }
}

impl Place {
    /// The name of its files.
    fn file(&self) -> String {
        let Self { scenario, load, server, number } = self;
        let words = [scenario.id, load.name, server.id()].map(|word| word.replace(' ', "-"));
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        format!("{}-{number}", words.join("-"))
    }

    /// Does the round; `seconds` is what `--seconds` says, `out` takes all figures.
    ///
    /// # Errors
    /// When a server of ours does not start or does not do its work.
    pub(crate) fn run(&self, seconds: f64, out: &Path) -> Result<Round, String> {
        let json = out.join(format!("{}.json", self.file()));
        // That of an older run is not this round's.
        let _ = fs::remove_file(&json);
        let done = servers::start(self.server, self.load).and_then(|running| {
            let log = |fault| format!("{fault}\nThe end of the server's log:\n{}", running.log());
            let done = self.load_on(&running, seconds, &json);
            done.map_err(|fault| if self.server.is_ours() { log(fault) } else { fault })
        });
        if let Some(fault) = done.as_ref().err().filter(|_| self.server.is_ours()) {
            return Err(format!("{self}: {fault}"));
        }
        let figures = fs::read_to_string(&json).unwrap_or_default();
        let figures: Value = serde_json::from_str(&figures).unwrap_or_default();
        let warnings = figures["warnings"].as_array().into_iter().flatten();
        Ok(Round {
            scenario: self.scenario.id.into(),
            load: self.load.name.into(),
            server: self.server,
            number: self.number,
            figures: Metric::all(&figures).collect(),
            fault: done.err(),
            warnings: warnings.filter_map(|text| text.as_str().map(String::from)).collect(),
        })
    }

    /// Puts the load on a server. Fails with what `pushmux bench` says.
    fn load_on(&self, running: &Running, seconds: f64, json: &Path) -> Result<(), String> {
        let said: PathBuf = json.with_extension("txt");
        let at = |error| format!("cannot write {}: {error}", said.display());
        let mut command = servers::command();
        command.arg("bench").args(running.target()).args(self.flags(seconds));
        command.arg("--json").arg(json).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command
            .stderr(File::create(&said).map_err(at)?)
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", servers::PUSHMUX))?;
        let status = wait(&mut child, PATIENCE + Duration::from_secs_f64(seconds * 10.0))?;
        let text = fs::read_to_string(&said).unwrap_or_default();
        // The round keeps what it says.
        let _ = fs::remove_file(&said);
        match text.trim() {
            _ if status.success() => Ok(()),
            "" => Err(format!("`pushmux bench`: {status}")),
            text => Err(text.to_owned()),
        }
    }

    fn flags(&self, seconds: f64) -> Vec<String> {
        let Load { subscribers, length, flags, dialect, .. } = self.load;
        let mut args: Vec<String> = match dialect {
            Dialect::Oitc => vec![format!("--users={subscribers}"), "--browsers-per-user=2".into()],
            _ => vec![format!("--subscribers={subscribers}")],
        };
        match length {
            Length::Times(times) => args.push(format!("--duration={:.0}ms", seconds * times * 1e3)),
            Length::Messages(messages) => {
                let messages = (f64::from(*messages) * seconds / 3.0).ceil();
                args.push(format!("--messages={messages:.0}"));
            }
            Length::Exactly(messages) => args.push(format!("--messages={messages}")),
            Length::Idle => args.push("--idle".into()),
        }
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        args
    }
}

fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus, String> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if start.elapsed() < limit => thread::park_timeout(LOOK),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("`pushmux bench` has not ended within {limit:?}"));
            }
            Err(error) => return Err(format!("cannot wait for `pushmux bench`: {error}")),
        }
    }
}
