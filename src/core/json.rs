//! JSON as Go's encoder writes it, for wires that were Go's before.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Compact JSON, safe for HTML: `<`, `>`, `&`, U+2028 and U+2029 never appear as they are.
///
/// # Errors
/// Those of `value`'s own serialization; writing to memory cannot fail.
pub fn to_vec(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::with_capacity(256);
    value.serialize(&mut Serializer::with_formatter(&mut bytes, GoEscapes))?;
    Ok(bytes)
}

struct GoEscapes;

impl Formatter for GoEscapes {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        to: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut plain = 0;
        for (at, found) in fragment.match_indices(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            to.write_all(&fragment.as_bytes()[plain..at])?;
            for c in found.chars() {
                write!(to, "\\u{:04x}", u32::from(c))?;
            }
            plain = at + found.len();
        }
        to.write_all(&fragment.as_bytes()[plain..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        let odd = "<a>&\u{2028}\u{2029}é/\u{8}\u{c}\n\r\t\u{1}\u{7f}\"\\";
        let text = String::from_utf8(to_vec(&odd).unwrap()).unwrap();
        let expected =
            r"\u003ca\u003e\u0026\u2028\u2029é/\b\f\n\r\t\u0001".to_owned() + "\u{7f}\\\"\\\\";
        assert_eq!(text, format!("\"{expected}\""));
    }
}
