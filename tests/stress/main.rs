//! Hard times for the real binary: much load, many faults, and a count of everything.
//!
//! Each scenario starts servers of its own, does its worst, and compares what came with what
//! was promised, exactly. Clocks decide nothing but deadlines, which are generous. A scenario
//! that fails says so in a sentence, the others still run, and the exit code is 1.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::decimal_bitwise_operands,
    clippy::disallowed_methods,
    clippy::large_stack_arrays,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::similar_names,
    missing_docs,
    unreachable_pub
)]

mod books;
mod churn;
mod cut;
mod descriptors;
mod handover;
mod memory;
mod options;
mod outage;
mod resets;
mod restart;
mod run;
mod seeds;
mod silent;
mod slow;
mod soak;
// Its own tests run in the other binary.
#[allow(unused_imports)]
#[path = "../support/mod.rs"]
mod support;
mod wave;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;

use options::Options;
use run::{Run, attempt};

/// A name, and what it does; it returns figures and panics with a sentence.
type Scenario = (&'static str, fn(&Run) -> String);

const SCENARIOS: &[Scenario] = &[
    ("churn", churn::churn),
    ("slow", slow::slow),
    ("restart", restart::restart),
    ("handover", handover::handover),
    ("outage", outage::outage),
    ("descriptors", descriptors::descriptors),
    ("memory", memory::memory),
    ("resets", resets::resets),
    ("silent", silent::silent),
    ("wave", wave::wave),
    ("cut", cut::cut),
    ("seeds", seeds::seeds),
];

/// Runs only when it is named.
const BY_NAME: &[&str] = &["cut"];

fn main() -> ExitCode {
    let options = Options::parse();
    let run = match Run::new(&options) {
        Ok(run) => run,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(2);
        }
    };
    support::raise_descriptor_limit();
    if let Some(minutes) = options.soak {
        return if report("soak", || soak::soak(&run, minutes)) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let names: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = options.scenarios.iter().find(|name| !names.contains(&name.as_str())) {
        eprintln!("found the scenario {unknown:?}, expected one of: {}", names.join(", "));
        return ExitCode::from(2);
    }
    println!("seed {} (again with --seed {0})", run.seed);
    let start = Instant::now();
    let chosen = |name: &str| {
        // Who names seeds wants these alone.
        let all = options.scenarios.is_empty() && (options.seeds.is_none() || name == "seeds");
        (all && !BY_NAME.contains(&name)) || options.scenarios.iter().any(|chosen| chosen == name)
    };
    let mut failed = Vec::new();
    for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| chosen(name)) {
        if !report(name, || scenario(&run)) {
            failed.push(*name);
        }
    }
    let took = start.elapsed().as_secs();
    if failed.is_empty() {
        println!("all good, {took} s");
        return ExitCode::SUCCESS;
    }
    eprintln!("failed after {took} s: {}; again with --seed {}", failed.join(", "), run.seed);
    ExitCode::FAILURE
}

/// Does it and prints a line. Whether it went well.
fn report(name: &str, it: impl FnOnce() -> String) -> bool {
    let start = Instant::now();
    let done = attempt(it);
    let took = start.elapsed().as_secs_f64();
    match &done {
        Ok(figures) => println!("ok     {name:12} {took:5.1} s  {figures}"),
        Err(fault) => println!("FAILED {name:12} {took:5.1} s  {fault}"),
    }
    done.is_ok()
}
