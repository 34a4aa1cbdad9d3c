//! Which web pages may open a WebSocket: browsers let any page do so, and say which it is.

use std::net::SocketAddr;

use http::header::{HeaderMap, ORIGIN};
use http::uri::{Scheme, Uri};
use http::{HeaderValue, StatusCode};
use tracing::warn;
use warp::reply::Response;

use super::config::Check;
use super::http::text;
use super::metrics::{Refusals, Refused};

/// The pages that may, as `allowed_origins` of a protocol names them; all when there is none.
#[derive(Debug, Default)]
pub struct AllowedOrigins {
    listed: Vec<Origin>,
    refused: Refusals,
}

/// Scheme, host and port, in small letters, the port always there where the scheme has one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl AllowedOrigins {
    /// Reports what is not an origin in `allowed_origins`.
    pub fn check(texts: &[String], check: &mut Check<'_>) {
        for (index, text) in texts.iter().enumerate() {
            if Origin::parse(text).is_none() {
                check.fault(
                    &format!("allowed_origins.{index}"),
                    &format!("found {text:?}, expected scheme, host and perhaps port, such as \"https://example.org\" or \"http://localhost:8080\""),
                );
            }
        }
    }

    /// Those that were checked.
    #[must_use]
    pub fn new(texts: &[String], refused: Refusals) -> Self {
        Self { listed: texts.iter().filter_map(|text| Origin::parse(text)).collect(), refused }
    }

    /// Whether the handshake of a page may go on. A client without `Origin` is no browser,
    /// which nothing here could keep from claiming to be one.
    #[must_use]
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else { return true };
        let listed = |origin: &HeaderValue| {
            let origin = origin.to_str().ok().and_then(Origin::parse);
            origin.is_some_and(|origin| self.listed.contains(&origin))
        };
        self.listed.is_empty() || (origins.next().is_none() && listed(origin))
    }

    /// The answer to a page that may not. `protocol` is the name of the table.
    #[must_use]
    pub fn refuse(&self, protocol: &str) -> Response {
        self.refused.add(Refused::AllowedOrigins);
        let reason =
            format!("Pages of this origin may not connect (protocol.{protocol}.allowed_origins)");
        text(StatusCode::FORBIDDEN, reason)
    }

    /// Warns the operator of a protocol that pages from anywhere can reach.
    pub fn warn_if_open(&self, protocol: &str, address: SocketAddr) {
        if self.listed.is_empty() && !address.ip().to_canonical().is_loopback() {
            warn!(
                %address,
                "protocol.{protocol}.allowed_origins is empty: pages of any web site may connect with a credential that they have"
            );
        }
    }
}

impl Origin {
    /// None for what is no origin, `null` included.
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let (scheme, authority) = (uri.scheme()?, uri.authority()?);
        let is_bare = uri.path_and_query().is_none_or(|path| path == "/") && !text.ends_with('/');
        let standard = match scheme {
            scheme if *scheme == Scheme::HTTP => Some(80),
            scheme if *scheme == Scheme::HTTPS => Some(443),
            _ => None,
        };
        let host = authority.host().to_ascii_lowercase();
        // `Authority::port` has none for what is no number, which is not the same.
        let port = match authority.as_str().strip_prefix(authority.host())? {
            "" => standard,
            rest => Some(rest.strip_prefix(':')?.parse().ok()?),
        };
        let scheme = scheme.as_str().to_ascii_lowercase();
        (is_bare && !host.is_empty()).then_some(Self { scheme, host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(listed: &[&str], sent: &[&'static str]) -> bool {
        let listed: Vec<_> = listed.iter().map(|text| (*text).to_owned()).collect();
        let headers = sent.iter().map(|text| (ORIGIN, text.parse().unwrap()));
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value)| _ = map.append(name, value));
        AllowedOrigins::new(&listed, Refusals::default()).allows(&map)
    }

    #[test]
    fn scheme_host_and_port_must_be_those_of_the_list() {
        let listed = ["https://Example.org", "http://localhost:8080", "http://[::1]:80"];
        for sent in [
            "https://example.org",
            "https://EXAMPLE.org:443",
            "http://localhost:8080",
            "http://[::1]",
        ] {
            assert!(allows(&listed, &[sent]), "{sent}");
        }
        for sent in [
            "http://example.org",
            "https://example.org:8443",
            "https://www.example.org",
            "https://example.org.evil.example",
            "https://evil.example",
            "https://example.org@evil.example",
            "http://localhost",
            "null",
            "",
            "example.org",
            "https://",
            "\u{fc}",
        ] {
            assert!(!allows(&listed, &[sent]), "{sent}");
        }
        assert!(!allows(&listed, &["https://example.org", "https://evil.example"]));
        assert!(allows(&listed, &[]), "no browser");
        assert!(allows(&[], &["https://evil.example"]) && allows(&[], &["null"]), "open");
    }

    #[test]
    fn what_is_no_origin() {
        for text in [
            "*",
            "null",
            "example.org",
            "https://example.org/",
            "https://example.org/app",
            "https://example.org?x",
            "https://example.org:",
            "https://example.org:99999",
            "https://user@example.org",
            "https://",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }
}
