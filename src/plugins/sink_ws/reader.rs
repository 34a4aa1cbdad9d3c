//! From bytes to messages (RFC 6455, section 5): frames, fragments, limits.
//!
//! tungstenite parses the frame headers. Its socket types are not used: they keep a
//! buffer per connection, answer pings past our queue, and send no Close frame on a
//! protocol error.

use std::io::Cursor;

use bytes::{Buf, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    /// Status and reason, none when the frame was empty.
    Close(Option<(u16, String)>),
}

/// Why a connection is closed, with the status code the client is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub code: u16,
    pub reason: &'static str,
}

const fn protocol(reason: &'static str) -> Violation {
    Violation { code: 1002, reason }
}

const TOO_BIG: Violation = Violation { code: 1009, reason: "message too big" };
const NOT_UTF8: Violation = Violation { code: 1007, reason: "invalid UTF-8" };

/// The read side of a connection. Holds no memory between messages.
pub(super) struct Reader {
    /// Bytes read and not yet understood.
    pub(super) buffer: BytesMut,
    max_message: usize,
    max_fragments: u32,
    /// A message of which the last fragment is still to come.
    partial: Option<Partial>,
}

struct Partial {
    is_text: bool,
    payload: Vec<u8>,
    fragments: u32,
}

impl Reader {
    pub(super) fn new(early: &[u8], max_message: usize, max_fragments: u32) -> Self {
        Self { buffer: BytesMut::from(early), max_message, max_fragments, partial: None }
    }

    /// The next event, or none when more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<Event>, Violation> {
        loop {
            let mut cursor = Cursor::new(&*self.buffer);
            let parsed =
                FrameHeader::parse(&mut cursor).map_err(|_| protocol("bad frame header"))?;
            let Some((header, length)) = parsed else { return Ok(None) };
            let Ok(start) = usize::try_from(cursor.position()) else { return Err(TOO_BIG) };
            let mask = self.check(&header, length)?;
            // Checked against the limit, so it fits.
            let Ok(length) = usize::try_from(length) else { return Err(TOO_BIG) };
            if self.buffer.len() < start + length {
                self.buffer.reserve(start + length - self.buffer.len());
                return Ok(None);
            }
            self.buffer.advance(start);
            let mut payload = self.buffer.split_to(length).to_vec();
            unmask(&mut payload, mask);
            let event = match header.opcode {
                OpCode::Control(control) => Some(control_event(control, payload)?),
                OpCode::Data(data) => self.data(data, header.is_final, payload)?,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Gives the buffer back when there is nothing in it.
    pub(super) fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Everything that can be known to be wrong before the payload is there.
    fn check(&self, header: &FrameHeader, length: u64) -> Result<[u8; 4], Violation> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(protocol("RSV bits set without an extension"));
        }
        if length >> 63 != 0 {
            return Err(protocol("payload length with its highest bit set"));
        }
        let gathered = self.partial.as_ref().map_or(0, |partial| partial.payload.len());
        match header.opcode {
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
                return Err(protocol("reserved opcode"));
            }
            OpCode::Control(_) if !header.is_final => {
                return Err(protocol("fragmented control frame"));
            }
            OpCode::Control(_) if length > 125 => {
                return Err(protocol("control frame above 125 bytes"));
            }
            OpCode::Data(Data::Continue) if self.partial.is_none() => {
                return Err(protocol("continuation of nothing"));
            }
            OpCode::Data(Data::Text | Data::Binary) if self.partial.is_some() => {
                return Err(protocol("new message inside a fragmented one"));
            }
            OpCode::Data(_) if length > (self.max_message - gathered) as u64 => {
                return Err(TOO_BIG);
            }
            OpCode::Control(_) | OpCode::Data(_) => {}
        }
        header.mask.ok_or(protocol("unmasked frame"))
    }

    fn data(
        &mut self,
        data: Data,
        is_final: bool,
        payload: Vec<u8>,
    ) -> Result<Option<Event>, Violation> {
        let message = match self.partial.take() {
            None => Partial { is_text: matches!(data, Data::Text), payload, fragments: 1 },
            Some(mut partial) => {
                partial.payload.extend_from_slice(&payload);
                partial.fragments += 1;
                partial
            }
        };
        if !is_final {
            if message.fragments >= self.max_fragments {
                return Err(Violation { code: 1008, reason: "too many fragments" });
            }
            self.partial = Some(message);
            return Ok(None);
        }
        if !message.is_text {
            return Ok(Some(Event::Binary(message.payload)));
        }
        String::from_utf8(message.payload).map(Event::Text).map(Some).map_err(|_| NOT_UTF8)
    }
}

fn control_event(control: Control, payload: Vec<u8>) -> Result<Event, Violation> {
    match control {
        Control::Ping => Ok(Event::Ping(payload)),
        Control::Pong => Ok(Event::Pong),
        _ => close_event(&payload),
    }
}

fn close_event(payload: &[u8]) -> Result<Event, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(Event::Close(None)),
        [_] => return Err(protocol("close status of one byte")),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !CloseCode::from(code).is_allowed() {
        return Err(protocol("close status that must not be sent"));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| NOT_UTF8)?;
    Ok(Event::Close(Some((code, reason.to_owned()))))
}

/// XORs with the mask, eight bytes at a time where there are eight.
fn unmask(payload: &mut [u8], [a, b, c, d]: [u8; 4]) {
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d].into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = super::super::wire::text(payload).to_vec();
        bytes[0] = first;
        bytes[1] |= 0x80;
        let start = bytes.len() - payload.len();
        let mask = [1, 2, 3, 250];
        bytes.splice(start..start, mask);
        for (index, byte) in bytes[start + 4..].iter_mut().enumerate() {
            *byte ^= mask[index % 4];
        }
        bytes
    }

    fn events(bytes: &[u8], max: usize) -> Result<Vec<Event>, Violation> {
        let mut reader = Reader::new(bytes, max, 4);
        let mut events = Vec::new();
        while let Some(event) = reader.next()? {
            events.push(event);
        }
        Ok(events)
    }

    fn code(bytes: &[u8]) -> u16 {
        events(bytes, 64).unwrap_err().code
    }

    #[test]
    fn fragments_with_a_ping_between() {
        let bytes =
            [encode(0x01, b"he"), encode(0x89, b"p"), encode(0x00, b""), encode(0x80, b"llo")];
        let expected = [Event::Ping(b"p".to_vec()), Event::Text("hello".into())];
        assert_eq!(events(&bytes.concat(), 64).unwrap(), expected);
    }

    #[test]
    fn limits_hold_before_the_payload_is_there() {
        assert_eq!(code(&encode(0x81, &[b'a'; 65])[..8]), 1009);
        assert_eq!(code(&[encode(0x01, &[b'a'; 40]), encode(0x80, &[b'a'; 25])].concat()), 1009);
        assert_eq!(code(&[0x81, 0xFF, 0x7F, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0]), 1009);
        assert_eq!(code(&[0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 1002);
        let flood = [encode(0x01, b""), encode(0x00, b"").repeat(3)].concat();
        assert_eq!(code(&flood), 1008);
        let last = [encode(0x01, b""), encode(0x00, b"").repeat(2), encode(0x80, b"")].concat();
        assert_eq!(events(&last, 64).unwrap(), [Event::Text(String::new())]);
        assert_eq!(events(&encode(0x81, &[b'a'; 64]), 64).unwrap().len(), 1);
    }

    #[test]
    fn what_the_rfc_forbids() {
        for (bytes, expected) in [
            (vec![0x81, 0x01, b'a'], 1002),
            (encode(0xC1, b"a"), 1002),
            (encode(0xA1, b"a"), 1002),
            (encode(0x83, b"a"), 1002),
            (encode(0x8B, b"a"), 1002),
            (encode(0x80, b"a"), 1002),
            (encode(0x09, b"a"), 1002),
            (encode(0x89, &[b'a'; 126]), 1002),
            ([encode(0x01, b"a"), encode(0x81, b"b")].concat(), 1002),
            (encode(0x81, b"\xED\xA0\x80"), 1007),
            (encode(0x88, b"\x03"), 1002),
            (encode(0x88, b"\x03\xED"), 1002),
            (encode(0x88, b"\x03\xE8\xFF"), 1007),
        ] {
            assert_eq!(code(&bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn every_first_byte_is_taken_or_refused_as_the_rfc_says() {
        for first in 0..=255_u8 {
            let (is_final, opcode) = (first & 0x80 != 0, first & 0x0F);
            let fits = first & 0x70 == 0
                && match opcode {
                    1 | 2 => true,
                    8..=10 => is_final,
                    _ => false,
                };
            match events(&encode(first, b""), 64) {
                Ok(events) => assert!(fits && events.len() == usize::from(is_final), "{first:#x}"),
                Err(violation) => assert!(!fits && violation.code == 1002, "{first:#x}"),
            }
        }
    }

    #[test]
    fn every_close_status_is_taken_or_refused_as_the_rfc_says() {
        for status in 0..=u16::MAX {
            // 1012 to 1014 came to the registry after the RFC; 1014 is one of a gateway.
            let fits = matches!(status, 1000..=1003 | 1007..=1013 | 3000..=4999);
            let got = events(&encode(0x88, &status.to_be_bytes()), 64);
            let expected = if fits {
                Ok(vec![Event::Close(Some((status, String::new())))])
            } else {
                Err(protocol("close status that must not be sent"))
            };
            assert_eq!(got, expected, "{status}");
        }
    }

    /// A text that is cut within a character is one text; what is no UTF-8 is refused
    /// wherever it is cut.
    #[test]
    fn characters_may_be_cut_and_must_be_whole() {
        let in_two = |text: &[u8], cut: usize| {
            let (head, tail) = text.split_at(cut);
            events(&[encode(0x01, head), encode(0x80, tail)].concat(), 64)
        };
        let text = "a\u{7FF}\u{800}\u{FFFF}\u{10000}\u{10FFFF}\0";
        for cut in 0..=text.len() {
            assert_eq!(in_two(text.as_bytes(), cut), Ok(vec![Event::Text(text.into())]), "{cut}");
        }
        for bad in [
            &b"\x80"[..], // a continuation of nothing
            b"\xBF",
            b"\xC3", // cut off
            b"\xE2\x82",
            b"\xF0\x9F\x92",
            b"\xC3\x28", // not continued
            b"\xE2\x28\xA1",
            b"\xF0\x9F\x28\x92",
            b"\xC0\xAF", // longer than need be
            b"\xC1\xBF",
            b"\xE0\x80\xAF",
            b"\xE0\x9F\xBF",
            b"\xF0\x80\x80\xAF",
            b"\xF0\x8F\xBF\xBF",
            b"\xED\xA0\x80", // halves of pairs, alone and together
            b"\xED\xBF\xBF",
            b"\xED\xA0\xBD\xED\xB2\xA9",
            b"\xF4\x90\x80\x80", // beyond the last character
            b"\xF5\x80\x80\x80",
            b"\xF8\x88\x80\x80\x80",
            b"\xFE",
            b"\xFF",
        ] {
            let text = [b"before ", bad, b" after"].concat();
            for cut in 0..=text.len() {
                assert_eq!(in_two(&text, cut), Err(NOT_UTF8), "{bad:02x?} at {cut}");
            }
            let reason = [&1000_u16.to_be_bytes(), bad].concat();
            assert_eq!(events(&encode(0x88, &reason), 64), Err(NOT_UTF8), "{bad:02x?}");
        }
    }

    proptest! {
        #[test]
        fn any_cut_of_the_stream_gives_the_same_messages(
            texts in proptest::collection::vec(".{0,70}", 1..6),
            cut in 1_usize..40,
        ) {
            let bytes: Vec<u8> = texts.iter().flat_map(|text| encode(0x81, text.as_bytes())).collect();
            let mut reader = Reader::new(&[], 1000, 1);
            let mut got = Vec::new();
            for part in bytes.chunks(cut) {
                reader.buffer.extend_from_slice(part);
                while let Some(event) = reader.next().unwrap() {
                    got.push(event);
                }
                reader.release();
            }
            let expected: Vec<_> = texts.into_iter().map(Event::Text).collect();
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = events(&bytes, 100);
        }
    }
}
