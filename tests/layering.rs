//! Imports go one way: main, cli, plugins, core. Core never names a plugin, and
//! plugins never name each other.

use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

#[test]
fn nothing_imports_what_stands_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut checked, mut faults) = (0, Vec::new());
    for path in sources(&src) {
        let inner = path.strip_prefix(&src).unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let names = |what: &str| text.contains(&format!("crate::{what}"));
        let mut forbid = |what: &str, found: bool| {
            checked += 1;
            if found {
                faults.push(format!("{inner} names {what}"));
            }
        };
        if inner.starts_with("core/") {
            for above in ["plugins", "profiles", "cli"] {
                forbid(above, names(above));
            }
        }
        if let Some((plugin, _)) =
            inner.strip_prefix("plugins/").and_then(|rest| rest.split_once('/'))
        {
            forbid("cli", names("cli"));
            for other in text.split("plugins::").skip(1) {
                let other = other.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                forbid(&format!("plugin {other}"), other != plugin);
            }
        }
    }
    assert!(checked > 40, "only {checked} checks: has the layout moved?");
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn no_file_of_ours_is_too_long_to_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "tests", "benches"] {
        for path in sources(&root.join(folder)) {
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 450, "{} has {lines} lines", path.display());
        }
    }
}
