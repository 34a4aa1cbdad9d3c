//! The WebSocket side of notiflux: handshake, frames, limits, acknowledgements, order.

use serde_json::json;

use crate::support::http::{post_json, raw, request};
use crate::support::server::{Builder, Server};
use crate::support::token::Keys;
use crate::support::ws::{Frame, Ws, encode};

fn publish(server: &Server, topic: &str, message: &str) {
    let token = Keys::server().broadcast(&[topic]);
    let body = json!({ "topic": topic, "message": message, "token": token });
    assert_eq!(post_json(server.address, "/broadcast", &body.to_string()).status, 200);
}

fn configured(keys: &str) -> Server {
    Builder::notiflux().file("config.toml", &format!("profile = \"notiflux\"\n{keys}\n")).start()
}

#[test]
fn handshakes_that_fail_say_why_in_the_status_line() {
    let server = Builder::notiflux().start();
    let whole = [
        ("Upgrade", "websocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let send = |change: (&'static str, &'static str), version: &str| {
        let headers = whole
            .iter()
            .map(|(name, value)| if *name == change.0 { change } else { (*name, *value) });
        let lines = headers
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let lines: String = lines.collect();
        raw(server.address, format!("GET /ws {version}\r\nHost: x\r\n{lines}\r\n").as_bytes())
    };
    for (change, reason) in [
        (("Upgrade", ""), "No WebSocket Upgrade header found"),
        (("Upgrade", "h2c"), "No WebSocket Upgrade header found"),
        (("Connection", "keep-alive"), "No Connection upgrade"),
        (("Sec-WebSocket-Version", ""), "WebSocket version header is required"),
        (("Sec-WebSocket-Version", "12"), "Unsupported WebSocket version"),
        (("Sec-WebSocket-Key", ""), "Handshake error"),
        (("Sec-WebSocket-Key", "c2hvcnQ="), "Handshake error"),
    ] {
        let answer = send(change, "HTTP/1.1");
        assert_eq!(answer.status_line, format!("400 {reason}"), "{change:?}");
        assert_eq!(answer.body, b"");
        let expected = if change.0 == "Connection" { None } else { Some("upgrade") };
        assert_eq!(
            answer.header("connection").filter(|value| *value == "upgrade"),
            expected,
            "{change:?}"
        );
    }
    assert_eq!(send(("", ""), "HTTP/1.0").status, 400);
    for version in ["7", "8", "13"] {
        let answer = send(("Sec-WebSocket-Version", version), "HTTP/1.1");
        assert_eq!(answer.status, 101, "version {version}");
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }
    assert_eq!(request(server.address, "POST", "/ws", &whole, b"").status, 404);
}

#[test]
fn offers_of_protocols_and_extensions_are_not_taken() {
    let server = Builder::notiflux().start();
    let offers =
        [("Sec-WebSocket-Protocol", "chat"), ("Sec-WebSocket-Extensions", "permessage-deflate")];
    let ws = Ws::handshake(server.address, "/ws?whatever", &offers);
    assert_eq!(ws.answer.status, 101);
    assert_eq!(ws.answer.header("sec-websocket-protocol"), None);
    assert_eq!(ws.answer.header("sec-websocket-extensions"), None);
    assert_eq!(ws.answer.header("upgrade"), Some("websocket"));
}

#[test]
fn frames_that_came_with_the_request_are_not_lost() {
    let server = Builder::notiflux().start();
    let token = Keys::server().subscribe(&["early"]);
    let glued = encode(0x81, format!("/subscribe early {token}").as_bytes());
    let half = encode(0x89, b"half");
    let mut bytes = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address
    )
    .into_bytes();
    bytes.extend_from_slice(&glued);
    bytes.extend_from_slice(&half[..3]);
    let mut ws = Ws::start_raw(server.address, &bytes);
    ws.bytes(&half[3..]);
    assert_eq!(ws.next(), Frame::Pong(b"half".to_vec()));
    publish(&server, "early", "seen");
    assert_eq!(ws.next_text(), "seen");
}

/// The whole text of a broadcast arrives, whatever its length, in one frame.
#[test]
fn messages_of_every_frame_length_arrive_unchanged() {
    let server = Builder::notiflux().start();
    let mut ws = Ws::open(server.address);
    ws.subscribe("t");
    for length in [0, 1, 125, 126, 65_535, 65_536, 70_000, 1_000_000] {
        let message = "é".repeat(length / 2) + if length % 2 == 1 { "x" } else { "" };
        publish(&server, "t", &message);
        assert_eq!(ws.next_text(), message);
    }
}

#[test]
fn faults_of_the_client_are_answered_with_the_right_status() {
    let server = Builder::notiflux().start();
    let cases: [(&str, Vec<u8>, u16); 14] = [
        ("unmasked", vec![0x81, 1, b'a'], 1002),
        ("rsv1", encode(0xC1, b"a"), 1002),
        ("rsv2", encode(0xA1, b"a"), 1002),
        ("opcode 3", encode(0x83, b"a"), 1002),
        ("opcode 15", encode(0x8F, b"a"), 1002),
        ("stray continuation", encode(0x80, b"a"), 1002),
        ("fragmented ping", encode(0x09, b"a"), 1002),
        ("long ping", encode(0x89, &[b'a'; 126]), 1002),
        ("text in a fragment", [encode(0x01, b"a"), encode(0x81, b"b")].concat(), 1002),
        ("bad UTF-8", encode(0x81, b"\xC3\x28"), 1007),
        ("one byte too much", encode(0x81, &vec![b'a'; 65_537]), 1009),
        ("declared too much", vec![0x81, 0xFF, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4], 1009),
        (
            "too much in parts",
            [encode(0x01, &vec![b'a'; 65_000]), encode(0x80, &[b'a'; 537])].concat(),
            1009,
        ),
        ("close with 999", encode(0x88, b"\x03\xE7"), 1002),
    ];
    for (name, bytes, expected) in cases {
        let mut ws = Ws::open(server.address);
        ws.bytes(&bytes);
        match ws.next() {
            Frame::Close(Some((code, _))) => assert_eq!(code, expected, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(ws.next(), Frame::Eof, "{name}");
    }
}

#[test]
fn the_largest_message_and_fragments_are_taken() {
    let server = Builder::notiflux().start();
    let mut ws = Ws::open(server.address);
    ws.frame(0x81, &vec![b'/'; 65_536]);
    assert_eq!(ws.next_text(), "Unknown command");
    let token = Keys::server().subscribe(&["t"]);
    let command = format!("/subscribe t {token}");
    let (first, rest) = command.as_bytes().split_at(20);
    ws.frame(0x01, first);
    ws.frame(0x89, b"between");
    ws.frame(0x80, rest);
    assert_eq!(ws.next(), Frame::Pong(b"between".to_vec()));
    ws.settle();
    publish(&server, "t", "m");
    assert_eq!(ws.next_text(), "m");
}

#[test]
fn a_close_gets_its_own_status_back() {
    let server = Builder::notiflux().start();
    for (payload, expected) in [
        (&b"\x03\xE8bye"[..], Some((1000, "bye".to_owned()))),
        (b"\x0F\xA1", Some((4001, String::new()))),
        (b"", None),
    ] {
        let mut ws = Ws::open(server.address);
        ws.frame(0x88, payload);
        assert_eq!(ws.next(), Frame::Close(expected));
        assert_eq!(ws.next(), Frame::Eof);
    }
}

#[test]
fn acknowledgements_are_for_those_who_ask_and_only_where_they_are_allowed() {
    let server = configured("[protocol.notiflux]\nack = true");
    let keys = Keys::server();
    let mut ws = Ws::open_path(server.address, "/ws?ack=true");
    for (command, answer) in [
        (format!("/subscribe a {}", keys.subscribe(&["a"])), "/subscribed a"),
        (format!("/subscribe a {}", keys.subscribe(&["a"])), "/subscribed a"),
        (
            format!("/subscribe b {}", keys.subscribe(&["a"])),
            "/denied b the token does not allow this topic to be subscribed to",
        ),
        ("/subscribe b x".into(), "/denied b not a token"),
        ("/unsubscribe a".into(), "/unsubscribed a"),
        ("/unsubscribe-all".into(), "/unsubscribed-all"),
        ("/nope".into(), "Unknown command"),
    ] {
        ws.text(&command);
        assert_eq!(ws.next_text(), answer, "{command}");
    }
    let mut old = Ws::open(server.address);
    old.subscribe("a"); // and asserts that nothing was said

    let server = Builder::notiflux().start();
    let mut ws = Ws::open_path(server.address, "/ws?ack=true");
    ws.subscribe("a");
}

#[test]
fn topics_have_limits_that_can_be_lifted() {
    let long = "a".repeat(256);
    let subscribed = |server: &Server, topic: &str| {
        let mut ws = Ws::open(server.address);
        ws.subscribe(topic);
        publish(server, topic, "m");
        !ws.drain().is_empty()
    };
    let server = Builder::notiflux().start();
    assert!(subscribed(&server, &long[..255]));
    assert!(!subscribed(&server, &long));
    assert!(!subscribed(&server, ""));
    assert!(!subscribed(&server, "a\u{7}b"));
    let server = configured("[protocol.notiflux]\nmax_topic_bytes = 1000\nplain_topics = false");
    assert!(subscribed(&server, &long));
    assert!(subscribed(&server, ""));
    assert!(subscribed(&server, "a\u{7}b"));

    let server = configured("[protocol.notiflux]\nmax_subscriptions = 2");
    let mut ws = Ws::open(server.address);
    ["a", "b", "c", "a"].iter().for_each(|topic| ws.subscribe(topic));
    ["a", "b", "c"].iter().for_each(|topic| publish(&server, topic, topic));
    assert_eq!(ws.drain(), [Frame::Text("a".into()), Frame::Text("b".into())]);
}
