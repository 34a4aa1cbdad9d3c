//! Who is at the other end of a request, also when proxies stand between.
//!
//! What a client says of itself is never believed: only proxies that the configuration
//! trusts are, each about whoever connected to it. So the header is read from its end, hop
//! by hop, up to the first address that is no trusted proxy.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use ipnet::IpNet;

use super::config::{self, ForwardedHeader};

/// Where the client of a request is; an extension of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// What limits for one address count together: an IPv4 address, or the /64 that one
/// subscriber gets in IPv6, any address of which it can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(u64);

impl ClientAddress {
    /// Where the address belongs to.
    #[must_use]
    pub fn network(self) -> Network {
        Network(match self.0 {
            // In IPv6 this is within `::/32`, which is nobody's.
            IpAddr::V4(address) => address.to_bits().into(),
            // The upper half; the lower one is the subscriber's to choose.
            #[allow(clippy::cast_possible_truncation, reason = "64 bits are left")]
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        })
    }
}

/// The proxies that are believed, and where they say what they know.
#[derive(Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ForwardedHeader,
}

impl TrustedProxies {
    /// Those of `[server]`, which was checked.
    #[must_use]
    pub fn new(settings: &config::Server) -> Self {
        let texts = settings.trusted_proxies.iter();
        let networks = texts.filter_map(|text| parse_network(text)).collect();
        Self { networks, header: settings.forwarded_header }
    }

    /// Whether the address is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Who sent a request that came from `peer`. Where the proxies said nothing that can be
    /// understood it is the last hop that is known.
    #[must_use]
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> ClientAddress {
        let mut address = peer.ip().to_canonical();
        if !self.contains(address) {
            return ClientAddress(address);
        }
        let (name, parse): (_, fn(&str) -> Option<IpAddr>) = match self.header {
            ForwardedHeader::XForwardedFor => {
                (HeaderName::from_static("x-forwarded-for"), parse_address)
            }
            ForwardedHeader::Forwarded => (FORWARDED, parse_forwarded),
        };
        let lines = headers.get_all(name).iter().rev();
        // A line that is no text says nothing, and what stands before it is not reached.
        let hops = lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
        for hop in hops {
            let Some(before) = parse(hop.trim()) else { break };
            address = before;
            if !self.contains(address) {
                break;
            }
        }
        ClientAddress(address)
    }
}

/// Reads `10.0.0.0/8`, or an address that is its own network.
#[must_use]
pub fn parse_network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// An address as proxies write it: alone, or with a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = text.parse().ok().or_else(with_port).or_else(in_brackets)?;
    Some(address.to_canonical())
}

/// The `for` of one element of `Forwarded`. A comma within quotes, which no address needs,
/// makes it unreadable.
fn parse_forwarded(element: &str) -> Option<IpAddr> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("for")
            .then(|| parse_address(value.trim().trim_matches('"')))
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: ForwardedHeader, peer: &str, lines: &[&'static str]) -> String {
        let texts = ["127.0.0.1", "10.0.0.0/8", "fd00::/8"];
        let networks = texts.map(|text| parse_network(text).unwrap()).into();
        let proxies = TrustedProxies { networks, header };
        let name = match header {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        proxies.client(SocketAddr::new(peer.parse().unwrap(), 1), &headers).0.to_string()
    }

    #[test]
    fn the_last_address_that_is_no_proxy_counts() {
        for (peer, lines, expected) in [
            ("127.0.0.1", &["1.2.3.4"][..], "1.2.3.4"),
            ("127.0.0.1", &[" 1.2.3.4 , 10.0.0.1 "], "1.2.3.4"),
            // What the client wrote itself stands before what the proxy added.
            ("127.0.0.1", &["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            ("127.0.0.1", &["6.6.6.6", "1.2.3.4, 10.0.0.1"], "1.2.3.4"),
            ("127.0.0.1", &["6.6.6.6", "10.0.0.2"], "6.6.6.6"),
            ("::ffff:127.0.0.1", &["::ffff:1.2.3.4"], "1.2.3.4"),
            ("127.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("fd00::1", &["[2001:db8::1]:4711, 10.0.0.1:80, [fd00::2]"], "2001:db8::1"),
            // Nothing that can be understood: the last hop that is known.
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["6.6.6.6, unknown"], "127.0.0.1"),
            ("127.0.0.1", &["6.6.6.6, unknown, 10.0.0.1"], "10.0.0.1"),
            ("127.0.0.1", &["6.6.6.6,"], "127.0.0.1"),
            // All of them proxies: the first.
            ("127.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Nobody else is believed.
            ("1.1.1.1", &["6.6.6.6"], "1.1.1.1"),
        ] {
            let found = client(ForwardedHeader::XForwardedFor, peer, lines);
            assert_eq!(found, expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_header_of_rfc_7239() {
        for (line, expected) in [
            ("for=1.2.3.4", "1.2.3.4"),
            ("For=\"[2001:db8::1]:4711\";proto=http", "2001:db8::1"),
            ("for=6.6.6.6, proto=https ; for=1.2.3.4;by=10.0.0.1, for=10.0.0.1", "1.2.3.4"),
            ("for=6.6.6.6, for=_hidden", "127.0.0.1"),
            ("for=6.6.6.6, proto=http", "127.0.0.1"),
        ] {
            assert_eq!(
                client(ForwardedHeader::Forwarded, "127.0.0.1", &[line]),
                expected,
                "{line}"
            );
        }
    }

    #[test]
    fn a_network_is_an_address_or_a_64th() {
        let network = |text: &str| ClientAddress(text.parse().unwrap()).network();
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_ne!(network("1.2.3.4"), network("1.2.3.5"));
        for text in ["10.0.0.0/33", "10.0.0.0/", "localhost", "", "10.0.0"] {
            assert_eq!(parse_network(text), None, "{text}");
        }
    }
}
