//! The bytes that the names of the list stand for.

use flate2::{Compress, Compression, FlushCompress};

use super::case::Profile;
use crate::support::oitc::KEY;
use crate::support::ws::encode;

/// Frames, to be sent on a connection that stands.
///
/// # Panics
/// For a name that is not known: no case passes because nothing was sent.
pub(super) fn frames(name: &str) -> Vec<u8> {
    if let Some(code) = name.strip_prefix("close-code-") {
        return encode(0x88, &code.parse::<u16>().unwrap().to_be_bytes());
    }
    if let Some(opcode) = name.strip_prefix("reserved-opcode-") {
        return encode(0x80 | opcode.parse::<u8>().unwrap(), b"a");
    }
    match name {
        "unmasked-frame" => vec![0x81, 1, b'a'],
        "rsv-1" => encode(0xC1, b"a"),
        "rsv-2" => encode(0xA1, b"a"),
        "invalid-utf8" => encode(0x81, b"\xC3\x28"),
        "surrogate-utf8" => encode(0x81, b"\xED\xA0\x80"),
        "oversize-declared" => declared(1 << 30),
        "oversize-2^63" => declared((1 << 63) - 1),
        "oversize-msb-set" => declared(1 << 63),
        "oversize-fragmented" => {
            let part = vec![b'a'; 16_384];
            [encode(0x01, &part), encode(0x00, &part).repeat(4)].concat()
        }
        "text-inside-fragment" => [encode(0x01, b"a"), encode(0x81, b"b")].concat(),
        "fragment-flood-20000-empty" => {
            [encode(0x01, b""), encode(0x00, b"").repeat(19_999)].concat()
        }
        "ping-flood-20000" => encode(0x89, b"x").repeat(20_000),
        "fragmented-ping" => encode(0x09, b"a"),
        "unsolicited-pong" => encode(0x8A, b"a"),
        "close-1byte" => encode(0x88, b"\x03"),
        "close-bad-utf8-reason" => encode(0x88, b"\x03\xE8\xFF"),
        "half-frame-then-silence" => encode(0x81, b"never all of it")[..9].to_vec(),
        "deflate-bomb-50MB-rsv1" => encode(0xC1, &bomb()),
        "no-subscribe-idle" => vec![],
        // To notiflux a binary message is nothing, so what it says does not matter.
        "binary-to-text-protocol" => encode(0x82, br#"{"type":"KeepAlive"}"#),
        other => panic!("unknown case {other}"),
    }
}

/// The header of a text of so many bytes.
fn declared(length: u64) -> Vec<u8> {
    [&[0x81, 0xFF], &length.to_be_bytes()[..], &[1, 2, 3, 4]].concat()
}

/// 50 MiB of zeros as permessage-deflate sends them: one block for a MiB, 50 times.
fn bomb() -> Vec<u8> {
    let zeros = vec![0; 1 << 20];
    let mut block = Vec::with_capacity(1 << 16);
    let mut compress = Compress::new(Compression::fast(), false);
    compress.compress_vec(&zeros, &mut block, FlushCompress::Full).unwrap();
    assert_eq!(compress.total_in(), 1 << 20);
    block.repeat(50)
}

/// A handshake, and what is sent together with it.
///
/// # Panics
/// As [`frames`].
pub(super) fn request(name: &str, profile: Profile) -> Vec<u8> {
    let mut request = Request::good(profile);
    let mut more = vec![];
    let offers = format!("access_token, {KEY}");
    let add = |request: &mut Request, line: String| request.lines.push(line);
    match name {
        "good" => {}
        "extension-offer" => {
            add(&mut request, "Sec-WebSocket-Extensions: permessage-deflate".into());
        }
        "key-not-16-bytes" => request.set("Sec-WebSocket-Key", "c2hvcnQ="),
        "method-post" => request.method = "POST",
        "http-1.0" => request.version = "HTTP/1.0",
        "plain-get" => request.lines.retain(|line| !line.contains("pgrade")),
        "subprotocol-list-too-long" => request.set("Sec-WebSocket-Protocol", &"a,".repeat(10_000)),
        "subprotocol-bad-token" => request.set("Sec-WebSocket-Protocol", "b@d (token)"),
        "header-100k" => add(&mut request, format!("X: {}", "x".repeat(100_000))),
        "headers-500" => request.lines.extend((0..500).map(|_| "X: y".into())),
        "bare-lf" => add(&mut request, "X: y\nZ: z".into()),
        "obs-fold" => add(&mut request, "X: y\r\n z".into()),
        "nul-in-header" => add(&mut request, "X: y\0".into()),
        "crlf-in-path" => match profile {
            Profile::Notiflux => request.target += "%0d%0aX-Injected:%20y",
            Profile::Oitc => request.target.insert_str(1, "%0d%0aX-Injected:%20y"),
        },
        "te-cl-smuggle" => {
            add(&mut request, "Content-Length: 5\r\nTransfer-Encoding: chunked".into());
        }
        "two-hosts" => add(&mut request, "Host: y".into()),
        "frames-before-101" => more = encode(0x89, b"early"),
        "garbage" => return b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03\r\n\r\n".to_vec(),
        "oitc-only-access_token" => request.set("Sec-WebSocket-Protocol", "access_token"),
        "oitc-reversed" => request.offer(&format!("{KEY}, access_token")),
        "oitc-three" => request.offer(&format!("{offers}, x")),
        "oitc-wrong-case" => request.offer(&offers.replace(KEY, &KEY.to_uppercase())),
        "oitc-accent" => request.offer(&offers.replace(KEY, &KEY.replacen('e', "é", 1))),
        "oitc-prefix" => request.offer(&offers[..offers.len() - 1]),
        "oitc-sql" => request.offer("access_token, '%27or%271"),
        "oitc-two-header-lines" => {
            request.offer("access_token");
            add(&mut request, format!("Sec-WebSocket-Protocol: {KEY}"));
        }
        "oitc-userId-twice" => request.target = "/?userId=5&userId=6&browserUuid=b".into(),
        other => match other.strip_prefix("oitc-userId-") {
            Some(user) => {
                let user = user.replace(' ', "%20");
                request.target = format!("/?userId={user}&browserUuid=b");
            }
            None => panic!("unknown case {other}"),
        },
    }
    [request.bytes(), more].concat()
}

struct Request {
    method: &'static str,
    target: String,
    version: &'static str,
    lines: Vec<String>,
}

impl Request {
    fn good(profile: Profile) -> Self {
        let lines = [
            "Host: x",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        let lines = lines.map(String::from).into();
        let target = "/ws".to_owned();
        let mut request = Self { method: "GET", target, version: "HTTP/1.1", lines };
        if profile == Profile::Oitc {
            request.target = "/?userId=5&browserUuid=b".into();
            request.offer(&format!("access_token, {KEY}"));
        }
        request
    }

    fn offer(&mut self, offers: &str) {
        self.set("Sec-WebSocket-Protocol", offers);
    }

    /// Writes the header, in place of one of this name if there is one.
    fn set(&mut self, name: &str, value: &str) {
        self.lines.retain(|line| !line.starts_with(name));
        self.lines.push(format!("{name}: {value}"));
    }

    fn bytes(&self) -> Vec<u8> {
        let Self { method, target, version, lines } = self;
        format!("{method} {target} {version}\r\n{}\r\n\r\n", lines.join("\r\n")).into_bytes()
    }
}
