//! One client in a hundred stops reading, with megabytes on their way to it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use crate::books::{ADMIN, settled};
use crate::churn::subscribers;
use crate::run::{Run, block_on, thousands};
use crate::support::frames::Frame;
use crate::support::ledger::{Ledger, Stay};
use crate::support::notiflux::{Delivery, Listener, Pause, STRICT, Speaker, Topic};
use crate::support::peer::within;
use crate::support::server::Builder;

const HEALTHY: usize = 300;
const STOPPED: usize = 3;
const MESSAGES: usize = 400;
const BYTES: usize = 20_000;

/// Messages that are published before those who read have them: far fewer than may wait for
/// one of them, so that nobody is slow who is meant to be healthy.
const AHEAD: usize = 8;

/// What a client that does not read may cost: the bound of its queue, and some more.
const MOST_KIB: usize = 1024 + 64;

pub fn slow(_: &Run) -> String {
    let config = format!("{STRICT}{ADMIN}");
    let mut server = Builder::notiflux().file("config.toml", &config).start();
    let (ledger, address) = (Ledger::default(), server.address);
    let (calm, topic) = (Topic::new("calm"), Topic::new("t"));
    // The same load without them, for what it costs.
    let (without, before) = block_on(async {
        let healthy = subscribers(&ledger, &calm, address, HEALTHY + STOPPED).await;
        server.forget_peak();
        let (_, told) = load(&ledger, &calm, address, 0, MESSAGES / 4, healthy).await;
        (server.peak_kib(), told)
    });
    let (stays, delivery) = block_on(async {
        let healthy = subscribers(&ledger, &topic, address, HEALTHY).await;
        let mut stopped = subscribers(&ledger, &topic, address, STOPPED).await;
        server.forget_peak();
        let (mut stays, delivery) = load(&ledger, &topic, address, 1, MESSAGES, healthy).await;
        // They may have what was queued for them, and learn why they go, if they hurry.
        for (listener, stay) in &mut stopped {
            stay.who = format!("stopped {}", stay.who);
            let rest = async {
                loop {
                    match listener.peer.next().await {
                        Frame::Text(text) => stay.seen.push(text.parse().unwrap()),
                        Frame::Close(Some((1013, _))) | Frame::Eof => return,
                        other => panic!("a client that had stopped reading got {other:?}"),
                    }
                }
            };
            within("who does not read is disconnected", rest).await;
            assert!(stay.seen.len() < MESSAGES, "nobody was slow: the kernel took it all");
        }
        stays.extend(stopped.into_iter().map(|(_, stay)| stay));
        (stays, delivery)
    });
    let peak = server.peak_kib();
    let observed = [stays[0].seen.clone()];
    let checked = ledger.check(&observed, &stays).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(checked.messages, MESSAGES, "messages that came at all");
    let scrape = block_on(settled(server.admin_address(), "ws"));
    let growth = peak.saturating_sub(without);
    assert!(
        growth <= STOPPED * MOST_KIB,
        "{STOPPED} clients that do not read cost {growth} KiB, expected {} at most",
        STOPPED * MOST_KIB
    );
    assert!(server.stop().success(), "the server ended badly");
    let full = server.reported("Closing WebSocket connections", "dropped_queue_full") as u64;
    let closed = server.reported("Closing WebSocket connections", "dropped_closed") as u64;
    let Delivery { accepted, dropped } = delivery;
    assert_eq!(dropped, full + closed, "dropped, as publishers were told and as was counted");
    // Of what was accepted, those who are disconnected did not get all.
    let (books, disconnected) = (scrape.books("ws"), scrape.dropped("ws", "disconnected"));
    assert_eq!(before.dropped, 0, "dropped while all were reading");
    let all = before.accepted + accepted;
    assert_eq!(
        books.matched,
        all + dropped,
        "receivers, as was counted and as publishers were told"
    );
    assert_eq!(books.delivered + disconnected, all, "what was accepted: {books}");
    assert_eq!(books.dropped, dropped + disconnected, "what was dropped: {books}");
    let came = before.accepted + checked.deliveries as u64;
    assert!(came <= books.delivered, "{came} came: {books}");
    assert!(full >= STOPPED as u64, "the queues of {full} clients were full");
    let most = ((HEALTHY + STOPPED) * MESSAGES) as u64;
    assert!(accepted >= (HEALTHY * MESSAGES) as u64 && accepted + dropped <= most, "{delivery:?}");
    format!(
        "{STOPPED} of {} stopped reading, {:.1} MB for each: {} deliveries to the others, each \
         once; {growth} KiB more memory; {books}",
        HEALTHY + STOPPED,
        (MESSAGES * BYTES) as f64 / 1e6,
        thousands(HEALTHY * MESSAGES)
    )
}

/// Publishes to those who read, as fast as they do; what they got and what was told.
async fn load(
    ledger: &Ledger,
    topic: &Topic,
    address: SocketAddr,
    publisher: u16,
    messages: usize,
    healthy: Vec<(Listener<'_>, Stay)>,
) -> (Vec<Stay>, Delivery) {
    let (count, read, over) = (healthy.len(), Cell::new(0), watch::Sender::new(false));
    let reading = join_all(healthy.into_iter().map(async |(mut listener, mut stay)| {
        let mut over = over.subscribe();
        while listener.listen(&mut stay, 1, &mut over).await == Pause::Enough {
            read.set(read.get() + 1);
        }
        let done = listener.finish(&mut stay).await;
        let seen = stay.seen.len();
        assert!(done, "{}, who reads, was disconnected after {seen} messages", stay.who);
        stay
    }));
    let publishing = async {
        let mut speaker = Speaker::new(ledger, address, publisher, BYTES);
        let mut told = Delivery::default();
        for number in 0..messages {
            let said = within("a publish is answered", speaker.say(topic)).await;
            told += said.unwrap_or_else(|error| panic!("no answer: {error}"));
            let keep_up = async {
                while read.get() + AHEAD * count < number * count {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            within("those who read have most of it", keep_up).await;
        }
        over.send_replace(true);
        told
    };
    tokio::join!(reading, publishing)
}
