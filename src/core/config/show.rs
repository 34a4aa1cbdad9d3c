//! `config show`: the effective configuration as TOML, each value with its origin.

use std::fmt::Write as _;

use super::{Layers, join};

/// Writes `effective`, the typed configuration with its defaults, as a TOML file whose
/// comments say where each value came from. Secrets are masked by their types.
#[must_use]
pub fn show(layers: &Layers, effective: &toml::Table) -> String {
    let mut out =
        String::from("# Effective configuration: profile < environment < file < flags.\n");
    let profile = match &layers.profile {
        Some((name, why)) => format!("{name} (from {why})"),
        None => "none".to_owned(),
    };
    let _ = writeln!(out, "# profile: {profile}");
    let _ = writeln!(out, "# file: {}", layers.file_name().unwrap_or("none"));
    for note in &layers.notes {
        let _ = writeln!(out, "# note: {note}");
    }
    for (variable, key, winner) in layers.shadowed() {
        let _ = writeln!(
            out,
            "# shadowed: environment variable {variable} ({key}) is overridden by {winner}"
        );
    }
    for (kind, value) in effective {
        let Some(table) = value.as_table() else { continue };
        if matches!(kind.as_str(), "server" | "log") {
            section(&mut out, layers, kind, table);
            continue;
        }
        for (name, value) in table {
            if let Some(table) = value.as_table() {
                section(&mut out, layers, &join(kind, name), table);
            }
        }
    }
    out
}

fn section(out: &mut String, layers: &Layers, path: &str, table: &toml::Table) {
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
        let _ = writeln!(out, "{line:width$}  # {origin}");
    }
}
