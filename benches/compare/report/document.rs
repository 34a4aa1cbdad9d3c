//! The part of a document that is written by the command.

const BEGIN: &str = "<!-- figures: written by `cargo bench --bench compare -- --charts` -->";
const END: &str = "<!-- end of figures -->";

/// The document with other figures between its marks.
///
/// # Errors
/// When a mark is missing.
pub(crate) fn with_figures(document: &str, figures: &str) -> Result<String, String> {
    let missing = |mark: &str| format!("found no line {mark:?}, expected it around the figures");
    let (before, rest) = document.split_once(BEGIN).ok_or_else(|| missing(BEGIN))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| missing(END))?;
    Ok(format!("{before}{BEGIN}\n{figures}\n{END}{after}"))
}
