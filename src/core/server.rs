//! Build and run: the order of start and of stop.
//!
//! Start: auth, sinks, router, protocols, and only then the port; whatever fails before
//! leaves no trace. Stop: the listener closes, requests in flight end, connections
//! drain, all under one deadline; a second signal ends at once.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tracing::{debug, info, warn};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::BoxError;
use super::config;
use super::database::Database;
use super::http::empty;
use super::plan::Plan;
use super::plugin::{AuthCx, Databases, Jobs, ProtocolCx, SinkCx};
use super::protocol::Protocol;
use super::router::Router;
use super::stream::Stream;

/// How long to wait after `accept` failed for want of file descriptors or memory.
/// The listener stays: connections wait in the kernel's backlog.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a stop waits for an answer to leave that is written already. A connection
/// that waits for a request counts as idle.
const LAST_ANSWER: Duration = Duration::from_millis(200);

/// A server that listens and has not begun to serve.
pub struct Server {
    settings: config::Server,
    listener: TcpListener,
    address: SocketAddr,
    routes: BoxedFilter<(Response,)>,
    protocols: Vec<Arc<dyn Protocol>>,
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
    /// The address could not be bound.
    #[error("cannot listen on {address} (server.host, server.port): {source}")]
    Listen {
        /// Host and port as configured.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Server {
    /// Builds every plugin and binds the port.
    ///
    /// # Errors
    /// The first plugin that could not be built, or why the port could not be had.
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
            auth.insert(name, provider);
        }
        let mut router = Router::default();
        let mut live_sinks = HashMap::new();
        for (name, topics, build) in plan.sinks {
            let (jobs, databases) = (jobs.clone(), databases.clone());
            let cx = SinkCx { name: name.clone(), jobs, databases };
            let built = build(cx).await.map_err(failed("sink", &name))?;
            router.add(topics, built.sink);
            if let Some(live) = built.live {
                live_sinks.insert(name, live);
            }
        }
        let (router, auth) = (Arc::new(router), Arc::new(auth));
        let live_sinks = Arc::new(live_sinks);
        let mut protocols = Vec::new();
        for (name, build) in plan.protocols {
            let cx = ProtocolCx {
                name: name.clone(),
                router: router.clone(),
                body_timeout: plan.server.body_timeout,
                jobs: jobs.clone(),
                databases: databases.clone(),
                auth: auth.clone(),
                live_sinks: live_sinks.clone(),
            };
            protocols.push(build(cx).await.map_err(failed("protocol", &name))?);
        }
        protocols.sort_by_key(|protocol| protocol.is_catch_all());
        let (listener, address) = listen(&plan.server).await.map_err(|source| {
            let address = format!("{}:{}", plan.server.host, plan.server.port);
            StartError::Listen { address, source }
        })?;
        let served = all_routes(&protocols);
        Ok(Self { settings: plan.server, listener, address, routes: served, protocols, jobs })
    }

    /// The address that is listened on, with the port the system chose for 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the protocols have to say to the terminal.
    #[must_use]
    pub fn greetings(&self) -> Vec<String> {
        self.protocols.iter().filter_map(|protocol| protocol.greeting(self.address)).collect()
    }

    /// Serves until `stop` resolves, then drains within `server.shutdown_timeout`.
    /// True when everything ended in time.
    pub async fn run(self, stop: impl Future<Output = ()>) -> bool {
        let Self { settings, listener, routes, jobs, .. } = self;
        let settings = Arc::new(settings);
        let requests = Jobs::default();
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (routes, settings) = (routes.clone(), settings.clone());
                    requests.spawn(serve(stream, peer, routes, settings, requests.clone()));
                }
                Err(error) if is_of_the_peer(&error) => {
                    debug!(%error, "Connection lost before it was accepted");
                }
                Err(error) => {
                    warn!(%error, "Cannot accept connections, trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        info!(requests = requests.running(), tasks = jobs.running(), "Stopping");
        let drained = tokio::time::timeout(settings.shutdown_timeout, async {
            // Requests first: what they publish must still find its receivers. Half of
            // the time at most, so that the receivers get the other half.
            requests.stop();
            let _ = tokio::time::timeout(settings.shutdown_timeout / 2, requests.ended()).await;
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

/// Binds the first address of the host that can be bound, IPv4 before IPv6.
async fn listen(settings: &config::Server) -> io::Result<(TcpListener, SocketAddr)> {
    // `[::1]` is how an IPv6 address is written beside a port.
    let host = settings.host.trim().trim_start_matches('[').trim_end_matches(']');
    let mut addresses: Vec<_> = lookup_host((host, settings.port)).await?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let bound = TcpListener::bind(&*addresses).await;
    let listener = match bound {
        // All addresses, on a system without IPv6.
        Err(error) if host == "::" && error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(("0.0.0.0", settings.port)).await?
        }
        bound => bound?,
    };
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// All protocols on one port, those for every path last; an empty 404 for the rest,
/// whatever it was that did not fit.
fn all_routes(protocols: &[Arc<dyn Protocol>]) -> BoxedFilter<(Response,)> {
    let mut all: Option<BoxedFilter<(Response,)>> = None;
    for protocol in protocols {
        let routes = protocol.clone().routes();
        all = Some(match all {
            Some(all) => all.or(routes).unify().boxed(),
            None => routes,
        });
    }
    let nothing = || warp::any().and_then(|| async { Err(warp::reject::not_found()) }).boxed();
    all.unwrap_or_else(nothing)
        .recover(|_| async { Ok::<_, Infallible>(empty(http::StatusCode::NOT_FOUND)) })
        .unify()
        .boxed()
}

/// Where a request came from, as an extension of the request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Serves one connection until it ends, is upgraded, or the server stops.
async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    routes: BoxedFilter<(Response,)>,
    settings: Arc<config::Server>,
    jobs: Jobs,
) {
    // A pushed message must not wait for the next one; failing is harmless.
    let _ = stream.set_nodelay(true);
    let routes = TowerToHyperService::new(warp::service(routes));
    let in_service = AtomicUsize::new(0);
    let service = service_fn(|mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        in_service.fetch_add(1, Ordering::Relaxed);
        let answer = hyper::service::Service::call(&routes, request);
        async {
            let answer = answer.await;
            in_service.fetch_sub(1, Ordering::Relaxed);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_headers(settings.max_headers)
        .max_buf_size(settings.max_head_bytes)
        .serve_connection(TokioIo::new(Stream::new(stream, settings.write_timeout)), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = jobs.stopping() => {
            connection.as_mut().graceful_shutdown();
            if in_service.load(Ordering::Relaxed) == 0 {
                // Half a head, or nothing: no request of anybody is lost. An answer that
                // is being written gets the time it needs.
                let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
                return;
            }
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "HTTP connection ended early");
    }
}

/// Errors of `accept` that concern one connection, not the listener (see accept(2)).
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
