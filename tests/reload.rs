//! SIGHUP: another configuration, and nobody who is connected notices.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::support::http::{post_json, request};
use crate::support::server::{Builder, Server};
use crate::support::token::Keys;
use crate::support::ws::{Frame, Ws};
use crate::support::{Raise, eventually, quiet_port, sqlite};

/// Can be checked, and not built: nobody can make a file there.
const UNBUILDABLE: &str = "[sink.log]\npath = \"/proc/pushmux\"\n";

const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";

const STRICT: &str = "profile = \"notiflux\"\n[protocol.notiflux]\nstrict = true\n";

fn start(config: &str) -> Server {
    Builder::notiflux().file("config.toml", config).start()
}

/// How often it has been tried, well or not.
fn tries(server: &Server) -> usize {
    let ends = ["The configuration is in force", "stays in force", "the one before stays"];
    let is_end = |line: &&str| {
        ends.iter().any(|end| line.contains(end)) && !line.contains("Needs a restart")
    };
    server.log().lines().filter(is_end).count()
}

/// Has the server read this, and returns what the log says about it.
fn reload(server: &Server, config: &str) -> String {
    fs::write(server.path().join("config.toml"), config).unwrap();
    hang_up(server)
}

fn hang_up(server: &Server) -> String {
    let (before, log) = (tries(server), server.log());
    server.signal("HUP");
    eventually("the configuration was read", || tries(server) > before);
    server.log()[log.len()..].to_owned()
}

/// Publishes with these keys to the topic `t`; status and body of the answer.
fn publish(server: &Server, keys: &Keys, message: &str) -> (u16, String) {
    let token = keys.broadcast(&["t"]);
    let body = json!({ "topic": "t", "message": message, "token": token }).to_string();
    let answer = post_json(server.address, "/broadcast", &body);
    (answer.status, answer.text())
}

fn one() -> (u16, String) {
    (200, r#"{"accepted":1,"dropped":0}"#.into())
}

#[test]
fn a_key_in_a_file_is_changed_and_the_old_one_counts_no_more_not_even_where_it_was_remembered() {
    let config = format!("{STRICT}[auth.jwt]\npublic_key = \"file:public.pem\"\n");
    let (old, new) = (Keys::server(), Keys::attacker());
    let server = Builder::new()
        .env("PORT", "0")
        .file("public.pem", &old.public_pem())
        .file("config.toml", &config)
        .start();
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    // The same token each time, which is remembered from now on.
    let token = old.broadcast(&["t"]);
    let body = json!({ "topic": "t", "message": "by the old key", "token": token }).to_string();
    let by_old = || post_json(server.address, "/broadcast", &body).status;
    assert_eq!(by_old(), 200);
    assert_eq!(publish(&server, new, "no").0, 401);
    fs::write(server.path().join("public.pem"), new.public_pem()).unwrap();
    let log = hang_up(&server);
    assert!(log.contains("In force table=\"auth.jwt\""), "{log}");
    assert_eq!(by_old(), 401);
    assert_eq!(publish(&server, new, "by the new key"), one());
    assert_eq!(client.next_text(), "by the old key");
    assert_eq!(client.next_text(), "by the new key");
    // Without any change nothing is built again.
    let log = hang_up(&server);
    assert!(!log.contains("In force table"), "{log}");
    assert_eq!(publish(&server, new, "still"), one());
}

#[test]
fn with_faults_the_old_configuration_stays_and_the_log_names_each_of_them() {
    let mut server = start(STRICT);
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    let bad = format!("{STRICT}ack = 1\n[sink.ws]\nqueue_mesages = 3\nwrite_timeout = \"1ms\"\n");
    let log = reload(&server, &bad);
    for fault in [
        "ERROR pushmux::cli::reload: ./config.toml:4: protocol.notiflux.ack: found 1, expected true or false",
        "ERROR pushmux::cli::reload: ./config.toml:6: sink.ws.queue_mesages: unknown field",
        "ERROR pushmux::cli::reload: ./config.toml:7: sink.ws.write_timeout: found 1ms, expected",
        "The configuration has faults: the one before stays in force",
    ] {
        assert!(log.contains(fault), "{fault}\nis not in\n{log}");
    }
    // No file at all: the environment alone is a configuration, and a good one, but syntax
    // that nobody can read is not.
    let log = reload(&server, "[protocol\n");
    assert!(log.contains("./config.toml:1: ") && log.contains("has faults"), "{log}");
    assert_eq!(publish(&server, Keys::server(), "as before"), one());
    assert_eq!(client.next_text(), "as before");
    let log = reload(&server, &format!("{STRICT}{UNBUILDABLE}"));
    assert!(log.contains("the one before stays error=\"sink.log: "), "{log}");
    assert_eq!(publish(&server, Keys::server(), "again"), one());
    assert_eq!(client.next_text(), "again");
    assert!(server.stop().success());
}

#[test]
fn reloads_are_counted_and_the_last_good_one_is_dated() {
    let server = start(&format!("{STRICT}{ADMIN}"));
    let told = || {
        let scrape = server.scrape();
        let count = |outcome| scrape.count("pushmux_config_reloads_total", &[("outcome", outcome)]);
        let is_good = scrape.count("pushmux_config_last_reload_successful", &[]);
        (count("applied"), count("rejected"), is_good)
    };
    let since = || server.scrape().get("pushmux_config_last_reload_success_timestamp_seconds", &[]);
    let start = since();
    let of_process = server.scrape().get("process_start_time_seconds", &[]);
    assert!((start - of_process).abs() < 1.0, "{start} {of_process}");
    assert_eq!(told(), (0, 0, 1));
    reload(&server, &format!("{STRICT}ack = 1\n{ADMIN}"));
    assert_eq!(told(), (0, 1, 0));
    reload(&server, &format!("{STRICT}{ADMIN}{UNBUILDABLE}"));
    assert_eq!(told(), (0, 2, 0));
    assert!((since() - start).abs() < f64::EPSILON, "the first one is in force");
    // Needing a restart for a part of it is no fault.
    reload(&server, &format!("{STRICT}{ADMIN}[server]\nworkers = 3\n"));
    assert_eq!(told(), (1, 2, 1));
    let first = since();
    assert!(first > start, "{first} {start}");
    // Nor is it one to change nothing.
    hang_up(&server);
    assert_eq!(told(), (2, 2, 1));
    assert!(since() > first);
}

/// As when an editor or a mount takes it away for a moment; variables alone would do as well.
#[test]
fn a_file_that_has_gone_is_no_configuration() {
    let server = start(&format!("{STRICT}[sink.log]\npath = \"lines\"\n"));
    let (file, aside) = (server.path().join("config.toml"), server.path().join("aside"));
    fs::rename(&file, &aside).unwrap();
    let log = hang_up(&server);
    assert!(log.contains("ERROR pushmux::cli::reload: ./config.toml: "), "{log}");
    assert!(log.contains("the one before stays in force"), "{log}");
    assert_eq!(
        publish(&server, Keys::server(), "text"),
        (200, r#"{"accepted":0,"dropped":0}"#.into())
    );
    eventually("the sink is still there", || {
        fs::read_to_string(server.path().join("lines")).unwrap().contains("text")
    });
    fs::rename(&aside, &file).unwrap();
    assert!(hang_up(&server).contains("The configuration is in force"));
}

#[test]
fn a_file_that_came_later_must_stay_as_well() {
    let server = Builder::notiflux().start();
    assert!(reload(&server, STRICT).contains("The configuration is in force"));
    fs::remove_file(server.path().join("config.toml")).unwrap();
    assert!(hang_up(&server).contains("the one before stays in force"));
}

/// A data base that only a rejected configuration names is nobody's, and what was wrong may be
/// its table.
#[test]
fn a_data_base_of_a_rejected_reload_is_forgotten() {
    let server = start(&format!("{STRICT}{ADMIN}"));
    let ready = || request(server.admin_address(), "GET", "/readyz", &[], b"").status;
    let phones = |url: &str| {
        format!(
            "{STRICT}{ADMIN}[database.shared]\nurl = \"{url}\"\n[sink.a_phones]\ntype = \"webhook\"\ntarget = \"relay\"\ndatabase = \"shared\"\n"
        )
    };
    let down = format!("mysql://user:pass@127.0.0.1:{}/db", quiet_port());
    let log = reload(&server, &format!("{}{UNBUILDABLE}", phones(&down)));
    assert!(log.contains("the one before stays error=\"sink.log: "), "{log}");
    eventually("nobody waits for it", || ready() == 200);
    let log = reload(&server, &phones("sqlite::memory:"));
    assert!(log.contains("The configuration is in force"), "{log}");
    eventually("the other data base is asked", || ready() == 200);
}

/// Whoever has a key is let in as before, be it the data base that is down or a slip.
#[test]
fn keys_that_cannot_be_read_do_not_replace_those_that_count() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.sqlite");
    let setup = [
        "CREATE TABLE systemsettings (key TEXT, value TEXT)",
        "INSERT INTO systemsettings VALUES ('SUDO_SERVER.API_KEY', 'good')",
    ];
    sqlite::execute(&path, &setup.map(Into::into));
    let config = |rest: &str| {
        let url = format!("[database.main]\nurl = \"sqlite:{}\"\n", path.display());
        format!("{STRICT}auth = \"apikey\"\n{url}[auth.apikey]\ndatabase = \"main\"\n{rest}")
    };
    let server = start(&config(""));
    let body = json!({ "topic": "t", "message": "m", "token": "good" }).to_string();
    let ask = || post_json(server.address, "/broadcast", &body).status;
    assert_eq!(ask(), 200);
    let log = reload(&server, &config("table = \"nowhere\""));
    assert!(log.contains("the one before stays error=\"auth.apikey: "), "{log}");
    assert!(log.contains("no such table: nowhere"), "{log}");
    assert_eq!(ask(), 200);
    let log = reload(&server, &config("serve_stale = \"2h\""));
    assert!(log.contains("The configuration is in force"), "{log}");
    assert_eq!(ask(), 200);
}

#[test]
fn a_plugin_that_is_not_ready_in_time_leaves_everything_as_it_was() {
    let mut server = start(STRICT);
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    // Nobody ever reads it, so that it never opens.
    let pipe = server.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let log = reload(&server, &format!("{STRICT}ack = true\n[sink.log]\npath = \"pipe\"\n"));
    assert!(log.contains("the new plugins are not ready after 10s"), "{log}");
    assert_eq!(publish(&server, Keys::server(), "as before"), one());
    assert_eq!(client.next_text(), "as before");
    // The next one is not held up by it, and neither is the end.
    let log = reload(&server, STRICT);
    assert!(log.contains("The configuration is in force"), "{log}");
    assert!(server.stop().success());
}

/// A pipe that nobody writes into is as a file on a machine that does not answer.
#[test]
fn a_file_that_hangs_holds_up_no_later_reload() {
    let mut server = start(STRICT);
    let path = server.path().join("config.toml");
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let log = hang_up(&server);
    assert!(log.contains("or a file that it names, within 10s"), "{log}");
    assert_eq!(publish(&server, Keys::server(), "m").0, 200);
    fs::remove_file(&path).unwrap();
    assert!(reload(&server, STRICT).contains("The configuration is in force"));
    assert!(server.stop().success());
}

#[test]
fn what_needs_a_restart_is_named_and_stays_as_it_was() {
    let server = start(STRICT);
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    let other = "profile = \"notiflux\"\n[server]\nport = 1\nworkers = 3\nheader_timeout = \"7s\"\n\
        [log]\nformat = \"json\"\n[protocol.notiflux]\nstrict = true\npath_prefix = \"/x\"\n\
        [protocol.second]\ntype = \"notiflux\"\n[auth.other]\ntype = \"apikey\"\nkeys = [\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"]\n";
    for _ in 0..2 {
        let log = reload(&server, other);
        let named: Vec<_> = log
            .lines()
            .filter(|line| line.contains("Needs a restart"))
            .map(|line| line.split_once("key=").unwrap().1.trim_matches('"'))
            .collect();
        let expected = [
            "auth.other",
            "log.format",
            "protocol.notiflux.path_prefix",
            "protocol.second",
            "server.port",
            "server.workers",
        ];
        assert_eq!(named, expected, "{log}");
    }
    assert_eq!(request(server.address, "GET", "/health", &[], b"").status, 200);
    assert_eq!(publish(&server, Keys::server(), "m"), one());
    assert_eq!(client.next_text(), "m");
    // Back again, and there is nothing to be said.
    let log = reload(&server, STRICT);
    assert!(!log.contains("Needs a restart"), "{log}");
}

#[test]
fn bounds_of_queues_change_for_clients_that_are_connected() {
    let server = start(STRICT);
    let mut slow = Ws::open(server.address);
    slow.subscribe("t");
    let log = reload(
        &server,
        &format!(
            "{STRICT}[sink.ws]\nwhen_full = \"drop_newest\"\nqueue_messages = 2\nwrite_timeout = \"1h\"\n"
        ),
    );
    assert!(log.contains("need_a_restart=0"), "{log}");
    let message = "m".repeat(100_000);
    let (mut accepted, mut dropped) = (0, 0);
    while dropped < 5 {
        let (_, told) = publish(&server, Keys::server(), &message);
        let told: Value = serde_json::from_str(&told).unwrap();
        accepted += told["accepted"].as_u64().unwrap();
        dropped += told["dropped"].as_u64().unwrap();
    }
    // With the old ones it would have been disconnected.
    for _ in 0..accepted {
        assert_eq!(slow.next_text().len(), 100_000);
    }
    slow.settle();
}

#[test]
fn topics_of_a_sink_with_clients_change() {
    let server = start(STRICT);
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    reload(&server, &format!("{STRICT}[sink.ws]\ntopics = [\"notiflux/other\"]\n"));
    assert_eq!(publish(&server, Keys::server(), "for nobody").1, r#"{"accepted":0,"dropped":0}"#);
    reload(&server, STRICT);
    assert_eq!(publish(&server, Keys::server(), "for it"), one());
    assert_eq!(client.next_text(), "for it");
}

#[test]
fn the_level_of_the_log_changes() {
    let server = start(STRICT);
    // Its end is told before the socket is closed.
    let connect = || {
        let mut client = Ws::open(server.address);
        client.frame(0x88, b"\x03\xE8");
        client.until(|frame| *frame == Frame::Eof);
    };
    connect();
    reload(&server, &format!("{STRICT}[log]\nlevel = \"debug\"\n"));
    assert!(!server.log().contains("DEBUG"), "{}", server.log());
    connect();
    eventually("what is told at debug", || server.log().contains("WebSocket connection ended"));
}

#[test]
fn sinks_come_change_and_go_under_load_and_every_message_is_in_one_of_them_once() {
    const RELOADS: usize = 12;
    let server = start(STRICT);
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    let with =
        |file: &str| format!("{STRICT}[sink.log]\npath = \"{file}\"\nqueue_messages = 100000\n");
    reload(&server, &with("0.jsonl"));
    let (enough, published) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let _end = Raise(&enough);
        for publisher in 0..2 {
            let (server, enough, published) = (&server, &enough, &published);
            scope.spawn(move || {
                for number in 0.. {
                    if enough.load(Ordering::SeqCst) {
                        return;
                    }
                    let answer = publish(server, Keys::server(), &format!("{publisher} {number}"));
                    assert_eq!(answer, one());
                    published.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for round in 1..=RELOADS {
            let before = published.load(Ordering::SeqCst);
            let log = reload(&server, &with(&format!("{}.jsonl", round % 3)));
            assert!(log.contains("In force table=\"sink.log\""), "{log}");
            eventually("messages flow", || published.load(Ordering::SeqCst) >= before + 10);
        }
    });
    let published = published.load(Ordering::SeqCst);
    // The sink goes, and what it had is written.
    let log = reload(&server, STRICT);
    assert!(log.contains("Removed sink=\"log\""), "{log}");
    let lines = || -> Vec<String> {
        let files = (0..3).map(|file| server.path().join(format!("{file}.jsonl")));
        let text: String = files.filter_map(|path| fs::read_to_string(path).ok()).collect();
        text.lines().map(str::to_owned).collect()
    };
    eventually("everything is written", || lines().len() as u64 >= published);
    let mut seen = BTreeMap::<String, usize>::new();
    for line in lines() {
        let line: Value = serde_json::from_str(&line).unwrap();
        *seen.entry(line["message"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(seen.len() as u64, published);
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    assert_eq!(publish(&server, Keys::server(), "not in a file"), one());
    // The client was there all along and got all of it, once.
    let mut got = 0;
    loop {
        match client.next() {
            Frame::Text(text) if text == "not in a file" => break,
            Frame::Text(_) => got += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, published);
    assert_eq!(lines().len() as u64, published);
}
