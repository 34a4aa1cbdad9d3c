//! Build and run: the order of start and of stop.
//!
//! Start: auth, sinks, router, protocols, and only then the ports, all of them before
//! anything is served; whatever fails before leaves no trace. Stop: the listeners close,
//! requests in flight end, connections drain, all under one deadline; a second signal ends
//! at once.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::{info, warn};

use super::BoxError;
use super::auth::{AuthProvider, Guarded};
use super::bulkhead::Bulkhead;
use super::config::{self, Listen};
use super::database::Database;
use super::listener::Listener;
use super::plan::{Plan, PlannedProtocol};
use super::plugin::{AuthCx, Databases, Jobs, ProtocolCx, SinkCx};
use super::protocol::Protocol;
use super::router::Router;

/// A server that listens and has not begun to serve.
pub struct Server {
    settings: config::Server,
    router: Arc<Router>,
    /// The shared one first, if there is one.
    listeners: Vec<Listener>,
    jobs: Jobs,
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
}

impl Server {
    /// Builds every plugin and binds every port.
    ///
    /// # Errors
    /// The first plugin that could not be built, or the first port that could not be had.
    pub async fn build(plan: Plan) -> Result<Self, StartError> {
        let failed = |kind: &str, name: &str| {
            let section = format!("{kind}.{name}");
            |source| StartError::Plugin { section, source }
        };
        let jobs = Jobs::default();
        let mut databases = HashMap::new();
        for (name, config) in plan.databases {
            let database = Database::open(&name, &config);
            let failed = failed("database", &name);
            databases.insert(name, database.map_err(|error| failed(error.into()))?);
        }
        let databases = Databases(Arc::new(databases));
        let mut auth = HashMap::new();
        for (name, build) in plan.auth {
            let (jobs, databases) = (jobs.clone(), databases.clone());
            let cx = AuthCx { name: name.clone(), jobs, databases };
            let provider = build(cx).await.map_err(failed("auth", &name))?;
            let bulkhead = Arc::new(Bulkhead::new(format!("auth.{name}")));
            let guarded: Arc<dyn AuthProvider> = Arc::new(Guarded { provider, bulkhead });
            auth.insert(name, guarded);
        }
        let mut router = Router::new(plan.server.max_publishing_bytes);
        let mut live_sinks = HashMap::new();
        for (name, topics, build) in plan.sinks {
            let (jobs, databases) = (jobs.clone(), databases.clone());
            let cx = SinkCx { name: name.clone(), jobs, databases };
            let built = build(cx).await.map_err(failed("sink", &name))?;
            let bulkhead = Arc::new(Bulkhead::new(format!("sink.{name}")));
            router.add(topics, built.sink, bulkhead);
            if let Some(live) = built.live {
                live_sinks.insert(name, live);
            }
        }
        let (router, auth) = (Arc::new(router), Arc::new(auth));
        let live_sinks = Arc::new(live_sinks);
        let mut places = Places::default();
        for PlannedProtocol { name, listen, build } in plan.protocols {
            let cx = ProtocolCx {
                name: name.clone(),
                router: router.clone(),
                body_timeout: plan.server.body_timeout,
                jobs: jobs.clone(),
                databases: databases.clone(),
                auth: auth.clone(),
                live_sinks: live_sinks.clone(),
            };
            let protocol = build(cx).await.map_err(failed("protocol", &name))?;
            places.add(listen, (name, protocol));
        }
        let listeners = places.bind(&plan.server).await?;
        for listener in &listeners {
            listener.protocols.iter().for_each(|(_, it)| it.listening(listener.address));
        }
        Ok(Self { settings: plan.server, router, listeners, jobs })
    }

    /// Each address that is listened on, with the port the system chose for 0, and the
    /// names of the protocols behind it.
    pub fn addresses(&self) -> impl Iterator<Item = (SocketAddr, String)> {
        self.listeners.iter().map(|listener| {
            let names: Vec<_> = listener.protocols.iter().map(|(name, _)| name.as_str()).collect();
            (listener.address, names.join(","))
        })
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
        let Self { settings, router, listeners, jobs } = self;
        let settings = Arc::new(settings);
        let requests = Jobs::default();
        // Tasks of their own, so that workers take connections in, not the thread that waits
        // for signals.
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(listener.accept(settings.clone(), requests.clone()));
        }
        tokio::select! {
            () = stop => {}
            // None of them ends by itself, so this one panicked: better no server than one
            // that is deaf.
            Some(Err(error)) = accepting.join_next() => resume_unwind(error.into_panic()),
        }
        // Once this is through, every port is closed.
        accepting.shutdown().await;
        info!(requests = requests.running(), tasks = jobs.running(), "Stopping");
        let drained = tokio::time::timeout(settings.shutdown_timeout, async {
            // Requests first: what they publish must still find its receivers. Half of
            // the time at most, so that the receivers get the other half.
            requests.stop();
            let published = async {
                requests.ended().await;
                // Also what publishers did not wait for.
                router.settled().await;
            };
            let _ = tokio::time::timeout(settings.shutdown_timeout / 2, published).await;
            jobs.stop();
            jobs.ended().await;
        });
        let ended = drained.await.is_ok();
        let cut_off = requests.running() + jobs.running();
        if cut_off > 0 {
            warn!(tasks = cut_off, "Cut off what had not ended within server.shutdown_timeout");
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
    async fn bind(self, settings: &config::Server) -> Result<Vec<Listener>, StartError> {
        let mut listeners = Vec::new();
        if !self.shared.is_empty() {
            let listen = Listen::new(&settings.host, settings.port);
            let keys = "server.host, server.port".to_owned();
            listeners.push(bind(&listen, keys, self.shared).await?);
        }
        for (_, listen, protocols) in self.own {
            let keys: Vec<_> =
                protocols.iter().map(|(name, _)| format!("protocol.{name}.listen")).collect();
            listeners.push(bind(&listen, keys.join(", "), protocols).await?);
        }
        Ok(listeners)
    }
}

async fn bind(
    listen: &Listen,
    keys: String,
    protocols: Vec<Named>,
) -> Result<Listener, StartError> {
    let bound = Listener::bind(listen, protocols).await;
    bound.map_err(|source| StartError::Listen { address: listen.to_string(), keys, source })
}
