//! Plugins that panic, hang and talk nonsense, in a server of this process: what they do must
//! cost nobody but whom it concerns.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::similar_names,
    clippy::decimal_bitwise_operands,
    clippy::large_stack_arrays,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    missing_docs,
    unreachable_pub
)]

mod plugins;
#[path = "../support/mod.rs"]
mod support;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use pushmux::core::config::{Layers, Sources};
use pushmux::core::inherited::Inherited;
use pushmux::core::plugin::Plugin;
use pushmux::core::server::Server;
use pushmux::core::{bulkhead, plan};
use serde_json::{Value, json};

use plugins::{ASKED, HANG, NONSENSE, PANIC, SECRET, SILENCE};
use support::http::{Answer, post_json, request};
use support::scrape::Scrape;
use support::ws::{Frame, Ws};
use support::{DEADLINE, eventually};

const CONFIG: &str = r#"
[server]
port = 0
workers = 2
[admin]
listen = "127.0.0.1:0"
[auth.faulty]
[sink.ws]
[protocol.notiflux]
auth = "faulty"
strict = true
[protocol.faulty]
"#;

/// Messages with this topic go to the faulty sink as well.
const SINK: &str = "[sink.faulty]\ntopics = [\"notiflux/sink*\"]\n";

/// A server with the faulty plugins, until this is dropped.
struct Running {
    address: SocketAddr,
    admin: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<bool>>,
}

fn start(more: &str) -> Running {
    watch_panics();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, format!("{CONFIG}{more}")).unwrap();
    let sources = Sources { file: Some(file), ..Sources::default() };
    let layers = Layers::read(&sources, &[]);
    let known: Vec<Plugin> = pushmux::plugins::ALL.iter().copied().chain(plugins::ALL).collect();
    let plan = plan::check(&layers, &known).plan().map_err(|faults| faults.to_string()).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (tell, addresses) = std::sync::mpsc::sync_channel(1);
    let thread = thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let ended = runtime.block_on(async {
            let server = Server::build(plan, Inherited::default())
                .await
                .map_err(|error| error.to_string())
                .unwrap();
            let address = server.addresses().next().unwrap().0;
            tell.send((address, server.admin_address().unwrap())).unwrap();
            server.run(async { _ = stopped.await }).await
        });
        runtime.shutdown_timeout(Duration::from_millis(100));
        ended
    });
    let (address, admin) = addresses.recv().unwrap();
    Running { address, admin, stop: Some(stop), thread: Some(thread) }
}

impl Running {
    /// Whether everything ended in time.
    fn stop(mut self) -> bool {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap()
    }

    fn publish(&self, topic: &str, message: &str, token: &str) -> Answer {
        let body = json!({ "topic": topic, "message": message, "token": token }).to_string();
        post_json(self.address, "/broadcast", &body)
    }

    /// How many accepted it, and for how many it was dropped.
    fn counts(&self, topic: &str, message: &str) -> (u64, u64) {
        let answer = self.publish(topic, message, "good");
        let counts: Value = serde_json::from_slice(&answer.body).unwrap();
        (counts["accepted"].as_u64().unwrap(), counts["dropped"].as_u64().unwrap())
    }

    fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path, &[], b"")
    }

    fn ready(&self) -> (u16, String) {
        let answer = request(self.admin, "GET", "/readyz", &[], b"");
        (answer.status, answer.text())
    }

    fn scrape(&self) -> Scrape {
        Scrape::parse(&request(self.admin, "GET", "/metrics", &[], b"").text())
    }

    /// How often the plugin panicked, and how often it was late.
    fn faults(&self, plugin: &str) -> (u64, u64) {
        let scrape = self.scrape();
        let count = |fault| {
            scrape.count("pushmux_plugin_faults_total", &[("plugin", plugin), ("fault", fault)])
        };
        (count("panicked"), count("late"))
    }

    /// How often anything panicked, in all tests of this process: see [`PANICKING`].
    fn panics(&self) -> u64 {
        self.scrape().count("pushmux_panics_total", &[])
    }

    fn subscriber(&self, topic: &str) -> Ws {
        let mut ws = Ws::open(self.address);
        ws.text(&format!("/subscribe {topic} good"));
        ws.settle();
        ws
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Held by each test whose plugins panic, since panics of all of them are counted together. It
/// outlives a test that fails, unlike one of the standard library.
static PANICKING: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

/// What is logged, by all tests.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged() -> String {
    String::from_utf8(LOG.lock().unwrap().clone()).unwrap()
}

/// As the program does it, but for the tests themselves, whose panics say what is wrong.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt().with_writer(|| Log).with_ansi(false).init();
        let of_tests = std::panic::take_hook();
        bulkhead::tell_panics();
        let of_program = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if thread::current().name().is_some_and(|name| name.starts_with("tokio")) {
                of_program(panic);
            } else {
                of_tests(panic);
            }
        }));
    });
}

#[test]
fn a_sink_that_panics_loses_its_messages_alone_and_is_then_left_out() {
    let _alone = PANICKING.lock();
    let server = start(SINK);
    let before = server.panics();
    let mut subscriber = server.subscriber("sink-a");
    for count in 0..4 {
        assert_eq!(server.ready(), (200, "ok\n".to_owned()));
        assert_eq!(server.faults("sink.faulty"), (count, 0));
        assert_eq!(server.counts("sink-a", PANIC), (1, 1));
        assert_eq!(subscriber.next_text(), PANIC);
    }
    // Four within a minute were one too many: it is not asked any more.
    let asked = ASKED.load(Ordering::SeqCst);
    assert_eq!(server.counts("sink-a", "fine"), (1, 1));
    assert_eq!(subscriber.next_text(), "fine");
    assert_eq!(ASKED.load(Ordering::SeqCst), asked);
    let off = "sink.faulty: is switched off after too many faults\n";
    assert_eq!(server.ready(), (503, off.to_owned()));
    assert_eq!((server.faults("sink.faulty"), server.faults("sink.ws")), ((4, 0), (0, 0)));
    assert_eq!(server.panics(), before + 4);
    let scrape = server.scrape();
    let dropped = ["failed", "plugin_off"].map(|reason| scrape.dropped("faulty", reason));
    assert_eq!(dropped, [4, 1]);
    assert!(scrape.books("faulty").balance(), "{:?}", scrape.books("faulty"));
    eventually("the log says so", || logged().contains("switched off"));
    assert!(logged().contains("tests/faults/plugins.rs"), "where it was is told");
    assert!(!logged().contains(SECRET), "what it said is not");
    assert!(server.stop());
}

#[test]
fn a_sink_that_hangs_holds_up_its_publisher_alone() {
    let server = start(SINK);
    let mut subscriber = server.subscriber("t");
    // By the first time it is known for it; others may have been held up.
    assert_eq!(server.counts("sink-b", HANG), (0, 0));
    thread::scope(|scope| {
        let start = Instant::now();
        let hanging = scope.spawn(|| server.counts("sink-b", HANG));
        while !hanging.is_finished() {
            let before = Instant::now();
            assert_eq!(server.counts("t", "on"), (1, 0));
            assert_eq!(subscriber.next_text(), "on");
            assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(hanging.join().unwrap(), (0, 0));
        assert!(start.elapsed() >= Duration::from_secs(5));
    });
    assert_eq!(server.faults("sink.faulty"), (0, 2));
    eventually("the log says so", || logged().contains("took too long"));
    assert!(server.stop());
}

#[test]
fn nonsense_of_a_sink_changes_its_own_counts_alone() {
    let server = start(SINK);
    let mut subscriber = server.subscriber("sink-c");
    assert_eq!(server.publish("sink-c", NONSENSE, "good").status, 200);
    assert_eq!(subscriber.next_text(), NONSENSE);
    // A receipt that never comes is not waited for for ever.
    let start = Instant::now();
    assert_eq!(server.counts("sink-c", SILENCE), (1, 1));
    assert!(start.elapsed() < DEADLINE / 2, "{:?}", start.elapsed());
    assert_eq!(subscriber.next_text(), SILENCE);
    assert_eq!(server.counts("t", "on"), (0, 0));
    assert!(server.stop());
}

#[test]
fn an_auth_provider_that_panics_or_hangs_decides_nothing_and_stops_nobody() {
    let _alone = PANICKING.lock();
    let server = start("");
    let before = server.panics();
    let mut subscriber = server.subscriber("t");
    thread::scope(|scope| {
        let hanging = scope.spawn(|| server.publish("t", "x", HANG).status);
        for _ in 0..10 {
            assert_eq!(server.publish("t", "x", PANIC).status, 503);
            assert_eq!(server.counts("t", "on"), (1, 0));
            assert_eq!(subscriber.next_text(), "on");
        }
        assert_eq!(hanging.join().unwrap(), 503);
    });
    // Who asks on the line is refused, and stays.
    subscriber.text(&format!("/subscribe u {PANIC}"));
    subscriber.settle();
    assert_eq!(server.faults("auth.faulty"), (11, 1));
    assert_eq!(server.panics(), before + 11);
    assert_eq!(server.ready().0, 200, "what anybody can bring about is no reason");
    assert_eq!(server.counts("u", "x"), (0, 0));
    assert!(server.stop());
}

#[test]
fn a_protocol_that_panics_or_hangs_answers_the_others() {
    let _alone = PANICKING.lock();
    let server = start("");
    let before = server.panics();
    thread::scope(|scope| {
        let hanging = scope.spawn(|| server.get("/faulty/hang").text());
        for _ in 0..10 {
            assert_eq!(server.get("/faulty/panic").status, 500);
            assert_eq!(server.get("/health").status, 200);
        }
        assert!(!hanging.is_finished(), "it was meant to hang meanwhile");
        assert_eq!(hanging.join().unwrap(), "late");
    });
    assert_eq!(server.panics(), before + 10);
    // What came of a panic is no answer of the protocol, what was late is.
    let scrape = server.scrape();
    let answers = |class| {
        let labels = [("protocol", "faulty"), ("class", class)];
        scrape.count("pushmux_http_answers_total", &labels)
    };
    assert_eq!((answers("2xx"), answers("5xx")), (1, 0));
    assert!(server.stop());
}

#[test]
fn a_session_that_panics_ends_and_leaves_nobody_behind() {
    let _alone = PANICKING.lock();
    let server = start("");
    let mut clients: Vec<_> = (0..3).map(|_| Ws::open_path(server.address, "/faulty/ws")).collect();
    let before = server.panics();
    let everybody = |n: usize| server.get("/faulty/publish").text() == n.to_string();
    eventually("all are on the line", || everybody(3));
    let mut hanging = clients.remove(2);
    hanging.text(HANG);
    let mut failing = clients.remove(1);
    failing.text(PANIC);
    let frames = failing.until(|frame| matches!(frame, Frame::Close(_)));
    assert_eq!(frames.last(), Some(&Frame::Close(Some((1011, "internal error".into())))));
    assert_eq!(failing.next(), Frame::Eof);
    assert_eq!(server.panics(), before + 1);
    eventually("it has left its topics", || everybody(2));
    clients[0].text("still here");
    let mut answered = clients[0].until(|frame| *frame == Frame::Text("still here".into()));
    assert_eq!(answered.pop(), Some(Frame::Text("still here".into())));
    // Who hung goes on where it was.
    hanging.text("here again");
    let mut answered = hanging.until(|frame| *frame == Frame::Text("here again".into()));
    assert_eq!(answered.pop(), Some(Frame::Text("here again".into())));
    assert!(server.stop());
    assert!(!logged().contains(SECRET));
}
