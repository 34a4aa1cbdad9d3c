//! pushmux beside a floor and its peers, under the same load, in one run.
//!
//! `cargo bench --bench compare` starts each server afresh for each round, has
//! `pushmux bench` put the load on it, and goes round: floor, pushmux, nginx, Node.js, floor,
//! pushmux ... So whatever else the machine does hits all of them, and the ratio of two
//! neighbouring rounds means more than either figure.
//!
//! The *floor* is this binary itself, as the cheapest process that still gets a frame to
//! every subscriber. CPU time is that of the server's processes; on loopback a `write()`
//! includes the receiver's TCP input. `pushmux bench` checks that every message comes once and
//! in order; a message lost by pushmux ends the run, one lost by a peer stands in the table.
//! Linux only.
#![forbid(unsafe_code)]
// It prints, and its counters become figures for people to read.
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]

mod floor;
mod machine;
mod options;
mod publish;
mod report;
mod rig;
mod servers;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use options::Options;
use report::record::Record;
use report::server::Server;
use rig::Place;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    if args.next_if(|arg| arg == floor::ARGUMENT).is_some() {
        let ended = floor::serve(args.next().as_deref() == Some("joining"));
        return ended.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    // Cargo says so itself; `cargo test --all-targets` comes by here without it, and with
    // arguments that are meant for tests.
    if std::env::args().all(|arg| arg != "--bench") {
        println!("Nothing to test. Try cargo bench --bench compare.");
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(2);
        }
    };
    if cfg!(debug_assertions) && options.charts.is_none() {
        eprintln!("Not an optimised build, whose figures mean nothing. Try cargo bench.");
        return ExitCode::from(2);
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    if let Some(path) = &options.charts {
        return publish::publish(&publish::read(path)?);
    }
    machine::check_files(&options.scenarios)?;
    let versions = installed(&options.servers);
    let (record, fault) = measure(options, versions)?;
    print!("{}", report::table::text(&record));
    let path = out(options).join("compare.json");
    publish::write(&path, &publish::json(&record)?)?;
    println!("\nWritten to {}", path.display());
    match fault {
        Some(fault) => Err(fault),
        None if options.publish => publish::publish(&record),
        None => Ok(()),
    }
}

fn out(options: &Options) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let folder = || target.unwrap_or(Path::new("target")).join("bench/compare");
    options.out.clone().unwrap_or_else(folder)
}

/// Those that can be started, each with its version.
fn installed(servers: &[Server]) -> BTreeMap<Server, String> {
    let mut versions = BTreeMap::new();
    for server in servers {
        match servers::version(*server) {
            Ok(version) => _ = versions.insert(*server, version),
            Err(fault) => eprintln!("{server} is left out: {fault}"),
        }
    }
    versions
}

/// Goes through it all. What was measured until a fault is worth keeping.
fn measure(
    options: &Options,
    versions: BTreeMap<Server, String>,
) -> Result<(Record, Option<String>), String> {
    let rounds = out(options).join("rounds");
    fs::create_dir_all(&rounds)
        .map_err(|error| format!("--out: cannot make {}: {error}", rounds.display()))?;
    let (start, began) = (Instant::now(), humantime::format_rfc3339_seconds(SystemTime::now()));
    let mut record = Record {
        machine: machine::machine(),
        began: began.to_string(),
        minutes: 0.0,
        rounds: options.rounds,
        seconds: options.seconds,
        versions,
        summary: BTreeMap::new(),
        results: Vec::new(),
    };
    let fault = places(options, &record.versions).try_for_each(|place| {
        eprintln!("{place}");
        record.results.push(place.run(options.seconds, &rounds)?);
        Ok(())
    });
    record.minutes = start.elapsed().as_secs_f64() / 60.0;
    record.summarize();
    Ok((record, fault.err()))
}

/// All that is to be measured, in turn.
fn places(
    options: &Options,
    versions: &BTreeMap<Server, String>,
) -> impl Iterator<Item = Place> + use<> {
    let mut places = Vec::new();
    for scenario in &options.scenarios {
        for number in 1..=options.rounds {
            for server in scenario.servers.iter().filter(|server| versions.contains_key(server)) {
                for load in scenario.loads.iter().filter(|load| load.fits(*server)) {
                    places.push(Place { scenario, load, server: *server, number });
                }
            }
        }
    }
    places.into_iter()
}
