//! The WebSocket opening handshake (RFC 6455, section 4.2), up to the 101.
//!
//! By hand, because `warp::ws()` would hand out a stream with 128 KiB of buffers per
//! connection and would decide the text of every refusal.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use http::header::{TRANSFER_ENCODING, UPGRADE};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warp::Reply;
use warp::reply::Response;

/// A request that may become a WebSocket.
#[derive(Debug)]
pub struct Handshake {
    on_upgrade: OnUpgrade,
    accept_key: String,
}

/// What the request lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No `Upgrade: websocket`.
    NoUpgrade,
    /// No `Connection: upgrade`, or HTTP/1.0.
    NoConnection,
    /// No `Sec-WebSocket-Version`.
    NoVersion,
    /// A version that the protocol does not take.
    BadVersion,
    /// No key, or one that is not 16 bytes in base64.
    BadKey,
    /// Nothing: it has a body besides. Whoever stands between could take it for frames, or
    /// frames for it.
    Body,
}

impl Handshake {
    /// Checks the headers of a GET request. `on_upgrade` is the extension that hyper
    /// puts on requests it can upgrade; `versions` are those the protocol takes.
    ///
    /// # Errors
    /// The first thing the request lacks, in the order of [`Refusal`].
    pub fn check(
        headers: &HeaderMap,
        on_upgrade: Option<OnUpgrade>,
        versions: &[&str],
    ) -> Result<Self, Refusal> {
        if !has_token(headers, &UPGRADE, "websocket") {
            return Err(Refusal::NoUpgrade);
        }
        let connection = has_token(headers, &CONNECTION, "upgrade");
        let on_upgrade = on_upgrade.filter(|_| connection).ok_or(Refusal::NoConnection)?;
        let version = headers.get(SEC_WEBSOCKET_VERSION).ok_or(Refusal::NoVersion)?;
        if !versions.iter().any(|known| version.as_bytes() == known.as_bytes()) {
            return Err(Refusal::BadVersion);
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(Refusal::BadKey)?.as_bytes();
        match STANDARD.decode(key) {
            Ok(bytes) if bytes.len() == 16 => {}
            _ => return Err(Refusal::BadKey),
        }
        if has_body(headers) {
            return Err(Refusal::Body);
        }
        Ok(Self { on_upgrade, accept_key: derive_accept_key(key) })
    }

    /// The 101, and what a live sink needs to take over once it is sent.
    #[must_use]
    pub fn accept(self) -> (Response, OnUpgrade) {
        let mut response = http::Response::new("");
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(value) = HeaderValue::try_from(self.accept_key) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, value);
        }
        (response.into_response(), self.on_upgrade)
    }
}

/// Whether the request announces a body. hyper drops `Content-Length` where both are there.
fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH);
    headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

/// Whether one of the header's comma-separated items is `token`, in any letter case.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}
