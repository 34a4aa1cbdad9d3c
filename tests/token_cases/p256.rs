//! As much arithmetic of P-256 signatures as hostile ones take.

/// The order of the group, n; big-endian.
const ORDER: [u8; 32] = [
    0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
    0xBC, 0xE6, 0xFA, 0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
];

/// The prime of the field, p; big-endian.
const FIELD: [u8; 32] = [
    0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
];

/// A number at or beyond an edge, by the name recipes have for it.
pub(super) fn constant(name: &str) -> [u8; 32] {
    let mut number = match name {
        "0" | "1" => [0; 32],
        "n" | "n-1" | "n+1" => ORDER,
        "p" => FIELD,
        "ff" => [0xFF; 32],
        other => panic!("unknown number {other}"),
    };
    match name {
        "1" | "n+1" => number[31] += 1,
        "n-1" => number[31] -= 1,
        _ => {}
    }
    number
}

/// `r || s` with another s, chosen of s and n - s: both are valid.
pub(super) fn with_s(
    signature: &[u8],
    choose: impl FnOnce([u8; 32], [u8; 32]) -> [u8; 32],
) -> Vec<u8> {
    let (r, s) = signature.split_at(32);
    let s = s.try_into().unwrap();
    [r, &choose(s, negated(s))].concat()
}

/// n - s.
fn negated(s: [u8; 32]) -> [u8; 32] {
    let mut result = [0; 32];
    let mut borrow = false;
    for i in (0..32).rev() {
        let (difference, under) = ORDER[i].overflowing_sub(s[i]);
        let (difference, under_again) = difference.overflowing_sub(u8::from(borrow));
        result[i] = difference;
        borrow = under || under_again;
    }
    result
}

/// `r || s` as SEQUENCE { INTEGER r, INTEGER s }.
pub(super) fn der(signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at(32);
    let body = [der_integer(r), der_integer(s)].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()], body.as_slice()].concat()
}

fn der_integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let mut bytes = number[zeros..].to_vec();
    // The first bit is a sign.
    if bytes.first().is_none_or(|first| *first > 127) {
        bytes.insert(0, 0);
    }
    [&[0x02, u8::try_from(bytes.len()).unwrap()], bytes.as_slice()].concat()
}
