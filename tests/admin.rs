//! What operators ask: `/metrics`, `/livez` and `/readyz` on a port of their own.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::http::{Answer, connect, parse_head, post_json, read_head, request};
use crate::support::receiver::{self, Receiver};
use crate::support::server::{Builder, Server};
use crate::support::token::Keys;
use crate::support::ws::{Frame, Ws};
use crate::support::{eventually, mariadb, oitc};

const LISTEN: (&str, &str) = ("PUSHMUX_ADMIN__LISTEN", "127.0.0.1:0");

fn notiflux(config: &str) -> Server {
    let config = format!("profile = \"notiflux\"\n[protocol.notiflux]\nstrict = true\n{config}\n");
    Builder::notiflux().env(LISTEN.0, LISTEN.1).file("config.toml", &config).start()
}

/// Has a value for every metric there is: all kinds of plugins are in the demo.
fn everything() -> Server {
    let demo = Builder::new().args(["--profile", "demo"]).env("PORT", "0");
    demo.env(LISTEN.0, LISTEN.1).start()
}

fn get(server: &Server, path: &str) -> Answer {
    request(server.admin_address(), "GET", path, &[], b"")
}

fn ready(server: &Server) -> (u16, String) {
    let answer = get(server, "/readyz");
    (answer.status, answer.text())
}

fn well() -> (u16, String) {
    (200, "ok\n".to_owned())
}

fn publish(address: SocketAddr, topic: &str, message: &str) -> Value {
    let token = Keys::server().broadcast(&[topic]);
    let body = json!({ "topic": topic, "message": message, "token": token }).to_string();
    serde_json::from_slice(&post_json(address, "/broadcast", &body).body).unwrap()
}

#[test]
fn three_paths_are_answered_and_nothing_else() {
    let server = everything();
    let admin = server.admin_address();
    for (path, content_type) in [
        ("/metrics", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("/livez", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
    ] {
        let answer = get(&server, path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some(content_type), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        let head = request(admin, "HEAD", path, &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = request(admin, method, path, &[], b"");
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD"));
        }
    }
    assert_eq!(get(&server, "/livez").text(), "ok\n");
    for path in ["/", "/health", "/metrics/", "/ws", "/broadcast", "/demo/tokens"] {
        assert_eq!(get(&server, path).status, 404, "{path}");
    }
    // And not where clients are: there it would be anybody's.
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_ne!(request(server.address, "GET", path, &[], b"").status, 200, "{path}");
    }
}

#[test]
fn without_a_listen_there_is_nobody_to_ask() {
    let mut server = Builder::notiflux().start();
    assert!(server.stop().success());
    assert!(!server.log().contains("Answering operators"), "{}", server.log());
}

#[test]
fn its_address_is_checked_and_taken_like_every_other() {
    let ended = |config: &str| {
        let config = format!("profile = \"notiflux\"\n{config}\n");
        let output = Builder::notiflux().file("config.toml", &config).output();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, fault) = ended("[admin]\nlisten = \"9100\"");
    let expected = "./config.toml:3: admin.listen: found \"9100\", expected host:port, such as \"127.0.0.1:8083\", \"[::1]:8083\" or \"localhost:8083\"\n";
    assert_eq!((code, fault.as_str()), (Some(2), expected));
    let (code, fault) = ended("[admin]\nport = 1");
    assert_eq!(code, Some(2));
    assert!(fault.starts_with("./config.toml:3: admin.port: unknown field `port`"), "{fault}");
    // Where clients are served, whether by [server] or by a `listen`.
    for protocol in ["", "[protocol.notiflux]\nlisten = \"127.0.0.1:8083\"\n"] {
        let port = if protocol.is_empty() { 7070 } else { 8083 };
        let (code, fault) = ended(&format!(
            "{protocol}[admin]\nlisten = \"127.0.0.1:{port}\"\n[server]\nport = 7070"
        ));
        assert_eq!(code, Some(2), "{fault}");
        let expected = format!(
            "admin.listen: found \"127.0.0.1:{port}\", where [protocol.notiflux] is served, expected another address\n"
        );
        assert!(fault.ends_with(&expected), "{fault}");
    }
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let (code, log) = ended(&format!("[admin]\nlisten = \"{taken}\""));
    assert_eq!(code, Some(1));
    let expected = format!("cannot listen on {taken} (admin.listen): Address already in use");
    assert!(log.contains(&expected), "{log}");
    assert!(!log.contains("Listening"), "{log}");
}

#[test]
fn the_table_of_the_documentation_has_every_metric_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/metrics.md")).unwrap();
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| `pushmux_") || line.starts_with("| `process_"));
    let mut written: Vec<_> = rows
        .map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 5, "{row}");
            assert!(cells[4].len() > 10, "{row} says nothing");
            let plain = |cell: &str| cell.replace('`', "");
            (plain(cells[0]), cells[1].to_owned(), cells[2].to_owned(), plain(cells[3]))
        })
        .collect();
    let server = everything();
    let scrape = server.scrape();
    let told = scrape.families.iter().map(|(name, family)| {
        let suffix = match family.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels = family.labels.join(", ");
        (format!("{name}{suffix}"), family.kind.clone(), family.unit.clone(), labels)
    });
    let mut told: Vec<_> = told.collect();
    assert!(told.len() > 25, "{told:#?}");
    told.sort();
    written.sort();
    assert_eq!(written, told);
}

#[test]
fn the_dashboard_asks_for_nothing_that_is_not_told() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("packaging/grafana/pushmux.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    // What an import needs: a title, a version of the model, and an id for each panel.
    assert!(dashboard["title"].is_string() && dashboard["schemaVersion"].is_u64());
    assert!(dashboard["uid"].is_string() && dashboard["id"].is_null());
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids: Vec<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
    let server = everything();
    let scrape = server.scrape();
    let told: std::collections::BTreeSet<_> = scrape.names().collect();
    let mut asked = 0;
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        let place = &panel["gridPos"];
        let [x, width] = ["x", "w"].map(|key| place[key].as_u64().unwrap());
        assert!(x + width <= 24, "{title}");
        let row = panel["type"] == "row";
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        assert_ne!(row, !targets.is_empty(), "{title}");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let names: Vec<_> = words
                .filter(|word| word.starts_with("pushmux_") || word.starts_with("process_"))
                .collect();
            assert!(!names.is_empty(), "{title}: {expression}");
            for name in names {
                assert!(told.contains(name), "{title} asks for {name}");
                asked += 1;
            }
        }
    }
    assert!(asked >= 20, "{asked}");
}

#[test]
fn numbers_say_what_happened_and_neither_whom_nor_what_about() {
    let server = notiflux("");
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let mut ws = Ws::open(server.address);
            ws.subscribe("topic-of-mine");
            ws.subscribe("another");
            ws
        })
        .collect();
    assert_eq!(publish(server.address, "topic-of-mine", "text-of-mine")["accepted"], 3);
    let token = Keys::attacker().broadcast(&["topic-of-mine"]);
    let body = json!({ "topic": "topic-of-mine", "message": "m", "token": token }).to_string();
    assert_eq!(post_json(server.address, "/broadcast", &body).status, 401);
    assert_eq!(request(server.address, "GET", "/secret-path", &[], b"").status, 404);

    let text = get(&server, "/metrics").text();
    for secret in ["of-mine", "another", &token, "secret-path", "127.0.0.1"] {
        assert!(!text.contains(secret), "{secret} is told in {text}");
    }
    let scrape = server.scrape();
    let (sink, protocol) = ([("sink", "ws")], [("protocol", "notiflux")]);
    assert_eq!(scrape.count("pushmux_published_messages_total", &protocol), 1);
    assert_eq!(scrape.count("pushmux_subscriptions", &sink), 6);
    assert_eq!(scrape.count("pushmux_topics", &sink), 2);
    assert_eq!(scrape.count("pushmux_connections", &protocol), 3);
    assert_eq!(scrape.count("pushmux_sink_fanout_seconds_count", &sink), 1);
    assert_eq!(scrape.count("pushmux_publishing_bytes", &[]), 0);
    let answers = |protocol, class| {
        let labels = [("protocol", protocol), ("class", class)];
        scrape.count("pushmux_http_answers_total", &labels)
    };
    assert_eq!(answers("notiflux", "1xx"), 3);
    assert_eq!(answers("notiflux", "2xx"), 1);
    assert_eq!(answers("notiflux", "4xx"), 1);
    assert_eq!(answers("", "4xx"), 1);
    let verdicts = |verdict, reason| {
        let labels = [("auth", "jwt"), ("verdict", verdict), ("reason", reason)];
        scrape.count("pushmux_auth_verdicts_total", &labels)
    };
    assert_eq!(verdicts("accepted", ""), 7);
    assert_eq!(verdicts("denied", "the token is signed by a key that is not known here"), 1);
    assert_eq!(verdicts("unavailable", ""), 0);
    // The connection of the question is one of them.
    eventually("descriptors are counted", || {
        server.scrape().count("process_open_fds", &[]) == server.descriptors() as u64 + 1
    });
    drop(clients);
}

#[test]
fn connections_end_for_reasons() {
    let server = notiflux("");
    let ended = |reason: &str| {
        let labels = [("protocol", "notiflux"), ("reason", reason)];
        server.scrape().count("pushmux_connections_ended_total", &labels)
    };
    let mut closed = Ws::open(server.address);
    closed.frame(0x88, b"\x03\xE8");
    assert_eq!(closed.until(|frame| *frame == Frame::Eof).len(), 2);
    eventually("one has closed", || ended("closed") == 1);
    drop(Ws::open(server.address));
    eventually("one is lost", || ended("lost") == 1);
    let mut rude = Ws::open(server.address);
    rude.frame(0xC1, b"RSV");
    rude.until(|frame| *frame == Frame::Eof);
    eventually("one is refused", || ended("refused") == 1);
    let stays = Ws::open(server.address);
    let scrape = server.scrape();
    let own = [("protocol", "notiflux")];
    assert_eq!(scrape.count("pushmux_connections_opened_total", &own), 4);
    assert_eq!(scrape.sum("pushmux_connections_ended_total", &own), 3);
    assert_eq!(scrape.count("pushmux_connections", &own), 1);
    drop(stays);
}

#[test]
fn a_data_base_that_is_down_is_told_and_that_it_is_back() {
    let mut db = oitc::mariadb();
    let timeout = ("PUSHMUX_DATABASE__MAIN__TIMEOUT", "1s");
    let builder = Builder::new().env(LISTEN.0, LISTEN.1).env(timeout.0, timeout.1);
    // The second one is configured, and nobody uses it: that it is nowhere is no reason.
    let more = "export_interval = \"1h\"\n[database.spare]\nurl = \"mysql://a:b@127.0.0.1:1/c\"";
    let server = oitc::serve(builder, &db.url(), more);
    assert_eq!(ready(&server), well());
    db.kill();
    let down = (503, "database.main: does not answer\n".to_owned());
    eventually("it is told", || ready(&server) == down);
    assert_eq!(get(&server, "/livez").status, 200);
    db.restart();
    eventually("it is told again", || ready(&server) == well());
    frozen(&db, &server, &down);
    let own = |outcome| [("database", "main"), ("outcome", outcome)];
    let scrape = server.scrape();
    // A frozen one may be given up by the pool, which is a failure, or by us.
    for outcome in ["done", "failed"] {
        let count = scrape.count("pushmux_database_statements_total", &own(outcome));
        assert!(count > 0, "{outcome}");
    }
    assert_eq!(scrape.sum("pushmux_database_statements_total", &[("database", "spare")]), 0);
}

/// One that takes connections and says nothing.
fn frozen(db: &mariadb::MariaDb, server: &Server, down: &(u16, String)) {
    db.freeze();
    eventually("a frozen one is told", || ready(server) == *down);
    db.thaw();
    eventually("and that it is back", || ready(server) == well());
}

#[test]
fn a_sink_that_cannot_work_is_a_reason() {
    let server = notiflux("[sink.log]\npath = \"/dev/full\"");
    assert_eq!(ready(&server), well());
    publish(server.address, "t", "m");
    let fault = (503, "sink.log: cannot write messages\n".to_owned());
    eventually("it is told", || ready(&server) == fault);
    eventually("it is counted", || server.scrape().dropped("log", "failed") == 1);
    assert!(server.scrape().books("log").balance());
}

#[test]
fn a_stop_is_told_until_the_last_request_is_answered() {
    let mut server = notiflux("");
    let mut stream = connect(server.address);
    let head = "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(parse_head(&read_head(&mut stream).0).status, 100);
    let admin = server.admin_address();
    assert_eq!(ready(&server), well());
    server.signal("TERM");
    eventually("clients are let in no more", || TcpStream::connect(server.address).is_err());
    assert_eq!(ready(&server), (503, "server: is stopping\n".to_owned()));
    assert_eq!(get(&server, "/livez").status, 200);
    assert_eq!(server.scrape().count("pushmux_http_connections", &[]), 1);
    stream.write_all(b"{}").unwrap();
    assert_eq!(parse_head(&read_head(&mut stream).0).status, 400);
    assert_eq!(server.wait().code(), Some(0));
    assert!(TcpStream::connect(admin).is_err());
}

#[test]
fn who_says_nothing_keeps_nobody_else_from_asking() {
    let server = notiflux("");
    // More than there are places for.
    let silent: Vec<_> = (0..40).map(|_| connect(server.admin_address())).collect();
    assert_eq!(ready(&server), well());
    drop(silent);
}

#[test]
fn a_webhook_has_books_too() {
    let answers = [receiver::Answer::Status(500), receiver::Answer::Status(200)];
    let receiver = Receiver::start(receiver::Answer::Hang).next(answers);
    let keys = format!(
        "[sink.hook]\ntype = \"webhook\"\nurl = \"{}\"\nconcurrency = 1\nqueue_messages = 2",
        receiver.url("/hook")
    );
    let server = notiflux(&keys);
    for count in 1..3 {
        publish(server.address, "t", "m");
        receiver.wait(count);
    }
    // One hangs, two wait, one finds no room.
    publish(server.address, "t", "m");
    receiver.wait(3);
    for _ in 0..3 {
        publish(server.address, "t", "m");
    }
    let requests = |outcome| {
        let labels = [("sink", "hook"), ("outcome", outcome)];
        server.scrape().count("pushmux_webhook_requests_total", &labels)
    };
    eventually("two are through", || requests("sent") + requests("failed") == 2);
    let books = server.scrape().books("hook");
    assert_eq!((books.matched, books.delivered, books.dropped, books.waiting), (6, 1, 2, 3));
    assert_eq!(server.scrape().dropped("hook", "queue_full"), 1);
    assert_eq!(server.scrape().dropped("hook", "failed"), 1);
    receiver.release();
    eventually("all are through", || server.scrape().books("hook").waiting == 0);
    let books = server.scrape().books("hook");
    assert!(books.balance(), "{books:?}");
    assert_eq!((books.delivered, requests("sent"), requests("failed")), (4, 4, 1));
}
