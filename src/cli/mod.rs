//! The command line.
//!
//! Exit codes: 0 success, 1 failure while running, 2 wrong usage or configuration.

mod bench;
mod config;
mod docs;
mod reload;
mod run;
mod send;
mod token;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::core::config::{Faults, Layers, Sources};
use crate::core::{BoxError, chain};
use crate::profiles;

/// A failure while running.
const FAILED: u8 = 1;
/// Wrong usage or configuration; clap uses the same.
const MISUSED: u8 = 2;

/// Real-time notification server: one message, every WebSocket that wants it.
///
/// Configuration, later wins: profile < environment < TOML file < flags. The file is
/// --config, else ./config.toml, else /etc/pushmux/config.toml, else none.
#[derive(Debug, Parser)]
#[command(name = "pushmux", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_CODES: &str =
    "Exit codes: 0 success, 1 failure while running, 2 wrong usage or configuration.";

/// What says which configuration is meant, before or after the sub-command.
#[derive(Clone, Debug, Default, Args)]
struct Common {
    /// Built-in configuration to start from.
    #[arg(long, value_name = "NAME", value_parser = profile_names())]
    profile: Option<String>,
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name or address to listen on (server.host).
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Port to listen on, 0 for any free one (server.port).
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
    /// Form of the log on stderr (log.format).
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// Say more: -v debug, -vv trace (log.level).
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

fn profile_names() -> PossibleValuesParser {
    PossibleValuesParser::new(profiles::ALL.iter().map(|profile| profile.name))
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (the default).
    Run(Common),
    /// Look at the configuration without running.
    #[command(subcommand)]
    Config(config::Command),
    /// Make keys and tokens for auth type jwt.
    #[command(subcommand)]
    Token(token::Command),
    /// Send an alert to the push server of openITCOCKPIT, as Naemon does.
    // Everything after the name belongs to the command's own parser, and its description
    // lists what that takes: the options that clap would list are not among it.
    #[command(
        disable_help_flag = true,
        long_about = send::about(),
        override_usage = "pushmux send [FLAGS]",
        help_template = "{usage-heading} {usage}\n\n{about}"
    )]
    Send {
        /// Flags as in the description.
        #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<OsString>,
    },
    /// Put load on a server and check that every message comes once and in order.
    #[command(subcommand, after_help = bench::ABOUT)]
    Bench(bench::Command),
    /// Print shell completions.
    Completions {
        /// The shell to complete for.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, for man(1).
    Man,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(code) = send::dispatch(std::env::args_os()) {
        return code;
    }
    let cli = Cli::parse();
    let done = match cli.command {
        None => run::run(&cli.common),
        Some(Command::Run(common)) => run::run(&common.over(&cli.common)),
        Some(Command::Config(command)) => config::run(&command, &cli.common),
        Some(Command::Token(command)) => token::run(&command),
        Some(Command::Send { flags }) => return send::run(flags),
        Some(Command::Bench(command)) => bench::run(command),
        Some(Command::Completions { shell }) => docs::completions(shell),
        Some(Command::Man) => docs::man(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, error }) => {
            // A closed pipe is nobody's problem here.
            let _ = writeln!(std::io::stderr(), "{}", chain(&*error));
            ExitCode::from(code)
        }
    }
}

/// Why the program ends with something else than 0.
#[derive(Debug)]
struct Failure {
    code: u8,
    error: BoxError,
}

impl Failure {
    fn misused(error: impl Into<BoxError>) -> Self {
        Self { code: MISUSED, error: error.into() }
    }

    fn failed(error: impl Into<BoxError>) -> Self {
        Self { code: FAILED, error: error.into() }
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::misused(faults)
    }
}

impl Common {
    /// What stands after the sub-command, and for the rest what stands before it.
    fn over(&self, before: &Self) -> Self {
        Self {
            profile: self.profile.clone().or_else(|| before.profile.clone()),
            config: self.config.clone().or_else(|| before.config.clone()),
            host: self.host.clone().or_else(|| before.host.clone()),
            port: self.port.clone().or_else(|| before.port.clone()),
            log_format: self.log_format.or(before.log_format),
            verbose: self.verbose.saturating_add(before.verbose),
        }
    }

    /// The same, for later: with the file that was found, if one was. One that has gone by then
    /// is no wish to go on without it.
    fn with_file_of(mut self, layers: &Layers) -> Self {
        if self.config.is_none() {
            self.config = layers.file_name().map(Into::into);
        }
        self
    }

    /// The configuration's layers, with `file` instead of `--config` if there is one.
    fn layers(&self, file: Option<&PathBuf>) -> Layers {
        let mut flags = Vec::new();
        if let Some(host) = &self.host {
            flags.push(("--host", "server.host", host.clone()));
        }
        if let Some(port) = &self.port {
            flags.push(("--port", "server.port", port.clone()));
        }
        if let Some(format) = self.log_format {
            let name = match format {
                Format::Text => "text",
                Format::Json => "json",
            };
            flags.push(("--log-format", "log.format", name.to_owned()));
        }
        match self.verbose {
            0 => {}
            1 => flags.push(("-v", "log.level", "debug".to_owned())),
            _ => flags.push(("-vv", "log.level", "trace".to_owned())),
        }
        let sources = Sources {
            profile: self.profile.clone(),
            file: file.or(self.config.as_ref()).cloned(),
            environment: environment(),
            flags,
        };
        Layers::read(&sources, profiles::ALL)
    }
}

/// The environment; what is not UTF-8 can hold no setting of ours.
fn environment() -> Vec<(String, String)> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Says something beside what stdout is for.
fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Prints to stdout; a reader that has gone away is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::failed(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_names_every_profile() {
        super::Cli::command().debug_assert();
        let help = super::Cli::command().render_long_help().to_string();
        for profile in crate::profiles::ALL {
            assert!(help.contains(profile.name), "{}", profile.name);
        }
    }
}
