//! What one client may send, and what all of them together may have in memory.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::json;

use crate::support::DEADLINE;
use crate::support::http::{connect, parse_head, post_json, raw, read_head, request};
use crate::support::oitc;
use crate::support::server::{Builder, Server};
use crate::support::token::Keys;
use crate::support::ws::{Frame, Ws, encode};

fn configured(keys: &str) -> Builder {
    Builder::notiflux().file("config.toml", &format!("profile = \"notiflux\"\n{keys}\n"))
}

/// Clients may leave unread whatever they like.
const PATIENT: &str = "[sink.ws]\nqueue_messages = 1000000\nqueue_bytes = 1000000000\n";

fn body(message: &str) -> String {
    let token = Keys::server().broadcast(&["t"]);
    json!({ "topic": "t", "message": message, "token": token }).to_string()
}

#[test]
fn a_path_has_a_limit() {
    let server = configured("[server]\nmax_uri_bytes = 300").start();
    let get = |path: String| request(server.address, "GET", &path, &[], b"");
    assert_eq!(get(format!("/health?{}", "x".repeat(292))).status, 200);
    let answer = get(format!("/health?{}", "x".repeat(293)));
    let expected = "The path is longer than 300 bytes (server.max_uri_bytes)";
    assert_eq!((answer.status, answer.text().as_str()), (414, expected));
    // What is too large for a head is refused before it is read; the log says which keys.
    let head = format!("GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(raw(server.address, head.as_bytes()).status, 431);
    crate::support::eventually("the log names the keys", || {
        server.log().contains("(server.max_head_bytes, server.max_headers)")
    });
}

#[test]
fn a_body_that_is_announced_too_large_costs_nothing() {
    let server = Builder::notiflux().start();
    let head = |length: u64, more: &str| {
        format!(
            "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n"
        )
    };
    let ask = |length: u64| {
        let mut stream = connect(server.address);
        stream.write_all(head(length, "Expect: 100-continue\r\n").as_bytes()).unwrap();
        let answer = parse_head(&read_head(&mut stream).0);
        (stream, answer.status)
    };
    // Who asks first is told at once, and not to go on.
    assert_eq!(ask(2_097_152).1, 100);
    assert_eq!(ask(2_097_153).1, 413);
    let before = server.resident_kib();
    let streams: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = connect(server.address);
            stream.write_all(head(1 << 40, "").as_bytes()).unwrap();
            stream
        })
        .collect();
    let asked: Vec<_> = (0..100).map(|_| ask(1 << 40)).collect();
    assert!(asked.iter().all(|(_, status)| *status == 413));
    let growth = server.resident_kib().saturating_sub(before);
    assert!(growth / streams.len() < 64, "{growth} KiB for {} announcements", streams.len());
}

#[test]
fn bodies_of_all_requests_share_a_memory_and_nothing_that_was_refused_was_published() {
    let server =
        configured(&format!("{PATIENT}[server]\nmax_body_bytes_in_flight = 1000000")).start();
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    let large = body(&"m".repeat(300_000));
    // All but the last byte of three bodies: with a fourth it is too much.
    let mut held: Vec<_> = (0..3).map(|_| begin(&server, &large)).collect();
    let mut published = 0;
    crate::support::eventually("there is no more room", || {
        let answer = post_json(server.address, "/broadcast", &large);
        let is_full = answer.status == 503;
        if is_full {
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert!(answer.text().contains("(server.max_body_bytes_in_flight)"));
        } else {
            assert_eq!(answer.status, 200);
            published += 1;
            // One of the others found no room, then.
            held.push(begin(&server, &large));
        }
        is_full
    });
    crate::support::eventually("a small one fits", || {
        post_json(server.address, "/broadcast", &body("small")).status == 200
    });
    for stream in &mut held {
        stream.write_all(&large.as_bytes()[large.len() - 1..]).unwrap();
        // One that the server had not read in whole may have found no room, either.
        let status = parse_head(&read_head(stream).0).status;
        assert!([200, 503].contains(&status), "{status}");
        published += usize::from(status == 200);
    }
    assert_eq!(post_json(server.address, "/broadcast", &large).status, 200);
    assert_eq!(client.drain().len(), published + 2);
    crate::support::eventually("the log says so", || {
        server.log().contains("(server.max_body_bytes_in_flight)")
    });
}

/// Sends a request but for its last byte.
fn begin(server: &Server, body: &str) -> TcpStream {
    let mut stream = connect(server.address);
    let head = format!(
        "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body.as_bytes()[..body.len() - 1]).unwrap();
    stream
}

#[test]
fn a_bomb_counts_for_what_it_becomes() {
    let server =
        configured(&format!("{PATIENT}[server]\nmax_body_bytes_in_flight = 1000000")).start();
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    let large = body(&"m".repeat(900_000));
    let _held = begin(&server, &large);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(large.as_bytes()).unwrap();
    let bomb = gzip.finish().unwrap();
    assert!(bomb.len() < 10_000);
    let headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
    let mut published = 0;
    crate::support::eventually("there is no room for it", || {
        let answer = request(server.address, "POST", "/broadcast", &headers, &bomb);
        published += usize::from(answer.status == 200);
        answer.status == 503
    });
    assert_eq!(client.drain().len(), published);
}

#[test]
fn publishers_wait_no_longer_than_they_may_and_are_told_the_truth() {
    let server = configured(&format!(
        "{PATIENT}[server]\nmax_publishing_bytes = 65536\npublish_timeout = \"1ms\"\n[admin]\nlisten = \"127.0.0.1:0\""
    ))
    .start();
    let mut clients: Vec<_> = (0..20).map(|_| Ws::open(server.address)).collect();
    clients.iter_mut().for_each(|client| client.subscribe("t"));
    let large = body(&"m".repeat(60_000));
    let (start, refused) = (Instant::now(), AtomicU64::new(0));
    // Ten each at least, and until one of them was refused.
    let is_enough = |asked| {
        let is_over = refused.load(Ordering::SeqCst) > 0 || start.elapsed() > DEADLINE;
        asked >= 10 && is_over
    };
    let published = thread::scope(|scope| {
        let publishers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut published = 0;
                    for _ in (0..).take_while(|asked| !is_enough(*asked)) {
                        let answer = post_json(server.address, "/broadcast", &large);
                        if answer.status == 200 {
                            published += 1;
                            continue;
                        }
                        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
                        assert!(answer.text().contains("(server.max_publishing_bytes)"));
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                    published
                })
            })
            .collect();
        let readers: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || {
                    std::iter::repeat_with(|| client.next_text()).position(|text| text == "end")
                })
            })
            .collect();
        let published: usize = publishers.into_iter().map(|it| it.join().unwrap()).sum();
        while post_json(server.address, "/broadcast", &body("end")).status != 200 {
            refused.fetch_add(1, Ordering::SeqCst);
        }
        for reader in readers {
            let came = reader.join().unwrap();
            assert_eq!(came, Some(published), "each 200 is a message, and nothing else is");
        }
        published
    });
    assert!(published > 0);
    let refused = refused.into_inner();
    assert!(refused > 0, "there was room for everybody for {DEADLINE:?}");
    let counted = [("reason", "publish_timeout")];
    assert_eq!(server.scrape().count("pushmux_refused_total", &counted), refused);
}

/// Everything up to the end of the connection.
fn rest(ws: &mut Ws) -> Vec<Frame> {
    ws.until(|frame| matches!(frame, Frame::Close(_)))
}

#[test]
fn pings_are_answered_up_to_a_rate() {
    let server = Builder::notiflux().start();
    let mut ws = Ws::open(server.address);
    ws.bytes(&encode(0x89, b"x").repeat(20_000));
    let frames = rest(&mut ws);
    let (last, pongs) = frames.split_last().unwrap();
    assert_eq!(*last, Frame::Close(Some((1008, "too many control frames".into()))));
    assert!((50..1000).contains(&pongs.len()), "{} pongs", pongs.len());
    assert!(pongs.iter().all(|frame| *frame == Frame::Pong(b"x".to_vec())));
    // Nobody asked for these.
    let mut ws = Ws::open(server.address);
    ws.bytes(&encode(0x8A, b"").repeat(20_000));
    assert!(matches!(rest(&mut ws)[..], [Frame::Close(Some((1008, _)))]));

    let server = configured("[sink.ws]\ncontrol_frame_rate = 0").start();
    let mut ws = Ws::open(server.address);
    ws.bytes(&encode(0x89, b"x").repeat(200));
    assert_eq!(ws.drain().len(), 200);
}

#[test]
fn messages_are_taken_up_to_a_rate() {
    // As many as a client has topics that comes back.
    let server = Builder::notiflux().start();
    let mut ws = Ws::open(server.address);
    ws.bytes(&encode(0x81, b"/x").repeat(10_000));
    assert_eq!(ws.drain().len(), 10_000);

    let server = configured("[protocol.notiflux]\nmessage_rate = 1\nmessage_burst = 30").start();
    for message in [&b"/x"[..], b"no command"] {
        let mut ws = Ws::open(server.address);
        ws.bytes(&encode(0x81, message).repeat(2000));
        let frames = rest(&mut ws);
        let (last, answers) = frames.split_last().unwrap();
        assert_eq!(*last, Frame::Close(Some((1008, "too many messages".into()))));
        let expected = if message == b"/x" { 30..100 } else { 0..1 };
        assert!(expected.contains(&answers.len()), "{} answers", answers.len());
    }
}

#[test]
fn browsers_of_openitcockpit_are_cut_off_without_a_close() {
    let server = oitc::on_sqlite();
    let mut ws = oitc::connect(server.address, 5, "b");
    ws.bytes(&encode(0x81, br#"{"type":"KeepAlive"}"#).repeat(3000));
    let frames = rest(&mut ws);
    assert_eq!(frames.last(), Some(&Frame::Eof));
    assert!((100..1000).contains(&frames.len()), "{}", frames.len());
    let mut ws = oitc::connect(server.address, 5, "b");
    ws.bytes(&encode(0x89, b"x").repeat(20_000));
    assert_eq!(rest(&mut ws).last(), Some(&Frame::Eof));
}

#[test]
fn a_message_has_so_many_fragments() {
    let fragments = |number: usize| {
        [encode(0x01, b"/x"), encode(0x00, b"").repeat(number - 2), encode(0x80, b"")].concat()
    };
    for (server, most) in [
        (Builder::notiflux().start(), 1024),
        (configured("[sink.ws]\nmax_fragments = 4").start(), 4),
    ] {
        let mut ws = Ws::open(server.address);
        ws.bytes(&fragments(most));
        assert_eq!(ws.next_text(), "Unknown command");
        ws.bytes(&fragments(most + 1));
        assert_eq!(ws.next(), Frame::Close(Some((1008, "too many fragments".into()))));
    }
    let server = oitc::on_sqlite();
    let mut ws = oitc::connect(server.address, 5, "b");
    ws.bytes(&fragments(20_000));
    assert_eq!(ws.next(), Frame::Eof);
}

#[test]
fn limits_that_make_no_sense_are_faults_with_their_keys() {
    for (table, key, value, expected) in [
        (
            "server",
            "max_connections",
            "10000001",
            "found 10000001, expected a number from 0 to 10000000",
        ),
        ("server", "max_connections_per_address", "-1", "expected a whole number from 0"),
        ("server", "trusted_proxies", "[\"localhost\"]", "expected an address or a network"),
        (
            "server",
            "forwarded_header",
            "\"x-real-ip\"",
            "expected one of `x-forwarded-for`, `forwarded`",
        ),
        ("server", "max_auth_failures", "1000001", "expected a number from 0 to 1000000"),
        ("server", "max_uri_bytes", "10", "found 10, expected a number from 256 to 65534"),
        ("server", "max_body_bytes_in_flight", "1", "found 1, expected a number from 65536 to"),
        ("server", "publish_timeout", "\"0s\"", "found 0s, expected a duration from 1ms to 1h"),
        ("sink.ws", "max_fragments", "0", "found 0, expected a number from 1 to 1000000"),
        ("sink.ws", "control_frame_burst", "0", "found 0, expected a number from 1 to 10000000"),
        ("protocol.notiflux", "message_rate", "1000001", "expected a number from 0 to 1000000"),
    ] {
        let builder = configured(&format!("[{table}]\n{key} = {value}"));
        let output = builder.args(["config", "check"]).output();
        let faults = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{key}");
        assert!(faults.starts_with(&format!("./config.toml:3: {table}.{key}")), "{faults}");
        assert!(faults.contains(expected), "{faults}");
    }
}
