//! The protocol `oitc` at its edges: sizes, endings, methods and headers.

use std::io::Read as _;

use serde_json::{Value, json};

use crate::support::http::{Answer, post_json, raw, request};
use crate::support::oitc::{
    KEY, alert, connect, dial, knock, knock_with, on_sqlite, on_sqlite_with, post, registered,
    taken,
};
use crate::support::ws::{Frame, Ws, encode};

const KEEP_ALIVE: &str = r#"{"type":"KeepAlive"}"#;

fn pong() -> Frame {
    Frame::Text("{\"type\":\"KeepAlive\",\"message\":\"Pong\",\"payload\":null}\n".into())
}

/// A `KeepAlive` of so many bytes.
fn of_length(length: usize) -> String {
    let frame = json!({ "type": "KeepAlive", "message": "" }).to_string().len();
    json!({ "type": "KeepAlive", "message": "x".repeat(length - frame) }).to_string()
}

#[test]
fn a_message_has_at_most_8192_bytes() {
    let server = on_sqlite();
    let mut ws = connect(server.address, 5, "b");
    ws.text(&of_length(8192));
    assert_eq!(ws.drain(), [pong()]);
    ws.text(&of_length(8193));
    // No Close frame: after one the browser's client would never come back.
    assert_eq!(ws.next(), Frame::Eof);
    // The sum of its fragments counts.
    let mut ws = connect(server.address, 5, "b");
    let (long, half) = (of_length(8193), 4096);
    ws.frame(0x01, &long.as_bytes()[..half]);
    ws.frame(0x80, &long.as_bytes()[half..]);
    assert_eq!(ws.next(), Frame::Eof);
}

#[test]
fn what_cannot_be_decoded_ends_the_connection_without_a_close() {
    let server = on_sqlite();
    for text in ["nope", "[]", "5", "", "\"x\"", r#"{"type":5}"#, r#"{"message":5}"#, "{"] {
        let mut ws = connect(server.address, 5, "b");
        ws.text(text);
        ws.text(KEEP_ALIVE);
        assert_eq!(ws.next(), Frame::Eof, "{text}");
    }
    let mut ws = connect(server.address, 5, "b");
    for text in [
        r#"{"type":"KeepAlive"} trailing"#,
        r#"{"TYPE":"KeepAlive","unknown":[1]}"#,
        r#"{"type":"x","type":"KeepAlive","message":null}"#,
    ] {
        ws.text(text);
        assert_eq!(ws.drain(), [pong()], "{text}");
    }
}

#[test]
fn what_is_no_websocket_frame_ends_the_connection_without_a_close() {
    let server = on_sqlite();
    for (fault, bytes) in [
        ("unmasked", b"\x81\x01x".to_vec()),
        ("RSV1", encode(0xC1, b"x")),
        ("opcode 3", encode(0x83, b"x")),
        ("long control frame", encode(0x89, &[0; 126])),
        ("stray continuation", encode(0x80, b"x")),
        ("fragmented ping", encode(0x09, b"x")),
    ] {
        let mut ws = connect(server.address, 5, "b");
        ws.bytes(&bytes);
        assert_eq!(ws.next(), Frame::Eof, "{fault}");
    }
}

#[test]
fn binary_frames_and_fragments_are_read_as_text() {
    let server = on_sqlite();
    let mut ws = connect(server.address, 5, "b");
    ws.frame(0x82, KEEP_ALIVE.as_bytes());
    ws.frame(0x02, &KEEP_ALIVE.as_bytes()[..5]);
    ws.frame(0x80, &KEEP_ALIVE.as_bytes()[5..]);
    assert_eq!(ws.drain(), [pong(), pong()]);
}

#[test]
fn a_client_that_closes_is_answered_with_its_code_alone() {
    let server = on_sqlite();
    for (sent, answered) in [
        (&b"\x03\xe8bye"[..], Some((1000, String::new()))),
        (b"\x03\xe9", Some((1001, String::new()))),
        (b"\x0f\xa0why", Some((4000, String::new()))),
        (b"", None),
    ] {
        let mut ws = connect(server.address, 5, "b");
        ws.frame(0x88, sent);
        assert_eq!([ws.next(), ws.next()], [Frame::Close(answered), Frame::Eof], "{sent:?}");
    }
}

#[test]
fn a_stop_ends_every_connection_without_a_close() {
    let mut server = on_sqlite();
    let mut clients: Vec<_> =
        (0..20).map(|user| registered(server.address, user + 1, "b")).collect();
    assert_eq!(server.stop().code(), Some(0));
    for ws in &mut clients {
        assert_eq!(ws.next(), Frame::Eof);
    }
}

#[test]
fn a_client_that_answers_no_ping_is_lost_without_a_close() {
    let server = on_sqlite_with(
        "export_interval = \"1h\"\nping_interval = \"100ms\"\nidle_timeout = \"2s\"",
    );
    let mut ws = connect(server.address, 5, "b");
    let mut rest = Vec::new();
    ws.stream.read_to_end(&mut rest).unwrap();
    assert!(!rest.is_empty(), "it was asked");
    assert!(rest.chunks(2).all(|frame| frame == [0x89, 0]), "pings and no Close: {rest:?}");
}

#[test]
fn every_other_path_is_the_socket() {
    let server = on_sqlite();
    for path in ["/push_notifications", "/push_notificationsXYZ", "/", "/foo/bar", "/healthz/"] {
        let mut ws = dial(server.address, &format!("{path}?userId=5&browserUuid=b"));
        assert!(ws.next_text().contains("ConnectionEstablished"), "{path}");
        let answer = request(server.address, "GET", path, &[], b"");
        assert_eq!((answer.status, &*answer.text()), (401, "Unauthorized\n"), "{path}");
    }
    // As nginx passes it on: with the word in lower case.
    let head = format!(
        "GET /push_notifications?userId=5&browserUuid=b HTTP/1.1\r\nHost: 127.0.0.1:8083\r\n\
         Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: access_token, {KEY}\r\n\r\n"
    );
    let mut ws = Ws::start_raw(server.address, head.as_bytes());
    assert_eq!(ws.answer.status, 101);
    assert_eq!(ws.answer.header("sec-websocket-protocol"), Some("access_token"));
    assert!(ws.next_text().contains("ConnectionEstablished"));
}

/// Whether an answer is one as Go's `http.Error` writes it.
fn is_refusal(answer: &Answer) -> bool {
    let plain = answer.header("content-type") == Some("text/plain; charset=utf-8");
    plain
        && answer.header("x-content-type-options") == Some("nosniff")
        && answer.text().ends_with('\n')
}

#[test]
fn refusals_are_not_to_be_sniffed_and_answers_have_no_newline() {
    let server = on_sqlite();
    let _ws = registered(server.address, 5, "b");
    let send = |changes: &Value| post_json(server.address, "/message", &alert(changes).to_string());
    let offers = format!("access_token, {KEY}");
    let target = "/?userId=5&browserUuid=b";
    let with_key = |method| {
        request(server.address, method, target, &[("Sec-WebSocket-Protocol", &offers)], b"")
    };
    for (answer, status, text) in [
        (request(server.address, "GET", "/message", &[], b""), 405, "Method not allowed\n"),
        (request(server.address, "PUT", "/message?x=1", &[], b""), 405, "Method not allowed\n"),
        (post_json(server.address, "/message", "nope"), 400, "Invalid JSON\n"),
        (send(&json!({ "userId": 0 })), 400, "Invalid userId\n"),
        (send(&json!({ "hostUuid": "x" })), 400, "No host found for given UUID\n"),
        (knock_with(server.address, "wrong"), 401, "Unauthorized\n"),
        (knock(server.address, target, None), 401, "Unauthorized\n"),
        (with_key("GET"), 400, "Bad Request\n"),
        (with_key("POST"), 405, "Method Not Allowed\n"),
    ] {
        assert_eq!((answer.status, &*answer.text()), (status, text));
        assert!(is_refusal(&answer), "{answer:?}");
        assert_eq!(answer.header("allow"), None);
        let version = (text == "Bad Request\n").then_some("13");
        assert_eq!(answer.header("sec-websocket-version"), version);
    }
    for (answer, status) in [
        (send(&json!({})), 200),
        (send(&json!({ "userId": 6 })), 202),
        (send(&json!({ "timestamp": 1 })), 202),
    ] {
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-content-type-options"), None);
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert!(!answer.text().ends_with('\n'));
    }
}

#[test]
fn health_is_told_whatever_the_method() {
    let server = on_sqlite();
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"] {
        let answer = request(server.address, method, "/healthz?x=1", &[], b"");
        assert_eq!(answer.status, 200, "{method}");
        assert_eq!(answer.text(), if method == "HEAD" { "" } else { "ok" }, "{method}");
        assert_eq!(answer.header("content-length"), Some("2"), "{method}");
    }
}

#[test]
fn a_body_has_at_most_a_mebibyte() {
    const LIMIT: usize = 1024 * 1024;
    let server = on_sqlite();
    let mut ws = registered(server.address, 5, "b");
    let frame = alert(&json!({ "output": "" })).to_string().len();
    let of_length =
        |length: usize| alert(&json!({ "output": "x".repeat(length - frame) })).to_string();
    let fits = of_length(LIMIT);
    assert_eq!(fits.len(), LIMIT);
    let answer = post_json(server.address, "/message", &fits);
    assert_eq!((answer.status, answer.text()), taken());
    // In one frame, however long it is.
    assert!(ws.next_text().len() > LIMIT);
    let chunked = format!(
        "POST /message HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        LIMIT + 1,
        of_length(LIMIT + 1)
    );
    for answer in [
        post_json(server.address, "/message", &of_length(LIMIT + 1)),
        raw(server.address, chunked.as_bytes()),
    ] {
        assert_eq!((answer.status, &*answer.text()), (413, "Message is too large\n"));
        assert!(is_refusal(&answer), "{answer:?}");
    }
    assert_eq!(ws.drain(), []);
    assert_eq!(post(server.address, &json!({})), taken(), "the server is none the worse");
}
