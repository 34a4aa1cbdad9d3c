//! Protocol `oitc` and the library that openITCOCKPIT's web interface takes for its
//! connection, rxjs. It reconnects after a loss, but never after a Close frame: a tab that
//! saw one gets nothing until it is reloaded.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::http::post_json;
use crate::support::mariadb::MariaDb;
use crate::support::server::{Builder, Server, collect};
use crate::support::{eventually, quiet_port};

const KEY: &str = "5eed0f0a11c0ffee5eed0f0a11c0ffee5eed0f0a11c0ffee5eed0f0a11c0ffee";
const HOST: &str = "b5a1b9ae-5d4e-4b0c-8a0c-0f2f3a3c7d11";
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rxjs");

/// A running script of `tests/rxjs`; killed when dropped.
struct Script {
    child: Child,
    out: Arc<Mutex<String>>,
}

impl Script {
    fn start(name: &str, args: &[&str]) -> Self {
        assert!(
            Path::new(FOLDER).join("node_modules/rxjs").exists(),
            "rxjs is not installed; run: npm ci --prefix tests/rxjs"
        );
        let mut child = Command::new("node")
            .arg(Path::new(FOLDER).join(name))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run node, Debian's package nodejs: {error}"));
        let out = collect(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn client(address: &str) -> Self {
        let url = format!("ws://{address}/push_notifications?userId=1&browserUuid=rxjs");
        Self::start("client.mjs", &[&url, KEY])
    }

    fn out(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    fn count(&self, start: &str) -> usize {
        self.out().lines().filter(|line| line.starts_with(start)).count()
    }

    /// The messages of a type so far.
    fn messages(&self, kind: &str) -> Vec<Value> {
        let out = self.out();
        let messages = out.lines().filter_map(|line| line.strip_prefix("message "));
        let messages = messages.map(|text| serde_json::from_str::<Value>(text).unwrap());
        messages.filter(|message| message["type"] == kind).collect()
    }

    /// Waits for something, as long as the client has not given up.
    fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        eventually(what, || {
            assert_eq!(self.count("completed"), 0, "it has given up: {}", self.out());
            done()
        });
    }

    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the script ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn oitc(db: &MariaDb, port: u16) -> Builder {
    Builder::new()
        .file("config.toml", &format!("[database.main]\nurl = \"{}\"\n", db.url()))
        .args(["--profile", "oitc", "--port", &port.to_string()])
}

fn data_base() -> MariaDb {
    let db = MariaDb::start();
    db.set("SUDO_SERVER.API_KEY", KEY);
    db.sql(&format!("INSERT INTO hosts (uuid, name) VALUES ('{HOST}', 'web-01')"));
    db
}

/// Sends an alert as Naemon does.
fn alert(server: &Server, output: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let body = json!({
        "timestamp": now, "userid": 1, "type": "host", "hostuuid": HOST, "state": 1,
        "notificationtype": "PROBLEM", "output": output,
    });
    let answer = post_json(server.address, "/message", &body.to_string());
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{output}");
}

const RESTARTS: usize = 5;

#[test]
fn a_browser_comes_back_after_every_restart() {
    let (db, port) = (data_base(), quiet_port());
    // The server lives on: its end would be one more loss.
    let (client, _server) = survives_restarts(|| oitc(&db, port).start());
    assert_eq!(client.count("open"), RESTARTS + 1, "{}", client.out());
    // Without a Close frame, and so are the tries while the server was away.
    assert_eq!(client.count("closed"), client.count("closed 1006 false"), "{}", client.out());
}

#[test]
fn with_a_socket_that_outlives_the_server_a_browser_comes_back_at_the_first_try() {
    let db = data_base();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    // The server lives on: its end would be one more loss.
    let (client, _server) = survives_restarts(|| oitc(&db, port).inherit(&socket).start());
    assert_eq!(client.count("open"), RESTARTS + 1, "{}", client.out());
    assert_eq!(client.count("closed"), RESTARTS, "{}", client.out());
    assert_eq!(client.count("closed 1006 false"), RESTARTS, "{}", client.out());
}

/// Restarts the server again and again under a client, who gets every alert.
fn survives_restarts(start: impl Fn() -> Server) -> (Script, Server) {
    let mut server = start();
    let client = Script::client(&server.address.to_string());
    let mut sent = vec![];
    for round in 0..=RESTARTS {
        if round > 0 {
            let closed = client.count("closed");
            assert!(server.stop().success());
            client.until("the client notices", || client.count("closed") > closed);
            server = start();
        }
        // The client asks for this answer after it has registered.
        client
            .until("the client has registered", || client.messages("KeepAlive").len() == round + 1);
        sent.push(format!("alert {round}"));
        alert(&server, &sent[round]);
        client.until("the alert arrives", || {
            client.messages("ProcessPushNotification").len() == round + 1
        });
    }

    let messages = client.messages("ProcessPushNotification");
    let got: Vec<_> = messages.iter().map(|message| message["message"].as_str().unwrap()).collect();
    assert_eq!(got, sent);
    assert_eq!(messages[0]["payload"]["title"], "PROBLEM: web-01 is DOWN!");
    (client, server)
}

/// What the test above would see if the server said goodbye.
#[test]
fn a_browser_that_sees_a_close_frame_is_gone_for_good() {
    for code in ["1000", "1001", "1011"] {
        let (_server, address) = closing(code);
        let mut client = Script::client(&address);
        assert!(client.wait().success());
        eventually("its last line", || client.count("completed") == 1);
        assert_eq!(client.count("open"), 1, "{}", client.out());
        assert_eq!(client.count(&format!("closed {code} true")), 1, "{}", client.out());
    }
    // It is the Close frame that makes the difference.
    let (_server, address) = closing("cut");
    let client = Script::client(&address);
    client.until("the client comes back twice", || client.count("open") >= 3);
}

/// A server that ends every connection, and its address.
fn closing(how: &str) -> (Script, String) {
    let server = Script::start("closing.mjs", &[how]);
    eventually("the server listens", || server.count("port ") == 1);
    let port = server.out().trim_start_matches("port ").trim().to_owned();
    (server, format!("127.0.0.1:{port}"))
}
