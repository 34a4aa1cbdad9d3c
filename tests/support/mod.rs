//! What the tests share: the real binary, raw HTTP, a raw WebSocket client, tokens.
//!
//! Helpers return real answers; the tests do the asserting. Everything that waits has a
//! deadline and polls; nothing sleeps in the hope that something has happened.
#![allow(dead_code)]

pub mod cdp;
pub mod dice;
pub mod frames;
pub mod http;
pub mod ledger;
pub mod mariadb;
pub mod notiflux;
pub mod oitc;
pub mod peer;
pub mod proxy;
pub mod receiver;
pub mod scrape;
pub mod server;
pub mod simulation;
pub mod sqlite;
pub mod stub;
pub mod token;
pub mod trend;
pub mod ws;

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take before a test fails. Generous: it decides nothing else.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Tests hold thousands of sockets; the soft limit is often 1024.
pub fn raise_descriptor_limit() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
}

/// Raises a flag when it goes out of scope, so that threads end even when a test fails.
pub struct Raise<'a>(pub &'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Polls until `done` says yes.
///
/// # Panics
/// After [`DEADLINE`], naming `what`.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A free port that is nobody else's while the server is away: below those the system
/// hands out by itself, and never the same one twice.
pub fn quiet_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 5_000) as u16;
    std::iter::repeat_with(|| first + TAKEN.fetch_add(1, Ordering::Relaxed))
        .take(5_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}
