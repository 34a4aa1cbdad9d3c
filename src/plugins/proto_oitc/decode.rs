//! JSON as Go's decoder takes it: names of keys in any letter case, the last of several
//! wins, `null` is as good as nothing, unknown keys and whatever follows the first value
//! are ignored.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The members of an object that we know, by their names in lower case.
#[derive(Debug, Default)]
pub(super) struct Members(HashMap<String, Value>);

impl Members {
    /// Reads the first value of `text`, which must be an object or `null`. Members that
    /// are not `known` (lower case) are skipped without being kept.
    pub(super) fn read(
        text: &str,
        known: &'static [&'static str],
    ) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let mut members = Self::default();
        deserializer.deserialize_any(Object { members: &mut members, known })?;
        Ok(members)
    }

    /// The member as a `T`; its default when it is missing or `null`.
    pub(super) fn take<T: DeserializeOwned + Default>(
        &mut self,
        name: &str,
    ) -> Result<T, serde_json::Error> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(T::default()),
            Some(value) => serde_json::from_value(value),
        }
    }
}

struct Object<'m> {
    members: &'m mut Members,
    known: &'static [&'static str],
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let name = name.to_lowercase();
            if !self.known.contains(&name.as_str()) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value::<Value>()?;
            // For Go a `null` does not touch what an earlier member has set.
            if !value.is_null() {
                self.members.0.insert(name, value);
            }
        }
        Ok(())
    }
}

/// `true` when `value` is an object, `null` or missing, and each of `known` in it has the
/// type that `T` wants.
pub(super) fn fits<T: for<'de> Deserialize<'de> + Default>(value: &Value) -> Option<T> {
    match value {
        Value::Null => Some(T::default()),
        Value::Object(_) => serde_json::from_value(value.clone()).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["userid", "type"];

    fn user(text: &str) -> Result<i64, String> {
        let read = Members::read(text, KNOWN).and_then(|mut members| members.take("userid"));
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn what_go_takes() {
        for (text, expected) in [
            (r#"{"userId":5}"#, 5),
            (r#"{"USERID":5}"#, 5),
            (r#"{"userId":4,"userid":5}"#, 5),
            (r#"{"userId":5,"userId":null}"#, 5),
            (r#"{"userId":null}"#, 0),
            (r#"{"x":{"userId":1}}"#, 0),
            ("{}", 0),
            ("null", 0),
            (r#" {"userId":5} trailing"#, 5),
            (r#"{"userId":5}{"userId":6}"#, 5),
        ] {
            assert_eq!(user(text).as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn what_go_refuses() {
        for text in [
            "",
            "nope",
            "[]",
            "5",
            "\"x\"",
            "\u{FEFF}{}",
            r#"{"userId":"5"}"#,
            r#"{"userId":5.0}"#,
            r#"{"userId":5e0}"#,
            r#"{"userId":9223372036854775808}"#,
            "{\"type\":\"\u{1}\"}",
            "{",
        ] {
            assert!(user(text).is_err(), "{text}");
        }
    }
}
