//! The HTTP side of notiflux: statuses, bodies and headers as the original has them.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::json;

use crate::support::http::{connect, parse_head, post_json, raw, read_head, request};
use crate::support::server::Builder;
use crate::support::token::{Keys, claims};
use crate::support::ws::Ws;

const LIMIT: usize = 2_097_152;

fn body(token: &str) -> String {
    json!({ "topic": "t", "message": "m", "token": token }).to_string()
}

#[test]
fn bad_bodies_get_the_original_s_words() {
    let server = Builder::notiflux().start();
    let bad = |body: &[u8]| {
        let answer = request(
            server.address,
            "POST",
            "/broadcast",
            &[("Content-Type", "application/json")],
            body,
        );
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        (answer.status, answer.text())
    };
    let cases: [(&[u8], &str); 15] = [
        (b"", "EOF while parsing a value at line 1 column 0"),
        (b"{", "EOF while parsing an object at line 1 column 1"),
        (b"{}", "missing field `topic` at line 1 column 2"),
        (br#"{"topic":"t","message":"m"}"#, "missing field `token` at line 1 column 27"),
        (b"null", "invalid type: null, expected struct BroadcastPayload at line 1 column 4"),
        (
            br#"{"topic":"t","message":5,"token":"x"}"#,
            "invalid type: integer `5`, expected a string at line 1 column 24",
        ),
        (
            br#"{"topic":"t","message":null,"token":"x"}"#,
            "invalid type: null, expected a string at line 1 column 27",
        ),
        (
            br#"{"topic":"t","topic":"t","message":"m","token":"x"}"#,
            "duplicate field `topic` at line 1 column 20",
        ),
        (
            br#"{"topic":"t","message":"m","token":"xxx"}x"#,
            "trailing characters at line 1 column 42",
        ),
        (
            b"{\"topic\":\"t\",\"message\":\"a\xFF\",\"token\":\"x\"}",
            "invalid unicode code point at line 1 column 26",
        ),
        (
            br#"{"topic":"t","message":"\ud800","token":"x"}"#,
            "unexpected end of hex escape at line 1 column 31",
        ),
        (b"\xEF\xBB\xBF{}", "expected value at line 1 column 1"),
        (
            br#"["a","b"]"#,
            "invalid length 2, expected struct BroadcastPayload with 3 elements at line 1 column 9",
        ),
        (
            br#"{"Topic":"t","message":"m","token":"x"}"#,
            "missing field `topic` at line 1 column 39",
        ),
        (b"nope", "expected ident at line 1 column 2"),
    ];
    for (body, expected) in cases {
        let shown = String::from_utf8_lossy(body);
        assert_eq!(bad(body), (400, format!("Json deserialize error: {expected}")), "{shown}");
    }
}

#[test]
fn a_decodable_body_is_200_whatever_the_token_says() {
    let server = Builder::notiflux().start();
    let good = Keys::server().broadcast(&["t"]);
    for body in [
        body(&good),
        body("garbage"),
        format!(" \n{} \n", body(&good)),
        r#"["t","m","x"]"#.to_owned(),
        json!({ "topic": "t", "message": "m", "token": good, "more": 1 }).to_string(),
    ] {
        let answer = post_json(server.address, "/broadcast", &body);
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{body}");
        assert_eq!(answer.header("content-type"), None);
        assert_eq!(answer.header("content-length"), Some("0"));
    }
}

#[test]
fn content_types() {
    let server = Builder::notiflux().start();
    for (value, expected) in [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.x+json", 200),
        ("text/json", 200),
        ("text/plain", 400),
        ("nonsense", 400),
    ] {
        let answer = request(
            server.address,
            "POST",
            "/broadcast",
            &[("Content-Type", value)],
            body("x").as_bytes(),
        );
        assert_eq!(answer.status, expected, "{value}");
        if expected == 400 {
            assert_eq!(answer.text(), "Content type error");
        }
    }
    let answer = request(server.address, "POST", "/broadcast", &[], body("x").as_bytes());
    assert_eq!((answer.status, answer.text().as_str()), (400, "Content type error"));
}

#[test]
fn the_size_limit_is_exact_and_its_words_are_the_original_s() {
    let server = Builder::notiflux().start();
    let frame = body("x").len() - 1;
    let of_length = |length: usize| {
        json!({ "topic": "t", "message": "m".repeat(length - frame), "token": "x" }).to_string()
    };
    let fits = of_length(LIMIT);
    assert_eq!(fits.len(), LIMIT);
    assert_eq!(post_json(server.address, "/broadcast", &fits).status, 200);
    let answer = post_json(server.address, "/broadcast", &of_length(LIMIT + 38));
    let expected = "JSON payload (2097190 bytes) is larger than allowed (limit: 2097152 bytes).";
    assert_eq!((answer.status, answer.text().as_str()), (413, expected));

    let large = of_length(LIMIT + 1);
    let head = "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = format!("{head}{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let answer = raw(server.address, chunked.as_bytes());
    let expected = "JSON payload has exceeded limit (2097152 bytes).";
    assert_eq!((answer.status, answer.text().as_str()), (413, expected));
}

#[test]
fn compressed_bodies() {
    let server = Builder::notiflux().start();
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    let plain = body(&Keys::server().broadcast(&["t"]));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(plain.as_bytes()).unwrap();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(plain.as_bytes()).unwrap();
    let send = |encoding: &str, body: &[u8]| {
        let headers = [("Content-Type", "application/json"), ("Content-Encoding", encoding)];
        request(server.address, "POST", "/broadcast", &headers, body)
    };
    for (encoding, body) in [("gzip", gzip.finish().unwrap()), ("deflate", zlib.finish().unwrap())]
    {
        assert_eq!(send(encoding, &body).status, 200);
        assert_eq!(client.next_text(), "m");
    }
    assert_eq!(send("gzip", b"no gzip").status, 400);
    assert_eq!(send("zstd", b"x").status, 415);
    // A small body that would become a large one.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![b' '; 64 * 1024 * 1024]).unwrap();
    assert_eq!(send("gzip", &bomb.finish().unwrap()).status, 413);
}

#[test]
fn everything_else_is_an_empty_404() {
    let server = Builder::notiflux().start();
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/broadcast"),
        ("DELETE", "/health"),
        ("POST", "/health"),
        ("POST", "/ws"),
        ("GET", "/health/"),
        ("GET", "//health"),
        ("GET", "/wsx"),
        ("OPTIONS", "/broadcast"),
    ] {
        let answer = request(server.address, method, path, &[], b"");
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{method} {path}");
        assert_eq!(answer.header("content-length"), Some("0"), "{method} {path}");
        assert_eq!(answer.header("content-type"), None);
    }
    assert_eq!(request(server.address, "GET", "/health?x=1", &[], b"").status, 200);
    assert_eq!(request(server.address, "HEAD", "/health", &[], b"").status, 200);
}

#[test]
fn strict_tells_publishers_the_truth() {
    let config = "profile = \"notiflux\"\n[protocol.notiflux]\nstrict = true\n";
    let server = Builder::notiflux().file("config.toml", config).start();
    let mut clients = [Ws::open(server.address), Ws::open(server.address)];
    clients.iter_mut().for_each(|client| client.subscribe("t"));
    let keys = Keys::server();
    let mut expired = claims("broadcast", &["t"]);
    expired["exp"] = json!(1);
    for (token, status, expected) in [
        (keys.broadcast(&["t"]), 200, json!({ "accepted": 2, "dropped": 0 })),
        ("x".into(), 401, json!({ "error": "not a token" })),
        (keys.token(&expired), 401, json!({ "error": "the token has expired" })),
        (
            Keys::attacker().broadcast(&["t"]),
            401,
            json!({ "error": "the token is signed by a key that is not known here" }),
        ),
        (
            keys.broadcast(&["other"]),
            403,
            json!({ "error": "the token does not allow this topic to be published to" }),
        ),
        (
            keys.subscribe(&["t"]),
            403,
            json!({ "error": "the token does not allow this topic to be published to" }),
        ),
    ] {
        let answer = post_json(server.address, "/broadcast", &body(&token));
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap(), expected);
    }
    assert_eq!(clients[0].next_text(), "m");
    assert!(clients[0].drain().is_empty());
}

#[test]
fn a_request_that_does_not_come_is_given_up() {
    let config =
        "profile = \"notiflux\"\n[server]\nheader_timeout = \"100ms\"\nbody_timeout = \"100ms\"\n";
    let server = Builder::notiflux().file("config.toml", config).start();
    for head in ["", "GET /heal", "GET /health HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = connect(server.address);
        stream.write_all(head.as_bytes()).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"), "{head:?}");
    }
    let mut stream = connect(server.address);
    let head = "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(parse_head(&read_head(&mut stream).0).status, 408);
}

#[test]
fn heads_have_a_limit() {
    let server = Builder::notiflux().start();
    let large = format!("GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(raw(server.address, large.as_bytes()).status, 431);
    let many = format!("GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(500));
    assert_eq!(raw(server.address, many.as_bytes()).status, 431);
    assert_eq!(raw(server.address, b"garbage\r\n\r\n").status, 400);
    assert_eq!(raw(server.address, b"GET /health HTTP/1.0\r\n\r\n").status, 200);
}
