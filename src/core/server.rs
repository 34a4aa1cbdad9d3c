//! Build and run: the order of start and of stop.
//!
//! Start: auth, sinks, router, protocols, and only then the ports, all of them before
//! anything is served; whatever fails before leaves no trace. Stop: readiness ends, the
//! listeners close, requests in flight end, then WebSocket connections one after the other,
//! then everything else, all under one deadline; a second signal ends at once.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::BoxError;
use super::admin::{Admin, Questions};
use super::auth::AuthProvider;
use super::auth_failures::AuthFailures;
use super::body::Bodies;
use super::bulkhead;
use super::config::{self, Listen};
use super::drain::Draining;
use super::health::Health;
use super::inherited::{Inherited, InheritedError};
use super::intake::Intake;
use super::listener::{Entrance, Listener};
use super::metrics::Metrics;
use super::plan::{Plan, PlannedProtocol, PlannedSink};
use super::plugin::{Databases, Jobs, ProtocolCx};
use super::protocol::Protocol;
use super::reload::{AuthSlot, InForce, Reloader, Replaceable, SinkSlot};
use super::router::Routes;
use super::sink::LiveSink;
use super::workshop::Workshop;

/// A server that listens and has not begun to serve.
pub struct Server {
    settings: Arc<ArcSwap<config::Server>>,
    routes: Arc<Routes>,
    /// The shared one first, if there is one.
    listeners: Vec<Listener>,
    admin: Option<Admin>,
    metrics: Metrics,
    live_sinks: Arc<HashMap<String, Arc<dyn LiveSink>>>,
    /// Connections of live sinks.
    connections: Jobs,
    jobs: Jobs,
    draining: Draining,
    reloader: Reloader,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A plugin could not be built.
    #[error("{section}: {source}")]
    Plugin {
        /// The plugin's table, such as `sink.log`.
        section: String,
        /// What it said.
        source: BoxError,
    },
    /// An address could not be bound.
    #[error("cannot listen on {address} ({keys}): {source}")]
    Listen {
        /// Host and port as configured.
        address: String,
        /// The keys that say so.
        keys: String,
        /// What the system said.
        source: io::Error,
    },
    /// The plugins did not come to an end with what they do when they are built.
    #[error("the new plugins are not ready after {0:?}, such as one that waits for a file")]
    Late(Duration),
    /// What was handed over is not what is configured.
    #[error(transparent)]
    Inherited(#[from] InheritedError),
}

impl StartError {
    pub(super) fn plugin(kind: &str, name: &str, source: impl Into<BoxError>) -> Self {
        Self::Plugin { section: format!("{kind}.{name}"), source: source.into() }
    }
}

impl Server {
    /// Builds every plugin and binds every port that was not inherited.
    ///
    /// # Errors
    /// The first plugin that could not be built, the first port that could not be had, or
    /// those that were handed over for nothing.
    pub async fn build(plan: Plan, inherited: Inherited) -> Result<Self, StartError> {
        let (jobs, connections, draining) = (Jobs::default(), Jobs::default(), Draining::default());
        let (metrics, health) = (Metrics::default(), Health::new(draining.clone()));
        metrics.panics(bulkhead::panics);
        let mut workshop = Workshop {
            jobs: jobs.clone(),
            connections: connections.clone(),
            databases: Databases::new(health.clone()),
            metrics: metrics.clone(),
            health: health.clone(),
        };
        workshop.open(plan.databases)?;
        let (mut auth, mut auth_slots) = (HashMap::new(), HashMap::new());
        for (name, build) in plan.auth {
            let (provider, jobs) = workshop.auth(&name, build, false).await?;
            let handle = Arc::new(Replaceable::new(provider));
            auth.insert(name.clone(), handle.clone() as Arc<dyn AuthProvider>);
            auth_slots.insert(name, AuthSlot { handle, jobs });
        }
        let config::Server { max_publishing_bytes, publish_timeout, .. } = plan.server;
        let refused = metrics.refusals();
        let routes = Routes::new(max_publishing_bytes, publish_timeout, refused.clone());
        let routes = Arc::new(routes);
        let reading = routes.clone();
        metrics.publishing(max_publishing_bytes, move || reading.publishing());
        let (mut live_sinks, mut sinks) = (HashMap::new(), BTreeMap::new());
        for PlannedSink { name, topics, build, .. } in plan.sinks {
            let built = workshop.sink(&name, build).await?;
            let slot = SinkSlot::new(&name, topics, built, &workshop);
            if let Some(live) = slot.live() {
                live_sinks.insert(name.clone(), live.clone());
            }
            sinks.insert(name, slot);
        }
        routes.replace(sinks.values().map(SinkSlot::route).collect());
        let (auth, live_sinks) = (Arc::new(auth), Arc::new(live_sinks));
        let (mut places, mut protocols) = (Places::default(), HashMap::new());
        let bodies = Bodies::new(&plan.server, refused.clone());
        let auth_failures = AuthFailures::new(plan.server.max_auth_failures, refused);
        let auth_failures = Arc::new(auth_failures);
        for PlannedProtocol { name, listen, build } in plan.protocols {
            let cx = ProtocolCx {
                name: name.clone(),
                router: routes.router(metrics.published(&name)),
                bodies: bodies.clone(),
                auth_failures: auth_failures.clone(),
                jobs: jobs.clone(),
                databases: workshop.databases.clone(),
                metrics: metrics.clone(),
                auth: auth.clone(),
                live_sinks: live_sinks.clone(),
            };
            let running = build.build(cx).await;
            let running = running.map_err(|error| StartError::plugin("protocol", &name, error))?;
            places.add(listen, (name.clone(), running.it.clone()));
            protocols.insert(name, running);
        }
        let mut ports = Ports { inherited, expected: vec![] };
        let listeners = places.bind(&plan.server, &mut ports, &metrics).await?;
        let questions = Questions { metrics: metrics.clone(), health };
        let admin = match plan.admin.listen() {
            Some(listen) => Some(ports.bind_admin(&listen, questions).await?),
            None => None,
        };
        ports.inherited.all_claimed(&ports.expected)?;
        for listener in &listeners {
            listener.protocols.iter().for_each(|(_, it)| it.listening(listener.address));
        }
        let settings = Arc::new(ArcSwap::from_pointee(plan.server));
        let reloader = Reloader::new(InForce {
            workshop,
            stamps: plan.stamps,
            settings: settings.clone(),
            auth: auth_slots,
            sinks,
            protocols,
            routes: routes.clone(),
        });
        Ok(Self {
            settings,
            routes,
            listeners,
            admin,
            metrics,
            live_sinks,
            connections,
            jobs,
            draining,
            reloader,
        })
    }

    /// Takes new configurations over while this server runs.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where operators are answered, if anywhere.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// Each address that is listened on, with the port the system chose for 0, whether it
    /// was inherited, and the names of the protocols behind it.
    pub fn addresses(&self) -> impl Iterator<Item = (SocketAddr, bool, String)> {
        self.listeners.iter().map(|listener| {
            let names: Vec<_> = listener.protocols.iter().map(|(name, _)| name.as_str()).collect();
            (listener.address, listener.is_inherited, names.join(","))
        })
    }

    /// Whether this server has begun to stop.
    pub fn draining(&self) -> Draining {
        self.draining.clone()
    }

    /// What the protocols have to say to the terminal.
    #[must_use]
    pub fn greetings(&self) -> Vec<String> {
        let of_one = |listener: &Listener| {
            let address = listener.address;
            let greet = move |(_, protocol): &(_, Arc<dyn Protocol>)| protocol.greeting(address);
            listener.protocols.iter().filter_map(greet).collect::<Vec<_>>()
        };
        self.listeners.iter().flat_map(of_one).collect()
    }

    /// Serves until `stop` resolves, then drains within `server.shutdown_timeout`.
    /// True when everything ended in time.
    pub async fn run(self, stop: impl Future<Output = ()>) -> bool {
        let Self {
            settings,
            routes,
            listeners,
            admin,
            metrics,
            live_sinks,
            connections,
            jobs,
            draining,
            ..
        } = self;
        let intake = Intake::new(&settings.load(), metrics.refusals());
        let requests = Jobs::default();
        let entrance = Entrance { settings: settings.clone(), intake, requests: requests.clone() };
        let counted = requests.clone();
        metrics.http_connections(move || counted.running());
        // Until everything else has ended: a stop is when questions are asked.
        let mut answering = JoinSet::new();
        if let Some(admin) = admin {
            answering.spawn(admin.serve());
        }
        // Tasks of their own, so that workers take connections in, not the thread that waits
        // for signals.
        let (mut accepting, closing) = (JoinSet::new(), CancellationToken::new());
        for listener in listeners {
            accepting.spawn(listener.accept(entrance.clone(), closing.clone()));
        }
        tokio::select! {
            () = stop => {}
            // None of them ends by itself, so this one panicked: better no server than one
            // that is deaf.
            Some(Err(error)) = accepting.join_next() => resume_unwind(error.into_panic()),
        }
        draining.begin();
        closing.cancel();
        // Once this is through, every port is closed that is not somebody else's.
        while accepting.join_next().await.is_some() {}
        info!(
            requests = requests.running(),
            connections = connections.running(),
            tasks = jobs.running(),
            "Stopping"
        );
        let settings = settings.load_full();
        let drained = tokio::time::timeout(settings.shutdown_timeout, async {
            // Requests first: what they publish must still find its receivers. Not for all
            // of the time, so that the receivers get the rest.
            requests.stop();
            let published = async {
                requests.ended().await;
                // Also what publishers did not wait for.
                routes.settled().await;
            };
            let _ = tokio::time::timeout(settings.requests_timeout(), published).await;
            live_sinks.values().for_each(|sink| sink.drain(settings.drain_spread));
            connections.stop();
            let gone = tokio::time::timeout(settings.connections_timeout(), connections.ended());
            let _ = gone.await;
            // What connections published to the last is still to be written or sent.
            routes.settled().await;
            jobs.stop();
            jobs.ended().await;
            connections.ended().await;
        });
        let ended = drained.await.is_ok();
        let cut_off = requests.running() + connections.running() + jobs.running();
        if cut_off > 0 {
            warn!(
                tasks = cut_off,
                "Cut off what had not ended within its part of server.shutdown_timeout"
            );
        }
        ended && cut_off == 0
    }
}

type Named = (String, Arc<dyn Protocol>);

/// Protocols by where they are to be served.
#[derive(Default)]
struct Places {
    shared: Vec<Named>,
    /// `listen` as written, what it says, and whose it is.
    own: Vec<(String, Listen, Vec<Named>)>,
}

impl Places {
    fn add(&mut self, listen: Option<(String, Listen)>, protocol: Named) {
        let Some((text, listen)) = listen else {
            self.shared.push(protocol);
            return;
        };
        match self.own.iter_mut().find(|(known, ..)| *known == text) {
            Some((_, _, protocols)) => protocols.push(protocol),
            None => self.own.push((text, listen, vec![protocol])),
        }
    }

    /// Binds them all. A port that nobody needs is left alone.
    async fn bind(
        self,
        settings: &config::Server,
        ports: &mut Ports,
        metrics: &Metrics,
    ) -> Result<Vec<Listener>, StartError> {
        let (mut listeners, mut wanted) = (Vec::new(), Vec::new());
        if !self.shared.is_empty() {
            let listen = Listen::new(&settings.host, settings.port);
            wanted.push((listen, "server.host, server.port".to_owned(), self.shared));
        }
        for (_, listen, protocols) in self.own {
            let keys: Vec<_> =
                protocols.iter().map(|(name, _)| format!("protocol.{name}.listen")).collect();
            wanted.push((listen, keys.join(", "), protocols));
        }
        for (listen, keys, protocols) in wanted {
            let failed = ports.want(&listen, keys);
            let bound = Listener::bind(&listen, &mut ports.inherited, protocols, metrics).await;
            listeners.push(bound.map_err(failed)?);
        }
        Ok(listeners)
    }
}

/// Ports on their way from the configuration to a socket.
struct Ports {
    inherited: Inherited,
    /// Addresses and the keys that say so, for who handed over something else.
    expected: Vec<String>,
}

impl Ports {
    /// Notes that a port is wanted; what to say when it cannot be had.
    fn want(
        &mut self,
        listen: &Listen,
        keys: String,
    ) -> impl FnOnce(io::Error) -> StartError + use<> {
        let address = listen.to_string();
        self.expected.push(format!("{address} ({keys})"));
        |source| StartError::Listen { address, keys, source }
    }

    async fn bind_admin(
        &mut self,
        listen: &Listen,
        questions: Questions,
    ) -> Result<Admin, StartError> {
        let failed = self.want(listen, "admin.listen".to_owned());
        Admin::bind(listen, &mut self.inherited, questions).await.map_err(failed)
    }
}
