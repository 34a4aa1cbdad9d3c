//! A stop with clients connected: who ends when, and what everybody still gets.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::{connect, parse_head, post_json, read_head};
use crate::support::oitc;
use crate::support::server::{Builder, Server};
use crate::support::token::Keys;
use crate::support::ws::{Frame, Ws};

fn configured(keys: &str) -> Server {
    Builder::notiflux().file("config.toml", &format!("profile = \"notiflux\"\n{keys}\n")).start()
}

/// When the client was sent away, with 1001.
fn sent_away(client: &mut Ws) -> Instant {
    assert_eq!(client.next(), Frame::Close(Some((1001, "going away".into()))));
    let when = Instant::now();
    client.frame(0x88, b"\x03\xE9");
    assert_eq!(client.next(), Frame::Eof);
    when
}

#[test]
fn clients_are_sent_away_one_after_the_other_when_the_port_is_closed_already() {
    let mut server = configured("[server]\ndrain_spread = \"2s\"");
    let mut clients: Vec<_> = (0..20).map(|_| Ws::open(server.address)).collect();
    server.signal("TERM");
    eventually("the port is closed", || TcpStream::connect(server.address).is_err());
    let mut times: Vec<_> = thread::scope(|scope| {
        let waiting: Vec<_> =
            clients.iter_mut().map(|client| scope.spawn(|| sent_away(client))).collect();
        waiting.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    times.sort_unstable();
    // No timer fires early, so the last is 1.9 s after the first unless that one was read late.
    let all = times[19] - times[0];
    let half = times[10] - times[0];
    assert!(all > Duration::from_secs(1) && half > Duration::from_millis(300), "{times:?}");
    assert_eq!(server.wait().code(), Some(0));
    eventually("the last line is there", || server.log().contains("Stopped"));
    assert!(server.log().contains("Stopped in_time=true"), "{}", server.log());
}

/// Clients whose connection waits in the kernel know nothing of the stop: to them it is made.
#[test]
fn whoever_the_kernel_has_connected_before_a_stop_is_answered() {
    let mut server = configured("[server]\nmax_connections = 2000");
    server.signal("STOP");
    let mut waiting: Vec<_> = (0..1000)
        .map(|_| {
            let mut stream = connect(server.address);
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    server.signal("TERM");
    server.signal("CONT");
    for (index, stream) in waiting.iter_mut().enumerate() {
        let answer = parse_head(&read_head(stream).0);
        assert_eq!(answer.status, 200, "client {index}");
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn without_a_spread_everybody_ends_at_once() {
    let mut server =
        configured("[server]\ndrain_spread = \"0s\"\n[sink.ws]\nclose_timeout = \"9s\"");
    let mut clients: Vec<_> = (0..20).map(|_| Ws::open(server.address)).collect();
    server.signal("TERM");
    // Nobody answers, and all of them have been told.
    for client in &mut clients {
        assert!(matches!(client.next(), Frame::Close(Some((1001, _)))));
    }
    drop(clients);
    assert_eq!(server.wait().code(), Some(0));
}

/// The browsers of openITCOCKPIT can publish by themselves, so also during a stop.
#[test]
fn what_is_published_before_a_connections_turn_reaches_it_and_it_ends_without_a_close_frame() {
    const BROWSERS: usize = 6;
    let builder = Builder::new().env("PUSHMUX_SERVER__DRAIN_SPREAD", "2s");
    let path = builder.path().join("oitc.sqlite");
    oitc::sqlite_file(&path);
    let url = format!("sqlite:{}", path.display());
    let mut server = oitc::serve(builder, &url, "export_interval = \"1h\"");
    let mut browsers: Vec<_> =
        (0..BROWSERS).map(|_| oitc::connect(server.address, 5, &oitc::any_browser())).collect();
    server.signal("TERM");
    eventually("the port is closed", || TcpStream::connect(server.address).is_err());
    // All of them publish for as long as they can, numbered, and read what there is.
    let mut got = vec![Vec::new(); BROWSERS];
    let mut open = [true; BROWSERS];
    let mut sent = 0_usize;
    while open.iter().any(|open| *open) {
        for index in 0..BROWSERS {
            if !open[index] {
                continue;
            }
            browsers[index].text(
                &json!({ "type": "TestPushNotification", "payload": { "title": sent.to_string() } })
                    .to_string(),
            );
            sent += 1;
            while let Some(frame) = browsers[index].next_within(Duration::from_millis(10)) {
                match frame {
                    Frame::Text(text) => {
                        let message: Value = serde_json::from_str(&text).unwrap();
                        let title = message["payload"]["title"].as_str().unwrap();
                        got[index].push(title.parse::<usize>().unwrap());
                    }
                    Frame::Eof => {
                        open[index] = false;
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!(server.wait().code(), Some(0));
    // Who left last got everything that anybody got, and the others all of it up to their turn.
    let all = got.iter().max_by_key(|got| got.len()).unwrap().clone();
    assert!(got.iter().all(|got| all.starts_with(got)), "{got:?}");
    let counts: std::collections::BTreeSet<_> = got.iter().map(Vec::len).collect();
    assert!(counts.len() > 2, "they did not end one after the other: {counts:?}");
}

#[test]
fn a_client_that_reads_slowly_gets_all_that_was_accepted_for_it() {
    let config = "[protocol.notiflux]\nstrict = true\n[sink.ws]\nwhen_full = \"drop_newest\"\nclose_timeout = \"1s\"\n[server]\nshutdown_timeout = \"18s\"";
    let mut server = configured(config);
    let mut slow = Ws::open(server.address);
    slow.subscribe("t");
    let message = "m".repeat(100_000);
    let token = Keys::server().broadcast(&["t"]);
    let body = json!({ "topic": "t", "message": message, "token": token }).to_string();
    let (mut accepted, mut dropped) = (0, 0);
    while dropped == 0 {
        let answer = post_json(server.address, "/broadcast", &body);
        let counts: Value = serde_json::from_slice(&answer.body).unwrap();
        accepted += counts["accepted"].as_u64().unwrap();
        dropped += counts["dropped"].as_u64().unwrap();
    }
    server.signal("TERM");
    // Slower than `close_timeout` would allow for all of it, and never pausing for so long.
    let (mut read, mut last) = (0_u64, Vec::new());
    let mut chunk = [0; 64 * 1024];
    loop {
        match slow.stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => {
                read += n as u64;
                last.extend_from_slice(&chunk[..n]);
                last.drain(..last.len().saturating_sub(100));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error} after {read} bytes"),
        }
        // Not to wait for anything: this is the fault itself.
        thread::sleep(Duration::from_millis(25));
        if last.ends_with(b"going away") {
            let _ = slow.stream.write_all(&crate::support::ws::encode(0x88, b"\x03\xE9"));
        }
    }
    // Each message has 10 bytes of a header, and the Close frame has 14 bytes.
    assert_eq!(read, accepted * 100_010 + 14, "{accepted} messages");
    assert_eq!(server.wait().code(), Some(0));
}

/// A client cannot know that the server is about to stop.
#[test]
fn who_has_just_connected_still_gets_an_answer() {
    let mut server = configured("");
    // Taken in by the server, as the answer to a later one shows, and silent so far.
    let mut fresh = connect(server.address);
    let mut used = connect(server.address);
    let head = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    used.write_all(head).unwrap();
    assert_eq!(parse_head(&read_head(&mut used).0).status, 200);
    server.signal("TERM");
    eventually("the port is closed", || TcpStream::connect(server.address).is_err());
    for stream in [&mut fresh, &mut used] {
        stream.write_all(head).unwrap();
        assert_eq!(parse_head(&read_head(stream).0).status, 200);
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn what_a_stop_has_to_fit_in_is_checked() {
    let check = |config: &str| {
        let config = format!("profile = \"notiflux\"\n{config}");
        let builder = Builder::notiflux().file("config.toml", &config).args(["config", "check"]);
        let output = builder.output();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, faults) = check("[sink.ws]\nclose_timeout = \"10s\"");
    assert_eq!(code, Some(2));
    assert_eq!(
        faults,
        "./config.toml:3: sink.ws.close_timeout: found 10s, expected less: after server.drain_spread (500ms) it has to fit into server.shutdown_timeout (10s)\n"
    );
    let (code, faults) = check("[server]\ndrain_spread = \"10s\"");
    assert_eq!(code, Some(2));
    assert_eq!(
        faults,
        "./config.toml:3: server.drain_spread: found 10s, expected less than shutdown_timeout (10s)\n"
    );
    let good = "[server]\ndrain_spread = \"30s\"\nshutdown_timeout = \"1m\"\n[sink.ws]\nclose_timeout = \"10s\"";
    assert_eq!(check(good), (Some(0), String::new()));
}
