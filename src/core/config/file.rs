//! The TOML file as a layer, with the line of every key.

use std::collections::HashMap;

use figment::value::{Dict, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Fault;

/// What the parser says of a word by its first letter.
const GUESSES: [&str; 4] = [
    "invalid float, expected `nan`",
    "invalid float, expected `inf`",
    "invalid boolean, expected `true`",
    "invalid boolean, expected `false`",
];

/// A parsed file. Syntax errors do not stop the parser, so that everything wrong
/// with a file can be told at once.
#[derive(Debug, Default)]
pub(super) struct File {
    pub values: Dict,
    lines: HashMap<String, usize>,
    pub faults: Vec<Fault>,
}

impl File {
    pub(super) fn parse(name: &str, text: &str) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
        let faults = errors.iter().map(|error| Fault {
            origin: Some(name.to_owned()),
            line: Some(match error.span() {
                Some(span) => line_of(span.start),
                None => first_line_with(error.message(), text),
            }),
            key: String::new(),
            message: match (error.message(), error.span().and_then(|span| text.get(span))) {
                ("duplicate key", Some(key)) => format!("duplicate key `{key}`"),
                // How a bare `notiflux`, `info` or `text` begins.
                (message, _) if GUESSES.contains(&message) => {
                    "found a bare word, expected a number, true, false, or text in quotes"
                        .to_owned()
                }
                (message, _) => message.to_owned(),
            },
        });
        let mut file = Self { faults: faults.collect(), ..Self::default() };
        file.values = file.table(table.get_ref(), "", &line_of);
        file
    }

    /// Line of the key, or of the nearest table around it that was written down.
    pub(super) fn line(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.lines.get(key) {
                return Some(*line);
            }
            key = key.rsplit_once('.')?.0;
        }
    }

    fn table(&mut self, table: &DeTable<'_>, at: &str, line_of: &dyn Fn(usize) -> usize) -> Dict {
        let mut dict = Dict::new();
        for (key, value) in table {
            let name = key.get_ref().to_string();
            let path = super::join(at, &name);
            self.lines.insert(path.clone(), line_of(key.span().start));
            dict.insert(name, self.value(value, &path, line_of));
        }
        dict
    }

    fn value(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        at: &str,
        line_of: &dyn Fn(usize) -> usize,
    ) -> Value {
        match value.get_ref() {
            DeValue::String(text) => Value::from(text.to_string()),
            DeValue::Boolean(yes) => Value::from(*yes),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::from(number),
                    // Too large for any key; the type error will quote the text.
                    Err(_) => Value::from(number.as_str().to_owned()),
                }
            }
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) => Value::from(number),
                Err(_) => Value::from(number.as_str().to_owned()),
            },
            DeValue::Datetime(when) => Value::from(when.to_string()),
            DeValue::Array(items) => {
                let items = items.iter().enumerate().map(|(index, item)| {
                    let path = super::join(at, &index.to_string());
                    self.lines.insert(path.clone(), line_of(item.span().start));
                    self.value(item, &path, line_of)
                });
                Value::from(items.collect::<Vec<_>>())
            }
            DeValue::Table(table) => Value::from(self.table(table, at, line_of)),
        }
    }
}

/// The first line with which the text has a fault that does not say where it is, such as one
/// that is nested too deeply.
fn first_line_with(message: &str, text: &str) -> usize {
    let ends = text.match_indices('\n').map(|(at, _)| at + 1).chain([text.len()]);
    let ends: Vec<_> = ends.collect();
    let before = ends.partition_point(|end| {
        let (_, errors) = DeTable::parse_recoverable(&text[..*end]);
        !errors.iter().any(|error| error.span().is_none() && error.message() == message)
    });
    (before + 1).min(ends.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nested_too_deeply_has_a_line() {
        let deep = vec!["a"; 1000].join(".");
        let file = File::parse("config.toml", &format!("[a]\nb = 1\n[{deep}]\nc = 2\n"));
        let lines: Vec<_> = file.faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [Some(3)], "{:?}", file.faults);
    }

    #[test]
    fn lines_and_values() {
        let file = File::parse("f", "a = 1\n[b]\nc = \"x\"\nd = [\n  1,\n  { e = 2 },\n]\n[b.f]\n");
        assert!(file.faults.is_empty());
        assert_eq!(file.line("a"), Some(1));
        assert_eq!(file.line("b.c"), Some(3));
        assert_eq!(file.line("b.d.1.e"), Some(6));
        assert_eq!(file.line("b.f.missing"), Some(8));
        assert_eq!(file.line("z"), None);
    }

    #[test]
    fn a_syntax_error_does_not_hide_the_rest() {
        let file = File::parse("f", "a = \nb = 2\nb = 3\nc = 4\n");
        let places: Vec<_> = file.faults.iter().map(|fault| fault.line).collect();
        assert_eq!(places, [Some(1), Some(3)], "{:?}", file.faults);
        assert!(file.values.contains_key("c"));
    }
}
