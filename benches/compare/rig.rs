//! One round: a server, `pushmux bench` on it, and what came of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::report::metric::Metric;
use super::report::record::Round;
use super::report::scenario::{Dialect, Length, Load, Scenario};
use super::report::server::Server;
use super::servers::{self, Running};

/// How long a load may take beside what it measures: signing, connecting, settling.
const PATIENCE: Duration = Duration::from_mins(2);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Which round it is.
pub(crate) struct Place<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) load: &'a Load,
    pub(crate) server: Server,
    pub(crate) round: usize,
}

impl Place<'_> {
    fn name(&self) -> String {
        let Self { scenario, load, server, round } = self;
        let words = [scenario.id, load.name, server.id()];
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        format!("{}-{round}", words.join("-").replace(' ', "-"))
    }

    /// Does the round; `seconds` is what `--seconds` says, `out` takes all figures.
    ///
    /// # Errors
    /// When the server does not start, or when a server of ours does not do its work.
    pub(crate) fn run(&self, seconds: f64, out: &Path) -> Result<Round, String> {
        let fault = |fault: String| format!("{}: {fault}", self.name());
        let running = servers::start(self.server, self.load).map_err(fault)?;
        let json = out.join(format!("{}.json", self.name()));
        let said = self.load_on(&running, seconds, &json).map_err(fault)?;
        if let Some(said) = said.as_ref().filter(|_| self.server.is_ours()) {
            let log = running.log();
            return Err(fault(format!("{said}\nThe end of the server's log:\n{log}")));
        }
        let figures = fs::read_to_string(&json).unwrap_or_default();
        let figures: Value = serde_json::from_str(&figures).unwrap_or_default();
        let warnings = figures["warnings"].as_array().into_iter().flatten();
        Ok(Round {
            scenario: self.scenario.id.into(),
            load: self.load.name.into(),
            server: self.server,
            number: self.round,
            figures: Metric::all(&figures).collect(),
            fault: said,
            warnings: warnings.filter_map(|text| text.as_str().map(String::from)).collect(),
        })
    }

    /// Puts the load on a server. Returns what `pushmux bench` says if it is not content.
    fn load_on(
        &self,
        running: &Running,
        seconds: f64,
        json: &Path,
    ) -> Result<Option<String>, String> {
        let said: PathBuf = json.with_extension("txt");
        let at = |error| format!("cannot write {}: {error}", said.display());
        let mut command = servers::command();
        command.arg("bench").args(running.target()).args(self.flags(seconds));
        command.arg("--json").arg(json).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command
            .stderr(File::create(&said).map_err(at)?)
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", servers::PUSHMUX))?;
        let limit = PATIENCE + Duration::from_secs_f64(seconds * 10.0);
        let status = wait(&mut child, limit)?;
        let text = fs::read_to_string(&said).unwrap_or_default();
        // An empty file says nothing that the round's figures do not say.
        let _ = fs::remove_file(&said);
        let text = text.trim().trim_start_matches("error: ").to_owned();
        Ok((!status.success()).then(|| if text.is_empty() { status.to_string() } else { text }))
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
