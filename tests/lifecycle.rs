//! Start, stop, and what stays behind: nothing.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::http::{connect, parse_head, post_json, read_head};
use crate::support::server::{Builder, Server, collect, program};
use crate::support::token::Keys;
use crate::support::ws::{Frame, Ws};
use crate::support::{DEADLINE, Raise, eventually, quiet_port};

fn configured(keys: &str) -> Builder {
    Builder::notiflux().file("config.toml", &format!("profile = \"notiflux\"\n{keys}\n"))
}

fn body(topic: &str, message: &str) -> String {
    let token = Keys::server().broadcast(&[topic]);
    json!({ "topic": topic, "message": message, "token": token }).to_string()
}

/// The end of the line at which systemd listens to its services.
struct Systemd(UnixDatagram);

impl Systemd {
    /// A server that knows where to say how it is.
    fn over(builder: Builder) -> (Self, Builder) {
        let path = builder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        (Self(socket), builder.env("NOTIFY_SOCKET", path.to_str().unwrap()))
    }

    fn heard(&self) -> String {
        let mut text = [0; 64];
        let n = self.0.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..n]).into_owned()
    }
}

/// What units of `Type=notify` wait for.
#[test]
fn systemd_hears_when_the_server_is_ready_and_when_it_stops() {
    let (systemd, builder) = Systemd::over(Builder::notiflux());
    let mut server = builder.start();
    assert_eq!(systemd.heard(), "READY=1\n");
    assert!(server.stop().success());
    assert_eq!(systemd.heard(), "STOPPING=1\n");
}

/// What `systemctl reload` waits for.
#[test]
fn systemd_hears_when_a_reload_begins_and_ends() {
    let (systemd, builder) = Systemd::over(Builder::notiflux());
    let server = builder.start();
    assert_eq!(systemd.heard(), "READY=1\n");
    server.signal("HUP");
    let (began, clock) = (systemd.heard(), rustix::time::ClockId::Monotonic);
    let since = began.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim();
    let now = rustix::time::clock_gettime(clock);
    let now = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    let age = now - since.parse::<i64>().unwrap();
    assert!((0..10_000_000).contains(&age), "{age}");
    assert_eq!(systemd.heard(), "READY=1\n");
}

/// SIGINT among the signals that Linux says a process catches: the one that is prepared for last.
const INTERRUPT: u64 = 1 << 1;

/// Would wait for its pipe for ever if a test fails.
struct KilledAtLast(Child);

impl Drop for KilledAtLast {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whoever stops a service that still waits for something has no failed service then.
#[test]
fn a_stop_in_the_middle_of_a_start_is_a_clean_one() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody ever reads it, so that it never opens.
    let made = Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap();
    assert!(made.success());
    let config = "profile = \"notiflux\"\n[auth.jwt]\ngenerate = true\n[server]\nport = 0\n[sink.log]\npath = \"pipe\"\n";
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    let child = program().current_dir(folder.path()).stderr(Stdio::piped()).spawn();
    let mut child = KilledAtLast(child.unwrap());
    let log = collect(child.0.stderr.take().unwrap());
    let pid = child.0.id().to_string();
    eventually("it listens to signals", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & INTERRUPT != 0
    });
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    eventually("it has ended", || child.0.try_wait().unwrap().is_some());
    eventually("its last words are read", || Arc::strong_count(&log) == 1);
    assert_eq!(child.0.wait().unwrap().code(), Some(0), "{}", log.lock().unwrap());
    assert!(log.lock().unwrap().contains("Stopped before everything was ready"));
}

/// What units with `WatchdogSec=` want to hear, again and again.
#[test]
fn systemd_hears_that_the_workers_are_alive_at_half_of_the_time_it_gives_them() {
    let (systemd, builder) = Systemd::over(Builder::notiflux());
    let server = builder.env("WATCHDOG_USEC", "400000").start();
    assert_eq!(systemd.heard(), "READY=1\n");
    let start = Instant::now();
    for _ in 0..4 {
        assert_eq!(systemd.heard(), "WATCHDOG=1\n");
    }
    // Three pauses of 200 ms; less would be a waste, and twice as much would be too late.
    assert!(start.elapsed() >= Duration::from_millis(550), "{:?}", start.elapsed());
    // A process that hangs says nothing. Four times the pause, so that this can fail.
    server.signal("STOP");
    systemd.0.set_nonblocking(true).unwrap();
    while systemd.0.recv(&mut [0; 64]).is_ok() {}
    thread::sleep(Duration::from_millis(800));
    assert!(systemd.0.recv(&mut [0; 64]).is_err());
    server.signal("CONT");
    systemd.0.set_nonblocking(false).unwrap();
    assert_eq!(systemd.heard(), "WATCHDOG=1\n");
}

/// There is no lock file and nothing else that a start could stumble over.
#[test]
fn a_server_that_was_killed_under_load_can_be_started_again_at_once() {
    let port = quiet_port();
    let start = || configured(&format!("[server]\nport = {port}")).start();
    for _ in 0..5 {
        let mut server = start();
        let mut clients: Vec<_> = (0..50).map(|_| Ws::open(server.address)).collect();
        clients.iter_mut().for_each(|client| client.subscribe("t"));
        // In the middle of a request, too.
        let mut stream = connect(server.address);
        stream
            .write_all(b"POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            .unwrap();
        assert_eq!(post_json(server.address, "/broadcast", &body("t", "m")).status, 200);
        server.signal("KILL");
        server.wait();
        // The clients have not let go of their ends.
        let next = start();
        assert_eq!(post_json(next.address, "/broadcast", &body("t", "m")).status, 200);
        drop(clients);
    }
}

#[test]
fn sigterm_with_a_thousand_idle_clients_ends_in_time_and_tells_them() {
    // Beyond its deadline the server cuts off what is left, and says so.
    let mut server = configured("").start();
    let mut clients: Vec<_> = (0..1000).map(|_| Ws::open(server.address)).collect();
    // Who was only just answered is told as well, but perhaps not yet counted.
    clients.iter_mut().for_each(Ws::settle);
    // None of them answers the Close frame, so this is the slow way to stop.
    assert_eq!(server.stop().code(), Some(0));
    eventually("the last line is there", || server.log().contains("Stopped"));
    assert!(server.log().contains("Stopped in_time=true"), "{}", server.log());
    for client in &mut clients {
        assert_eq!(client.next(), Frame::Close(Some((1001, "going away".into()))));
        assert_eq!(client.next(), Frame::Eof);
    }
    assert_eq!(server.reported("Closing WebSocket connections", "connections"), 1000);
}

#[test]
fn clients_that_answer_the_close_are_not_waited_for() {
    let mut server =
        configured("[sink.ws]\nclose_timeout = \"15s\"\n[server]\nshutdown_timeout = \"20s\"")
            .start();
    let mut client = Ws::open(server.address);
    server.signal("TERM");
    assert!(matches!(client.next(), Frame::Close(Some((1001, _)))));
    client.frame(0x88, b"\x03\xE9");
    assert_eq!(client.next(), Frame::Eof);
    drop(client);
    let start = Instant::now();
    assert!(server.wait().success());
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_request_in_flight_is_finished_and_delivered_before_clients_are_sent_away() {
    let mut server = Builder::notiflux().start();
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    let body = body("t", "last words");
    let mut stream = connect(server.address);
    let head = format!(
        "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The server says so when it has begun with the body.
    assert_eq!(parse_head(&read_head(&mut stream).0).status, 100);
    stream.write_all(&body.as_bytes()[..10]).unwrap();
    server.signal("TERM");
    eventually("the listener is closed", || std::net::TcpStream::connect(server.address).is_err());
    stream.write_all(&body.as_bytes()[10..]).unwrap();
    assert_eq!(parse_head(&read_head(&mut stream).0).status, 200);
    assert_eq!(client.next_text(), "last words");
    assert!(matches!(client.next(), Frame::Close(Some((1001, _)))));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn half_a_request_does_not_hold_up_a_stop() {
    // A stop that waited for these heads would run into its deadline, and say so.
    let config = "[server]\nheader_timeout = \"1h\"\nshutdown_timeout = \"6s\"";
    let mut server = configured(config).start();
    let mut streams: Vec<_> = (0..3).map(|_| connect(server.address)).collect();
    streams[1].write_all(b"GET /heal").unwrap();
    streams[2].write_all(b"POST /broadcast HTTP/1.1\r\nHost: x\r\n").unwrap();
    // Accepted in order, so once this is answered the others are being served.
    assert_eq!(
        crate::support::http::request(server.address, "GET", "/health", &[], b"").status,
        200
    );
    assert!(server.stop().success());
    eventually("the last line is there", || server.log().contains("Stopped"));
    assert!(server.log().contains("Stopped in_time=true"), "{}", server.log());
}

#[test]
fn clients_that_never_pause_do_not_keep_the_server_to_themselves() {
    let rate = "PUSHMUX_PROTOCOL__NOTIFLUX__MESSAGE_RATE";
    let mut server = Builder::notiflux().env("WORKER_COUNT", "2").env(rate, "0").start();
    let flood: Vec<u8> = crate::support::ws::encode(0x81, b"x").repeat(10_000);
    let streams: Vec<_> = (0..4).map(|_| Ws::open(server.address).stream).collect();
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        for mut stream in &streams {
            let (flood, enough) = (&flood, &enough);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) && stream.write_all(flood).is_ok() {}
            });
        }
        // However this ends: a test that fails must end too.
        let _end = Raise(&enough);
        for _ in 0..20 {
            let answer = crate::support::http::request(server.address, "GET", "/health", &[], b"");
            assert_eq!(answer.status, 200);
        }
        assert!(server.stop().success());
    });
}

#[test]
fn refusals_do_not_fill_the_log() {
    let mut server = Builder::notiflux().start();
    let mut client = Ws::open(server.address);
    for _ in 0..2_000 {
        client.text("/subscribe a x");
    }
    client.settle();
    server.stop();
    let lines = server.log().lines().filter(|line| line.contains("Refused")).count();
    assert!((1..200).contains(&lines), "{lines} lines for 2,000 refusals");
}

#[test]
fn an_answer_that_nobody_reads_is_given_up() {
    let config =
        "[server]\nwrite_timeout = \"200ms\"\nheader_timeout = \"1h\"\nmax_head_bytes = 1048576";
    let server = configured(config).start();
    let before = server.descriptors();
    let mut stream = connect(server.address);
    let many = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5_000);
    // Until the server takes no more, since its answers go nowhere.
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    while stream.write_all(&many).is_ok() {}
    eventually("the connection is given up", || server.descriptors() <= before);
}

#[test]
fn a_second_signal_ends_at_once_and_says_so() {
    let mut server =
        configured("[sink.ws]\nclose_timeout = \"60s\"\n[server]\nshutdown_timeout = \"2m\"")
            .start();
    let _silent = Ws::open(server.address);
    server.signal("TERM");
    eventually("the first signal arrived", || server.log().contains("Closing WebSocket"));
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(1));
    eventually("the log says why", || server.log().contains("stopped at once by a second signal"));
}

#[test]
fn ten_thousand_clients_that_came_and_went_leave_nothing() {
    // A memory of verified tokens that is full before it is looked at.
    let builder = Builder::notiflux().env("PUSHMUX_AUTH__JWT__CACHE_BYTES", "1048576");
    let mut server = builder.start();
    let address = server.address;
    let cycle = |number: usize| {
        let mut ws = Ws::open(address);
        // A topic of its own and one it shares; half of them leave without a word.
        let own = format!("own-{number}");
        let token = Keys::server().subscribe(&[&own, "shared"]);
        ws.text(&format!("/subscribe {own} {token}"));
        ws.text(&format!("/subscribe shared {token}"));
        ws.settle();
        if number.is_multiple_of(2) {
            ws.frame(0x88, b"\x03\xE8");
            assert!(matches!(ws.next(), Frame::Close(_)));
        }
    };
    let round = |from: usize, to: usize| {
        thread::scope(|scope| {
            for part in 0..4 {
                let cycle = &cycle;
                scope.spawn(move || (from..to).filter(|n| n % 4 == part).for_each(cycle));
            }
        });
    };
    round(0, 2_000);
    let (descriptors, resident) = settled(&server);
    round(2_000, 12_000);
    let (after, resident_after) = settled(&server);
    assert_eq!(after, descriptors, "sockets are left");
    let growth = resident_after.saturating_sub(resident);
    // A leak of half a KiB for each client would be 5 MiB.
    assert!(growth < 4 * 1024, "{growth} KiB more than before");
    assert!(server.stop().success());
    assert_eq!(server.reported("Closing WebSocket connections", "connections"), 0);
    assert_eq!(server.reported("Closing WebSocket connections", "topics"), 0);
}

/// Descriptors and memory once every connection is gone.
fn settled(server: &Server) -> (usize, usize) {
    let mut last = usize::MAX;
    eventually("connections are closed", || {
        let now = server.descriptors();
        let settled = now == last && now < 40;
        last = now;
        settled
    });
    (last, server.resident_kib())
}

#[test]
fn a_client_that_answers_no_ping_is_taken_for_dead() {
    let server =
        configured("[protocol.notiflux]\nping_interval = \"100ms\"\nidle_timeout = \"200ms\"")
            .start();
    let mut alive = Ws::open(server.address);
    let mut silent = Ws::open(server.address);
    let got = thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut got = Vec::new();
            silent.stream.read_to_end(&mut got).unwrap();
            got
        });
        // `next_within` answers pings, so this client lives while the other is dropped.
        while !reader.is_finished() {
            assert_eq!(alive.next_within(Duration::from_millis(20)), None);
        }
        reader.join().unwrap()
    });
    // Pings, and then the end without a word, as the original does it.
    assert!(!got.is_empty() && got.chunks(2).all(|frame| frame == [0x89, 0]), "{got:02x?}");
    alive.settle();
}

#[test]
fn a_server_that_was_stopped_for_a_while_does_not_take_its_clients_for_dead() {
    let config = "[protocol.notiflux]\nping_interval = \"200ms\"\nidle_timeout = \"400ms\"";
    let server = configured(config).start();
    let mut clients: Vec<_> = (0..20).map(|_| Ws::open(server.address)).collect();
    server.signal("STOP");
    // Not to wait for anything: this is the fault itself.
    thread::sleep(Duration::from_millis(1500));
    server.signal("CONT");
    for client in &mut clients {
        client.settle();
    }
}
