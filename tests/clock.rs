//! The clock on the wall is set to another time: a summer time gone wrong, a virtual machine
//! that wakes up. Whatever counts seconds goes on; only what was promised until a date ends.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::post_json;
use crate::support::notiflux::{PATH, STRICT};
use crate::support::server::Builder;
use crate::support::token::{Keys, claims, now};
use crate::support::ws::{Frame, Ws};
use crate::support::{DEADLINE, eventually};

const CLIENTS: usize = 20;
/// Five seconds more than a ping takes to come: so long may this process have to wait for its
/// turn, and those who answer still do so in time.
const IDLE: Duration = Duration::from_secs(6);

/// Shows the server under test another time than it is, as a file says.
struct Wall(PathBuf);

impl Wall {
    fn of(builder: Builder) -> (Builder, Self) {
        let file = builder.path().join("clock");
        let wall = Self(file);
        wall.set("+0");
        let builder = builder
            .env("LD_PRELOAD", &library().display().to_string())
            .env("FAKETIME_TIMESTAMP_FILE", &wall.0.display().to_string())
            // The file is read each time somebody asks for the time.
            .env("FAKETIME_NO_CACHE", "1")
            // Nobody can set this one.
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        (builder, wall)
    }

    /// At once: no reader sees half of it.
    fn set(&self, offset: &str) {
        let new = self.0.with_extension("new");
        fs::write(&new, offset).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found = folders.chain([PathBuf::from("/usr/lib64")]);
    let name = "faketime/libfaketimeMT.so.1";
    let library = found.find(|folder| folder.join(name).exists());
    library.expect("libfaketime is missing: apt-get install faketime, or scripts/test").join(name)
}

/// The answer's status, and how many accepted it.
fn publish(address: SocketAddr, token: &str) -> (u16, Option<u64>) {
    let body = json!({ "topic": "t", "message": "m", "token": token }).to_string();
    let answer = post_json(address, "/broadcast", &body);
    let counts: Value = serde_json::from_slice(&answer.body).unwrap();
    (answer.status, counts["accepted"].as_u64())
}

fn token(scope: &str, seconds: u64) -> String {
    let mut claims = claims(scope, &["t"]);
    claims["exp"] = (now() + seconds).into();
    Keys::server().token(&claims)
}

#[test]
fn a_wall_clock_that_jumps_disconnects_nobody_and_ends_tokens_alone() {
    let keys = format!(
        "{STRICT}ping_interval = \"1s\"\nidle_timeout = \"{}s\"\n[admin]\nlisten = \"127.0.0.1:0\"\n",
        IDLE.as_secs()
    );
    let (builder, wall) = Wall::of(Builder::notiflux().file("config.toml", &keys));
    let server = builder.start();
    let address = server.address;
    let open = || {
        let mut client = Ws::open_path(address, PATH);
        client.text(&format!("/subscribe t {}", token("subscribe", 86_400)));
        assert_eq!(client.next_text(), "/subscribed t");
        client
    };
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| open()).collect();
    let (long, hour) = (token("broadcast", 86_400), token("broadcast", 3600));
    let subscription = token("subscribe", 3600);
    for (offset, hour_is_over) in
        [("+0", false), ("+7200", true), ("-7200", false), ("+7200", true), ("+0", false)]
    {
        wall.set(offset);
        // Before it is on the line, so that it cannot be silent for longer than from here.
        let start = Instant::now();
        // It says nothing from now on, and does not read either.
        let silent = open();
        // Others say nothing but what answers a ping: without pings they would go, too.
        loop {
            let (status, accepted) = publish(address, &long);
            assert_eq!(status, 200, "at {offset}");
            for client in &mut clients {
                assert_eq!(client.next(), Frame::Text("m".into()), "at {offset}");
            }
            if accepted == Some(CLIENTS as u64) {
                break;
            }
            assert!(start.elapsed() < DEADLINE, "at {offset} who is silent is still there");
            thread::sleep(Duration::from_millis(20));
        }
        assert!(start.elapsed() >= IDLE, "at {offset} who is silent went too early");
        drop(silent);
        // A date is a date, also for a token that was verified before.
        let (status, accepted) = publish(address, &hour);
        let expected = if hour_is_over { (401, None) } else { (200, Some(CLIENTS as u64)) };
        assert_eq!((status, accepted), expected, "at {offset}");
        let mut newcomer = Ws::open_path(address, PATH);
        newcomer.text(&format!("/subscribe t {subscription}"));
        let answer = newcomer.next_text();
        let word = if hour_is_over { "/denied t" } else { "/subscribed t" };
        assert!(answer.starts_with(word), "at {offset}: {answer}");
        newcomer.frame(0x88, &1000_u16.to_be_bytes());
        newcomer.until(|frame| matches!(frame, Frame::Close(_)));
        if !hour_is_over {
            for client in &mut clients {
                assert_eq!(client.next(), Frame::Text("m".into()), "at {offset}");
            }
        }
    }
    // Those who were silent, the newcomers, and nobody else.
    let ended = "pushmux_connections_ended_total";
    eventually("who went is counted", || server.scrape().sum(ended, &[]) == 10);
    let scrape = server.scrape();
    let count = |reason| scrape.count(ended, &[("protocol", "notiflux"), ("reason", reason)]);
    assert_eq!((count("silent"), count("closed")), (5, 5));
}
