//! Integers as Go's `strconv.ParseInt(text, 0, 64)` reads them: `0x10`, `0b1`, `0o7`,
//! `017` (octal), `1_000`. Scripts written for the original may hold any of them.

use thiserror::Error;

/// Why a text is no integer, in Go's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum NumberError {
    #[error("parse error")]
    Syntax,
    #[error("value out of range")]
    Range,
}

pub(super) fn parse(text: &str) -> Result<i64, NumberError> {
    if let Some(digits) = text.strip_prefix('-') {
        return 0_i64.checked_sub_unsigned(magnitude(digits)?).ok_or(NumberError::Range);
    }
    let digits = text.strip_prefix('+').unwrap_or(text);
    i64::try_from(magnitude(digits)?).map_err(|_| NumberError::Range)
}

fn magnitude(text: &str) -> Result<u64, NumberError> {
    if text.is_empty() {
        return Err(NumberError::Syntax);
    }
    let (radix, digits) = radix(text);
    let mut sum = 0_u64;
    for c in digits.chars().filter(|c| *c != '_') {
        let digit = c.to_digit(radix).ok_or(NumberError::Syntax)?;
        sum = sum
            .checked_mul(radix.into())
            .and_then(|sum| sum.checked_add(digit.into()))
            .ok_or(NumberError::Range)?;
    }
    if underscores_separate_digits(text) { Ok(sum) } else { Err(NumberError::Syntax) }
}

/// The base that a prefix asks for, and what follows the prefix.
fn radix(text: &str) -> (u32, &str) {
    let prefixes = [("0x", 16), ("0X", 16), ("0b", 2), ("0B", 2), ("0o", 8), ("0O", 8), ("0", 8)];
    prefixes
        .iter()
        .find_map(|(prefix, radix)| {
            let digits = text.strip_prefix(prefix)?;
            // A prefix of letters without a digit is no number, but a lone zero is one.
            (prefix.len() == 1 || !digits.is_empty()).then_some((*radix, digits))
        })
        .unwrap_or((10, text))
}

/// For a text of digits, underscores and perhaps a prefix, which counts as a digit.
fn underscores_separate_digits(text: &str) -> bool {
    !text.starts_with('_') && !text.ends_with('_') && !text.contains("__")
}

#[cfg(test)]
mod tests {
    use super::{NumberError, parse};

    #[test]
    fn every_form_of_an_integer_is_read() {
        for (text, expected) in [
            ("0", 0),
            ("-0", 0),
            ("7", 7),
            ("+7", 7),
            ("-7", -7),
            ("0x10", 16),
            ("0XfF", 255),
            ("-0x10", -16),
            ("0b1", 1),
            ("0B101", 5),
            ("0o7", 7),
            ("0O17", 15),
            ("017", 15),
            ("00", 0),
            ("1_000", 1000),
            ("0_7", 7),
            ("0x_1", 1),
            ("0x1_f", 31),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("0x7fffffffffffffff", i64::MAX),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_integer_is_refused() {
        for text in [
            "", "+", "-", "abc", " 1", "1 ", "1.0", "1e3", "--1", "+-1", "0x", "0b", "0o", "0b2",
            "08", "0xg", "_1", "1_", "1__0", "0_", "0x_", "_", "é", "１",
        ] {
            assert_eq!(parse(text), Err(NumberError::Syntax), "{text}");
        }
        for text in [
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "99999999999999999999",
            "0xffffffffffffffff",
            // Go counts from the left and gives up before it sees the rest.
            "99999999999999999999x",
        ] {
            assert_eq!(parse(text), Err(NumberError::Range), "{text}");
        }
    }
}
