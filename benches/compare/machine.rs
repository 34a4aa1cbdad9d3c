//! Where it runs, and whether there is room.

use std::fs;

use super::report::record::Machine;
use super::report::scenario::Scenario;

/// What figures depend on.
pub(crate) fn machine() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = read("/proc/meminfo");
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = memory.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Machine {
        cpu: cpu.map_or("an unknown CPU", |(_, model)| model.trim()).to_owned(),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        memory_gib: kib.unwrap_or(0.0) / 1024.0 / 1024.0,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        load_before: read("/proc/loadavg")
            .split_whitespace()
            .next()
            .and_then(|load| load.parse().ok())
            .unwrap_or(0.0),
    }
}

/// Raises the limit of open files, which servers inherit.
///
/// # Errors
/// When the hard limit is too low for a scenario.
pub(crate) fn check_files(scenarios: &[&Scenario]) -> Result<(), String> {
    let limit = rlimit::increase_nofile_limit(u64::MAX)
        .map_err(|error| format!("cannot raise the limit of open files: {error}"))?;
    let Some(greedy) = scenarios.iter().max_by_key(|scenario| scenario.files()) else {
        return Ok(());
    };
    if greedy.files() <= limit {
        return Ok(());
    }
    let fits = scenarios.iter().filter(|scenario| scenario.files() <= limit);
    let fits: Vec<_> = fits.map(|scenario| scenario.id).collect();
    Err(format!(
        "scenario {} needs {} open files in a process, and the hard limit is {limit}: raise it (ulimit -Hn) or measure the others (--only {})",
        greedy.id,
        greedy.files(),
        fits.join(",")
    ))
}
