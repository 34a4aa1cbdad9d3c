//! Restarts behind a socket that somebody else keeps, as systemd does: nobody is refused.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::run::{Run, thousands};
use crate::support::http::request;
use crate::support::server::{Builder, Server};
use crate::support::{Raise, eventually};

const RESTARTS: usize = 15;
const CALLERS: usize = 4;
/// Requests between two restarts, at least.
const BETWEEN: usize = 50;

pub fn handover(_: &Run) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let port = address.port().to_string();
    let serve = || -> Server { Builder::notiflux().env("PORT", &port).inherit(&socket).start() };
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        // A connection of its own each time; it panics when it is refused.
                        let answer = request(address, "GET", "/health", &[], b"");
                        assert_eq!(answer.status, 200, "the answer to a caller");
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // However this ends: callers must end too.
        let _end = Raise(&over);
        for _ in 0..RESTARTS {
            let (mut server, before) = (serve(), answered.load(Ordering::Relaxed));
            eventually("callers are answered", || {
                let failed = callers.iter().any(thread::ScopedJoinHandle::is_finished);
                failed || answered.load(Ordering::Relaxed) >= before + BETWEEN
            });
            assert!(server.stop().success(), "the server ended badly");
        }
        // Who has called meanwhile is answered by the last one.
        let mut last = serve();
        over.store(true, Ordering::Relaxed);
        callers.into_iter().for_each(|caller| caller.join().expect("a caller was refused"));
        assert!(last.stop().success(), "the server ended badly");
    });
    format!(
        "{RESTARTS} restarts behind a kept socket: {} callers, each with a connection of its own, \
         none refused or left without an answer",
        thousands(answered.into_inner())
    )
}
