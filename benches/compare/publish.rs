//! A run as files: its JSON, the charts, and the part of docs/performance.md that has figures.

use std::fs;
use std::path::Path;

use super::report::record::Record;
use super::report::{chart, document, table};

/// The folder of documents.
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");

/// Reads a run.
///
/// # Errors
/// Naming the file.
pub(crate) fn read(path: &Path) -> Result<Record, String> {
    let fault = |error: &dyn std::fmt::Display| format!("--charts: {}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| fault(&error))?;
    serde_json::from_str(&text).map_err(|error| fault(&error))
}

/// Puts a run into the documents.
///
/// # Errors
/// Naming the file that cannot be written.
pub(crate) fn publish(record: &Record) -> Result<(), String> {
    let folder = Path::new(DOCS).join("performance");
    fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    write(&folder.join("compare.json"), &json(record)?)?;
    for scenario in table::measured(record) {
        if let Some(svg) = chart::draw(record, scenario) {
            write(&folder.join(chart::file(scenario)), &svg)?;
        }
    }
    let path = Path::new(DOCS).join("performance.md");
    let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(&path).map_err(|error| fault(&error))?;
    let text = document::with_figures(&text, &table::markdown(record));
    write(&path, &text.map_err(|error| fault(&error))?)?;
    println!("Written to {} and {}", path.display(), folder.display());
    Ok(())
}

/// As JSON with a line for each round: a run is compared with the one before by `git diff`.
///
/// # Errors
/// When a figure is no number.
pub(crate) fn json(record: &Record) -> Result<String, String> {
    let fault = |error| format!("cannot write the figures as JSON: {error}");
    let mut value = serde_json::to_value(record).map_err(fault)?;
    let results = value["results"].take();
    let lines = results.as_array().into_iter().flatten();
    let lines: Vec<_> = lines.map(|round| format!("    {round}")).collect();
    let text = format!("{value:#}\n");
    Ok(text.replace("\"results\": null", &format!("\"results\": [\n{}\n  ]", lines.join(",\n"))))
}

/// Writes a file.
///
/// # Errors
/// Naming it.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
