//! A protocol on a port of its own.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

use crate::support::http::{connect, parse_head, post_json, read_head, request};
use crate::support::server::{Builder, Server};
use crate::support::ws::{Frame, Ws};
use crate::support::{eventually, quiet_port};

/// notiflux twice, on the same paths: that only works with two ports.
fn two(more: &str) -> Builder {
    let config = format!("profile = \"notiflux\"\n[protocol.second]\ntype = \"notiflux\"\n{more}");
    Builder::notiflux().file("config.toml", &config)
}

fn health(address: std::net::SocketAddr) -> u16 {
    request(address, "GET", "/health", &[], b"").status
}

/// Exit code and what was said, of `config check` or of a start.
fn ended(builder: &Builder) -> (Option<i32>, String) {
    let output = builder.output();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn lines(server: &Server) -> Vec<String> {
    let log = server.log();
    log.lines().filter(|line| line.contains("Listening")).map(str::to_owned).collect()
}

#[test]
fn a_protocol_with_listen_has_its_own_port_and_the_same_paths() {
    let server = two("listen = \"127.0.0.1:0\"\nstrict = true\n").start();
    let own = server.address_of("second");
    assert_eq!(server.address_of("notiflux"), server.address, "the shared one comes first");
    assert_ne!(own, server.address);
    assert_eq!(lines(&server).len(), 2);
    assert_eq!((health(server.address), health(own)), (200, 200));
    let mut client = Ws::open(own);
    client.subscribe("t");
    let token = crate::support::token::Keys::server().broadcast(&["t"]);
    let body = serde_json::json!({ "topic": "t", "message": "m", "token": token }).to_string();
    assert_eq!(post_json(server.address, "/broadcast", &body).text(), "", "another protocol");
    assert_eq!(post_json(own, "/broadcast", &body).text(), r#"{"accepted":1,"dropped":0}"#);
    assert_eq!(client.next_text(), "m");
}

#[test]
fn with_a_listen_for_every_protocol_the_port_of_server_stays_free() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let server = two(&format!(
        "listen = \"localhost:0\"\n[protocol.notiflux]\nlisten = \"[::1]:0\"\n[server]\nport = {port}\n"
    ))
    .start();
    let (first, second) = (server.address_of("notiflux"), server.address_of("second"));
    assert!(first.is_ipv6() && first.ip().is_loopback(), "{first}");
    assert_eq!((health(first), health(second)), (200, 200));
    assert_eq!(lines(&server).len(), 2);
}

#[test]
fn protocols_with_the_same_listen_share_the_port_and_each_path_once() {
    let both = "listen = \"127.0.0.1:0\"\n[protocol.notiflux]\nlisten = \"127.0.0.1:0\"\n";
    let (code, faults) = ended(&two(both).args(["config", "check"]));
    let expected = "./config.toml:2: protocol.second.path_prefix: [protocol.notiflux] answers on /broadcast already, expected another path, or another `listen`\n";
    assert_eq!((code, faults.as_str()), (Some(2), expected));

    // As [server] says it as well: the same port, not one that is taken.
    let (code, faults) = ended(
        &two("listen = \"127.0.0.1:8080\"\n[server]\nport = 8080\n").args(["config", "check"]),
    );
    assert_eq!((code, faults.as_str()), (Some(2), expected));

    let server = two(&format!("path_prefix = \"/two\"\n{both}")).start();
    assert_eq!(server.address_of("second"), server.address);
    assert_eq!(lines(&server).len(), 1);
    assert!(lines(&server)[0].ends_with(" protocols=notiflux,second"), "{:?}", lines(&server));
    assert_eq!(health(server.address), 200);
    assert_eq!(request(server.address, "GET", "/two/health", &[], b"").status, 200);
}

#[test]
fn a_variable_sets_it_too() {
    let server = two("").env("PUSHMUX_PROTOCOL__SECOND__LISTEN", "127.0.0.1:0").start();
    assert_eq!(health(server.address_of("second")), 200);
    assert_ne!(server.address_of("second"), server.address);
}

#[test]
fn a_listen_that_is_none_is_a_fault_with_its_place() {
    let expected =
        "expected host:port, such as \"127.0.0.1:8083\", \"[::1]:8083\" or \"localhost:8083\"";
    for text in ["8083", "localhost", "::1:8083", "http://localhost:8083", "localhost:99999"] {
        let (code, faults) =
            ended(&two(&format!("listen = \"{text}\"\n")).args(["config", "check"]));
        assert_eq!(code, Some(2));
        assert_eq!(
            faults,
            format!("./config.toml:4: protocol.second.listen: found \"{text}\", {expected}\n")
        );
    }
    let (_, faults) = ended(&two("listen = 8083\n"));
    assert!(
        faults
            .starts_with("./config.toml:4: protocol.second.listen: found 8083, expected a string"),
        "{faults}"
    );
    let variable = "PUSHMUX_PROTOCOL__NOTIFLUX__LISTEN";
    let (_, faults) = ended(&Builder::notiflux().env(variable, "8083"));
    let origin =
        format!("environment variable {variable}: protocol.notiflux.listen: found \"8083\"");
    assert!(faults.starts_with(&origin), "{faults}");
}

#[test]
fn a_port_that_is_taken_is_told_with_its_key_and_nothing_is_served() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, free) = (taken.local_addr().unwrap(), quiet_port());
    let config = format!("listen = \"{taken}\"\n[server]\nport = {free}\n");
    let (code, log) = ended(&two(&config));
    assert_eq!(code, Some(1));
    let expected =
        format!("cannot listen on {taken} (protocol.second.listen): Address already in use");
    assert!(log.contains(&expected), "{log}");
    assert!(!log.contains("Listening"), "{log}");
}

#[test]
fn a_stop_closes_every_port_and_finishes_what_runs_on_each() {
    let mut server = two("listen = \"127.0.0.1:0\"\n").start();
    let own = server.address_of("second");
    let mut clients = [Ws::open(server.address), Ws::open(own)];
    let mut streams = [connect(server.address), connect(own)];
    let head = "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    for stream in &mut streams {
        stream.write_all(head.as_bytes()).unwrap();
        // The server says so when it has begun with the body.
        assert_eq!(parse_head(&read_head(stream).0).status, 100);
    }
    server.signal("TERM");
    for address in [server.address, own] {
        eventually("the port is closed", || TcpStream::connect(address).is_err());
    }
    for stream in &mut streams {
        stream.write_all(b"{}").unwrap();
        assert_eq!(parse_head(&read_head(stream).0).status, 400);
    }
    for client in &mut clients {
        assert!(matches!(client.next(), Frame::Close(Some((1001, _)))));
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_demo_is_for_loopback_wherever_it_listens() {
    let demo = |more: &str| {
        let config = format!("profile = \"demo\"\n{more}\n");
        Builder::new().file("config.toml", &config).args(["config", "check"])
    };
    let fault = "but the demo hands tokens to everybody who asks: expected a loopback address such as 127.0.0.1";
    let open = "[server]\nhost = \"0.0.0.0\"\n";
    let (code, faults) = ended(&demo(open));
    assert_eq!(code, Some(2));
    assert_eq!(faults, format!("./config.toml:3: server.host: found \"0.0.0.0\", {fault}\n"));
    // With a port of its own that of [server] is none of its business, nor the other way.
    let own = "[protocol.demo]\nlisten = \"[::1]:0\"\n";
    assert_eq!(ended(&demo(&format!("{open}{own}"))), (Some(0), String::new()));
    let (code, faults) = ended(&demo("[protocol.demo]\nlisten = \"[::]:0\"\n"));
    assert_eq!(code, Some(2));
    assert_eq!(faults, format!("./config.toml:3: protocol.demo.listen: found \"::\", {fault}\n"));
}
