//! One port: the protocols behind it, and the loop that takes connections in.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use http::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::task::coop::unconstrained;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::config::{self, Listen};
use super::http::empty;
use super::inherited::Inherited;
use super::intake::{Intake, Place};
use super::metrics::Metrics;
use super::plugin::Jobs;
use super::protocol::Protocol;
use super::stream::Stream;
use super::throttle::Throttle;

/// How long to wait after `accept` failed for want of file descriptors or memory.
/// The listener stays: connections wait in the kernel's backlog.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Most connections that are taken in before everything else gets its turn.
const ACCEPT_BURST: usize = 32;

/// Connections that wait in the kernel to be taken in. Linux takes `net.core.somaxconn`
/// (4096 by default) if that is less. A wave of browsers that come back is larger than the
/// 1024 that tokio asks for.
const BACKLOG: u32 = 4096;

/// How long a stop waits for the request of a connection that has none at the moment: one
/// that was just made, or is about to be used again. Its client cannot know of the stop.
const LAST_REQUEST: Duration = Duration::from_millis(200);

/// How long a stop waits for an answer to leave that is written already. A connection
/// that waits for a request counts as idle.
const LAST_ANSWER: Duration = Duration::from_millis(200);

/// A port that is bound, and what is served on it.
pub(super) struct Listener {
    socket: TcpListener,
    /// With the port the system chose for 0.
    pub address: SocketAddr,
    /// Whether the port stays open when this listener is gone.
    pub is_inherited: bool,
    routes: BoxedFilter<(Response,)>,
    /// By name, those for every path last.
    pub protocols: Vec<(String, Arc<dyn Protocol>)>,
}

/// What all listeners have in common.
#[derive(Clone)]
pub(super) struct Entrance {
    /// Those in force when a connection comes are its own.
    pub settings: Arc<ArcSwap<config::Server>>,
    pub intake: Arc<Intake>,
    /// Where connections are served.
    pub requests: Jobs,
}

impl Listener {
    /// Binds the port, see [`bind`], and makes the routes.
    pub(super) async fn bind(
        listen: &Listen,
        inherited: &mut Inherited,
        mut protocols: Vec<(String, Arc<dyn Protocol>)>,
        metrics: &Metrics,
    ) -> io::Result<Self> {
        let (socket, is_inherited) = bind(listen, inherited).await?;
        let address = socket.local_addr()?;
        protocols.sort_by_key(|(_, protocol)| protocol.is_catch_all());
        let routes = all_routes(&protocols, metrics);
        Ok(Self { socket, address, is_inherited, routes, protocols })
    }

    /// Takes connections in until `closing`; each becomes a task that any worker can take up.
    /// Then the port is closed, or left to who it was inherited from.
    pub(super) async fn accept(self, entrance: Entrance, closing: CancellationToken) {
        closing.run_until_cancelled(self.accept_all(&entrance)).await;
        if self.is_inherited {
            return;
        }
        // What is still in the backlog is lost with the port, though its clients were told
        // that they are connected.
        for _ in 0..BACKLOG {
            // A task's budget would end this after 128 of them.
            match unconstrained(self.socket.accept()).now_or_never() {
                Some(Ok((stream, peer))) => self.take_in(stream, peer, &entrance),
                Some(Err(error)) if is_of_the_peer(&error) => {}
                _ => return,
            }
        }
    }

    fn take_in(&self, stream: TcpStream, peer: SocketAddr, entrance: &Entrance) {
        match entrance.intake.admit(peer) {
            Ok(place) => {
                let place = Arc::new(place);
                let task = serve(stream, peer, place, self.routes.clone(), entrance.clone());
                entrance.requests.spawn(task);
            }
            Err(full) => entrance.intake.refuse(stream, peer, full, &entrance.requests),
        }
    }

    async fn accept_all(&self, entrance: &Entrance) {
        let failures = Throttle::default();
        for accepted in 1_usize.. {
            // Behind everything that is ready to run, the connections just taken in among it:
            // when the process is behind, the rest of a wave waits in the kernel, where it
            // costs nothing, and those who are connected do not notice.
            if accepted.is_multiple_of(ACCEPT_BURST) {
                tokio::task::yield_now().await;
            }
            match self.socket.accept().await {
                Ok((stream, peer)) => self.take_in(stream, peer, entrance),
                Err(error) if is_of_the_peer(&error) => {
                    debug!(%error, "Connection lost before it was accepted");
                }
                Err(error) => {
                    if let Some(more) = failures.pass() {
                        let address = self.address;
                        warn!(%address, %error, more_before = more, "Cannot accept connections, trying again");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Binds the first address of the host that can be bound, IPv4 before IPv6, unless one of
/// them was inherited; says whether it was.
pub(super) async fn bind(
    listen: &Listen,
    inherited: &mut Inherited,
) -> io::Result<(TcpListener, bool)> {
    let Listen { host, port } = listen;
    let mut addresses: Vec<_> = lookup_host((host.as_str(), *port)).await?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    if let Some(socket) = inherited.claim(&addresses) {
        socket.set_nonblocking(true)?;
        return Ok((TcpListener::from_std(socket)?, true));
    }
    let socket = match listen_on(&addresses) {
        // All addresses, on a system without IPv6.
        Err(error) if host == "::" && error.kind() != io::ErrorKind::AddrInUse => {
            listen_on(&[(Ipv4Addr::UNSPECIFIED, *port).into()])?
        }
        listening => listening?,
    };
    Ok((socket, false))
}

/// Listens on the first of the addresses that can be had.
fn listen_on(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let listening = socket.and_then(|socket| {
            // Connections of the process before this one may still be closing.
            socket.set_reuseaddr(true)?;
            socket.bind(*address)?;
            socket.listen(BACKLOG)
        });
        match listening {
            Ok(listening) => return Ok(listening),
            // Somebody else is served here: to serve on another address of the same name
            // would leave clients with one or the other, as it comes.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// One protocol after the other; an empty 404 for what none of them answers, whatever it
/// was that did not fit.
fn all_routes(
    protocols: &[(String, Arc<dyn Protocol>)],
    metrics: &Metrics,
) -> BoxedFilter<(Response,)> {
    let counted = |name: &str| {
        let answers = metrics.answers(name);
        move |response: Response| {
            answers.add(response.status());
            response
        }
    };
    let mut all: Option<BoxedFilter<(Response,)>> = None;
    for (name, protocol) in protocols {
        let routes = protocol.clone().routes().map(counted(name)).boxed();
        all = Some(match all {
            Some(all) => all.or(routes).unify().boxed(),
            None => routes,
        });
    }
    let nothing = || warp::any().and_then(|| async { Err(warp::reject::not_found()) }).boxed();
    let not_found = counted("");
    all.unwrap_or_else(nothing)
        .recover(move |_| {
            let answer = not_found(empty(StatusCode::NOT_FOUND));
            async { Ok::<_, Infallible>(answer) }
        })
        .unify()
        .boxed()
}

/// Serves one connection until it ends, is upgraded, or the server stops.
async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    place: Arc<Place>,
    routes: BoxedFilter<(Response,)>,
    entrance: Entrance,
) {
    let Entrance { settings, intake, requests: jobs } = entrance;
    let settings = settings.load_full();
    // A pushed message must not wait for the next one; failing is harmless.
    let _ = stream.set_nodelay(true);
    let routes = TowerToHyperService::new(warp::service(routes));
    let (begun, in_service) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let service = service_fn(|mut request: http::Request<hyper::body::Incoming>| {
        begun.fetch_add(1, Ordering::Relaxed);
        in_service.fetch_add(1, Ordering::Relaxed);
        let admitted = intake.admit_request(peer, &mut request);
        let answer =
            admitted.map(|counted| (hyper::service::Service::call(&routes, request), counted));
        async {
            let answer = match answer {
                Ok((answer, counted)) => {
                    // A protocol that panics fails this request and no other.
                    let answer = AssertUnwindSafe(answer).catch_unwind().await;
                    let failed = |_| Ok(empty(StatusCode::INTERNAL_SERVER_ERROR));
                    let answer = answer.unwrap_or_else(failed);
                    let is_upgrade = |answer: &Response| answer.status() == 101;
                    if let (true, Some(counted)) = (answer.as_ref().is_ok_and(is_upgrade), counted)
                    {
                        place.count_for(counted);
                    }
                    answer
                }
                Err(refusal) => Ok(*refusal),
            };
            in_service.fetch_sub(1, Ordering::Relaxed);
            answer
        }
    });
    let stream = Stream::new(stream, place.clone(), settings.write_timeout);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_headers(settings.max_headers)
        .max_buf_size(settings.max_head_bytes)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = jobs.stopping() => {
            let is_idle = in_service.load(Ordering::Relaxed) == 0;
            let before = begun.load(Ordering::Relaxed);
            // Until the connection has ended, or has begun with another request.
            let next = poll_fn(|cx| match connection.as_mut().poll(cx) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending if begun.load(Ordering::Relaxed) == before => Poll::Pending,
                Poll::Pending => Poll::Ready(None),
            });
            let limit = if is_idle { LAST_REQUEST } else { Duration::ZERO };
            if let Ok(Some(ended)) = tokio::time::timeout(limit, next).await {
                ended
            } else {
                connection.as_mut().graceful_shutdown();
                if in_service.load(Ordering::Relaxed) == 0 {
                    // Half a head, or nothing: no request of anybody is lost. An answer that
                    // is being written gets the time it needs.
                    let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
                    return;
                }
                connection.await
            }
        }
    };
    if let Err(error) = ended {
        intake.look_at_end(peer, &error, begun.load(Ordering::Relaxed));
        debug!(%peer, %error, "HTTP connection ended early");
    }
}

/// Errors of `accept` that concern one connection, not the listener (see accept(2)).
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
