//! Bodies, messages and handshakes as functions of bytes; see `crate::fuzz`.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "panics are what fuzzers look for"
)]

use http::HeaderMap;
use http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use serde_json::Value;

use super::handshake::{Visitor, is_legacy};
use super::post::{Kind, Notification, Subject, payload};
use super::session;
use super::texts::{legacy_texts, texts};
use super::wire;

/// A `POST /message`, or a message of a browser: what is made of it is JSON that says the same.
pub fn message(data: &[u8]) {
    session::understand(&String::from_utf8_lossy(data));
    let Ok(notification) = Notification::read(data) else { return };
    let name = || notification.output.clone();
    for (kind, service) in [(Kind::Host, None), (Kind::Service, Some(name()))] {
        let subject = Subject { host: name(), service };
        let _ = legacy_texts(&notification, kind, &subject);
        let texts = texts(&notification, kind, &subject);
        let frame = wire::push(&texts.message, &payload(&notification, &texts));
        let read: Value = serde_json::from_str(frame.as_str()).expect("a frame is JSON");
        let said = &read["payload"];
        assert_eq!(said["timestamp"], notification.timestamp);
        assert_eq!(said["userId"], notification.user);
        assert_eq!(said["hostUuid"].as_str().unwrap_or_default(), notification.host_uuid);
        assert_eq!(said["title"].as_str().unwrap_or_default(), texts.title);
        assert_eq!(read["message"], *texts.message);
    }
}

/// A handshake: a line with the query, and the rest is `Sec-WebSocket-Protocol`.
pub fn handshake(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (query, offers) = text.split_once('\n').unwrap_or((&text, ""));
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(offers) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    let visitor = Visitor::read(query, &headers);
    if let Some(Visitor { user, browser, key }) = &visitor {
        assert!(*user > 0 && !browser.is_empty() && !key.is_empty());
        assert!(!key.contains(','));
    }
    assert!(visitor.is_none() || !is_legacy(query, &headers));
}
