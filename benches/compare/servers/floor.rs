//! This very binary.

use std::process::Command;

use super::process::{self, Process};
use super::{Dialect, Running};
use crate::floor::ARGUMENT;

pub(super) fn start(joins: bool) -> Result<Running, String> {
    let program = std::env::current_exe().map_err(|error| format!("who am I: {error}"))?;
    let mut command = Command::new(program);
    command.arg(ARGUMENT).arg(if joins { "joining" } else { "plain" });
    let mut process = Process::start(command, process::folder()?)?;
    let address = process.announced()?;
    Ok(Running { process, address, speaks: Dialect::Common })
}
