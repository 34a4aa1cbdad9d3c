//! `type = "ws"`: WebSocket clients of any protocol.
//!
//! One [`Hub`] of connections. A publisher writes straight into each member's socket
//! where the socket takes the bytes, so no task is woken; what a socket does not take
//! goes into that connection's bounded [`outbox`], whose owner is the connection's task.

mod config;
mod connection;
mod device;
mod outbox;
mod reader;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use tracing::{debug, info};

use crate::core::BoxError;
use crate::core::config::Check;
use crate::core::hub::Hub;
use crate::core::message::{Audience, Message};
use crate::core::plugin::{FromConfig, Jobs, Plugin, SinkCx};
use crate::core::session::Session;
use crate::core::sink::{Delivery, LiveSink, Sink};
use crate::core::stream::into_tcp;

pub use config::{Config, WhenFull};
use outbox::{Offer, Outbox};

pub(super) const PLUGIN: Plugin = Plugin::live_sink::<Ws>("ws");

/// How long the HTTP side may take to hand over a connection it has upgraded.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(5);

/// The sink.
pub struct Ws {
    shared: Arc<Shared>,
    jobs: Jobs,
}

/// What connections and publishers share.
struct Shared {
    config: Config,
    hub: Hub<Arc<Outbox>>,
    next_id: AtomicU64,
    connections: AtomicUsize,
    dropped: Dropped,
}

/// What became of one message, by receiver.
#[derive(Default)]
struct Count {
    accepted: usize,
    full: u64,
    closed: u64,
}

impl Count {
    fn add(&mut self, offer: Offer) {
        match offer {
            Offer::Accepted => self.accepted += 1,
            Offer::Full => self.full += 1,
            Offer::Closed => self.closed += 1,
        }
    }
}

/// Messages that a subscriber should have got and did not, by reason.
#[derive(Default)]
struct Dropped {
    /// The subscriber's queue was full.
    queue_full: AtomicU64,
    /// The connection was ending.
    closed: AtomicU64,
}

impl Sink for Ws {
    fn deliver(&self, message: &Arc<Message>) -> Delivery {
        let frame = wire::text(message.frame.as_bytes());
        let mut count = Count::default();
        self.shared.hub.visit(&message.topic, |members| match message.audience {
            Audience::Everyone => members.for_each(|outbox| count.add(outbox.offer(&frame))),
            Audience::OnePerDevice => device::offer_one_each(members, &frame, &mut count),
        });
        let Count { accepted, full, closed } = count;
        let mut delivery = Delivery { accepted, dropped: 0 };
        if full + closed > 0 {
            self.shared.dropped.queue_full.fetch_add(full, Ordering::Relaxed);
            self.shared.dropped.closed.fetch_add(closed, Ordering::Relaxed);
            delivery.dropped = usize::try_from(full + closed).unwrap_or(usize::MAX);
            debug!(topic = ?message.topic, id = message.id, full, closed, "Not delivered to every subscriber");
        }
        delivery
    }
}

impl LiveSink for Ws {
    fn accept(&self, upgrade: OnUpgrade, session: Box<dyn Session>) {
        let (shared, jobs) = (self.shared.clone(), self.jobs.clone());
        self.jobs.spawn(async move {
            let upgraded = match tokio::time::timeout(UPGRADE_TIMEOUT, upgrade).await {
                Ok(Ok(upgraded)) => upgraded,
                Ok(Err(error)) => return debug!(%error, "Connection lost before the upgrade"),
                Err(_) => return debug!("Upgrade timed out"),
            };
            // Every listener of ours serves plain TCP, so this cannot be another type.
            let Some((stream, early)) = into_tcp(upgraded) else { return };
            // A fresh task: this one is as large as the HTTP state it grew from.
            let stopping = jobs.clone();
            jobs.spawn(async move {
                connection::run(shared, stream, early, session, &stopping).await;
            });
        });
    }
}

impl FromConfig<SinkCx> for Ws {
    type Config = Config;

    fn check(config: &Config, check: &mut Check<'_>) {
        config.check(check);
    }

    async fn build(config: Config, cx: SinkCx) -> Result<Self, BoxError> {
        let shared = Arc::new(Shared {
            config,
            hub: Hub::default(),
            next_id: AtomicU64::new(1),
            connections: AtomicUsize::new(0),
            dropped: Dropped::default(),
        });
        let (report, jobs) = (shared.clone(), cx.jobs.clone());
        cx.jobs.spawn(async move {
            jobs.stopping().await;
            info!(
                sink = cx.name,
                connections = report.connections.load(Ordering::Relaxed),
                topics = report.hub.topics(),
                dropped_queue_full = report.dropped.queue_full.load(Ordering::Relaxed),
                dropped_closed = report.dropped.closed.load(Ordering::Relaxed),
                "Closing WebSocket connections"
            );
        });
        Ok(Self { shared, jobs: cx.jobs })
    }
}
