//! What limits refuse is counted: each refusal once, by its reason.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::support::eventually;
use crate::support::http::{connect, parse_head, post_json, raw, read_head, request};
use crate::support::server::{Builder, Server};
use crate::support::ws::Ws;

const REFUSED: &str = "pushmux_refused_total";

fn notiflux(server: &str, protocol: &str) -> Server {
    let config = format!(
        "profile = \"notiflux\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[server]\n{server}\n[protocol.notiflux]\n{protocol}\n"
    );
    Builder::notiflux().file("config.toml", &config).start()
}

/// Waits until so many were counted for these reasons, and makes sure that there are no others.
fn counted(server: &Server, expected: &[(&str, u64)]) {
    let count = |reason| server.scrape().count(REFUSED, &[("reason", reason)]);
    for (reason, expected) in expected {
        eventually(reason, || count(reason) >= *expected);
        assert_eq!(count(reason), *expected, "{reason}");
    }
    let all: u64 = expected.iter().map(|(_, count)| count).sum();
    assert_eq!(server.scrape().sum(REFUSED, &[]), all);
}

fn status(stream: &mut TcpStream) -> u16 {
    parse_head(&read_head(stream).0).status
}

#[test]
fn requests_by_what_is_wrong_with_them() {
    let server = notiflux(
        "max_uri_bytes = 300\nmax_auth_failures = 2",
        "max_body_bytes = 1000\nstrict = true\nack = true\nallowed_origins = [\"https://example.org\"]",
    );
    let address = server.address;
    counted(&server, &[]);
    assert_eq!(request(address, "GET", "/health", &[], b"").status, 200);
    let path = format!("/health?{}", "x".repeat(300));
    assert_eq!(request(address, "GET", &path, &[], b"").status, 414);

    let head = |lines: &str| format!("GET /health HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let large = head(&format!("X: {}\r\n", "x".repeat(20_000)));
    for (head, expected) in [
        (large, 431),
        (head(&"X: y\r\n".repeat(500)), 431),
        (head("Host: y\r\n"), 400),
        ("garbage\r\n\r\n".to_owned(), 400),
    ] {
        assert_eq!(raw(address, head.as_bytes()).status, expected);
    }

    // Announced, as it comes, and what it becomes.
    let large = vec![b' '; 1001];
    let json = ("Content-Type", "application/json");
    let post = |headers: &[(&str, &str)], body: &[u8]| {
        request(address, "POST", "/broadcast", headers, body).status
    };
    assert_eq!(post(&[json], &large), 413);
    let chunk = String::from_utf8([&b"3e9\r\n"[..], &large, b"\r\n0\r\n\r\n"].concat()).unwrap();
    let chunked = format!(
        "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
    );
    let mut stream = connect(address);
    stream.write_all(chunked.as_bytes()).unwrap();
    assert_eq!(status(&mut stream), 413);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&large).unwrap();
    assert_eq!(post(&[json, ("Content-Encoding", "gzip")], &gzip.finish().unwrap()), 413);

    let evil = [("Origin", "https://evil.example")];
    assert_eq!(Ws::handshake(address, "/ws", &evil).answer.status, 403);

    let body = json!({ "topic": "t", "message": "m", "token": "bad" }).to_string();
    let told: Vec<_> = (0..4).map(|_| post_json(address, "/broadcast", &body).status).collect();
    assert_eq!(told, [401, 401, 429, 429]);
    let mut client = Ws::open_path(address, "/ws?ack=true");
    client.text("/subscribe t bad");
    assert_eq!(client.next_text(), "/denied t too many bad tokens came from this address");

    counted(
        &server,
        &[
            ("max_uri_bytes", 1),
            ("head_too_large", 2),
            ("duplicate_host", 1),
            ("malformed_head", 1),
            ("max_body_bytes", 3),
            ("allowed_origins", 1),
            ("max_auth_failures", 3),
        ],
    );
    // Of these the answers of the protocol are its own: what nobody asked it about is not.
    let scrape = server.scrape();
    let answers = ["1xx", "2xx", "4xx", "5xx"]
        .map(|class| scrape.sum("pushmux_http_answers_total", &[("class", class)]));
    assert_eq!(answers, [1, 1, 3 + 1 + 4, 0]);
}

#[test]
fn connections_beyond_both_of_their_limits() {
    let server = notiflux("max_connections = 3", "");
    let clients: Vec<_> = (0..3).map(|_| Ws::open(server.address)).collect();
    for _ in 0..4 {
        assert_eq!(status(&mut connect(server.address)), 503);
    }
    counted(&server, &[("max_connections", 4)]);
    drop(clients);

    let server = notiflux("max_connections_per_address = 2", "");
    let clients: Vec<_> = (0..2).map(|_| Ws::open(server.address)).collect();
    for _ in 0..3 {
        assert_eq!(status(&mut connect(server.address)), 429);
    }
    counted(&server, &[("max_connections_per_address", 3)]);
    drop(clients);
}

#[test]
fn requests_of_one_address_behind_a_proxy() {
    let keys = "max_connections_per_address = 1\ntrusted_proxies = [\"127.0.0.1\"]";
    let server = notiflux(keys, "");
    let from = |client| {
        let header = [("X-Forwarded-For", client)];
        Ws::handshake(server.address, "/ws", &header)
    };
    let (one, two) = (from("192.0.2.1"), from("192.0.2.2"));
    assert_eq!((one.answer.status, two.answer.status), (101, 101));
    for _ in 0..2 {
        assert_eq!(from("192.0.2.1").answer.status, 429);
    }
    counted(&server, &[("max_connections_per_address", 2)]);
}

#[test]
fn heads_that_do_not_come_but_not_those_who_have_nothing_more_to_ask() {
    let server = notiflux("header_timeout = \"200ms\"", "");
    let end = |mut stream: TcpStream| {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        String::from_utf8(rest).unwrap()
    };
    let mut late = 0;
    for head in ["", "GET /heal", "GET /health HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = connect(server.address);
        stream.write_all(head.as_bytes()).unwrap();
        assert_eq!(end(stream), "", "{head}");
        late += 1;
    }
    let mut idle = connect(server.address);
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    // On a machine that is busy this one may be late as well.
    late += u64::from(end(idle).is_empty());
    counted(&server, &[("header_timeout", late)]);
}

#[test]
fn bodies_that_do_not_come_or_find_no_memory() {
    let server = notiflux("body_timeout = \"100ms\"", "");
    let begin = |server: &Server, length: usize, part: &[u8]| {
        let mut stream = connect(server.address);
        let head = format!(
            "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(part).unwrap();
        stream
    };
    assert_eq!(status(&mut begin(&server, 9, b"{")), 408);
    counted(&server, &[("body_timeout", 1)]);

    let server = notiflux("max_body_bytes_in_flight = 65536", "");
    let large = vec![b' '; 60_000];
    let mut held = vec![begin(&server, large.len(), &large[1..])];
    let mut refused = 0;
    eventually("there is no more room", || {
        let told = post_json(server.address, "/broadcast", std::str::from_utf8(&large).unwrap());
        if told.status == 503 {
            refused += 1;
        } else {
            // It was the other one that found no room, then.
            held.push(begin(&server, large.len(), &large[1..]));
        }
        refused > 0
    });
    for stream in &mut held {
        stream.write_all(b" ").unwrap();
        refused += u64::from(status(stream) == 503);
    }
    counted(&server, &[("max_body_bytes_in_flight", refused)]);
}
