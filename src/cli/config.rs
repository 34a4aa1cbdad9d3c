//! `pushmux config`.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Common, Failure, print};
use crate::core::config::{Faults, show};
use crate::core::plan;
use crate::plugins;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Name every fault of the configuration, with its place. Exit code 2 if there is one.
    Check {
        /// The file to check, instead of --config.
        file: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Print the configuration in force, each value with its origin, secrets masked.
    Show(Common),
}

pub(super) fn run(command: &Command, before: &Common) -> Result<(), Failure> {
    match command {
        Command::Check { file, common } => {
            let layers = common.over(before).layers(file.as_ref());
            let notes = layers.notes.clone();
            plan::check(&layers, plugins::ALL).plan()?;
            let text: String = notes.iter().flat_map(|note| ["note: ", note, "\n"]).collect();
            let file = layers.file_name().unwrap_or("no file");
            print(&format!("{text}The configuration is good ({file}).\n"))
        }
        Command::Show(common) => {
            let layers = common.over(before).layers(None);
            let checked = plan::check(&layers, plugins::ALL);
            print(&show(&layers, &checked.effective, &checked.faults))?;
            // What can be shown was shown; that it cannot run is worth an exit code.
            if checked.faults.is_empty() { Ok(()) } else { Err(Faults(checked.faults).into()) }
        }
    }
}
