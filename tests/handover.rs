//! Sockets that somebody else opened, as systemd does, and restarts that nobody notices.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::{post_json, request};
use crate::support::server::{Builder, Server};
use crate::support::token::Keys;
use crate::support::ws::{Frame, Ws};
use crate::support::{Raise, eventually, quiet_port};

fn socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn on(socket: &TcpListener, config: &str) -> Builder {
    let port = socket.local_addr().unwrap().port();
    let config = format!("profile = \"notiflux\"\n{config}\n[server]\nport = {port}\n");
    Builder::notiflux().file("config.toml", &config).inherit(socket)
}

#[test]
fn a_socket_that_was_handed_over_is_served_and_outlives_the_server() {
    let (socket, address) = socket();
    let mut server = on(&socket, "").start();
    assert_eq!(server.address, address);
    assert!(server.log().contains("inherited=true"), "{}", server.log());
    assert_eq!(request(address, "GET", "/health", &[], b"").status, 200);
    assert!(server.stop().success());
    // Nobody is there, and nobody is refused.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| request(address, "GET", "/health", &[], b"").status);
        let mut next = on(&socket, "").start();
        assert_eq!(waiting.join().unwrap(), 200);
        assert!(next.stop().success());
    });
}

#[test]
fn a_socket_that_nothing_is_configured_for_is_a_fault_that_names_both() {
    let (socket, address) = socket();
    let port = quiet_port();
    let config = format!("profile = \"notiflux\"\n[server]\nport = {port}\n");
    let output = Builder::notiflux().file("config.toml", &config).inherit(&socket).output();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = format!(
        "the socket on {address} was handed over (LISTEN_FDS), and nothing is to be served there: expected 127.0.0.1:{port} (server.host, server.port)\n"
    );
    assert!(said.ends_with(&expected), "{said}");
}

#[test]
fn something_else_than_a_listening_socket_is_a_fault() {
    let (socket, address) = socket();
    let connected = std::net::TcpStream::connect(address).unwrap();
    let output = on(&socket, "").inherit_any(connected.into()).output();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("descriptor 3, which was handed over (LISTEN_FDS), is no TCP"), "{said}");
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let server = Builder::notiflux().env("LISTEN_FDS", "1").env("LISTEN_PID", "1").start();
    assert!(server.log().contains("inherited=false"), "{}", server.log());
}

/// What became of everything, over all restarts.
#[derive(Default)]
struct Totals {
    /// Deliveries that publishers were told of.
    accepted: AtomicU64,
    published: AtomicU64,
    received: AtomicU64,
    connections: AtomicU64,
}

/// Publishes numbered messages, each over a connection of its own, and believes the answer.
fn publish(address: SocketAddr, publisher: usize, enough: &AtomicBool, totals: &Totals) {
    let token = Keys::server().broadcast(&["t"]);
    for number in 0.. {
        if enough.load(Ordering::SeqCst) {
            return;
        }
        let message = format!("{publisher} {number}");
        let body = json!({ "topic": "t", "message": message, "token": token }).to_string();
        // Panics when it is refused, reset or not answered.
        let answer = post_json(address, "/broadcast", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(told["dropped"], 0, "of {message}");
        totals.accepted.fetch_add(told["accepted"].as_u64().unwrap(), Ordering::SeqCst);
        totals.published.fetch_add(1, Ordering::SeqCst);
    }
}

/// Subscribes, and does so again whenever the server sends it away, until `enough`.
fn subscribe(address: SocketAddr, enough: &AtomicBool, totals: &Totals) {
    while !enough.load(Ordering::SeqCst) {
        let mut client = Ws::open(address);
        client.subscribe_beside_messages("t");
        // The next number of each publisher: from the first on there is no gap.
        let mut next = BTreeMap::<String, u64>::new();
        loop {
            match client.next_within(Duration::from_millis(50)) {
                Some(Frame::Text(text)) => {
                    let (publisher, number) = text.split_once(' ').unwrap();
                    let number: u64 = number.parse().unwrap();
                    let expected = next.insert(publisher.to_owned(), number + 1);
                    assert!(
                        expected.is_none_or(|expected| expected == number),
                        "{text}, expected {expected:?}"
                    );
                    totals.received.fetch_add(1, Ordering::SeqCst);
                }
                Some(Frame::Close(status)) => {
                    assert!(matches!(status, Some((1001, _))), "{status:?}");
                    client.frame(0x88, b"\x03\xE9");
                    assert_eq!(client.next(), Frame::Eof);
                    break;
                }
                Some(Frame::Pong(_)) => _ = totals.connections.fetch_add(1, Ordering::SeqCst),
                None => {}
                Some(other) => panic!("{other:?}"),
            }
        }
    }
}

/// `RESTARTS=20 cargo test --test main handover` for more.
fn restarts() -> usize {
    std::env::var("RESTARTS").map_or(3, |text| text.parse().unwrap())
}

#[test]
fn restarts_under_load_refuse_nobody_and_lose_nothing() {
    const SUBSCRIBERS: u64 = 6;
    let (socket, address) = socket();
    let start = || -> Server {
        on(&socket, "[protocol.notiflux]\nstrict = true\n")
            .env("PUSHMUX_SERVER__DRAIN_SPREAD", "200ms")
            .start()
    };
    let (enough, totals) = (AtomicBool::new(false), Totals::default());
    let mut server = start();
    thread::scope(|scope| {
        let _end = Raise(&enough);
        let (enough, totals) = (&enough, &totals);
        let publishers: Vec<_> = (0..2)
            .map(|publisher| scope.spawn(move || publish(address, publisher, enough, totals)))
            .collect();
        let subscribers: Vec<_> = (0..SUBSCRIBERS)
            .map(|_| scope.spawn(move || subscribe(address, enough, totals)))
            .collect();
        let alive = || {
            publishers.iter().all(|it| !it.is_finished())
                && subscribers.iter().all(|it| !it.is_finished())
        };
        for round in 0..=restarts() as u64 {
            if round > 0 {
                assert_eq!(server.stop().code(), Some(0), "{}", server.log());
                server = start();
            }
            let before = totals.published.load(Ordering::SeqCst);
            eventually("everybody is back and messages flow", || {
                assert!(alive(), "somebody was refused or lost something");
                totals.connections.load(Ordering::SeqCst) >= SUBSCRIBERS * (round + 1)
                    && totals.published.load(Ordering::SeqCst) >= before + 20
            });
        }
        enough.store(true, Ordering::SeqCst);
        publishers.into_iter().for_each(|it| it.join().unwrap());
        // The last ones leave with the last server.
        assert_eq!(server.stop().code(), Some(0), "{}", server.log());
        subscribers.into_iter().for_each(|it| it.join().unwrap());
    });
    let [accepted, published, received, connections] =
        [&totals.accepted, &totals.published, &totals.received, &totals.connections]
            .map(|count| count.load(Ordering::SeqCst));
    let totals = format!(
        "{published} published, {accepted} accepted, {received} received, {connections} connections\n"
    );
    let _ = std::io::stderr().write_all(totals.as_bytes());
    assert_eq!(accepted, received);
    assert!(received > 0 && connections >= SUBSCRIBERS * restarts() as u64);
}
