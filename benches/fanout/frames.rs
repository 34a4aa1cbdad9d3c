//! The messages, and as much of RFC 6455 as it takes to count them.

use std::io::Write;

/// Bytes of one message.
pub(crate) const PAYLOAD: usize = 128;

/// The start of a payload: lane, sequence number, blank. The rest is [`FILLER`].
pub(crate) const STAMP: usize = 20;

const FILLER: [u8; PAYLOAD - STAMP] = [b'.'; PAYLOAD - STAMP];

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
}

/// A payload without a stamp yet. It needs no escapes in JSON.
pub(crate) fn payload() -> [u8; PAYLOAD] {
    [b'.'; PAYLOAD]
}

/// Writes who publishes (the lane) and its running number into a payload.
pub(crate) fn stamp(payload: &mut [u8], lane: u8, sequence: u64) {
    write!(&mut payload[..STAMP], "{lane:02x}-{sequence:016x} ").unwrap();
}

/// Reads the stamp back, if the payload is whole.
pub(crate) fn stamped(payload: &[u8]) -> Option<(u8, u64)> {
    if payload.len() != PAYLOAD || payload[STAMP..] != FILLER {
        return None;
    }
    let text = std::str::from_utf8(&payload[..STAMP]).ok()?;
    let lane = u8::from_str_radix(text.get(..2)?, 16).ok()?;
    let sequence = u64::from_str_radix(text.get(3..19)?, 16).ok()?;
    Some((lane, sequence))
}

/// The frame of an unmasked text of [`PAYLOAD`] bytes, and where its payload starts.
pub(crate) fn text_frame() -> (Vec<u8>, usize) {
    let mut frame = vec![0x81, 126, 0, PAYLOAD as u8];
    frame.extend_from_slice(&payload());
    (frame, 4)
}

/// A frame of a client: masked, with a mask of zeros, which changes nothing.
pub(crate) fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 0x7E);
            frame.extend_from_slice(&u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// The first frame in what was read and its length on the wire; none if it is not whole.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, String> {
    let [head, length, ..] = *bytes else { return Ok(None) };
    let (start, length) = match length {
        0..126 => (2, usize::from(length)),
        126 if bytes.len() < 4 => return Ok(None),
        126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
        _ => return Err(format!("a masked or huge frame, second byte {length:#x}")),
    };
    if length > PAYLOAD {
        return Err(format!("a frame of {length} bytes, longer than any that was published"));
    }
    let Some(payload) = bytes.get(start..start + length) else { return Ok(None) };
    let frame = match head {
        0x81 => Frame::Text(payload),
        0x89 => Frame::Ping(payload),
        0x8A => Frame::Pong,
        0x88 => return Err(format!("a close frame: {}", payload.escape_ascii())),
        _ => return Err(format!("a frame that starts with {head:#x}")),
    };
    Ok(Some((frame, start + length)))
}
