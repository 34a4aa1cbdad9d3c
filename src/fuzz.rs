//! What hostile bytes reach first, each as a function of bytes that panics when something is
//! not as it should be: for the fuzzers in `fuzz/`, and for the test below, which gives every
//! file of their corpora to the same functions.
//!
//! Built for these two only (`cfg(fuzzing)`, `cfg(test)`): the functions need what is private
//! to a plugin, and nothing that is shipped makes it public.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "panics are what fuzzers look for"
)]

use std::path::Path;

pub use crate::core::database::fuzz::mysql_cnf;
pub use crate::plugins::auth_jwt::fuzz::token;
pub use crate::plugins::proto_notiflux::fuzz::{broadcast, command};
pub use crate::plugins::proto_oitc::fuzz::{handshake, message};
pub use crate::plugins::sink_ws::fuzz::frames;

use crate::core::config::{Layers, Sources, show};
use crate::core::plan;
use crate::{plugins, profiles};

/// A target: what it is called in `fuzz/`, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("broadcast", broadcast),
    ("command", command),
    ("config", config),
    ("frames", frames),
    ("handshake", handshake),
    ("message", message),
    ("mysql_cnf", mysql_cnf),
    ("token", token),
];

/// A configuration: a TOML file, and after a line `#env` variables, one a line.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // Keys may name files, and reading some of these never ends.
    if ["/dev", "/proc", "/sys"].iter().any(|folder| text.contains(folder)) {
        return;
    }
    let (toml, variables) = text.split_once("\n#env\n").unwrap_or((&text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let sources = Sources { environment, ..Sources::default() };
    let layers = Layers::of_text(Path::new("config.toml"), toml, &sources, profiles::ALL);
    let checked = plan::check(&layers, plugins::ALL);
    let shown = show(&layers, &checked.effective, &checked.faults);
    for fault in &checked.faults {
        let told = fault.to_string();
        assert!(!told.is_empty() && !fault.message.is_empty());
        let lines = toml.lines().count().max(1);
        assert!(fault.line.is_none_or(|line| (1..=lines + 1).contains(&line)), "{told}");
    }
    if checked.faults.is_empty() {
        // What is shown is a configuration itself.
        assert!(shown.parse::<toml::Table>().is_ok(), "{shown}");
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn each_target_has_a_program_and_a_corpus() {
        let targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names(&folder().join("corpus")), targets);
        let programs: Vec<_> = targets.iter().map(|name| format!("{name}.rs")).collect();
        assert_eq!(names(&folder().join("fuzz_targets")), programs);
    }

    /// Every file, and what becomes of it when it is cut off, or a byte of it changes.
    #[test]
    fn the_corpora_hold() {
        for (name, target) in TARGETS {
            let corpus = folder().join("corpus").join(name);
            let files = names(&corpus);
            assert!(files.len() >= 5, "{name}: {} files", files.len());
            for file in files {
                let bytes = std::fs::read(corpus.join(file)).unwrap();
                target(&bytes);
                // A few of each, so that the test takes no longer than others.
                let step = bytes.len() / 16 + 1;
                for place in (0..bytes.len()).step_by(step) {
                    target(&bytes[..place]);
                    for byte in [0, b'"', b'\n', 0xFF, bytes[place] ^ 0x80] {
                        let mut changed = bytes.clone();
                        changed[place] = byte;
                        target(&changed);
                    }
                }
            }
        }
    }
}
