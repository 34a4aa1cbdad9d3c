//! As much of HTTP and WebSockets as a floor needs for `pushmux bench generic`.

/// The answer to the handshake of `pushmux bench`, whose nonce is always the same.
pub(super) const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The answer to a message.
pub(super) const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// The first byte of a ping, and an answer to it.
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: &[u8] = &[0x8A, 0];

/// Header lines of a request; `pushmux bench` sends six.
const HEADERS: usize = 16;

pub(super) enum Request<'a> {
    Subscribe { topic: &'a [u8] },
    Publish { topic: &'a [u8], message: &'a [u8] },
}

impl<'a> Request<'a> {
    /// The first request and its length, if it is whole.
    pub(super) fn first(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, httparse::Error> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(start) = head.parse(bytes)? else { return Ok(None) };
        let path = head.path.unwrap_or_default().as_bytes();
        if let Some(topic) = path.strip_prefix(b"/sub/") {
            return Ok(Some((Self::Subscribe { topic }, start)));
        }
        let topic = path.strip_prefix(b"/pub/").ok_or(httparse::Error::Token)?;
        let length = head.headers.iter().find(|header| header.name == "Content-Length");
        let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
        let end = start + length.unwrap_or(0_usize);
        let Some(message) = bytes.get(start..end) else { return Ok(None) };
        Ok(Some((Self::Publish { topic, message }, end)))
    }
}

/// Appends the frame of a text.
pub(super) fn frame(to: &mut Vec<u8>, message: &[u8]) {
    to.push(0x81);
    match u16::try_from(message.len()) {
        Ok(short @ 0..126) => to.push(short as u8),
        Ok(length) => {
            to.push(126);
            to.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            to.push(127);
            to.extend_from_slice(&(message.len() as u64).to_be_bytes());
        }
    }
    to.extend_from_slice(message);
}
