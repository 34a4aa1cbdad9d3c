//! Who may be told secrets: pages of this machine, as their browser reports them.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{HOST, HeaderName, ORIGIN};

/// Whether the request was meant for this machine and comes from the demo's own page, or
/// from no page at all. A page from elsewhere can make its own name point here (DNS
/// rebinding), and any page can open a WebSocket to here.
pub(super) fn is_trusted(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text(HOST).filter(|host| is_local(host)) else { return false };
    match text(ORIGIN) {
        Some(origin) => origin.strip_prefix("http://") == Some(host),
        None => !headers.contains_key(ORIGIN),
    }
}

fn is_local(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| !port.contains(']'))
        .map_or(host, |(name, _)| name);
    let name = name.trim_matches(['[', ']']);
    name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_trusted_with(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        is_trusted(&headers)
    }

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in
            ["localhost", "localhost:8080", "127.0.0.1:80", "127.1.2.3", "[::1]:8080", "[::1]"]
        {
            assert!(is_trusted_with(host, None), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "10.0.0.1:80",
            "",
            ":80",
        ] {
            assert!(!is_trusted_with(host, None), "{host}");
        }
        assert!(!is_trusted(&HeaderMap::new()));
    }

    #[test]
    fn a_page_from_elsewhere_is_told_nothing() {
        let host = "127.0.0.1:8080";
        assert!(is_trusted_with(host, Some("http://127.0.0.1:8080")));
        for origin in ["http://evil.example", "http://127.0.0.1:9090", "null", "", "ü"] {
            assert!(!is_trusted_with(host, Some(origin)), "{origin}");
        }
    }
}
