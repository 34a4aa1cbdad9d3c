//! `type = "ws"`: WebSocket clients of any protocol.
//!
//! One [`Hub`] of connections. The [`fanout`] writes straight into each member's socket
//! where the socket takes the bytes, so no task is woken; what a socket does not take
//! goes into that connection's bounded [`queue`], whose owner is the connection's task.

mod batch;
mod config;
mod connection;
mod device;
mod fanout;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod lane;
mod member;
mod meter;
#[cfg(test)]
mod model;
mod outbox;
mod policy;
mod queue;
mod reader;
mod socket;
mod sync;
mod wire;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::core::BoxError;
use crate::core::admission::Admission;
use crate::core::config::Check;
use crate::core::drain::Turns;
use crate::core::message::Message;
use crate::core::plugin::{FromConfig, Jobs, Plugin, SinkCx};
use crate::core::session::Session;
use crate::core::sink::{LiveSink, Receipt, Sink};
use crate::core::stream::into_raw;

pub use config::{Config, WhenFull};
use connection::Connection;
use fanout::Hub;
use policy::Policy;

pub(super) const PLUGIN: Plugin = Plugin::live_sink::<Ws>("ws");

/// How long the HTTP side may take to hand over a connection it has upgraded.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(5);

/// The sink.
pub struct Ws {
    shared: Arc<Shared>,
    /// Where messages are carried, to the very end.
    jobs: Jobs,
    /// Where connections live, until they are told to end.
    connections: Jobs,
}

/// What connections and publishers share.
struct Shared {
    config: ArcSwap<Config>,
    /// What of it every message for every client needs.
    policy: Arc<Policy>,
    hub: Hub,
    next_id: AtomicU64,
    /// From when the clients' meters count.
    started: Instant,
    connections: AtomicUsize,
    dropped: Dropped,
    /// When each connection has to end, once the server has begun to stop.
    turns: OnceLock<Turns>,
}

impl Shared {
    fn new(config: Config) -> Self {
        Self {
            policy: Arc::new(Policy::new(&config)),
            config: ArcSwap::from_pointee(config),
            hub: Hub::default(),
            next_id: AtomicU64::new(1),
            started: Instant::now(),
            connections: AtomicUsize::new(0),
            dropped: Dropped::default(),
            turns: OnceLock::new(),
        }
    }

    /// When the connection that asks has to end.
    fn turn(&self) -> Instant {
        self.turns.get().map_or_else(Instant::now, Turns::next)
    }
}

/// Messages that a subscriber should have got and did not, by reason.
#[derive(Default)]
struct Dropped {
    /// The subscriber's queue was full.
    queue_full: AtomicU64,
    /// It waited in a full queue, and newer ones took its place.
    evicted: AtomicU64,
    /// The connection was ending.
    closed: AtomicU64,
}

/// Some of them.
#[derive(Clone, Copy, Debug, Default)]
struct Drops {
    full: usize,
    evicted: usize,
    closed: usize,
}

impl Dropped {
    fn add(&self, drops: &Drops) {
        self.queue_full.fetch_add(drops.full as u64, Ordering::Relaxed);
        self.evicted.fetch_add(drops.evicted as u64, Ordering::Relaxed);
        self.closed.fetch_add(drops.closed as u64, Ordering::Relaxed);
    }
}

impl Sink for Ws {
    fn deliver(&self, message: &Arc<Message>, admission: &Admission) -> Receipt {
        fanout::deliver(&self.shared, &self.jobs, message, admission)
    }
}

impl LiveSink for Ws {
    fn accept(&self, upgrade: OnUpgrade, session: Box<dyn Session>) {
        let (shared, jobs) = (self.shared.clone(), self.connections.clone());
        self.connections.spawn(async move {
            let upgraded = match tokio::time::timeout(UPGRADE_TIMEOUT, upgrade).await {
                Ok(Ok(upgraded)) => upgraded,
                Ok(Err(error)) => return debug!(%error, "Connection lost before the upgrade"),
                Err(_) => return debug!("Upgrade timed out"),
            };
            // Every listener of ours serves plain TCP, so this cannot be another type.
            let Some(raw) = into_raw(upgraded) else { return };
            let connection = Connection::new(shared, raw, session);
            // A fresh task: this one is as large as what it waited for.
            jobs.spawn(connection::run(connection, jobs.clone()));
        });
    }

    fn drain(&self, over: Duration) {
        let connections = self.shared.connections.load(Ordering::Relaxed);
        self.shared.turns.get_or_init(|| Turns::new(over, connections));
    }
}

impl FromConfig<SinkCx> for Ws {
    type Config = Config;

    /// All of them.
    const LIVE_KEYS: &'static [&'static str] = &[
        "queue_messages",
        "queue_bytes",
        "when_full",
        "send_buffer_bytes",
        "write_timeout",
        "close_timeout",
        "max_fragments",
        "control_frame_rate",
        "control_frame_burst",
    ];

    fn check(config: &Config, check: &mut Check<'_>) {
        config.check(check);
    }

    /// Connections look up what they need when they need it. `send_buffer_bytes` and
    /// `max_fragments` count for the next ones.
    fn reload(&self, config: Config) {
        self.shared.policy.set(&config);
        self.shared.config.store(Arc::new(config));
    }

    async fn build(config: Config, cx: SinkCx) -> Result<Self, BoxError> {
        let shared = Arc::new(Shared::new(config));
        let (report, connections) = (shared.clone(), cx.connections.clone());
        cx.jobs.spawn(async move {
            connections.stopping().await;
            info!(
                sink = cx.name,
                connections = report.connections.load(Ordering::Relaxed),
                topics = report.hub.topics(),
                dropped_queue_full = report.dropped.queue_full.load(Ordering::Relaxed),
                dropped_evicted = report.dropped.evicted.load(Ordering::Relaxed),
                dropped_closed = report.dropped.closed.load(Ordering::Relaxed),
                "Closing WebSocket connections"
            );
        });
        Ok(Self { shared, jobs: cx.jobs, connections: cx.connections })
    }
}
