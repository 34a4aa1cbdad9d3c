//! The frame reader as a function of bytes; see `crate::fuzz`.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "panics are what fuzzers look for"
)]

use super::reader::{Event, Reader, Violation};

const MAX_MESSAGE: usize = 1000;
const MAX_FRAGMENTS: u32 = 20;

/// What a client sends. The same comes out wherever it is cut, within the limits, and no
/// memory is taken for what is only announced.
pub fn frames(data: &[u8]) {
    let whole = read(data, data.len().max(1));
    assert_eq!(read(data, 1), whole);
    assert_eq!(read(data, 7), whole);
}

fn read(data: &[u8], cut: usize) -> (Vec<Event>, Option<Violation>) {
    let mut reader = Reader::new(&[], MAX_MESSAGE, MAX_FRAGMENTS);
    let mut events = Vec::new();
    for part in data.chunks(cut) {
        reader.buffer.extend_from_slice(part);
        loop {
            match reader.next() {
                Ok(Some(event)) => {
                    check(&event);
                    events.push(event);
                }
                Ok(None) => break,
                Err(violation) => return (events, Some(violation)),
            }
        }
        reader.release();
        // Headers have 14 bytes; a buffer may grow by doubling.
        let most = 4 * (MAX_MESSAGE + 14) + 2 * cut;
        assert!(reader.buffer.capacity() <= most, "{} bytes", reader.buffer.capacity());
    }
    (events, None)
}

fn check(event: &Event) {
    match event {
        Event::Text(text) => assert!(text.len() <= MAX_MESSAGE),
        Event::Binary(bytes) => assert!(bytes.len() <= MAX_MESSAGE),
        Event::Ping(payload) => assert!(payload.len() <= 125),
        Event::Pong | Event::Close(None) => {}
        Event::Close(Some((code, reason))) => {
            assert!((1000..5000).contains(code) && reason.len() <= 123);
        }
    }
}
