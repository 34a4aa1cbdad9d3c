//! Who is let in: connections in all and for each address, slow heads, bad credentials.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::http::{Answer, connect, parse_head, post_json, raw, read_head, request};
use crate::support::oitc::{KEY, knock_with, on_sqlite_with_server};
use crate::support::server::{Builder, Server};
use crate::support::token::Keys;
use crate::support::ws::{Frame, Ws};
use crate::support::{DEADLINE, eventually};

/// Lets the binary have no more file descriptors than these.
const FEW: [&str; 2] = ["prlimit", "--nofile=64:64"];

fn configured(server: &str, more: &str) -> Builder {
    let config = format!("profile = \"notiflux\"\n[server]\n{server}\n{more}\n");
    Builder::notiflux().file("config.toml", &config)
}

/// Waits until the log says so.
fn logged(server: &Server, text: &str) {
    eventually(text, || server.log().contains(text));
}

fn health(address: SocketAddr) -> u16 {
    request(address, "GET", "/health", &[], b"").status
}

/// What a connection is told that never says anything.
fn told(stream: &mut TcpStream) -> Answer {
    let (head, rest) = read_head(stream);
    let mut answer = parse_head(&head);
    answer.body = rest;
    stream.read_to_end(&mut answer.body).unwrap();
    answer
}

fn is_full(answer: &Answer) -> bool {
    let named = answer.text() == "Too many connections (server.max_connections), try again";
    answer.status == 503 && answer.header("retry-after") == Some("5") && named
}

/// A connection from an address of this machine's own choice.
fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Asks for a WebSocket; the connection lives as long as what is returned.
fn knock_from(last: u8, to: SocketAddr, path: &str, headers: &str) -> (TcpStream, Answer) {
    let mut stream = connect_from(last, to);
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let (head, rest) = read_head(&mut stream);
    let mut answer = parse_head(&head);
    answer.body = rest;
    (stream, answer)
}

#[test]
fn beyond_the_limit_of_connections_everybody_is_told_at_once() {
    let second = "[protocol.second]\ntype = \"notiflux\"\nlisten = \"127.0.0.1:0\"";
    let server = configured("max_connections = 3", second).start();
    let own = server.address_of("second");
    let mut clients = vec![Ws::open(server.address), Ws::open(own), Ws::open(server.address)];
    for address in [server.address, own] {
        // Without a word from the client, and with a request.
        assert!(is_full(&told(&mut connect(address))));
        assert!(is_full(&request(address, "GET", "/health", &[], b"")));
        let large = format!(
            "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n{}",
            "x".repeat(9000)
        );
        assert!(is_full(&raw(address, large.as_bytes())));
    }
    clients.iter_mut().for_each(Ws::settle);
    clients.pop();
    eventually("the place is free", || health(own) == 200);
    logged(&server, "(server.max_connections)");
}

#[test]
fn nine_tenths_of_the_descriptors_are_for_connections() {
    let server = configured("", "").under(FEW).start();
    logged(&server, "max_connections=");
    let log = server.log();
    let most = log.split_once("max_connections=").unwrap().1.split(' ').next().unwrap();
    let most: usize = most.parse().unwrap();
    assert!((36..58).contains(&most), "{log}");
    let mut streams: Vec<_> = (0..200).map(|_| connect(server.address)).collect();
    // In the order of coming: some are served, the others are told.
    for stream in &mut streams[most..] {
        assert!(is_full(&told(stream)));
    }
    for stream in &mut streams[..most] {
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(parse_head(&read_head(stream).0).status, 200);
    }
    assert!(!server.log().contains("Cannot accept"), "{}", server.log());
    drop(streams);
    eventually("places are free", || health(server.address) == 200);
}

#[test]
fn without_descriptors_the_server_waits_quietly_and_goes_on() {
    let server = configured("max_connections = 1000", "").under(FEW).start();
    logged(&server, "server.max_connections is more than there are");
    let mut first = Ws::open(server.address);
    let streams: Vec<_> = (0..100).map(|_| connect(server.address)).collect();
    eventually("there is none left", || server.log().contains("Cannot accept connections"));
    let before = server.cpu_ticks();
    // Not to wait for anything: what it does meanwhile is the question.
    std::thread::sleep(Duration::from_secs(1));
    let used = server.cpu_ticks() - before;
    assert!(used < 20, "{used} hundredths of a second, and nothing to do");
    assert!(server.log().matches("Cannot accept").count() <= 4, "{}", server.log());
    first.settle();
    drop(streams);
    eventually("it serves again", || health(server.address) == 200);
    first.settle();
}

#[test]
fn an_address_has_a_limit_of_its_own() {
    let server = configured("max_connections_per_address = 2", "").start();
    let mut clients = vec![Ws::open(server.address), Ws::open(server.address)];
    let answer = told(&mut connect(server.address));
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("5")));
    assert!(answer.text().contains("(server.max_connections_per_address)"));
    assert_eq!(knock_from(2, server.address, "/ws", "").1.status, 101, "somebody else");
    // What a client says of itself is not believed.
    let (_one, answer) = knock_from(3, server.address, "/ws", "X-Forwarded-For: 9.9.9.1\r\n");
    let (_two, second) = knock_from(3, server.address, "/ws", "X-Forwarded-For: 9.9.9.2\r\n");
    assert_eq!((answer.status, second.status), (101, 101));
    assert_eq!(told(&mut connect_from(3, server.address)).status, 429);
    clients.pop();
    eventually("the place is free", || health(server.address) == 200);
}

#[test]
fn behind_a_trusted_proxy_clients_count_by_themselves() {
    for (key, header, quote) in [
        ("", "X-Forwarded-For", ("", "")),
        ("forwarded_header = \"forwarded\"", "Forwarded", ("for=\"[", "]:4711\"")),
    ] {
        let keys = format!(
            "max_connections_per_address = 2\ntrusted_proxies = [\"127.0.0.0/31\", \"10.0.0.1\"]\n{key}"
        );
        let server = configured(&keys, "").start();
        let knock = |address: &str| {
            let headers = format!("{header}: {}{address}{}\r\n", quote.0, quote.1);
            knock_from(1, server.address, "/ws", &headers)
        };
        let one = "2001:db8::1";
        let (first, second) = (knock(one), knock("2001:db8::2"));
        assert_eq!((first.1.status, second.1.status), (101, 101), "{header}");
        let (_, refused) = knock("2001:db8::3");
        assert_eq!(refused.status, 429, "{header}");
        let text = String::from_utf8(refused.body).unwrap();
        assert!(text.contains("(server.max_connections_per_address)"), "{text}");
        assert_eq!(knock("2001:db8:0:1::1").1.status, 101, "{header}");
        drop(first);
        eventually("the place is free", || knock(one).1.status == 101);
    }
}

#[test]
fn five_hundred_slow_heads_are_gone_and_disturb_nobody() {
    let server = Builder::notiflux().start();
    let mut slow: Vec<_> = (0..500).map(|_| connect(server.address)).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /ws HTTP/1.1\r\nHost: x\r\nX-Slow: ").unwrap();
        stream.set_nonblocking(true).unwrap();
    }
    let mut handshakes = 0;
    eventually("all of them are gone", || {
        Ws::open(server.address).settle();
        handshakes += 1;
        slow.retain_mut(|stream| {
            // A byte now and then, as those do who mean harm.
            let _ = stream.write(b"x");
            let gone = match stream.read(&mut [0; 512]) {
                Ok(0) => true,
                Ok(_) => false,
                Err(error) => error.kind() != ErrorKind::WouldBlock,
            };
            !gone
        });
        slow.is_empty()
    });
    assert!(handshakes > 10, "{handshakes}");
}

fn broadcast(token: &str) -> String {
    json!({ "topic": "t", "message": "m", "token": token }).to_string()
}

#[test]
fn after_too_many_bad_tokens_none_of_that_address_is_looked_at() {
    let server =
        configured("max_auth_failures = 3", "[protocol.notiflux]\nstrict = true\nack = true")
            .start();
    let good = Keys::server().broadcast(&["t"]);
    let post = |token: &str| post_json(server.address, "/broadcast", &broadcast(token));
    assert_eq!(post(&good).status, 200);
    // One of them by another way.
    let mut client = Ws::open_path(server.address, "/ws?ack=true");
    client.text("/subscribe t bad");
    assert_eq!(client.next_text(), "/denied t not a token");
    assert_eq!((post("bad").status, post("bad").status), (401, 401));
    for token in ["bad", &good] {
        let answer = post(token);
        assert_eq!(answer.status, 429);
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds));
        assert!(answer.text().contains("(server.max_auth_failures)"), "{}", answer.text());
    }
    client.text(&format!("/subscribe t {}", Keys::server().subscribe(&["t"])));
    assert_eq!(client.next_text(), "/denied t too many bad tokens came from this address");
    logged(&server, "(server.max_auth_failures)");
    // Somebody else has nothing to do with it.
    let mut other = connect_from(2, server.address);
    let body = broadcast(&good);
    let head = format!(
        "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    other.write_all((head + &body).as_bytes()).unwrap();
    assert_eq!(parse_head(&read_head(&mut other).0).status, 200);
}

/// Publishes as `token` and says what the answer and the subscriber were.
fn heard(server: &Server, client: &mut Ws, token: &str) -> (u16, usize, Vec<Frame>) {
    let answer = post_json(server.address, "/broadcast", &broadcast(token));
    assert_eq!(answer.header("retry-after"), None);
    (answer.status, answer.body.len(), client.drain())
}

#[test]
fn publishers_of_notiflux_are_told_200_all_the_same_and_by_default_nobody_is_locked_out() {
    let message = || vec![Frame::Text("m".into())];
    let good = Keys::server().broadcast(&["t"]);
    let server = configured("max_auth_failures = 3", "").start();
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    assert_eq!(heard(&server, &mut client, &good), (200, 0, message()));
    for _ in 0..3 {
        assert_eq!(heard(&server, &mut client, "bad"), (200, 0, vec![]));
    }
    assert_eq!(heard(&server, &mut client, &good), (200, 0, vec![]));

    let server = configured("", "").start();
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    for _ in 0..40 {
        assert_eq!(post_json(server.address, "/broadcast", &broadcast("bad")).status, 200);
    }
    assert_eq!(heard(&server, &mut client, &good), (200, 0, message()));
}

#[test]
fn browsers_of_openitcockpit_with_bad_keys_are_told_429() {
    let server = on_sqlite_with_server("max_auth_failures = 3");
    assert_eq!(knock_with(server.address, KEY).status, 101);
    for _ in 0..3 {
        assert_eq!(knock_with(server.address, "wrong").status, 401);
    }
    for key in ["wrong", KEY] {
        let answer = knock_with(server.address, key);
        assert_eq!(answer.status, 429);
        assert!(answer.header("retry-after").is_some());
        assert!(answer.text().contains("(server.max_auth_failures)"), "{}", answer.text());
    }
    let offers = format!("Sec-WebSocket-Protocol: access_token, {KEY}\r\n");
    let (_other, answer) = knock_from(2, server.address, "/?userId=5&browserUuid=b", &offers);
    assert_eq!(answer.status, 101);
}
