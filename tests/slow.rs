//! Clients that read slowly or not at all, lines that go dead, and a server that was away.

use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::post_json;
use crate::support::server::Builder;
use crate::support::token::Keys;
use crate::support::ws::{Frame, Ws};
use crate::support::{Raise, eventually, oitc};

fn configured(keys: &str) -> Builder {
    let file = format!("profile = \"notiflux\"\n[protocol.notiflux]\nstrict = true\n{keys}\n");
    Builder::notiflux().file("config.toml", &file)
}

/// How many accepted it, and for how many it was dropped.
fn publish(address: SocketAddr, message: &str) -> (u64, u64) {
    let token = Keys::server().broadcast(&["t"]);
    let body = json!({ "topic": "t", "message": message, "token": token }).to_string();
    let counts: Value =
        serde_json::from_slice(&post_json(address, "/broadcast", &body).body).unwrap();
    (counts["accepted"].as_u64().unwrap(), counts["dropped"].as_u64().unwrap())
}

/// The line that a server ends with.
const LAST: &str = "Closing WebSocket connections";

/// Numbered messages of 100 kB.
fn numbered(number: usize) -> String {
    format!("{number:06}{}", "m".repeat(100_000))
}

#[test]
fn with_drop_oldest_a_slow_client_gets_the_latest_whole_and_in_order() {
    const MESSAGES: usize = 200;
    let mut server = configured(
        "[sink.ws]\nwhen_full = \"drop_oldest\"\nqueue_messages = 5\nqueue_bytes = 1000000",
    )
    .start();
    let mut slow = Ws::open(server.address);
    slow.subscribe("t");
    for number in 0..MESSAGES {
        assert_eq!(publish(server.address, &numbered(number)), (1, 0), "the newest is taken");
    }
    let last = Frame::Text(numbered(MESSAGES - 1));
    let seen: Vec<usize> = slow
        .until(|frame| *frame == last)
        .iter()
        .map(|frame| match frame {
            Frame::Text(text) if text.len() == 100_006 => text[..6].parse().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert!(seen.len() < MESSAGES, "it was meant to miss something");
    assert_eq!(seen[seen.len() - 4..], [MESSAGES - 4, MESSAGES - 3, MESSAGES - 2, MESSAGES - 1]);
    assert_eq!(publish(server.address, "still here"), (1, 0));
    assert_eq!(slow.next_text(), "still here");
    assert!(server.stop().success());
    assert_eq!(server.reported(LAST, "dropped_evicted"), MESSAGES - seen.len());
    assert_eq!(server.reported(LAST, "dropped_queue_full"), 0);
}

/// What the kernel says of the server's side of a connection; none when it has let go of it.
/// Both ports count: other connections of this machine may have one of them.
fn of_kernel(server: SocketAddr, client: &TcpStream) -> Option<String> {
    let port = |address: SocketAddr| format!(":{:04X}", address.port());
    // After a reset the client itself no longer knows its peer.
    let (local, remote) = (port(server), port(client.local_addr().unwrap()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_server = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&local) && fields[2].ends_with(&remote)
    };
    table.lines().skip(1).find(of_server).map(str::to_owned)
}

/// What the kernel holds on the server's side of `client`'s connection and was not sent, or
/// not acknowledged (proc(5), `tx_queue`).
fn in_kernel(client: &TcpStream) -> usize {
    let line = of_kernel(client.peer_addr().unwrap(), client).expect("the connection");
    let queues = line.split_whitespace().nth(4).unwrap();
    usize::from_str_radix(queues.split(':').next().unwrap(), 16).unwrap()
}

#[test]
fn what_waits_in_the_kernel_is_bounded_as_well() {
    let full = |limit: &str| {
        let keys = format!("[sink.ws]\nwhen_full = \"drop_newest\"\nqueue_messages = 1\n{limit}");
        let server = configured(&keys).start();
        let mut slow = Ws::open(server.address);
        slow.subscribe("t");
        let message = "m".repeat(20_000);
        while publish(server.address, &message).1 == 0 {}
        in_kernel(&slow.stream)
    };
    // The option bounds what is not sent; the client's own system took what was.
    let bounded = full("send_buffer_bytes = 65536");
    assert!(bounded < 2 * 65_536 + 65_536, "{bounded} bytes");
    let free = full("send_buffer_bytes = 0");
    assert!(free > 1_000_000, "{free} bytes: nothing was bounded here, so the test shows nothing");
}

/// Or else whoever comes back again and again has it keep as much each time.
#[test]
fn who_is_disconnected_leaves_nothing_in_the_kernel() {
    let server = configured("[sink.ws]\nqueue_messages = 4").start();
    let mut slow = Ws::open(server.address);
    slow.subscribe("t");
    while publish(server.address, &numbered(0)).1 == 0 {}
    eventually("the connection is gone", || of_kernel(server.address, &slow.stream).is_none());
}

#[test]
fn who_reads_a_little_now_and_then_is_cut_at_the_write_deadline() {
    let mut server =
        configured("[sink.ws]\nwhen_full = \"drop_newest\"\nwrite_timeout = \"1s\"").start();
    let mut slow = Ws::open(server.address);
    slow.subscribe("t");
    let start = Instant::now();
    while publish(server.address, &numbered(0)).1 == 0 {}
    // Every read makes room for a little more, and so is progress.
    let mut stream = slow.stream.try_clone().unwrap();
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = Raise(&enough);
        scope.spawn(|| {
            while !enough.load(Ordering::SeqCst) && stream.read(&mut [0; 1000]).is_ok_and(|n| n > 0)
            {
                thread::sleep(Duration::from_millis(20));
            }
        });
        eventually("nobody is there any more", || publish(server.address, "?") == (0, 0));
    });
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    // Reset, so that the kernel keeps nothing for it.
    eventually("the connection is gone", || of_kernel(server.address, &slow.stream).is_none());
    assert!(server.stop().success());
    assert_eq!(server.reported(LAST, "connections"), 0);
}

#[test]
fn who_reads_nothing_is_cut_at_the_write_deadline_also_with_drop_oldest() {
    let keys =
        "[sink.ws]\nwhen_full = \"drop_oldest\"\nwrite_timeout = \"500ms\"\nqueue_messages = 1";
    let server = configured(keys).start();
    let mut slow = Ws::open(server.address);
    slow.subscribe("t");
    // Newer messages take the place of the one that waits, all the time.
    eventually("nobody is there any more", || publish(server.address, &numbered(0)) == (0, 0));
}

/// A line that can go dead: from then on nothing passes, and neither end hears of it.
struct Line {
    address: SocketAddr,
    dead: Arc<AtomicBool>,
}

impl Line {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dead = Arc::new(AtomicBool::new(false));
        let flag = dead.clone();
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(server).unwrap();
                for (from, to) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far.try_clone().unwrap(), near.try_clone().unwrap()),
                ] {
                    let flag = flag.clone();
                    thread::spawn(move || pass(from, to, &flag));
                }
            }
        });
        Self { address, dead }
    }

    fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }
}

/// Reads on when the line is dead: what is written to it is acknowledged, and lost.
fn pass(mut from: TcpStream, mut to: TcpStream, dead: &AtomicBool) {
    use std::io::Write as _;
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        if !dead.load(Ordering::SeqCst) && to.write_all(&chunk[..length]).is_err() {
            return;
        }
    }
    if !dead.load(Ordering::SeqCst) {
        let _ = to.shutdown(Shutdown::Write);
    }
}

#[test]
fn behind_a_dead_line_nobody_is_left_within_the_protocol_s_deadline() {
    const CLIENTS: usize = 20;
    let server = configured("ping_interval = \"1s\"\nidle_timeout = \"3s\"").start();
    let line = Line::to(server.address);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Ws::open(line.address)).collect();
    clients.iter_mut().for_each(|client| client.subscribe("t"));
    let mut near = Ws::open(server.address);
    near.subscribe("t");
    assert_eq!(publish(server.address, "x"), (CLIENTS as u64 + 1, 0));
    let heard = Instant::now();
    line.die();
    // They close as well, and the server does not hear of it.
    drop(clients);
    // Reading answers pings, so this one stays.
    assert_eq!(near.next_text(), "x");
    let mut left = CLIENTS as u64 + 1;
    while left > 1 {
        assert!(heard.elapsed() < crate::support::DEADLINE, "{left} are left");
        left = publish(server.address, "y").0;
        assert_eq!(near.next_text(), "y");
    }
    assert!(
        heard.elapsed() > Duration::from_millis(2500),
        "nobody may go earlier: {:?}",
        heard.elapsed()
    );
    near.settle();
}

#[test]
fn an_oitc_browser_behind_a_dead_line_goes_and_leaves_no_user_behind() {
    let server = oitc::on_sqlite_with(
        "export_interval = \"1h\"\nping_interval = \"1s\"\nidle_timeout = \"2s\"",
    );
    let line = Line::to(server.address);
    let start = Instant::now();
    let browser = oitc::registered(line.address, 5, "b");
    assert_eq!(oitc::post(server.address, &json!({})), oitc::taken());
    line.die();
    drop(browser);
    // 202: nobody of this user is on the line.
    eventually("the user is gone", || oitc::post(server.address, &json!({})).0 == 202);
    assert!(start.elapsed() > Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn a_server_that_was_away_for_longer_than_every_deadline_throws_nobody_out() {
    let keys = "ping_interval = \"1s\"\nidle_timeout = \"2s\"\n[sink.ws]\nwhen_full = \"drop_newest\"\nwrite_timeout = \"2s\"\nqueue_messages = 2";
    let server = configured(keys).start();
    let mut idle: Vec<_> = (0..20).map(|_| Ws::open(server.address)).collect();
    let mut behind = Ws::open(server.address);
    behind.subscribe("t");
    // As much as fits: something waits for this client while the server is away.
    let mut accepted = 0;
    while publish(server.address, &numbered(0)) == (1, 0) {
        accepted += 1;
    }
    server.signal("STOP");
    // Not to wait for anything: this is the fault itself.
    thread::sleep(Duration::from_secs(4));
    server.signal("CONT");
    for client in &mut idle {
        client.settle();
    }
    for _ in 0..accepted {
        assert_eq!(behind.next_text().len(), 100_006);
    }
    behind.settle();
}

#[test]
fn a_client_that_does_not_read_is_bounded_and_disconnected_and_hurts_nobody() {
    let mut server = Builder::notiflux().start();
    let (mut slow, mut good) = (Ws::open(server.address), Ws::open(server.address));
    slow.subscribe("t");
    good.subscribe("t");
    let before = server.resident_kib();
    let (message, token) = ("m".repeat(100_000), Keys::server().broadcast(&["t"]));
    let body = json!({ "topic": "t", "message": message, "token": token }).to_string();
    let counted = thread::scope(|scope| {
        let count = scope.spawn(|| (0..200).filter(|_| good.next_text().len() == 100_000).count());
        for _ in 0..200 {
            assert_eq!(post_json(server.address, "/broadcast", &body).status, 200);
        }
        count.join().unwrap()
    });
    assert_eq!(counted, 200);
    let growth = server.resident_kib().saturating_sub(before);
    assert!(growth < 10 * 1024, "{growth} KiB: the queue of one client may hold 1 MiB");
    // The slow one may read what was queued, and then learns why it ends, or finds the
    // connection gone: it was given a second.
    let rest = slow.until(|frame| matches!(frame, Frame::Close(_)));
    assert!(rest.len() < 150, "{} frames", rest.len());
    assert!(server.stop().success());
    assert!(server.reported(LAST, "dropped_queue_full") >= 1);
}

#[test]
fn with_drop_newest_a_slow_client_stays_and_the_drops_are_counted() {
    let config = "[sink.ws]\nwhen_full = \"drop_newest\"\nqueue_messages = 2";
    let mut server = configured(config).start();
    let mut slow = Ws::open(server.address);
    slow.subscribe("t");
    let message = "m".repeat(100_000);
    let told: Vec<_> = (0..200).map(|_| publish(server.address, &message)).collect();
    let accepted: u64 = told.iter().map(|(accepted, _)| accepted).sum();
    let dropped: u64 = told.iter().map(|(_, dropped)| dropped).sum();
    assert_eq!(accepted + dropped, 200);
    assert!(dropped > 0);
    // Exactly what was accepted arrives, and the connection goes on.
    for _ in 0..accepted {
        assert_eq!(slow.next_text().len(), 100_000);
    }
    assert_eq!(publish(server.address, "still here"), (1, 0));
    assert_eq!(slow.next_text(), "still here");
    assert!(server.stop().success());
    assert_eq!(server.reported(LAST, "dropped_queue_full") as u64, dropped);
}
