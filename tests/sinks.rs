//! The debugging sink, alone and beside WebSocket clients; disks that are full, and pipes and
//! logs that nobody reads.

use std::fs::OpenOptions;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::http::post_json;
use crate::support::server::Builder;
use crate::support::token::Keys;
use crate::support::ws::Ws;
use crate::support::{DEADLINE, eventually};

fn config(sink: &str) -> String {
    format!(
        "profile = \"notiflux\"\n[protocol.notiflux]\nstrict = true\n[sink.debug]\ntype = \"log\"\n{sink}\n"
    )
}

fn post(address: std::net::SocketAddr, topic: &str, message: &str) -> Value {
    let token = Keys::server().broadcast(&[topic]);
    let body = json!({ "topic": topic, "message": message, "token": token }).to_string();
    serde_json::from_slice(&post_json(address, "/broadcast", &body).body).unwrap()
}

#[test]
fn every_message_is_a_line_of_json_in_the_file_also_the_last_one() {
    let builder = Builder::notiflux().file("config.toml", &config("path = \"messages.jsonl\""));
    let path = builder.path().join("messages.jsonl");
    let mut server = builder.start();
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    // One receiver: the client. A log is nobody.
    assert_eq!(post(server.address, "t", "one\n\"two\""), json!({ "accepted": 1, "dropped": 0 }));
    assert_eq!(client.next_text(), "one\n\"two\"");
    for number in 0..100 {
        post(server.address, "u", &number.to_string());
    }
    assert!(server.stop().success());
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 101);
    assert_eq!(lines[0], json!({ "id": 1, "topic": "notiflux/t", "message": "one\n\"two\"" }));
    assert_eq!(lines[100], json!({ "id": 101, "topic": "notiflux/u", "message": "99" }));
}

#[test]
fn a_sink_takes_only_its_topics_and_stdout_is_the_default() {
    let server =
        Builder::notiflux().file("config.toml", &config("topics = [\"notiflux/a*\"]")).start();
    post(server.address, "b", "no");
    post(server.address, "abc", "yes");
    eventually("the line is on stdout", || !server.stdout().is_empty());
    assert_eq!(server.stdout(), "{\"id\":2,\"message\":\"yes\",\"topic\":\"notiflux/abc\"}\n");
}

/// A file system of one MiB; none where this process may not mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=1m", "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(dir.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_costs_lines_of_the_sink_alone_and_it_goes_on_when_there_is_room() {
    // Only root may mount one.
    let Some(disk) = SmallDisk::mount() else { return };
    let (path, filler) = (disk.0.path().join("messages.jsonl"), disk.0.path().join("filler"));
    std::fs::write(&filler, vec![0; 600_000]).unwrap();
    let sink = format!("path = \"{}\"", path.display());
    let mut server = Builder::notiflux().file("config.toml", &config(&sink)).start();
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    let message = "m".repeat(50_000);
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(post(server.address, "t", &message)["accepted"], 1);
        assert_eq!(client.next_text(), message);
    }
    assert!(start.elapsed() < DEADLINE);
    eventually("the log says so", || server.log().contains("Cannot write messages"));
    std::fs::remove_file(&filler).unwrap();
    eventually("it writes again", || {
        assert_eq!(post(server.address, "t", "small")["accepted"], 1);
        assert_eq!(client.next_text(), "small");
        server.log().contains("Messages can be written again")
    });
    assert!(server.stop().success());
    // What is there are whole lines, but for one that was cut off.
    let text = std::fs::read_to_string(&path).unwrap();
    let cut = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count();
    assert!(cut <= 1, "{cut} lines are cut");
    assert!(text.lines().last().is_some_and(|line| line.contains("\"small\"")));
    assert_eq!(server.log().matches("Cannot write messages").count(), 1);
}

#[test]
fn a_disk_that_is_always_full_is_told_once() {
    let config = config("path = \"/dev/full\"");
    let mut server = Builder::notiflux().file("config.toml", &config).start();
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    for number in 0..50 {
        assert_eq!(post(server.address, "t", &number.to_string())["accepted"], 1);
        assert_eq!(client.next_text(), number.to_string());
    }
    assert!(server.stop().success());
    assert_eq!(server.log().matches("Cannot write messages").count(), 1, "{}", server.log());
}

/// Its reader is there and reads nothing.
#[test]
fn a_stuck_pipe_of_the_sink_costs_its_lines_alone() {
    let builder = Builder::notiflux().file(
        "config.toml",
        &(config("path = \"pipe\"\nqueue_messages = 10") + "[server]\nshutdown_timeout = \"1s\"\ndrain_spread = \"0s\"\n[sink.ws]\nclose_timeout = \"100ms\""),
    );
    let pipe = builder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let mut server = builder.start();
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    let message = "m".repeat(30_000);
    let mut dropped = 0;
    for _ in 0..50 {
        let counts = post(server.address, "t", &message);
        assert_eq!(counts["accepted"], 1);
        dropped += counts["dropped"].as_u64().unwrap();
        assert_eq!(client.next_text(), message);
    }
    assert!(dropped > 20, "{dropped}");
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    // Some lines for each frame and request: far more than the pipe and the queue hold.
    let builder = Builder::notiflux()
        .env("RUST_LOG", "pushmux=trace,warp=trace,hyper=trace,tokio=trace,mio=trace");
    let mut server = builder.start_with_stuck_log();
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    for number in 0..1_000 {
        let token = Keys::server().broadcast(&["t"]);
        let message = number.to_string();
        let body = json!({ "topic": "t", "message": message, "token": token }).to_string();
        assert_eq!(post_json(server.address, "/broadcast", &body).status, 200);
        assert_eq!(client.next_text(), message);
    }
    drop(client);
    assert!(server.stop().success());
    // As much as a pipe holds: it was full, and the rest is lost.
    let left = server.unread_log().len();
    assert!(left > 60_000, "{left} bytes: nothing was stuck");
}
