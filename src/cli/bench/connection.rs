//! One subscriber's connection.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::dialect::ACCEPT;

/// How many connections one source address can have: fewer than the ports that the system
/// hands out, which are 28,232 unless it was told otherwise.
const PER_ADDRESS: usize = 25_000;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not there, or gone.
    Closed,
    /// Waits for the TCP connection.
    Connecting,
    /// Waits for the 101.
    Opening,
    /// Open, and told nothing yet.
    Open,
    /// Waits for the pong after its subscription.
    Subscribing,
    /// Gets messages.
    Ready,
}

/// A subscriber's end.
pub(super) struct Connection {
    pub(super) stream: Option<TcpStream>,
    pub(super) state: State,
    /// Whether it has got a probe.
    pub(super) probed: bool,
    pub(super) topic: usize,
    /// When it was dialled.
    pub(super) dialled: u64,
    /// The start of a frame or an answer whose rest has not come yet; nearly always empty.
    pub(super) rest: Vec<u8>,
}

impl Connection {
    pub(super) fn new(topic: usize) -> Self {
        let (state, rest) = (State::Closed, Vec::new());
        Self { stream: None, state, probed: false, topic, dialled: 0, rest }
    }

    /// Reads once, behind what is left from before. Returns how many bytes of the buffer are
    /// filled and whether it was filled up; none when nothing is there, 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<(usize, bool)>> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let start = self.rest.len();
        buffer[..start].copy_from_slice(&self.rest);
        let read = loop {
            match stream.read(&mut buffer[start..]) {
                Ok(0) => return Ok(Some((0, false))),
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        };
        if start > 0 {
            self.rest = Vec::new();
        }
        Ok(Some((start + read, start + read == buffer.len())))
    }

    /// Sends something short. A connection that does not take it is broken: nothing else is
    /// on the way from here.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let written = stream.write(bytes)?;
        if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// The address to connect from, if the system's choice would not do: on loopback there is
/// one for each [`PER_ADDRESS`] connections.
fn source(to: SocketAddr, number: usize) -> Option<SockAddr> {
    let group = number / PER_ADDRESS;
    if group == 0 || to.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) {
        return None;
    }
    let last = u8::try_from(group % 250 + 1).unwrap_or(u8::MAX);
    Some(SockAddr::from(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0))))
}

/// Connects, and blocks meanwhile.
pub(super) fn connect(
    to: SocketAddr,
    number: usize,
    timeout: Duration,
) -> io::Result<std::net::TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(from) = source(to, number) {
        socket.bind(&from)?;
    }
    socket.connect_timeout(&SockAddr::from(to), timeout)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// Begins to connect.
pub(super) fn dial(to: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let Some(from) = source(to, number) else { return TcpStream::connect(to) };
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&from)?;
    match socket.connect(&SockAddr::from(to)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// The answer to a handshake: its length if it is whole and good.
pub(super) fn opened(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut headers);
    match answer.parse(bytes) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(length)) => {
            let status = answer.code.unwrap_or(0);
            if status != 101 {
                let reason = answer.reason.unwrap_or("").trim();
                return Err(format!("the server answered a handshake with {status} {reason}"));
            }
            let accept = answer.headers.iter().find(|header| {
                header.name.eq_ignore_ascii_case("sec-websocket-accept")
                    && header.value.trim_ascii() == ACCEPT.as_bytes()
            });
            if accept.is_none() {
                return Err("the server's 101 has no good Sec-WebSocket-Accept".into());
            }
            Ok(Some(length))
        }
        Err(error) => Err(format!("the answer to a handshake is no HTTP: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_connections_come_from_several_addresses() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        for (number, from) in [(0, 1), (24_999, 1), (25_000, 2), (75_001, 4)] {
            let _stream = connect(to, number, Duration::from_secs(10)).unwrap();
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer.ip(), Ipv4Addr::new(127, 0, 0, from), "{number}");
            let _stream = dial(to, number).unwrap();
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer.ip(), Ipv4Addr::new(127, 0, 0, from), "{number}");
        }
        assert!(source("192.0.2.1:80".parse().unwrap(), 25_000).is_none());
    }

    #[test]
    fn answers_to_a_handshake() {
        let good = format!("HTTP/1.1 101 X\r\nSEC-websocket-accept: {ACCEPT}\r\n\r\n");
        assert_eq!(opened(format!("{good}rest").as_bytes()), Ok(Some(good.len())));
        assert_eq!(opened(&good.as_bytes()[..good.len() - 1]), Ok(None));
        for (answer, found) in [
            ("HTTP/1.1 401 Unauthorized\r\n\r\n", "401 Unauthorized"),
            ("HTTP/1.1 101 X\r\n\r\n", "no good Sec-WebSocket-Accept"),
            ("SSH-2.0-x\r\n", "no HTTP"),
        ] {
            let fault = opened(answer.as_bytes()).unwrap_err();
            assert!(fault.contains(found), "{fault}");
        }
    }
}
