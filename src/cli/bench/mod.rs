//! `pushmux bench`: load on a server, and a check of what comes back.
//!
//! One thread receives and one publishes, both on epoll and without a run time, so that on a
//! small machine the server is what is measured. Every message carries who sent it, when, and
//! its number: loss, duplicates, order and latency are all told by the receiver.
//!
//! Exit codes: 0 everything came once and in order, 1 it did not, 2 wrong usage.

// Counters become figures for people to read, and fields of a stamp are as wide as their
// digits: nothing is lost that anybody would see.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap
)]

mod answer;
mod conduct;
mod connection;
mod credential;
mod dialect;
mod figures;
mod frame;
mod inbox;
mod json;
mod lane;
mod ledger;
mod limits;
mod options;
mod process;
mod progress;
mod publishers;
mod report;
mod settings;
mod stamp;
mod subscribers;
mod tally;
mod target;
mod timeline;

use std::fs;
use std::path::Path;

use clap::Subcommand;

use self::settings::Settings;
use super::{Failure, print};

/// Which server to speak to.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Subscribers on /ws, publishers on /broadcast, with tokens.
    Notiflux(Box<dialect::notiflux::Options>),
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    let settings = match command {
        Command::Notiflux(options) => options.settings(),
    };
    bench(settings.map_err(Failure::misused)?)
}

fn bench(settings: Settings) -> Result<(), Failure> {
    limits::raise(&settings).map_err(Failure::failed)?;
    let figures = conduct::conduct(settings).map_err(Failure::failed)?;
    print(&report::text(&figures))?;
    if let Some(path) = &figures.progress.settings.json {
        write("--json", path, &format!("{:#}\n", json::value(&figures)))?;
    }
    if figures.faults.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(figures.faults.join("; ")))
}

fn write(flag: &str, path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| {
        Failure::failed(format!("{flag}: cannot write {}: {error}", path.display()))
    })
}
