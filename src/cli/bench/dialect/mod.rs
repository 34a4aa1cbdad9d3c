//! How a server is spoken to. One file for each dialect.

pub(super) mod generic;
pub(super) mod notiflux;
pub(super) mod oitc;

use serde::{Deserialize, Serialize};

use super::stamp::FILLER;

/// How subscribers and publishers of one kind of server speak.
pub(super) trait Dialect: Send + Sync {
    /// The sub-command that chose it.
    fn name(&self) -> &'static str;

    /// The request that opens a subscriber's WebSocket, all of it.
    fn handshake(&self, subscriber: usize) -> Vec<u8>;

    /// The text a subscriber says to get messages; none if being there is enough.
    fn subscribe(&self, subscriber: usize) -> Option<String>;

    /// The request that publishes to a topic.
    fn publish(&self, topic: usize) -> Request;

    /// The token of a publish, if each one has its own.
    fn next_token(&self, _topic: usize) -> Option<&[u8]> {
        None
    }

    /// Whether the answer says that the message was taken.
    fn accepts(&self, status: u16) -> bool;

    /// Receivers that have the message and receivers that do not, where the answer says so.
    fn counts(&self, _body: &[u8]) -> Option<Counts> {
        None
    }

    /// Whether a subscriber gets the message alone, and not something that has it in it.
    fn is_bare(&self) -> bool {
        true
    }
}

/// What a server says became of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) dropped: u64,
}

/// A whole HTTP request, whose changing parts are written over in place.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) bytes: Vec<u8>,
    /// Where the message starts.
    pub(super) message_at: usize,
    /// Where the token starts, if each publish has its own.
    pub(super) token_at: Option<usize>,
    /// Where ten digits of seconds since 1970 start, if there is a time in it.
    pub(super) time_at: Option<usize>,
}

impl Request {
    /// A POST of `before`, the message and `after`.
    fn post(
        authority: &str,
        path: &str,
        content_type: &str,
        [before, after]: [&str; 2],
        payload: usize,
    ) -> Self {
        let length = before.len() + payload + after.len();
        let mut bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{before}"
        )
        .into_bytes();
        let message_at = bytes.len();
        bytes.resize(message_at + payload, FILLER);
        bytes.extend_from_slice(after.as_bytes());
        Self { bytes, message_at, token_at: None, time_at: None }
    }
}

/// The nonce of every handshake and what a server must make of it (RFC 6455, section 1.3).
/// A nonce protects a client from caches; here nothing is between.
const NONCE: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// An upgrade request; `more` are whole header lines.
fn upgrade(authority: &str, path: &str, more: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {NONCE}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
    .into_bytes()
}
