//! `config.example.toml`: every key, its default and its variable, and nothing else.

use std::path::Path;

use crate::config::{check, show};
use crate::support::http;
use crate::support::server::Builder;
use crate::support::token::Keys;

/// The example with every key switched on.
fn example(all: bool) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
    let example = std::fs::read_to_string(path).unwrap();
    assert!(example.contains("[server]"));
    let switch = |line: &str| {
        let key =
            line.strip_prefix('#').filter(|rest| all && !rest.starts_with(' ') && !rest.is_empty());
        key.unwrap_or(line).to_owned() + "\n"
    };
    example.lines().map(switch).collect()
}

#[test]
fn the_example_file_runs_as_it_is_once_it_has_a_key() {
    let server = Builder::notiflux().file("config.toml", &example(false)).start();
    assert_eq!(http::request(server.address, "GET", "/health", &[], b"").status, 200);
}

#[test]
fn the_example_file_has_every_key_with_its_default_and_its_variable() {
    let full = example(true);
    let key = format!("public_key = \"{}\"", Keys::server().public_base64());
    let hash = format!("keys = [\"sha256:{}\"]", "0".repeat(64));
    let mut whole = full.clone();
    for (written, needed) in [
        // Keys that have no default, or whose default does not go with all others.
        ("public_key = \"\"", key.as_str()),
        ("generate = false", "generate = true"),
        ("\nurl = \"\"", "\nurl = \"sqlite::memory:\""),
        ("\nurl = \"\"", "\nurl = \"https://example.org/hook\""),
        ("keys = []", hash.as_str()),
    ] {
        assert!(whole.contains(written), "{written}");
        whole = whole.replacen(written, needed, 1);
    }
    let (code, faults) = check(Builder::new().file("config.toml", &whole));
    assert_eq!((code, faults.as_str()), (Some(0), ""));

    // Whatever `config show` knows of any plugin stands in the example with the same value.
    let written: toml::Table = full.parse().unwrap();
    let table =
        |plugin: &pushmux::core::plugin::Plugin| format!("[{}.{}]\n", plugin.kind(), plugin.name);
    let sections: String = pushmux::plugins::ALL.iter().map(table).collect();
    let sections = format!("[database.main]\n{sections}");
    let defaults: toml::Table =
        show(Builder::new().file("config.toml", &sections)).parse().unwrap();
    let mut keys = 0;
    for (path, value) in leaves("", &defaults.into()) {
        if path == "server.workers" {
            continue; // as many as there are cores
        }
        let found =
            leaves("", &written.clone().into()).into_iter().find(|(known, _)| *known == path);
        assert_eq!(found.unwrap_or_else(|| panic!("{path} is missing")).1, value, "{path}");
        let variable = variable_in_comment(&full, &path);
        assert!(variable, "the comment over {path} does not name its variable");
        keys += 1;
    }
    assert!(keys > 40, "{keys}");
}

fn leaves(at: &str, value: &toml::Value) -> Vec<(String, toml::Value)> {
    match value {
        toml::Value::Table(table) => {
            let join =
                |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
            table.iter().flat_map(|(key, value)| leaves(&join(key), value)).collect()
        }
        leaf => vec![(at.to_owned(), leaf.clone())],
    }
}

fn variable_in_comment(example: &str, path: &str) -> bool {
    let (section, key) = path.rsplit_once('.').unwrap();
    let after = example.split_once(&format!("[{section}]\n")).unwrap().1;
    let before = after.split_once(&format!("\n{key} = ")).unwrap().0;
    let last = before.lines().last().unwrap();
    last.ends_with(&pushmux::core::config::env::variable(path))
}
