//! Values of the right type, out of values of any: what a variable says may stand for another
//! type, and of what is wrong everything is found and told in words.

use figment::error::{Actual, Kind};
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;

use super::fault::Fault;
use super::file::File;
use super::{Layers, find, join};

/// Deserializes, and on each fault takes the bad value out and goes on.
pub(super) fn extract<T: DeserializeOwned>(
    layers: &Layers,
    path: &str,
    mut values: Dict,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    let mut retyped = Vec::new();
    loop {
        let error = match Value::from(values.clone()).deserialize::<T>() {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let key = error.path.join(".");
        if !retyped.contains(&key) && retype(layers, &mut values, &key) {
            retyped.push(key);
            continue;
        }
        // A value from the environment is shown as it was written there.
        let original = join(path, &key);
        faults.push(layers.fault(&original, describe(&error.kind, &error.path)));
        if !remove(&mut values, &error.path) {
            return None;
        }
    }
}

/// Variables and flags are text. When a key wants something else, its text is read as
/// a TOML value: `8080`, `true`, `["a", "b"]`.
pub(super) fn retype(layers: &Layers, values: &mut Dict, key: &str) -> bool {
    let mut around = key;
    let target = loop {
        match find(values, around) {
            Some(Value::String(_, _)) => break around.to_owned(),
            _ => match around.rsplit_once('.') {
                Some((parent, _)) => around = parent,
                None => return false,
            },
        }
    };
    let Some(value) = find_mut(values, &target) else { return false };
    let Value::String(tag, text) = value else { return false };
    if !layers.is_text(&Value::String(*tag, String::new())) {
        return false;
    }
    let parsed = File::parse("", &format!("value = {text}"));
    match parsed.values.get("value") {
        Some(typed) if parsed.faults.is_empty() && parsed.values.len() == 1 => {
            *value = typed.clone();
            true
        }
        _ => false,
    }
}

fn find_mut<'a>(dict: &'a mut Dict, key: &str) -> Option<&'a mut Value> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(a, b)| (a, Some(b)));
    match (dict.get_mut(first)?, rest) {
        (value, None) => Some(value),
        (Value::Dict(_, dict), Some(rest)) => find_mut(dict, rest),
        _ => None,
    }
}

/// Removes what `path` names; the whole array when it is an element of one, since the
/// places of the others would shift. False when there was nothing to remove.
fn remove(values: &mut Dict, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return false;
    };
    if let (Some(Value::Dict(_, inner)), false) = (values.get_mut(first), rest.is_empty())
        && remove(inner, rest)
    {
        return true;
    }
    values.remove(first).is_some()
}

/// A fault in words.
pub(super) fn describe(kind: &Kind, path: &[String]) -> String {
    let list = |expected: &[&str]| match expected {
        [] => "none here".to_owned(),
        [one] => format!("`{one}`"),
        many => {
            let quoted: Vec<_> = many.iter().map(|name| format!("`{name}`")).collect();
            format!("one of {}", quoted.join(", "))
        }
    };
    match kind {
        Kind::Message(message) => message.clone(),
        // A single value where many are wanted may be the one that must not be shown.
        Kind::InvalidType(found, expected) if ["a sequence", "a map"].contains(&&**expected) => {
            format!("found {}, expected {}", kind_of(found), plain(expected))
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("found {}, expected {}", actual(found), plain(expected))
        }
        Kind::UnknownVariant(found, expected) => {
            format!("found {found:?}, expected {}", list(expected))
        }
        Kind::UnknownField(found, expected) => {
            let name = path.last().unwrap_or(found);
            let hint = match name.as_str() {
                "profile" => " (`profile` belongs above the first [table])",
                _ => "",
            };
            format!("unknown field `{name}`, expected {}{hint}", list(expected))
        }
        other => other.to_string(),
    }
}

/// A found value in words.
pub(super) fn actual(found: &Actual) -> String {
    match found {
        Actual::Bool(yes) => yes.to_string(),
        Actual::Unsigned(number) => number.to_string(),
        Actual::Signed(number) => number.to_string(),
        Actual::Float(number) => number.to_string(),
        Actual::Str(text) => format!("string {text:?}"),
        Actual::Seq => "an array".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// What kind of value was found.
fn kind_of(found: &Actual) -> String {
    match found {
        Actual::Str(_) => "a text".to_owned(),
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number".to_owned(),
        other => actual(other),
    }
}

/// serde names Rust types; users know numbers.
fn plain(expected: &str) -> String {
    match expected {
        "u8" => "a number from 0 to 255".into(),
        "u16" => "a number from 0 to 65535".into(),
        "u32" => "a number from 0 to 4294967295".into(),
        "u64" | "usize" => "a whole number from 0".into(),
        "i64" | "isize" => "a whole number".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "an array, such as [\"a\", \"b\"]".into(),
        "a map" => "a table".into(),
        other => other.to_owned(),
    }
}
