//! Node.js with the package `ws`.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::process::{self, Process};
use super::{Dialect, Running, first_line};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/compare/ws");

pub(super) fn start() -> Result<Running, String> {
    let mut command = Command::new("node");
    command.arg(format!("{FOLDER}/server.mjs"));
    let mut process = Process::start(command, process::folder()?)?;
    let address = process.announced()?;
    Ok(Running { process, address, speaks: Dialect::Common })
}

pub(super) fn version() -> Result<String, String> {
    let node = first_line("node", &["--version"])
        .ok_or("no program node, which Debian's package nodejs brings")?;
    let package = fs::read_to_string(format!("{FOLDER}/node_modules/ws/package.json"));
    let package: Option<Value> = package.ok().and_then(|text| serde_json::from_str(&text).ok());
    let package = package.ok_or(
        "no package ws, which this brings: npm ci --prefix benches/compare/ws --ignore-scripts",
    )?;
    let ws = package["version"].as_str().unwrap_or("?");
    Ok(format!("Node.js {node}, ws {ws}, no compression, one process"))
}
