//! A network that carries nothing any more and tells nobody, at the deadlines that servers have
//! by default. Takes a minute of waiting, so it runs by name alone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;

use crate::books::{ADMIN, scrape};
use crate::churn::{attend, publish, subscribers};
use crate::outage::registered;
use crate::run::{Run, block_on};
use crate::support::frames::Frame;
use crate::support::ledger::Ledger;
use crate::support::notiflux::{STRICT, Topic};
use crate::support::oitc;
use crate::support::peer::Peer;
use crate::support::proxy::{Link, Proxy};
use crate::support::server::Builder;

const CUT_OFF: usize = 50;
const HEALTHY: usize = 10;

/// A peer that is cut off just after a sign of life is silent for `idle_timeout`, and is asked
/// every `ping_interval`.
const NOTIFLUX: Duration = Duration::from_secs(30 + 15);
const OITC: Duration = Duration::from_secs(61);
/// For a machine that has other things to do.
const GRACE: Duration = Duration::from_secs(4);

pub fn cut(run: &Run) -> String {
    let config = format!("{STRICT}{ADMIN}");
    let mut notiflux = Builder::notiflux().file("config.toml", &config).start();
    let mut oitc = oitc::on_sqlite_with(&format!("export_interval = \"1h\"\n{ADMIN}"));
    let (ledger, topic) = (Ledger::default(), Topic::new("t"));
    let over = watch::Sender::new(false);
    let (stays, (clients, browsers)) = block_on(async {
        let healthy = subscribers(&ledger, &topic, notiflux.address, HEALTHY).await;
        let healthy = join_all(healthy.into_iter().map(|it| attend(it, over.subscribe())));
        let mut patient = Vec::new();
        for index in 0..HEALTHY {
            patient.push(registered(oitc.address, &format!("healthy-{index}")).await);
        }
        let patient = join_all(patient.into_iter().map(|it| stay(it, over.subscribe())));
        let silence = async {
            let link = |address, whose| Proxy::start(address, Link::default(), run.dice(whose));
            let near = link(notiflux.address, 0).await.unwrap();
            let far = link(oitc.address, 1).await.unwrap();
            let clients = subscribers(&ledger, &topic, near.address, CUT_OFF).await;
            let mut browsers = Vec::new();
            for index in 0..CUT_OFF {
                browsers.push(registered(far.address, &format!("cut-{index}")).await);
            }
            near.hold(true, true);
            far.hold(true, true);
            // They go as well, and the server does not hear of it.
            drop((clients, browsers));
            let gone = tokio::join!(
                gone(notiflux.admin_address(), "notiflux", NOTIFLUX),
                gone(oitc.admin_address(), "oitc", OITC),
            );
            // Nobody is visited any more who is not there.
            let told = publish(&ledger, &topic, notiflux.address, 0..1, 10, 0).await;
            assert_eq!((told.accepted, told.dropped), (10 * HEALTHY as u64, 0), "receivers");
            over.send_replace(true);
            gone
        };
        let (stays, _, gone) = tokio::join!(healthy, patient, silence);
        (stays, gone)
    });
    let observed = [stays[0].seen.clone()];
    let checked = ledger.check(&observed, &stays).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(checked.messages, 10, "messages that came at all");
    assert!(notiflux.stop().success() && oitc.stop().success(), "a server ended badly");
    format!(
        "{CUT_OFF} subscribers and {CUT_OFF} browsers cut off: all gone after {:.1} and {:.1} s, \
         {HEALTHY} each stayed",
        clients.as_secs_f64(),
        browsers.as_secs_f64()
    )
}

/// How long it takes until the healthy ones alone are left.
async fn gone(operators: SocketAddr, protocol: &str, most: Duration) -> Duration {
    let (start, own) = (Instant::now(), [("protocol", protocol)]);
    loop {
        let counts = scrape(operators).await;
        let left = counts.count("pushmux_connections", &own);
        let took = start.elapsed();
        if left == HEALTHY as u64 {
            let silent = [("protocol", protocol), ("reason", "silent")];
            let ended = counts.count("pushmux_connections_ended_total", &silent);
            assert_eq!(ended, CUT_OFF as u64, "who ended as silent at {protocol}");
            return took;
        }
        assert!(left > HEALTHY as u64, "{protocol}: {left} are left of {HEALTHY} healthy ones");
        assert!(took < most + GRACE, "{protocol}: {left} are left after {took:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Answers pings until it is over.
async fn stay(mut peer: Peer, mut over: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            frame = peer.next() => {
                assert!(!matches!(frame, Frame::Close(_) | Frame::Eof), "a browser had to go");
            }
            _ = over.wait_for(|over| *over) => return,
        }
    }
}
