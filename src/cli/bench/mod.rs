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
mod churn;
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
mod patience;
mod process;
mod progress;
mod published;
mod publishers;
mod receivers;
mod report;
mod settings;
mod stamp;
mod subscribers;
mod svg;
mod tally;
mod target;
mod timeline;

use std::fs;
use std::path::Path;

use clap::Subcommand;

use self::settings::Settings;
use super::{Failure, print};

/// What the three commands have in common, for those who read no code.
pub(super) const ABOUT: &str = "\
Subscribers connect, subscribe and count; publishers post messages that carry their number and \
the time. So every loss, duplicate, change of order and every latency is seen by the receiver. \
First each topic is probed until all its subscribers get something; then comes the warm-up, the \
measured part, and a wait for the last messages.

The options are listed by `pushmux bench notiflux --help` and so on; nearly all \
are common to the three.

The server is best on a machine, or on cores, of its own. Latency is from sending the POST to \
the arrival at each subscriber; with --rate it is from the moment at which the POST was due, so \
that a server that holds up the next ones does not look better for it. CPU is that of the server's processes while measuring; `user` is \
exact to 10 ms. `delivered` and what was lost count all messages, measured or not.

Exit codes: 0 every message came once and in order to every subscriber that reads, and none was \
refused; 1 not so, or the run failed; 2 wrong usage.";

/// Which server to speak to.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Subscribers on /ws, publishers on /broadcast, with tokens.
    Notiflux(Box<dialect::notiflux::Options>),
    /// Browsers and notifications of the push server of openITCOCKPIT.
    Oitc(Box<dialect::oitc::Options>),
    /// Plain WebSockets and a POST with the message as its body, such as nginx with nchan.
    Generic(Box<dialect::generic::Options>),
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    let settings = match command {
        Command::Notiflux(options) => options.settings(),
        Command::Oitc(options) => options.settings(),
        Command::Generic(options) => options.settings(),
    };
    bench(settings.map_err(Failure::misused)?)
}

fn bench(settings: Settings) -> Result<(), Failure> {
    limits::raise(&settings).map_err(Failure::misused)?;
    let figures = conduct::conduct(settings).map_err(Failure::failed)?;
    print(&report::text(&figures))?;
    if let Some(path) = &figures.progress.settings.json {
        write("--json", path, &format!("{:#}\n", json::value(&figures)))?;
    }
    if let Some(path) = &figures.progress.settings.svg {
        write("--svg", path, &svg::picture(&figures))?;
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
