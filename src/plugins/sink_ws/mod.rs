//! `type = "ws"`: WebSocket clients of any protocol.
//!
//! One [`Hub`] of connections. The [`fanout`] writes straight into each member's socket
//! where the socket takes the bytes, so no task is woken; what a socket does not take
//! goes into that connection's bounded [`queue`], whose owner is the connection's task.

mod batch;
mod config;
mod connection;
mod device;
mod end;
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
mod wake;
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
use crate::core::metrics::{Connections, LiveSink as Metrics, Lost};
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
    /// Where connections are counted that are accepted here.
    counted: Arc<Connections>,
}

/// What connections and publishers share.
struct Shared {
    config: ArcSwap<Config>,
    /// What of it every message for every client needs.
    policy: Arc<Policy>,
    hub: Hub,
    /// Where connections live, until they are told to end.
    tasks: Jobs,
    next_id: AtomicU64,
    /// From when the clients' meters count.
    started: Instant,
    /// Of all protocols.
    connections: AtomicUsize,
    metrics: Metrics,
    /// When each connection has to end, once the server has begun to stop.
    turns: OnceLock<Turns>,
}

impl Shared {
    fn new(config: Config, tasks: Jobs, metrics: Metrics) -> Self {
        Self {
            policy: Arc::new(Policy::new(&config)),
            config: ArcSwap::from_pointee(config),
            hub: Hub::default(),
            tasks,
            next_id: AtomicU64::new(1),
            started: Instant::now(),
            connections: AtomicUsize::new(0),
            metrics,
            turns: OnceLock::new(),
        }
    }

    /// When the connection that asks has to end.
    fn turn(&self) -> Instant {
        self.turns.get().map_or_else(Instant::now, Turns::next)
    }
}

impl Sink for Ws {
    fn deliver(&self, message: &Arc<Message>, admission: &Admission) -> Receipt {
        fanout::deliver(&self.shared, &self.jobs, message, admission)
    }
}

impl LiveSink for Ws {
    fn accept(&self, upgrade: OnUpgrade, session: Box<dyn Session>) {
        let (shared, counted) = (self.shared.clone(), self.counted.clone());
        self.shared.tasks.spawn(async move {
            let upgraded = match tokio::time::timeout(UPGRADE_TIMEOUT, upgrade).await {
                Ok(Ok(upgraded)) => upgraded,
                Ok(Err(error)) => return debug!(%error, "Connection lost before the upgrade"),
                Err(_) => return debug!("Upgrade timed out"),
            };
            // Every listener of ours serves plain TCP, so this cannot be another type.
            let Some(raw) = into_raw(upgraded) else { return };
            let connection = Connection::new(shared.clone(), raw, session, counted.open());
            // A fresh task: this one is as large as what it waited for.
            shared.tasks.spawn(connection::run(connection));
        });
    }

    fn drain(&self, over: Duration) {
        let connections = self.shared.connections.load(Ordering::Relaxed);
        self.shared.turns.get_or_init(|| Turns::new(over, connections));
    }

    fn of_protocol(&self, counted: Arc<Connections>) -> Arc<dyn LiveSink> {
        Arc::new(Self { shared: self.shared.clone(), jobs: self.jobs.clone(), counted })
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
        let metrics = cx.metrics.live_sink(&cx.name);
        let shared = Arc::new(Shared::new(config, cx.connections, metrics));
        let hub = shared.clone();
        cx.metrics.topics(&cx.name, move || hub.hub.topics());
        let report = shared.clone();
        cx.jobs.spawn(async move {
            report.tasks.stopping().await;
            info!(
                sink = cx.name,
                connections = report.connections.load(Ordering::Relaxed),
                topics = report.hub.topics(),
                dropped_queue_full = report.metrics.messages.lost(Lost::QueueFull),
                dropped_evicted = report.metrics.messages.lost(Lost::Evicted),
                dropped_closed = report.metrics.messages.lost(Lost::Closed),
                dropped_disconnected = report.metrics.messages.lost(Lost::Disconnected),
                "Closing WebSocket connections"
            );
        });
        Ok(Self { shared, jobs: cx.jobs, counted: Arc::default() })
    }
}
