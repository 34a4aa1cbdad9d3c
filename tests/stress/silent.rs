//! Peers that fell silent: no pong, no rest of a request, no goodbye.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::churn::{attend, publish, subscribers};
use crate::run::{Run, block_on};
use crate::support::ledger::Ledger;
use crate::support::notiflux::{STRICT, Topic};
use crate::support::peer::{within, write};
use crate::support::server::Builder;

const HEALTHY: usize = 20;
/// Who is silent in a WebSocket.
const SUBSCRIBED: usize = 400;
/// Who is silent in a request: nothing of it, half a head, half a body.
const ASKING: [(usize, &str); 3] = [
    (100, ""),
    (100, "POST /broadcast HTTP/1.1\r\nHos"),
    (
        100,
        "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    ),
];

/// Long enough for the answers of a process that has to wait for its turn.
const KEYS: &str = "ping_interval = \"700ms\"\nidle_timeout = \"2s\"\n[server]\nheader_timeout = \"1s\"\nbody_timeout = \"1s\"\n";

pub fn silent(_: &Run) -> String {
    let mut server = Builder::notiflux().file("config.toml", &format!("{STRICT}{KEYS}")).start();
    let (ledger, topic, address) = (Ledger::default(), Topic::new("t"), server.address);
    let over = watch::Sender::new(false);
    let (stays, took) = block_on(async {
        let healthy = subscribers(&ledger, &topic, address, HEALTHY).await;
        let before = server.descriptors();
        let healthy = join_all(healthy.into_iter().map(|it| attend(it, over.subscribe())));
        let silence = async {
            let silent = subscribers(&ledger, &topic, address, SUBSCRIBED).await;
            let mut asking = Vec::new();
            for (count, text) in ASKING {
                for _ in 0..count {
                    let stream = TcpStream::connect(address).await.unwrap();
                    write(&stream, text.as_bytes()).await.unwrap();
                    asking.push(stream);
                }
            }
            let start = Instant::now();
            let gone = async {
                while server.descriptors() > before {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            within("who is silent is gone", gone).await;
            let took = start.elapsed();
            // Nobody is visited any more who is not there.
            let told = publish(&ledger, &topic, address, 0..1, 10, 0).await;
            assert_eq!((told.accepted, told.dropped), (10 * HEALTHY as u64, 0), "receivers");
            over.send_replace(true);
            drop((silent, asking));
            took
        };
        tokio::join!(healthy, silence)
    });
    let observed = [stays[0].seen.clone()];
    let checked = ledger.check(&observed, &stays).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(checked.messages, 10, "messages that came at all");
    assert!(server.stop().success(), "the server ended badly");
    let asking: usize = ASKING.iter().map(|(count, _)| count).sum();
    format!(
        "{SUBSCRIBED} subscribers and {asking} requests fell silent: all gone after {:.1} s, \
         {HEALTHY} who answer stayed",
        took.as_secs_f64()
    )
}
