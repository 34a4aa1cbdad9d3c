//! Commands and bodies as functions of bytes; see `crate::fuzz`.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "panics are what fuzzers look for"
)]

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};

use super::Config;
use super::broadcast::{self, BroadcastPayload};
use super::command::{Command, parse};

const LIMIT: usize = 64 * 1024;

/// A text on `/ws`.
pub fn command(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let command = parse(&text);
    assert_eq!(command == Command::Nothing, !text.trim().starts_with('/'));
    match command {
        Command::Subscribe { topic, token } => {
            assert!(!topic.contains(' ') && !token.contains(' '));
            assert_eq!(parse(&format!("/subscribe {topic} {token}")), command);
        }
        Command::Unsubscribe { topic } => {
            let fault = Config::default().topic_fault(topic);
            let plain = (1..=255).contains(&topic.len()) && !topic.chars().any(char::is_control);
            assert_eq!(fault.is_none(), plain, "{topic:?}");
        }
        _ => {}
    }
}

/// A `POST /broadcast`: a line with the content type, one with the encoding, and the body.
pub fn broadcast(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in [CONTENT_TYPE, CONTENT_ENCODING] {
        if let Ok(value) = HeaderValue::from_bytes(parts.next().unwrap_or_default())
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
    let body = parts.next().unwrap_or_default().to_vec();
    if !broadcast::is_json(&headers) {
        return;
    }
    let plain = broadcast::decompress(&headers, &body, LIMIT);
    let read = plain.and_then(|plain| {
        assert!(plain.as_ref().is_none_or(|plain| plain.len() <= LIMIT));
        Ok(serde_json::from_slice(plain.as_deref().unwrap_or(&body))?)
    });
    match read {
        Ok(BroadcastPayload { topic, message, token }) => {
            // No text is longer than what it is written as.
            assert!(topic.len() + message.len() + token.len() <= LIMIT.max(body.len()));
        }
        Err(refusal) => assert!(refusal.answer().status().is_client_error()),
    }
}
