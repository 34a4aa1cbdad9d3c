//! The data base is killed, and another time it freezes, while browsers are on the line.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::books::{ADMIN, delivered, settled};
use crate::run::{Run, block_on, thousands};
use crate::support::frames::Frame;
use crate::support::oitc::{KEY, alert, mariadb, relay, serve};
use crate::support::peer::{Peer, Publisher, within};
use crate::support::receiver::{Answer, Receiver};
use crate::support::scrape::Books;
use crate::support::server::Builder;

const BROWSERS: usize = 200;
/// In each phase.
const ALERTS: usize = 20;
const NEWCOMERS: usize = 20;

/// A user who gets no alert: who goes at once would or would not have it.
const OTHER: u32 = 6;

/// What a browser says to get notifications.
pub const REGISTER: &str =
    r#"{"type":"RegisterBrowserPushNotification","message":"","payload":{}}"#;

pub fn outage(_: &Run) -> String {
    let mut db = mariadb();
    let gateway = Receiver::start(Answer::Status(200));
    relay(&db, gateway.address, "key");
    // Every name is asked for each time, so that every alert meets the fault.
    let keys = format!("export_interval = \"1h\"\nlookup_cache = \"0s\"\n{ADMIN}");
    let mut server = serve(Builder::new(), &db.url(), &keys);
    let (address, operators) = (server.address, server.admin_address());
    block_on(async {
        let mut browsers = Vec::new();
        for index in 0..BROWSERS {
            browsers.push(registered(address, &format!("b{index}")).await);
        }
        let mut phases = Vec::new();
        phases.push(phase(address, "running", false).await);
        delivered(operators, "relay", ALERTS).await;
        db.kill();
        phases.push(fault(address, "killed").await);
        db.restart();
        phases.push(normal(address).await);
        db.freeze();
        phases.push(fault(address, "frozen").await);
        db.thaw();
        phases.push(normal(address).await);
        // One after the other: what came meanwhile waits in their sockets.
        let due = ALERTS * phases.len();
        for (index, browser) in browsers.iter_mut().enumerate() {
            let mut came = 0;
            let count = |frame| came += usize::from(is_notification(&frame));
            let alive = within("a browser is answered", browser.settle(count)).await;
            assert!(alive, "browser {index} was disconnected after {came} notifications");
            assert_eq!(came, due, "notifications for browser {index}");
        }
        let browsers_books = delivered(operators, "ws", BROWSERS * due).await;
        let phone_books = phone(operators, &gateway, due).await;
        drop(browsers);
        assert!(server.stop().success(), "the server ended badly");
        format!(
            "{BROWSERS} browsers stayed and got {} notifications each; slowest answers: {}; \
             {browsers_books}; a phone: {phone_books}",
            thousands(due),
            phases.join(", ")
        )
    })
}

/// The books of the relay: each alert was for the phone, which has got what was delivered. Which
/// phones there are nobody could say while the data base was away.
async fn phone(operators: SocketAddr, gateway: &Receiver, due: usize) -> Books {
    let scrape = settled(operators, "relay").await;
    let (books, failed) = (scrape.books("relay"), scrape.dropped("relay", "failed"));
    let expected = (due as u64, gateway.requests().len() as u64, failed);
    let counted = (books.matched, books.delivered, books.dropped);
    assert_eq!(counted, expected, "alerts, what a phone got, what failed: {books}");
    books
}

/// A browser that gets notifications.
pub async fn registered(address: SocketAddr, name: &str) -> Peer {
    let (mut peer, status) = knock(address, 5, name, KEY).await;
    assert_eq!(status, 101, "the answer to a browser");
    peer.text(REGISTER).await.unwrap();
    // It is greeted, and that is all.
    let alive = within("a browser is answered", peer.settle(|_| {})).await;
    assert!(alive, "browser {name} was disconnected");
    peer
}

async fn knock(address: SocketAddr, user: u32, name: &str, key: &str) -> (Peer, u16) {
    let path = format!("/?userId={user}&browserUuid={name}");
    let offers = [("Sec-WebSocket-Protocol", &*format!("access_token, {key}"))];
    let opened = within("a handshake is answered", Peer::open(address, &path, &offers)).await;
    let (peer, answer) = opened.unwrap_or_else(|error| panic!("no answer to a browser: {error}"));
    (peer, answer.status)
}

/// Whether it is one, and not an export status.
pub fn is_notification(frame: &Frame) -> bool {
    matches!(frame, Frame::Text(text) if text.contains("ProcessPushNotification"))
}

/// Alerts, newcomers, and somebody with a wrong key; how long the slowest answer took.
async fn phase(address: SocketAddr, name: &str, faulty: bool) -> String {
    let alerts = async {
        let (mut publisher, mut slowest) = (Publisher::new(address), Duration::ZERO);
        let body = alert(&json!({})).to_string();
        for _ in 0..ALERTS {
            let start = Instant::now();
            let post = publisher.post("/message", &body);
            let answer = within("an alert is answered", post).await;
            let answer = answer.unwrap_or_else(|error| panic!("no answer to an alert: {error}"));
            assert_eq!(answer.status, 200, "an alert while the data base is {name}");
            slowest = slowest.max(start.elapsed());
        }
        slowest
    };
    let newcomers = join_all((0..NEWCOMERS).map(async |index| {
        let start = Instant::now();
        let (_peer, status) = knock(address, OTHER, &format!("new-{index}"), KEY).await;
        assert_eq!(status, 101, "a browser with the key while the data base is {name}");
        start.elapsed()
    }));
    let stranger = async {
        let start = Instant::now();
        let (_peer, status) = knock(address, OTHER, "stranger", "wrong").await;
        let expected: &[u16] = if faulty { &[401, 503] } else { &[401] };
        assert!(expected.contains(&status), "a wrong key while the data base is {name}: {status}");
        start.elapsed()
    };
    let (alert, newcomers, stranger) = tokio::join!(alerts, newcomers, stranger);
    let newcomer = newcomers.into_iter().max().unwrap_or_default().max(stranger);
    format!("{name} {}/{} ms", alert.as_millis(), newcomer.as_millis())
}

/// Waits until the fault is noticed, by somebody whose key nobody can judge; then alerts and
/// newcomers.
async fn fault(address: SocketAddr, name: &str) -> String {
    let noticed = judged(address, 503).await.as_millis();
    phase(address, &format!("{name}, noticed after {noticed} ms,"), true).await
}

/// Waits until a wrong key is known to be wrong, which takes a data base; then as always.
async fn normal(address: SocketAddr) -> String {
    let back = judged(address, 401).await.as_millis();
    phase(address, &format!("back after {back} ms,"), false).await
}

/// How long it takes until a wrong key gets this answer.
async fn judged(address: SocketAddr, wanted: u16) -> Duration {
    let start = Instant::now();
    let judged = async {
        while knock(address, OTHER, "stranger", "wrong").await.1 != wanted {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    within("the answer to a wrong key is another one", judged).await;
    start.elapsed()
}
