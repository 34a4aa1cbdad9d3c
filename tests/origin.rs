//! Which web pages may open a WebSocket.

use crate::support::http::Answer;
use crate::support::oitc::{KEY, on_sqlite_with};
use crate::support::server::{Builder, Server};
use crate::support::ws::Ws;

fn notiflux(keys: &str) -> Builder {
    let config = format!("profile = \"notiflux\"\n[protocol.notiflux]\n{keys}\n");
    Builder::notiflux().file("config.toml", &config)
}

fn knock(server: &Server, path: &str, headers: &[(&str, &str)]) -> Answer {
    Ws::handshake(server.address, path, headers).answer
}

#[test]
fn only_pages_of_the_list_may_connect_and_programs_always() {
    let list = "allowed_origins = [\"https://example.org\", \"http://localhost:8080\"]";
    let servers = [
        (notiflux(list).start(), "/ws", "chat".to_owned()),
        (on_sqlite_with(list), "/?userId=5&browserUuid=b", format!("access_token, {KEY}")),
    ];
    for (server, path, offer) in &servers {
        let offer = ("Sec-WebSocket-Protocol", offer.as_str());
        assert_eq!(knock(server, path, &[offer]).status, 101);
        for (origin, expected) in [
            ("https://example.org", 101),
            ("https://EXAMPLE.org:443", 101),
            ("http://localhost:8080", 101),
            ("http://example.org", 403),
            ("https://example.org:8443", 403),
            ("https://evil.example", 403),
            ("http://localhost", 403),
            ("null", 403),
            ("", 403),
        ] {
            let answer = knock(server, path, &[offer, ("Origin", origin)]);
            assert_eq!(answer.status, expected, "{origin}");
        }
        let two = [offer, ("Origin", "https://example.org"), ("Origin", "https://evil.example")];
        assert_eq!(knock(server, path, &two).status, 403);
    }
    let headers = [("Origin", "null"), ("Upgrade", "websocket")];
    let answer = crate::support::http::request(servers[0].0.address, "GET", "/ws", &headers, b"");
    let expected = "Pages of this origin may not connect (protocol.notiflux.allowed_origins)";
    assert_eq!((answer.status, answer.text().as_str()), (403, expected));
}

#[test]
fn without_a_list_every_page_may_and_the_operator_is_warned_of_it() {
    let server = notiflux("").start();
    assert_eq!(knock(&server, "/ws", &[("Origin", "https://evil.example")]).status, 101);
    assert!(!server.log().contains("allowed_origins"), "loopback: {}", server.log());
    let open = notiflux("").env("HOST", "0.0.0.0").start();
    assert!(open.log().contains("protocol.notiflux.allowed_origins is empty"), "{}", open.log());
    let list = "allowed_origins = [\"https://example.org\"]";
    let closed = notiflux(list).env("HOST", "0.0.0.0").start();
    assert!(!closed.log().contains("allowed_origins is empty"), "{}", closed.log());
}

#[test]
fn what_is_no_origin_is_a_fault() {
    let output =
        notiflux("allowed_origins = [\"https://example.org\", \"*\", \"https://example.org/\"]")
            .args(["config", "check"])
            .output();
    assert_eq!(output.status.code(), Some(2));
    let faults = String::from_utf8(output.stderr).unwrap();
    let expected = "expected scheme, host and perhaps port, such as \"https://example.org\" or \"http://localhost:8080\"";
    for (index, found) in [(1, "*"), (2, "https://example.org/")] {
        let line =
            format!("protocol.notiflux.allowed_origins.{index}: found \"{found}\", {expected}");
        assert!(faults.contains(&line), "{faults}");
    }
}
