//! Ports that somebody else has opened and hands over, as systemd does for a socket unit.
//!
//! Such a port stays open while the server is away: who connects meanwhile waits in its
//! backlog and is not refused. Which socket is for which listener is told by its address;
//! names would be a second place that says the same.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;

/// Sockets that were handed over and not claimed yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<TcpListener>);

/// Why what was handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// No socket that takes connections.
    #[error(
        "descriptor {0}, which was handed over (LISTEN_FDS), is no TCP socket that takes connections, expected one of a socket unit with ListenStream= and without Accept=yes"
    )]
    NotAListener(usize),
    /// No listener of the configuration has this address.
    #[error(
        "the socket on {found} was handed over (LISTEN_FDS), and nothing is to be served there: expected {expected}"
    )]
    Unwanted {
        /// Addresses of the sockets.
        found: String,
        /// Addresses of the configuration, with the keys that say so.
        expected: String,
    },
}

impl Inherited {
    /// Takes what `LISTEN_FDS` and `LISTEN_PID` speak of. Takes both variables out of the
    /// environment, so it comes before any thread.
    ///
    /// # Errors
    /// The first descriptor that cannot be listened on.
    pub fn take() -> Result<Self, InheritedError> {
        /// The first descriptor that systemd passes.
        const FIRST: usize = 3;
        let mut descriptors = ListenFd::from_env();
        let listeners = (0..descriptors.len()).map(|index| {
            let listener = descriptors.take_tcp_listener(index).ok().flatten();
            let listener = listener.filter(|it| SockRef::from(it).is_listener().unwrap_or(false));
            listener.ok_or(InheritedError::NotAListener(FIRST + index))
        });
        listeners.collect::<Result<_, _>>().map(Self)
    }

    /// The socket for a listener with one of these addresses, if there is one.
    pub(super) fn claim(&mut self, addresses: &[SocketAddr]) -> Option<TcpListener> {
        let wanted = |listener: &TcpListener| {
            listener.local_addr().is_ok_and(|found| addresses.iter().any(|it| fits(*it, found)))
        };
        let index = self.0.iter().position(wanted)?;
        Some(self.0.remove(index))
    }

    /// Every socket must have been claimed: one that is left would have clients that nobody
    /// answers.
    pub(super) fn all_claimed(&self, expected: &[String]) -> Result<(), InheritedError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let name =
            |it: &TcpListener| it.local_addr().map_or_else(|_| "?".into(), |it| it.to_string());
        let found: Vec<_> = self.0.iter().map(name).collect();
        let (found, expected) = (found.join(", "), expected.join(", or "));
        Err(InheritedError::Unwanted { found, expected })
    }
}

/// As when a port is bound: on a system without IPv6 all addresses are those of IPv4.
fn fits(wanted: SocketAddr, found: SocketAddr) -> bool {
    let all = wanted.ip().is_unspecified() && found.ip() == Ipv4Addr::UNSPECIFIED;
    wanted.port() == found.port() && (wanted.ip() == found.ip() || all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_for_the_listener_with_its_address_and_for_one_only() {
        let sockets: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let [first, second] = [0, 1].map(|index: usize| sockets[index].local_addr().unwrap());
        let mut inherited = Inherited(sockets);
        let elsewhere: SocketAddr = ([127, 0, 0, 2], second.port()).into();
        assert!(inherited.claim(&[elsewhere]).is_none());
        let claimed = inherited.claim(&[elsewhere, second]).unwrap();
        assert_eq!(claimed.local_addr().unwrap(), second);
        assert!(inherited.claim(&[second]).is_none());
        let left = inherited.all_claimed(&["127.0.0.1:1 (server.host)".into()]).unwrap_err();
        let text = left.to_string();
        assert!(text.contains(&first.to_string()) && text.contains("server.host"), "{text}");
        assert!(inherited.claim(&[first]).is_some());
        inherited.all_claimed(&[]).unwrap();
    }

    #[test]
    fn all_addresses_may_be_those_of_ipv4_and_never_the_other_way_round() {
        let fits =
            |wanted: &str, found: &str| fits(wanted.parse().unwrap(), found.parse().unwrap());
        assert!(fits("[::]:80", "[::]:80") && fits("[::]:80", "0.0.0.0:80"));
        assert!(fits("0.0.0.0:80", "0.0.0.0:80") && fits("[::1]:80", "[::1]:80"));
        for (wanted, found) in
            [("0.0.0.0:80", "[::]:80"), ("127.0.0.1:80", "0.0.0.0:80"), ("[::]:80", "[::]:81")]
        {
            assert!(!fits(wanted, found), "{wanted} {found}");
        }
    }
}
