//! `config show`: the effective configuration as TOML, each value with its origin.

use std::fmt::Write as _;

use super::{Fault, KINDS, Layers, join};

/// Writes `effective`, the typed configuration with its defaults, as a TOML file whose
/// comments say where each value came from. Secrets are masked by their types.
#[must_use]
pub fn show(layers: &Layers, effective: &toml::Table, faults: &[Fault]) -> String {
    let mut out =
        String::from("# Effective configuration: profile < environment < file < flags.\n");
    let profile = match &layers.profile {
        Some((name, why)) => format!("{name} (from {why})"),
        None => "none".to_owned(),
    };
    let _ = writeln!(out, "# profile: {}", plain(&profile));
    let _ = writeln!(out, "# file: {}", plain(layers.file_name().unwrap_or("none")));
    for note in &layers.notes {
        let _ = writeln!(out, "# note: {}", plain(note));
    }
    for sentence in layers.shadowed() {
        let _ = writeln!(out, "# shadowed: {}", plain(&sentence));
    }
    for (kind, value) in effective {
        let Some(table) = value.as_table() else { continue };
        if !KINDS.contains(&kind.as_str()) {
            section(&mut out, layers, faults, kind, table);
            continue;
        }
        for (name, value) in table {
            if let Some(table) = value.as_table() {
                section(&mut out, layers, faults, &join(kind, name), table);
            }
        }
    }
    out
}

fn section(out: &mut String, layers: &Layers, faults: &[Fault], path: &str, table: &toml::Table) {
    let _ = writeln!(out, "\n[{path}]");
    let lines: Vec<_> =
        table.iter().map(|(key, value)| (key, format!("{key} = {value}"))).collect();
    let width = lines.iter().map(|(_, line)| line.len()).max().unwrap_or(0).min(48);
    for (key, line) in lines {
        let origin = match layers.origin(&join(path, key)) {
            Some((name, Some(number))) => format!("{name}:{number}"),
            Some((name, None)) => name,
            None => "default".to_owned(),
        };
        let is_bad = faults.iter().any(|fault| fault.key == join(path, key));
        let origin = if is_bad { format!("not good, see the fault ({origin})") } else { origin };
        let _ = writeln!(out, "{line:width$}  # {}", plain(&origin));
    }
}

/// For a comment: names of variables and files may have line ends in them, and what follows
/// would be read as configuration.
fn plain(text: &str) -> String {
    let escaped = |c: char| {
        let control = c.is_control().then(|| c.escape_default());
        let other = (!c.is_control()).then_some(c);
        control.into_iter().flatten().chain(other)
    };
    text.chars().flat_map(escaped).collect()
}
