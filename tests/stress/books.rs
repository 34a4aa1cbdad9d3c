//! Every message is accounted for: what `/metrics` says at the end of a scenario.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::DEADLINE;
use crate::support::scrape::{Books, Scrape};

/// For the configuration: the server answers operators.
pub const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";

/// What is counted so far; clients go on meanwhile.
pub async fn scrape(operators: SocketAddr) -> Scrape {
    tokio::task::spawn_blocking(move || Scrape::of(operators)).await.unwrap()
}

/// What is counted when nobody publishes and no message of this sink is on its way any more.
///
/// # Panics
/// When that does not come to pass, or the sum is another one then.
pub async fn settled(operators: SocketAddr, sink: &'static str) -> Scrape {
    let start = Instant::now();
    loop {
        let scrape = scrape(operators).await;
        let books = scrape.books(sink);
        if books.waiting == 0 && books.balance() {
            return scrape;
        }
        assert!(start.elapsed() < DEADLINE, "the books of {sink} do not balance: {books}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Like [`settled`]: nothing was dropped, and what was delivered is known.
///
/// # Panics
/// When it is not what was expected.
pub async fn delivered(operators: SocketAddr, sink: &'static str, expected: usize) -> Books {
    let books = settled(operators, sink).await.books(sink);
    assert_eq!(books, Books::of_delivered(expected as u64), "the books of {sink}, and what came");
    books
}
