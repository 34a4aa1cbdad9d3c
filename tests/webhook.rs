//! Messages as HTTP requests to one URL: bounded, isolated, discreet.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::post_json;
use crate::support::receiver::{Answer, Receiver};
use crate::support::server::{Builder, Server};
use crate::support::token::Keys;

fn hook(url: &str, keys: &str) -> Builder {
    let config = format!(
        "profile = \"notiflux\"\n[protocol.notiflux]\nstrict = true\n[sink.hook]\ntype = \"webhook\"\nurl = \"{url}\"\n{keys}\n"
    );
    Builder::notiflux().file("config.toml", &config)
}

fn post(address: SocketAddr, topic: &str, message: &str) -> Value {
    let token = Keys::server().broadcast(&[topic]);
    let body = json!({ "topic": topic, "message": message, "token": token }).to_string();
    serde_json::from_slice(&post_json(address, "/broadcast", &body).body).unwrap()
}

fn taken() -> Value {
    json!({ "accepted": 1, "dropped": 0 })
}

/// How often a line with `what` stands in the log.
fn lines(server: &Server, what: &str) -> usize {
    server.log().lines().filter(|line| line.contains(what)).count()
}

/// Stops the server and returns the last word of the sink.
fn report(server: &mut Server) -> String {
    server.stop();
    eventually("the report", || server.log().contains("Webhook ended"));
    let log = server.log();
    let line = log.lines().find(|line| line.contains("Webhook ended")).unwrap();
    line.split_once("Webhook ended ").unwrap().1.to_owned()
}

/// A receiver that closes first may do so while a request is on its way, which is then lost.
#[test]
fn an_idle_connection_is_closed_before_receivers_do_that() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = hook(&url, "").start();
    assert_eq!(post(server.address, "t", "m"), taken());
    let (stream, _) = listener.accept().unwrap();
    // Many times what it should take, and less than what HTTP clients usually allow.
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut reader = BufReader::new(&stream);
    let mut request = String::new();
    while !request.ends_with(r#""message":"m"}"#) {
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        request.push(byte[0].into());
    }
    (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the end of the connection");
}

#[test]
fn a_message_is_one_request_with_the_configured_headers() {
    let receiver = Receiver::start(Answer::Status(204));
    let keys = "topics = [\"notiflux/a*\"]\nheaders = { X-Api-Key = \"s3cret-key\", Authorization = \"Bearer s3cret-token\" }\nconcurrency = 1";
    let mut server = hook(&receiver.url("/hook/s3cret-path?x=1"), keys)
        // Nothing listens there: a proxy from the environment would break everything.
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .env("ALL_PROXY", "http://127.0.0.1:9")
        .env("RUST_LOG", "trace")
        .start();
    assert_eq!(post(server.address, "abc", "one \"ü\"\n"), taken());
    assert_eq!(post(server.address, "b", "not this")["accepted"], 0);
    assert_eq!(post(server.address, "ab", "two"), taken());
    let requests = receiver.wait(2);
    assert_eq!(requests[0].line, "POST /hook/s3cret-path?x=1 HTTP/1.1");
    assert_eq!(requests[0].body, r#"{"id":1,"topic":"abc","message":"one \"ü\"\n"}"#);
    assert_eq!(requests[1].body, r#"{"id":3,"topic":"ab","message":"two"}"#);
    for (name, expected) in [
        ("content-type", "application/json"),
        ("user-agent", concat!("pushmux/", env!("CARGO_PKG_VERSION"))),
        ("x-api-key", "s3cret-key"),
        ("authorization", "Bearer s3cret-token"),
    ] {
        assert_eq!(requests[0].header(name), Some(expected), "{name}");
    }
    assert_eq!(requests[0].header("accept-encoding"), None);
    assert_eq!(receiver.connections(), 1, "the connection is used again");
    let report = report(&mut server);
    assert!(report.contains("sent=2 gone=0 failed=0 dropped_messages=0"), "{report}");
    assert!(!server.log().contains("s3cret"), "{}", server.log());
}

#[test]
fn while_the_receiver_hangs_publishing_is_fast_and_the_queue_is_bounded() {
    let receiver = Receiver::start(Answer::Hang);
    let keys = "concurrency = 1\nqueue_messages = 5\ntimeout = \"60s\"";
    let mut server = hook(&receiver.url("/"), keys).start();
    assert_eq!(post(server.address, "t", "0"), taken());
    receiver.wait(1);
    let start = Instant::now();
    let answers: Vec<_> =
        (1..100).map(|number| post(server.address, "t", &number.to_string())).collect();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(answers[..5].iter().all(|answer| *answer == taken()));
    let dropped = json!({ "accepted": 0, "dropped": 1 });
    assert!(answers[5..].iter().all(|answer| *answer == dropped));
    assert_eq!(lines(&server, "The queue is full"), 1);
    assert_eq!(receiver.requests().len(), 1);
    receiver.release();
    receiver.wait(6);
    assert_eq!(post(server.address, "t", "again"), taken());
    eventually("the log says that it is over", || lines(&server, "has room again") == 1);
    let report = report(&mut server);
    assert!(report.contains("sent=7 gone=0 failed=0 dropped_messages=94 "), "{report}");
}

#[test]
fn the_queue_is_bounded_in_bytes_too_and_one_message_may_always_wait() {
    let receiver = Receiver::start(Answer::Hang);
    let server = hook(&receiver.url("/"), "concurrency = 1\nqueue_bytes = 1024").start();
    assert_eq!(post(server.address, "t", "taken by the worker"), taken());
    receiver.wait(1);
    assert_eq!(post(server.address, "t", &"x".repeat(100_000)), taken());
    assert_eq!(post(server.address, "t", "small")["dropped"], 1);
    receiver.release();
    assert_eq!(
        receiver.wait(2)[1].body.len(),
        100_000 + r#"{"id":2,"topic":"t","message":""}"#.len()
    );
}

#[test]
fn no_more_requests_at_a_time_than_configured() {
    let receiver = Receiver::start(Answer::Hang);
    let server = hook(&receiver.url("/"), "concurrency = 3").start();
    for number in 0..60 {
        assert_eq!(post(server.address, "t", &number.to_string()), taken());
    }
    receiver.wait(3);
    assert_eq!(receiver.peak(), 3);
    receiver.release();
    receiver.wait(60);
    assert_eq!(receiver.peak(), 3);
    // Kept alive. A connection that is not back in the pool yet when the next request
    // leaves is not waited for, so there may be some more than three.
    assert!(receiver.connections() < 20, "{}", receiver.connections());
}

#[test]
fn whatever_is_no_success_is_a_failure_and_a_redirect_leads_nowhere() {
    let elsewhere = Receiver::start(Answer::Status(200));
    let receiver = Receiver::start(Answer::Status(201));
    let away = |status| Answer::Redirect(status, elsewhere.url("/"));
    let home = Answer::Redirect(307, receiver.url("/"));
    let receiver = receiver.next(
        [away(302), away(307), away(308), home]
            .into_iter()
            .chain([400, 404, 410, 429, 500, 503].map(Answer::Status)),
    );
    let mut server = hook(&receiver.url("/s3cret"), "concurrency = 1").start();
    for number in 0..11 {
        assert_eq!(post(server.address, "t", &number.to_string()), taken());
    }
    receiver.wait(11);
    let report = report(&mut server);
    assert!(report.contains("sent=1 gone=0 failed=10 "), "{report}");
    assert_eq!((receiver.requests().len(), elsewhere.requests().len()), (11, 0));
    assert_eq!(lines(&server, "Webhook failed"), 1, "{}", server.log());
    assert!(server.log().contains("the receiver answered 302 Found"), "{}", server.log());
    assert!(!server.log().contains("s3cret"));
}

#[test]
fn a_receiver_that_is_not_there_or_does_not_answer_costs_its_messages_only() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut server = hook(&format!("http://{nobody}/s3cret"), "").start();
    assert_eq!(post(server.address, "t", "lost"), taken());
    eventually("the log says why", || server.log().contains("Connection refused"));
    assert!(report(&mut server).contains("sent=0 gone=0 failed=1 "));
    assert!(!server.log().contains("s3cret"), "{}", server.log());

    let receiver = Receiver::start(Answer::Status(200)).next([Answer::Hang]);
    let keys = "concurrency = 1\ntimeout = \"200ms\"";
    let mut server = hook(&receiver.url("/"), keys).start();
    post(server.address, "t", "lost");
    post(server.address, "t", "found");
    assert!(receiver.wait(2)[1].body.contains("found"));
    eventually("the log says why", || server.log().contains("no answer within 200ms"));
    assert!(report(&mut server).contains("sent=1 gone=0 failed=1 "));
}

#[test]
fn an_answer_without_end_is_not_read() {
    let receiver = Receiver::start(Answer::Status(200)).next([Answer::Endless, Answer::Drip]);
    let mut server = hook(&receiver.url("/"), "concurrency = 1").start();
    let before = server.resident_kib();
    let start = Instant::now();
    for number in 0..3 {
        post(server.address, "t", &number.to_string());
    }
    assert_eq!(receiver.wait(3)[2].connection, 2, "each of them costs its connection");
    // The dripping one may take a second, not the whole time-out of 15.
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    // What lies in the buffers of two sockets, and 64 KiB.
    assert!(receiver.body_bytes() < 16 * 1024 * 1024, "{}", receiver.body_bytes());
    let growth = server.resident_kib().saturating_sub(before);
    assert!(growth < 4 * 1024, "{growth} KiB");
    assert!(report(&mut server).contains("sent=3 gone=0 failed=0 "));
}

#[test]
fn what_waits_when_the_server_stops_is_sent() {
    let receiver = Receiver::start(Answer::Slow(Duration::from_millis(10)));
    let mut server = hook(&receiver.url("/"), "concurrency = 1").start();
    for number in 0..100 {
        assert_eq!(post(server.address, "t", &number.to_string()), taken());
    }
    assert_eq!(server.stop().code(), Some(0));
    let messages: Vec<_> = receiver
        .requests()
        .iter()
        .map(|request| {
            let body: Value = serde_json::from_str(&request.body).unwrap();
            body["message"].as_str().unwrap().parse::<usize>().unwrap()
        })
        .collect();
    assert!(messages.into_iter().eq(0..100), "with one worker also in order");
    assert!(!server.log().contains("undelivered"));
}

#[test]
fn a_receiver_that_hangs_holds_up_the_end_no_longer_than_allowed() {
    let receiver = Receiver::start(Answer::Hang);
    let keys = "concurrency = 1\n[server]\nshutdown_timeout = \"500ms\"\ndrain_spread = \"0s\"\n[sink.ws]\nclose_timeout = \"100ms\"";
    let mut server = hook(&receiver.url("/"), keys).start();
    for number in 0..3 {
        assert_eq!(post(server.address, "t", &number.to_string()), taken());
    }
    receiver.wait(1);
    let start = Instant::now();
    let report = report(&mut server);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(report.contains("sent=0 gone=0 failed=0 "), "{report}");
    assert!(server.log().contains("undelivered=3"), "{}", server.log());
}

/// `openssl s_server` with a certificate of its own making.
struct Tls {
    child: Child,
    port: u16,
}

impl Tls {
    fn start(folder: &Path) -> Self {
        let openssl = |args: &str| {
            let mut command = Command::new("openssl");
            command.args(args.split(' ')).current_dir(folder).stderr(Stdio::null());
            command
        };
        // Of the system's openssl.cnf nothing: it may make a CA of every certificate.
        let config = "[req]\ndistinguished_name = name\nx509_extensions = leaf\nprompt = no\n[name]\nCN = localhost\n[leaf]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";
        std::fs::write(folder.join("leaf.cnf"), config).unwrap();
        let made = openssl(
            "req -x509 -config leaf.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -days 2",
        )
        .status();
        assert!(made.unwrap().success());
        let mut child = openssl("s_server -accept 127.0.0.1:0 -cert cert.pem -key key.pem")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let accept =
            output.find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(String::from));
        let port = accept.unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
        let mut input = child.stdin.take().unwrap();
        std::thread::spawn(move || {
            for line in output.map_while(Result::ok) {
                if line.starts_with("POST ") {
                    let _ = input.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            }
        });
        Self { child, port }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}/", self.port)
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_certificate_must_be_good_unless_said_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::start(folder.path());
    let outcome = |keys: &str| {
        let mut server = hook(&tls.url(), keys).start();
        assert_eq!(post(server.address, "t", "secret"), taken());
        let report = report(&mut server);
        (report.split(" dropped").next().unwrap().to_owned(), server.log())
    };
    let (report, log) = outcome("");
    assert!(report.ends_with("sent=0 gone=0 failed=1"), "{report}");
    assert!(log.contains("invalid peer certificate"), "{log}");
    assert!(!log.contains("sink.hook.verify_tls"));
    assert!(!log.contains("ERROR"), "said once, by us: {log}");

    let ca_file = folder.path().join("cert.pem");
    let (report, log) = outcome(&format!("ca_file = \"{}\"", ca_file.display()));
    assert!(report.ends_with("sent=1 gone=0 failed=0"), "{report} {log}");

    let (report, log) = outcome("verify_tls = false");
    assert!(report.ends_with("sent=1 gone=0 failed=0"), "{report} {log}");
    assert!(log.contains("WARN") && log.contains("sink.hook.verify_tls"), "{log}");
}
