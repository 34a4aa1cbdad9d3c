//! Completions and the manual page, both made from the command line's definition.

use clap::{Command, CommandFactory as _};

use super::{Cli, Failure, print};
use crate::core::config::SEARCH;
use crate::core::config::env::LEGACY;

pub(super) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pushmux", &mut text);
    print(&String::from_utf8_lossy(&text))
}

/// One page: the program, then each sub-command that does something.
pub(super) fn man() -> Result<(), Failure> {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(Failure::failed)?;
    for sub in leaves(&command) {
        let man = clap_mangen::Man::new(sub.clone());
        let name = sub.get_display_name().unwrap_or(sub.get_name()).replace('-', " ");
        page.extend_from_slice(format!(".SH \"{}\"\n", name.to_uppercase()).as_bytes());
        let parts = [
            clap_mangen::Man::render_description_section,
            clap_mangen::Man::render_options_section,
        ];
        // A command that parses for itself has its flags in its description.
        let parts = if sub.is_disable_help_flag_set() { &parts[..1] } else { &parts[..] };
        for part in parts {
            let mut section = Vec::new();
            part(&man, &mut section).map_err(Failure::failed)?;
            // Sections of the page become parts of this command's section.
            let section = String::from_utf8_lossy(&section).replace(".SH ", ".SS ");
            page.extend_from_slice(section.as_bytes());
        }
    }
    page.extend_from_slice(more().as_bytes());
    print(&String::from_utf8_lossy(&page))
}

/// What no definition of arguments says.
fn more() -> String {
    let mut text = String::from(".SH ENVIRONMENT\n");
    for legacy in LEGACY {
        text += &format!(".TP\n.B {}\nsets {}\n", legacy.variable, legacy.key);
    }
    text += ".TP\n.B PUSHMUX_PROFILE\nsets the profile\n";
    text += ".TP\n.B PUSHMUX_<SECTION>__<NAME>__<KEY>\nsets any other key, such as PUSHMUX_PROTOCOL__NOTIFLUX__STRICT=true; arrays as in TOML\n";
    text += ".SH FILES\n";
    for file in SEARCH {
        text += &format!(".TP\n.I {file}\nread when --config names no other file\n");
    }
    text += ".SH EXIT STATUS\n0 success, 1 failure while running, 2 wrong usage or configuration\n";
    text
}

/// The sub-commands that have none of their own.
fn leaves(command: &Command) -> Vec<&Command> {
    let mut found = Vec::new();
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        match leaves(sub) {
            below if below.is_empty() => found.push(sub),
            below => found.extend(below),
        }
    }
    found
}
