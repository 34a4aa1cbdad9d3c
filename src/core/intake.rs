//! Who is let in: connections in all and for each address, and requests for both.
//!
//! Whoever is beyond a limit is told so at once. To leave them in the kernel's backlog would
//! make everybody wait who comes after them, and say nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::HOST;
use http::{Request, StatusCode};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};
use warp::reply::Response;

use super::client_address::{ClientAddress, Network, TrustedProxies};
use super::config;
use super::http::{empty, text, try_later};
use super::metrics::{Refusals, Refused};
use super::plugin::Jobs;
use super::throttle::Throttle;

/// What a client is asked to wait that finds no place.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How long a refused client has to read why. To close a socket that has unread bytes
/// resets it, and a reset can overtake the answer.
const LINGER: Duration = Duration::from_secs(1);

/// Most refused clients that are waited for at a time; the others may find their connection
/// reset.
const MAX_LINGERING: usize = 64;

/// Most of what a refused client sends that is read.
const LINGER_BYTES: usize = 64 * 1024;

/// Descriptors that a process has open at start where nobody can say.
const OPEN_AT_START: usize = 32;

const FULL: &str = "Too many connections (server.max_connections), try again";
const FULL_FOR_ADDRESS: &str =
    "Too many connections from one address (server.max_connections_per_address), try again";

/// The limits, and what counts towards them. One for all listeners.
#[derive(Debug)]
pub(super) struct Intake {
    max_connections: usize,
    /// 0 is no limit.
    max_per_address: usize,
    max_uri_bytes: usize,
    proxies: TrustedProxies,
    open: AtomicUsize,
    addresses: Mutex<HashMap<Network, usize>>,
    lingering: Arc<Semaphore>,
    refused: Refusals,
    told: Throttle,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Too many connections.
    Server,
    /// Too many of one address.
    Address,
}

/// The place of a connection among all. Free again when it is dropped, so who has the socket
/// keeps it.
#[derive(Debug)]
pub struct Place {
    intake: Arc<Intake>,
    /// What it counts for, once that is known: behind a proxy not before it is upgraded,
    /// since one connection of a proxy carries requests of many.
    address: OnceLock<AddressPlace>,
}

/// One of the connections, or requests by way of a proxy, of an address.
#[derive(Debug)]
pub(super) struct AddressPlace {
    intake: Arc<Intake>,
    network: Network,
}

impl Intake {
    pub(super) fn new(settings: &config::Server, refused: Refusals) -> Arc<Self> {
        let (limit, open) = descriptors();
        let left = limit.saturating_sub(open).max(2);
        let spare = left / 10 + 1;
        let max_connections = match settings.max_connections {
            0 => left - spare,
            configured => {
                if configured > left - spare {
                    warn!(
                        configured,
                        descriptors = limit,
                        "server.max_connections is more than there are file descriptors for: beyond them connections wait unanswered"
                    );
                }
                configured
            }
        };
        info!(max_connections, descriptors = limit, "Taking connections");
        Arc::new(Self {
            max_connections,
            max_per_address: settings.max_connections_per_address,
            max_uri_bytes: settings.max_uri_bytes,
            proxies: TrustedProxies::new(settings),
            open: AtomicUsize::new(0),
            addresses: Mutex::default(),
            // They have descriptors, too.
            lingering: Arc::new(Semaphore::new((spare / 2).min(MAX_LINGERING))),
            refused,
            told: Throttle::default(),
        })
    }

    /// A place for a connection that was accepted.
    pub(super) fn admit(self: &Arc<Self>, peer: SocketAddr) -> Result<Place, Full> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let place = Place { intake: self.clone(), address: OnceLock::new() };
        if before >= self.max_connections {
            return Err(Full::Server);
        }
        if self.max_per_address > 0 && !self.proxies.contains(peer.ip()) {
            place.count_for(self.count(ClientAddress(peer.ip().to_canonical()))?);
        }
        Ok(place)
    }

    /// Lets a request in: it is told who sent it, and counts for who sent it by way of a
    /// proxy. What is returned is held until the request is answered.
    pub(super) fn admit_request<B>(
        self: &Arc<Self>,
        peer: SocketAddr,
        request: &mut Request<B>,
    ) -> Result<Option<AddressPlace>, Box<Response>> {
        // Which of them counts, somebody in between may see differently (RFC 9112, 3.2).
        if request.headers().get_all(HOST).iter().nth(1).is_some() {
            self.refused.add(Refused::DuplicateHost);
            return Err(Box::new(empty(StatusCode::BAD_REQUEST)));
        }
        let client = self.proxies.client(peer, request.headers());
        request.extensions_mut().insert(client);
        let uri = request.uri().path_and_query().map_or(0, |it| it.as_str().len());
        if uri > self.max_uri_bytes {
            self.refused.add(Refused::MaxUriBytes);
            let limit = self.max_uri_bytes;
            let reason = format!("The path is longer than {limit} bytes (server.max_uri_bytes)");
            return Err(Box::new(text(StatusCode::URI_TOO_LONG, reason)));
        }
        if self.max_per_address == 0 || !self.proxies.contains(peer.ip()) {
            return Ok(None);
        }
        self.count(client).map(Some).map_err(|full| {
            self.tell(full, client);
            Box::new(try_later(StatusCode::TOO_MANY_REQUESTS, RETRY_AFTER, FULL_FOR_ADDRESS))
        })
    }

    fn count(self: &Arc<Self>, client: ClientAddress) -> Result<AddressPlace, Full> {
        let network = client.network();
        let mut addresses = self.addresses.lock();
        let count = addresses.entry(network).or_default();
        if *count >= self.max_per_address {
            return Err(Full::Address);
        }
        *count += 1;
        Ok(AddressPlace { intake: self.clone(), network })
    }

    /// Tells a client that was not let in, without reading what it wants.
    pub(super) fn refuse(&self, stream: TcpStream, peer: SocketAddr, full: Full, jobs: &Jobs) {
        self.tell(full, ClientAddress(peer.ip().to_canonical()));
        let (status, text) = match full {
            Full::Server => ("503 Service Unavailable", FULL),
            Full::Address => ("429 Too Many Requests", FULL_FOR_ADDRESS),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nretry-after: {}\r\nconnection: close\r\n\r\n{text}",
            text.len(),
            RETRY_AFTER.as_secs(),
        );
        let socket = SockRef::from(&stream);
        // A new socket takes as much as this; not through tokio, which does not know yet that
        // it can be written to.
        let told = socket.send(answer.as_bytes()).and_then(|_| socket.shutdown(Shutdown::Write));
        if let (Ok(()), Ok(permit)) = (told, self.lingering.clone().try_acquire_owned()) {
            let task = linger(stream, jobs.clone(), permit);
            jobs.spawn(task);
        }
    }

    /// Counts a head that hyper refused, and tells the operator of one that was beyond a
    /// limit: hyper answers it by itself, with 431 or 414 and no text. `requests` is how many
    /// came on the connection before.
    pub(super) fn look_at_end(&self, peer: SocketAddr, error: &hyper::Error, requests: usize) {
        if error.is_timeout() {
            // Between requests nobody is late: most such connections are kept for a next one
            // that never comes.
            if requests == 0 {
                self.refused.add(Refused::HeaderTimeout);
            }
            return;
        }
        if !error.is_parse() {
            return;
        }
        if !error.is_parse_too_large() {
            self.refused.add(Refused::MalformedHead);
            return;
        }
        self.refused.add(Refused::HeadTooLarge);
        if let Some(more) = self.told.pass() {
            info!(
                address = %peer.ip(),
                more_before = more,
                "Request head refused: too large (server.max_head_bytes, server.max_headers)"
            );
        }
    }

    fn tell(&self, full: Full, client: ClientAddress) {
        self.refused.add(match full {
            Full::Server => Refused::MaxConnections,
            Full::Address => Refused::MaxConnectionsPerAddress,
        });
        let Some(more) = self.told.pass() else { return };
        let address = client.0;
        match full {
            Full::Server => warn!(
                limit = self.max_connections,
                %address,
                more_before = more,
                "Connection refused: too many (server.max_connections)"
            ),
            Full::Address => warn!(
                limit = self.max_per_address,
                %address,
                more_before = more,
                "Connection refused: too many of one address (server.max_connections_per_address)"
            ),
        }
    }
}

impl Place {
    /// Some place, for tests of what keeps one.
    #[cfg(test)]
    pub(crate) fn any() -> Arc<Self> {
        let intake = Intake::new(&config::Server::default(), Refusals::default());
        let place = intake.admit(([127, 0, 0, 1], 1).into());
        Arc::new(place.expect("the first place is free"))
    }

    /// The connection is one of this address from now on.
    pub(super) fn count_for(&self, address: AddressPlace) {
        // A connection is upgraded once, and one that counts from its start has no second.
        let _ = self.address.set(address);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.intake.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.intake.addresses.lock().entry(self.network) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Reads what a refused client had to say until it is gone, for a moment.
async fn linger(stream: TcpStream, jobs: Jobs, permit: OwnedSemaphorePermit) {
    let read = async {
        let mut total = 0;
        while total < LINGER_BYTES && stream.readable().await.is_ok() {
            match stream.try_read(&mut [0; 1024]) {
                Ok(0) => return,
                Ok(read) => total += read,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(LINGER, read) => {}
        () = jobs.stopping() => {}
    }
    // The socket first: it is what the permit is for.
    drop(stream);
    drop(permit);
}

/// How many file descriptors the process may have, and how many it has.
fn descriptors() -> (usize, usize) {
    let limit = rlimit::Resource::NOFILE.get_soft().unwrap_or(1024);
    let open = std::fs::read_dir("/proc/self/fd").map_or(OPEN_AT_START, Iterator::count);
    (usize::try_from(limit).unwrap_or(usize::MAX), open)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intake(max_connections: usize, max_per_address: usize) -> Arc<Intake> {
        let settings = config::Server {
            max_connections,
            max_connections_per_address: max_per_address,
            trusted_proxies: vec!["127.0.0.1".into()],
            ..config::Server::default()
        };
        Intake::new(&settings, Refusals::default())
    }

    fn peer(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 1)
    }

    #[test]
    fn places_are_given_up_to_the_limit_and_given_back() {
        let intake = intake(2, 0);
        let one = intake.admit(peer("1.1.1.1")).unwrap();
        let _two = intake.admit(peer("1.1.1.1")).unwrap();
        assert_eq!(intake.admit(peer("1.1.1.2")).unwrap_err(), Full::Server);
        drop(one);
        let _three = intake.admit(peer("1.1.1.2")).unwrap();
        assert_eq!(intake.open.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn an_address_has_its_own_limit_and_a_proxy_has_that_of_its_clients() {
        let intake = intake(100, 1);
        let one = intake.admit(peer("2001:db8::1")).unwrap();
        assert_eq!(intake.admit(peer("2001:db8::2")).unwrap_err(), Full::Address);
        let _other = intake.admit(peer("2001:db8:0:1::")).unwrap();
        let by_proxy: Vec<_> = (0..2).map(|_| intake.admit(peer("127.0.0.1")).unwrap()).collect();
        let request = |from: &str| {
            let request = Request::builder().header("x-forwarded-for", from);
            intake.admit_request(peer("127.0.0.1"), &mut request.body(()).unwrap())
        };
        assert_eq!(request("2001:db8::3").unwrap_err().status(), 429);
        drop(one);
        let upgraded = request("2001:db8::3").unwrap().unwrap();
        by_proxy[0].count_for(upgraded);
        assert_eq!(request("2001:db8::3").unwrap_err().status(), 429);
        drop(by_proxy);
        // A request alone counts until it is answered.
        let answered = request("2001:db8::3").unwrap().unwrap();
        assert!(request("2001:db8::3").is_err());
        drop(answered);
        assert_eq!(intake.addresses.lock().len(), 1, "what is not there is forgotten");
    }

    #[test]
    fn a_request_knows_who_sent_it_and_its_path_has_a_limit() {
        let intake = intake(0, 0);
        assert!(intake.max_connections > 0);
        let request = |uri: String| {
            let request = Request::builder().uri(uri).header("x-forwarded-for", "1.2.3.4");
            let mut request = request.body(()).unwrap();
            let admitted = intake.admit_request(peer("127.0.0.1"), &mut request);
            admitted.map(|_| request.extensions().get::<ClientAddress>().copied())
        };
        let client = ClientAddress("1.2.3.4".parse().unwrap());
        assert_eq!(request(format!("/{}", "x".repeat(8191))).unwrap(), Some(client));
        assert_eq!(request(format!("/?{}", "x".repeat(8191))).unwrap_err().status(), 414);
    }
}
