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

use crate::core::config::{Fault, Layers, Sources, show};
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
    let (toml, variables) = text.split_once("\n#env\n").unwrap_or((&text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    configuration(toml, variables.map(|(name, value)| (name.into(), value.into())).collect());
}

/// A configuration: a file that says this, and these variables.
fn configuration(toml: &str, environment: Vec<(String, String)>) {
    // Keys may name files, and reading some of these never ends.
    let forbidden = |text: &str| ["/dev", "/proc", "/sys"].iter().any(|it| text.contains(it));
    if forbidden(toml) || environment.iter().any(|(_, value)| forbidden(value)) {
        return;
    }
    let sources = Sources { environment, ..Sources::default() };
    let layers = Layers::of_text(Path::new("config.toml"), toml, &sources, profiles::ALL);
    let checked = plan::check(&layers, plugins::ALL);
    let shown = show(&layers, &checked.effective, &checked.faults);
    for fault in &checked.faults {
        let told = fault.to_string();
        assert!(!told.is_empty() && !fault.message.is_empty());
        let lines = toml.lines().count().max(1);
        assert!(fault.line.is_none_or(|line| (1..=lines + 1).contains(&line)), "{told}");
        check_place(fault, &sources);
    }
    if checked.faults.is_empty() {
        // What is shown is a configuration itself.
        assert!(shown.parse::<toml::Table>().is_ok(), "{shown}");
    }
}

/// Whoever reads it knows where to look: a line of the file, a variable, a profile, or the name
/// of what is nowhere.
fn check_place(fault: &Fault, sources: &Sources) {
    match fault.origin.as_deref() {
        Some("config.toml") => assert!(fault.line.is_some(), "no line: {fault}"),
        Some(origin) => {
            assert_eq!(fault.line, None, "{fault}");
            let variable = origin.strip_prefix("environment variable ");
            let is_set = |name: &str| sources.environment.iter().any(|(set, _)| set == name);
            let is_profile = origin.starts_with("profile ");
            assert!(is_profile || variable.is_some_and(is_set), "{fault}");
        }
        None => assert!(!fault.key.is_empty() && fault.line.is_none(), "no place: {fault}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::core::config::env::LEGACY;

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

    /// Names of keys, tables and types, and values of some key, as users write them.
    fn words() -> (Vec<String>, Vec<String>, Vec<String>) {
        let example = include_str!("../config.example.toml");
        let (mut tables, mut keys, mut values) = (vec![], vec![], vec![]);
        for line in example.lines().map(|line| line.trim_start_matches(['#', ' '])) {
            if let Some(table) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
                tables.push(table.0.to_owned());
            } else if let Some((key, value)) = line.split_once(" = ")
                && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            {
                keys.push(key.to_owned());
                values.push(value.split(" #").next().unwrap_or_default().to_owned());
            }
        }
        assert!(tables.len() > 8 && keys.len() > 60, "{tables:?} {keys:?}");
        (tables, keys, values)
    }

    /// A value of any type, in tables of tables too.
    fn value() -> impl Strategy<Value = toml::Value> {
        let one = prop_oneof![
            any::<bool>().prop_map(toml::Value::from),
            any::<i64>().prop_map(toml::Value::from),
            any::<f64>().prop_map(toml::Value::from),
            any::<String>().prop_map(toml::Value::from),
            "[0-9]{1,3}(ms|s|m|h)?".prop_map(toml::Value::from),
            Just(toml::Value::Datetime("1979-05-27T07:32:00Z".parse().unwrap())),
        ];
        one.prop_recursive(3, 16, 4, |inner| {
            let keys = prop::sample::select(words().1);
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(toml::Value::from),
                vec((prop_oneof![keys, any::<String>()], inner), 0..4)
                    .prop_map(|pairs| toml::Value::Table(pairs.into_iter().collect())),
            ]
        })
    }

    /// A document as TOML has it: tables that there are, and others.
    fn document() -> impl Strategy<Value = String> {
        let (tables, keys, _) = words();
        let table = prop_oneof![4 => prop::sample::select(tables), 1 => any::<String>()];
        let key = prop_oneof![
            6 => prop::sample::select(keys),
            1 => Just("type".to_owned()),
            1 => Just("profile".to_owned()),
            1 => any::<String>(),
        ];
        vec((table, vec((key, value()), 0..5)), 0..5).prop_map(|tables| {
            let mut document = toml::Table::new();
            for (path, pairs) in tables {
                let mut at = &mut document;
                for name in path.split('.') {
                    let entry = at.entry(name).or_insert_with(|| toml::Table::new().into());
                    if !entry.is_table() {
                        *entry = toml::Table::new().into();
                    }
                    at = entry.as_table_mut().unwrap();
                }
                at.extend(pairs);
            }
            toml::to_string(&document).unwrap()
        })
    }

    /// Lines as users write them, not all of which go together, and others.
    fn lines() -> impl Strategy<Value = String> {
        let (tables, keys, values) = words();
        let profiles: Vec<_> = profiles::ALL.iter().map(|profile| profile.name).collect();
        let line = prop_oneof![
            8 => (prop::sample::select(keys), prop::sample::select(values))
                .prop_map(|(key, value)| format!("{key} = {value}")),
            4 => prop::sample::select(tables).prop_map(|table| format!("[{table}]")),
            1 => prop::sample::select(profiles).prop_map(|name| format!("profile = {name:?}")),
            1 => any::<String>(),
        ];
        vec(line, 0..30).prop_map(|lines| lines.join("\n"))
    }

    fn environment() -> impl Strategy<Value = Vec<(String, String)>> {
        let (tables, keys, values) = words();
        let own =
            (prop::sample::select(tables), prop::sample::select(keys)).prop_map(|(table, key)| {
                format!("PUSHMUX_{table}__{key}").replace('.', "__").to_uppercase()
            });
        let legacy: Vec<_> = LEGACY.iter().map(|legacy| legacy.variable.to_owned()).collect();
        let name = prop_oneof![
            6 => own,
            3 => prop::sample::select(legacy),
            1 => Just("PUSHMUX_PROFILE".to_owned()),
            1 => "PUSHMUX_\\PC{0,12}",
            1 => any::<String>(),
        ];
        let value = prop_oneof![
            3 => prop::sample::select(values).prop_map(|value| value.trim_matches('"').to_owned()),
            1 => value().prop_map(|value| value.to_string()),
            1 => any::<String>(),
        ];
        vec((name, value), 0..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn no_configuration_panics_and_each_fault_has_a_place(
            toml in prop_oneof![document(), lines(), any::<String>()],
            environment in environment(),
        ) {
            configuration(&toml, environment);
        }
    }
}
