//! One client in a hundred stops reading, with megabytes on their way to it.

use futures_util::future::join_all;
use tokio::sync::watch;

use crate::churn::{attend, publish, subscribers};
use crate::run::{Run, block_on, thousands};
use crate::support::frames::Frame;
use crate::support::ledger::Ledger;
use crate::support::notiflux::{Delivery, STRICT, Topic};
use crate::support::peer::within;
use crate::support::server::Builder;

const HEALTHY: usize = 300;
const STOPPED: usize = 3;
const MESSAGES: usize = 400;
const BYTES: usize = 20_000;

/// What a client that does not read may cost: the bound of its queue, and some more.
const MOST_KIB: usize = 1024 + 64;

pub fn slow(_: &Run) -> String {
    let mut server = Builder::notiflux().file("config.toml", STRICT).start();
    let (ledger, address) = (Ledger::default(), server.address);
    let (calm, topic) = (Topic::new("calm"), Topic::new("t"));
    // The same load without them, for what it costs.
    let without = block_on(async {
        server.forget_peak();
        let over = watch::Sender::new(false);
        let healthy = subscribers(&ledger, &calm, address, HEALTHY + STOPPED).await;
        let healthy = join_all(healthy.into_iter().map(|it| attend(it, over.subscribe())));
        let published = async {
            publish(&ledger, &calm, address, 0..2, MESSAGES / 4, BYTES).await;
            over.send_replace(true);
        };
        tokio::join!(healthy, published);
        server.peak_kib()
    });
    let over = watch::Sender::new(false);
    let (stays, delivery) = block_on(async {
        let healthy = subscribers(&ledger, &topic, address, HEALTHY).await;
        let mut stopped = subscribers(&ledger, &topic, address, STOPPED).await;
        server.forget_peak();
        let healthy = join_all(healthy.into_iter().map(|it| attend(it, over.subscribe())));
        let published = async {
            let told = publish(&ledger, &topic, address, 2..4, MESSAGES / 2, BYTES).await;
            over.send_replace(true);
            told
        };
        let (mut stays, delivery) = tokio::join!(healthy, published);
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
    assert!(full >= STOPPED as u64, "the queues of {full} clients were full");
    let most = ((HEALTHY + STOPPED) * MESSAGES) as u64;
    assert!(accepted >= (HEALTHY * MESSAGES) as u64 && accepted + dropped <= most, "{delivery:?}");
    format!(
        "{STOPPED} of {} stopped reading, {:.1} MB for each: {} deliveries to the others, each \
         once; {dropped} dropped; {growth} KiB more memory",
        HEALTHY + STOPPED,
        (MESSAGES * BYTES) as f64 / 1e6,
        thousands(HEALTHY * MESSAGES)
    )
}
