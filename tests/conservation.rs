//! Whatever clients do, each message is for each of them delivered, dropped, or still waiting:
//! what `/metrics` says against what publishers are told and what clients got.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::post_json;
use crate::support::scrape::Books;
use crate::support::server::{Builder, Server};
use crate::support::token::Keys;
use crate::support::ws::{Frame, Ws};
use crate::support::{Raise, eventually};

/// More than sockets hold of some hundred of them.
const LONG: usize = 100_000;

/// The last message, after which a client reads no more.
const END: &str = "end";

fn server(sink: &str) -> Server {
    let config = format!(
        "profile = \"notiflux\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[protocol.notiflux]\nstrict = true\n[sink.ws]\n{sink}\n"
    );
    Builder::notiflux().file("config.toml", &config).start()
}

/// For how many a message was accepted and dropped.
fn publish(address: SocketAddr, topic: &str, message: &str) -> (u64, u64) {
    let token = Keys::server().broadcast(&[topic]);
    let body = json!({ "topic": topic, "message": message, "token": token }).to_string();
    let answer = post_json(address, "/broadcast", &body);
    let counts: Value = serde_json::from_slice(&answer.body).unwrap();
    (counts["accepted"].as_u64().unwrap(), counts["dropped"].as_u64().unwrap())
}

/// A client of a topic on which there is traffic.
fn join(address: SocketAddr, topic: &str) -> Ws {
    let mut ws = Ws::open(address);
    let token = Keys::server().subscribe(&[topic]);
    ws.text(&format!("/subscribe {topic} {token}"));
    ws.drain();
    ws
}

/// Reads until the last message or the end of the connection: how many messages came whole.
fn read_all(ws: &mut Ws) -> u64 {
    let frames = ws.until(|frame| *frame == Frame::Text(END.into()));
    frames.iter().filter(|frame| matches!(frame, Frame::Text(_))).count() as u64
}

/// Reads like the others, but not before it is too late.
fn late(ws: &mut Ws, go: &AtomicBool) -> u64 {
    while !go.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(5));
    }
    read_all(ws)
}

fn books(server: &Server) -> Books {
    server.scrape().books("ws")
}

#[test]
fn what_slow_clients_get_and_miss_is_counted_to_the_last_message() {
    for when_full in ["drop_newest", "drop_oldest"] {
        slow_clients_stay(when_full);
    }
}

fn slow_clients_stay(when_full: &str) {
    const MESSAGES: u64 = 150;
    let server = server(&format!(
        "when_full = \"{when_full}\"\nqueue_messages = 4\nwrite_timeout = \"60s\"\nclose_timeout = \"0s\""
    ));
    let address = server.address;
    let (mut good, mut slow): (Vec<_>, Vec<_>) =
        (0..3).map(|_| (join(address, "t"), join(address, "t"))).unzip();
    let go = AtomicBool::new(false);
    let (received, refused) = thread::scope(|scope| {
        // However this ends: a test that fails must end too.
        let _end = Raise(&go);
        let mut readers: Vec<_> = good.iter_mut().map(|ws| scope.spawn(|| read_all(ws))).collect();
        readers.extend(slow.iter_mut().map(|ws| scope.spawn(|| late(ws, &go))));
        let message = "m".repeat(LONG);
        let (mut accepted, mut refused) = (0, 0);
        for _ in 0..MESSAGES {
            let told = publish(address, "t", &message);
            (accepted, refused) = (accepted + told.0, refused + told.1);
        }
        assert_eq!(accepted + refused, 6 * MESSAGES);
        // Nobody publishes, and the slow ones do not read: what waits stands still, and the
        // sum is exact although something waits.
        eventually("the books balance while messages wait", || {
            let books = books(&server);
            books.balance() && books.waiting >= 3 && books.matched == 6 * MESSAGES
        });
        go.store(true, Ordering::SeqCst);
        eventually("nothing waits", || books(&server).waiting == 0);
        // Queues are empty, so this one finds room everywhere.
        assert_eq!(publish(address, "t", END), (6, 0));
        (readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>(), refused)
    });
    eventually("nothing waits", || books(&server).waiting == 0);
    let scrape = server.scrape();
    let (full, evicted) = (scrape.dropped("ws", "queue_full"), scrape.dropped("ws", "evicted"));
    assert_eq!(full, refused, "{when_full}: what publishers were told is what was counted");
    assert_eq!((full > 0, evicted > 0), (when_full == "drop_newest", when_full == "drop_oldest"));
    // What clients got is what was counted, and nobody lacks anything else.
    let expected = Books {
        matched: 6 * (MESSAGES + 1),
        delivered: received,
        dropped: full + evicted,
        waiting: 0,
        waiting_bytes: 0,
    };
    assert_eq!(scrape.books("ws"), expected, "{when_full}");
}

#[test]
fn clients_that_are_cut_off_killed_and_come_and_go_leave_no_message_uncounted() {
    const MESSAGES: usize = 60;
    for when_full in ["disconnect", "drop_newest", "drop_oldest"] {
        let server = server(&format!(
            "when_full = \"{when_full}\"\nqueue_messages = 8\nwrite_timeout = \"2s\"\nclose_timeout = \"100ms\""
        ));
        let address = server.address;
        let mut good: Vec<_> = (0..8).map(|_| join(address, "t")).collect();
        let mut few: Vec<_> = (0..2).map(|_| join(address, "few")).collect();
        let mut slow: Vec<_> = (0..5).map(|_| join(address, "t")).collect();
        let mut killed: Vec<_> = (0..5).map(|_| join(address, "t")).collect();
        let (go, enough) = (AtomicBool::new(false), AtomicBool::new(false));
        let told = AtomicU64::new(0);
        let received = thread::scope(|scope| {
            let _ends = [Raise(&go), Raise(&enough)];
            let readers = good.iter_mut().chain(&mut few);
            let mut readers: Vec<_> = readers.map(|ws| scope.spawn(|| read_all(ws))).collect();
            readers.extend(slow.iter_mut().map(|ws| scope.spawn(|| late(ws, &go))));
            scope.spawn(|| {
                // Some leave with what waits for them, some with a subscription alone.
                while !enough.load(Ordering::SeqCst) {
                    drop(join(address, "t"));
                }
            });
            let message = "m".repeat(LONG);
            thread::scope(|publishers| {
                for topic in ["t", "t", "few"] {
                    let (told, message) = (&told, &message);
                    publishers.spawn(move || {
                        for _ in 0..MESSAGES {
                            let (accepted, dropped) = publish(address, topic, message);
                            told.fetch_add(accepted + dropped, Ordering::SeqCst);
                        }
                    });
                }
                // In the middle of it: a reset, for they have not read what came.
                while let Some(ws) = killed.pop() {
                    let before = told.load(Ordering::SeqCst);
                    eventually("messages flow", || told.load(Ordering::SeqCst) > before + 100);
                    drop(ws);
                }
            });
            enough.store(true, Ordering::SeqCst);
            // Those that do not read are cut off, here or there for want of progress.
            eventually("nothing waits", || {
                let scrape = server.scrape();
                let cut = scrape.sum("pushmux_connections_ended_total", &[("reason", "slow")])
                    + scrape.sum("pushmux_connections_ended_total", &[("reason", "stuck")]);
                cut >= 5 && scrape.books("ws").waiting == 0
            });
            for topic in ["t", "few"] {
                let (accepted, dropped) = publish(address, topic, END);
                told.fetch_add(accepted + dropped, Ordering::SeqCst);
            }
            go.store(true, Ordering::SeqCst);
            readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
        });
        eventually("nothing waits", || books(&server).waiting == 0);
        let scrape = server.scrape();
        let books = scrape.books("ws");
        assert!(books.balance(), "{when_full}: {books:?}");
        assert_eq!(books.matched, told.load(Ordering::SeqCst), "{when_full}");
        assert!(received <= books.delivered, "{when_full}: {received}, {books:?}");
        let full = if when_full == "drop_oldest" { "evicted" } else { "queue_full" };
        for reason in [full, "disconnected"] {
            assert!(scrape.dropped("ws", reason) > 0, "{when_full}: none for {reason}");
        }
        assert_eq!(scrape.sum("pushmux_sink_dropped_total", &[("reason", "failed")]), 0);
        // Who is on the line now is who began and did not end.
        let connections = |name: &str| scrape.sum(name, &[("protocol", "notiflux")]);
        assert_eq!(
            connections("pushmux_connections_opened_total"),
            connections("pushmux_connections_ended_total") + connections("pushmux_connections"),
        );
    }
}
