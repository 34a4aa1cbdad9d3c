//! More clients than the process may have open files.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::churn::{attend, publish, subscribers};
use crate::run::{Run, block_on, thousands};
use crate::support::ledger::Ledger;
use crate::support::notiflux::{PATH, STRICT, Topic};
use crate::support::peer::{Peer, within};
use crate::support::server::Builder;

const FILES: &str = "--nofile=128:128";
const CROWD: usize = 400;
const HEALTHY: usize = 8;
const MESSAGES: usize = 50;

pub fn descriptors(_: &Run) -> String {
    let keys = format!("{STRICT}[server]\nheader_timeout = \"1m\"\n");
    let builder = Builder::notiflux().under(["prlimit", FILES]).file("config.toml", &keys);
    let mut server = builder.start();
    let (ledger, topic, address) = (Ledger::default(), Topic::new("t"), server.address);
    let over = watch::Sender::new(false);
    let (stays, figures) = block_on(async {
        let healthy = subscribers(&ledger, &topic, address, HEALTHY).await;
        let healthy = join_all(healthy.into_iter().map(|it| attend(it, over.subscribe())));
        let trouble = async {
            // A publisher who is there already; others may not get in.
            let load = async {
                publish(&ledger, &topic, address, 0..1, MESSAGES, 0).await;
            };
            load.await;
            // Those who get in, those who are refused, and those who wait.
            let crowd = join_all(
                (0..CROWD).map(|_| timeout(Duration::from_secs(2), Peer::open(address, PATH, &[]))),
            );
            let crowd = crowd.await;
            let answered = |status: u16| {
                let answers = crowd.iter().filter_map(|opened| opened.as_ref().ok()?.as_ref().ok());
                answers.filter(|(_, answer)| answer.status == status).count()
            };
            let (inside, refused) = (answered(101), answered(503));
            assert!(inside > 0 && inside < CROWD, "{inside} of {CROWD} got in");
            let before = server.cpu_ticks();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let cpu = server.cpu_ticks() - before;
            assert!(cpu < 50, "a server that is full spends {cpu} % of a core on it");
            drop(crowd);
            let start = Instant::now();
            let served = async {
                loop {
                    let opened =
                        timeout(Duration::from_millis(200), Peer::open(address, PATH, &[]));
                    if let Ok(Ok((_, answer))) = opened.await
                        && answer.status == 101
                    {
                        return;
                    }
                }
            };
            within("newcomers are served again", served).await;
            let recovered = start.elapsed().as_millis();
            publish(&ledger, &topic, address, 1..2, MESSAGES, 0).await;
            over.send_replace(true);
            format!(
                "{inside} got in, {refused} refused, {} left waiting; {cpu} % of a core while \
                 full, newcomers served {recovered} ms after",
                CROWD - inside - refused
            )
        };
        tokio::join!(healthy, trouble)
    });
    let observed = [stays[0].seen.clone()];
    let checked = ledger.check(&observed, &stays).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(checked.messages, 2 * MESSAGES, "messages that came at all");
    let lines = server.log().lines().count();
    assert!(lines < 200, "{lines} lines in the log");
    assert!(server.stop().success(), "the server ended badly");
    format!(
        "{CROWD} clients for 128 files: {figures}; {} deliveries, each once",
        thousands(checked.deliveries)
    )
}
