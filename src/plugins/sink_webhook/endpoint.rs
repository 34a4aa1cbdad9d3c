//! From the address and port an administrator typed to the URL of the gateway.
//!
//! The rules are those of the server this replaces, which parsed with Go's `url.Parse`;
//! what is stored in its data base must lead to the same place. IPv6 literals, which it
//! got wrong, are right here. A path in the address has always been ignored. The port is
//! not checked here: one that no URL can hold fails in [`parse`], and nothing is sent.

use std::net::Ipv6Addr;

use reqwest::Url;

const PATH: &str = "/notifications/send-notification.json";

/// Why there is no URL. Never quotes the address: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EndpointError {
    #[error("the address of the relay is empty")]
    Empty,
    #[error("the address of the relay has no scheme before `://`")]
    NoScheme,
    #[error("the address of the relay has no host")]
    NoHost,
    #[error("the address of the relay has a port that is no number")]
    Port,
    #[error("the address of the relay has a character that no URL can have there")]
    Character,
    #[error("no request can be made to the address and port of the relay")]
    Unusable,
}

/// The URL to send to.
pub(super) fn parse(address: &str, port: i64) -> Result<Url, EndpointError> {
    let url = Url::parse(&endpoint(address, port)?).map_err(|_| EndpointError::Unusable)?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(EndpointError::Unusable),
    }
}

/// The same as text, for every scheme and any port.
fn endpoint(address: &str, port: i64) -> Result<String, EndpointError> {
    let address = address.trim();
    if address.is_empty() {
        return Err(EndpointError::Empty);
    }
    // `::1` is a host; Go takes its last colon for the one before a port.
    let whole = if address.parse::<Ipv6Addr>().is_ok() {
        format!("https://[{address}]")
    } else if address.contains("://") {
        address.to_owned()
    } else {
        format!("https://{address}")
    };
    if whole.contains(|c: char| c.is_ascii_control()) {
        return Err(EndpointError::Character);
    }
    let (scheme, rest) = scheme(&whole)?;
    // Without slashes the rest is opaque, as in `mailto:x`.
    let rest = rest.strip_prefix("//").ok_or(EndpointError::NoHost)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if user.is_some_and(|user| !user.chars().all(is_of_a_user)) {
        return Err(EndpointError::Character);
    }
    let (host, own_port) = split(host)?;
    let port = match own_port {
        "" if port > 0 => port.to_string(),
        own_port => own_port.to_owned(),
    };
    let default = match scheme.as_str() {
        "https" => "443",
        "http" => "80",
        _ => "",
    };
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    let port = if port == default { String::new() } else { format!(":{port}") };
    let port = if port == ":" { String::new() } else { port };
    Ok(format!("{scheme}://{user}{}{port}{PATH}", escape(host)))
}

/// Splits off the scheme, in lower case.
fn scheme(url: &str) -> Result<(String, &str), EndpointError> {
    let (scheme, rest) = url.split_once(':').ok_or(EndpointError::NoScheme)?;
    let mut chars = scheme.chars();
    let good = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if good { Ok((scheme.to_ascii_lowercase(), rest)) } else { Err(EndpointError::NoScheme) }
}

/// Host, with its brackets if it has any, and port.
fn split(authority: &str) -> Result<(&str, &str), EndpointError> {
    let (host, port) = if authority.starts_with('[') {
        let end = authority.rfind(']').ok_or(EndpointError::Character)? + 1;
        let (host, port) = authority.split_at(end);
        let inner = &host[1..end - 1];
        if inner.parse::<Ipv6Addr>().is_err() {
            return Err(if inner.is_empty() {
                EndpointError::NoHost
            } else {
                EndpointError::Character
            });
        }
        (host, port)
    } else {
        authority.split_at(authority.rfind(':').unwrap_or(authority.len()))
    };
    let digits = match port {
        "" => "",
        _ => port.strip_prefix(':').ok_or(EndpointError::Port)?,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EndpointError::Port);
    }
    if host.is_empty() {
        return Err(EndpointError::NoHost);
    }
    if !host.starts_with('[') && !host.chars().all(is_of_a_host) {
        return Err(EndpointError::Character);
    }
    Ok((host, digits))
}

fn is_of_a_host(c: char) -> bool {
    !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=".contains(c)
}

fn is_of_a_user(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c)
}

/// What is not ASCII as `%XX`, as Go does it. Parsing makes IDNA of that.
fn escape(host: &str) -> String {
    percent_encoding::utf8_percent_encode(host, &percent_encoding::AsciiSet::EMPTY).to_string()
}

#[cfg(test)]
mod tests {
    use super::EndpointError::{Character, Empty, NoHost, NoScheme, Port};
    use super::*;

    #[test]
    fn what_is_stored_leads_where_it_always_did() {
        for (address, port, expected) in [
            ("https://pushrelay.openitcockpit.io", 443, "https://pushrelay.openitcockpit.io"),
            ("https://pushrelay.openitcockpit.io", 0, "https://pushrelay.openitcockpit.io"),
            ("pushrelay.openitcockpit.io", 443, "https://pushrelay.openitcockpit.io"),
            (" pushrelay.openitcockpit.io\n", 443, "https://pushrelay.openitcockpit.io"),
            ("pushrelay.openitcockpit.io", 8443, "https://pushrelay.openitcockpit.io:8443"),
            ("relay.example.org", 80, "https://relay.example.org:80"),
            ("relay.example.org", -1, "https://relay.example.org"),
            ("relay.example.org", 70000, "https://relay.example.org:70000"),
            ("http://relay.example.org", 80, "http://relay.example.org"),
            ("http://relay.example.org", 0, "http://relay.example.org"),
            ("http://relay.example.org", 443, "http://relay.example.org:443"),
            ("https://relay.example.org:9443", 443, "https://relay.example.org:9443"),
            ("https://relay.example.org:443", 8443, "https://relay.example.org"),
            ("http://relay.example.org:80", 81, "http://relay.example.org"),
            ("https://relay.example.org:", 8443, "https://relay.example.org:8443"),
            ("https://relay.example.org:", 0, "https://relay.example.org"),
            ("https://relay.example.org:0", 443, "https://relay.example.org:0"),
            ("https://relay.example.org:0443", 443, "https://relay.example.org:0443"),
            ("https://relay.example.org:99999", 443, "https://relay.example.org:99999"),
            ("https://relay.example.org/base?x=1#f", 443, "https://relay.example.org"),
            (
                "https://user:pass@relay.example.org",
                8443,
                "https://user:pass@relay.example.org:8443",
            ),
            ("HTTPS://Relay.Example.ORG", 443, "https://Relay.Example.ORG"),
            ("127.0.0.1", 8443, "https://127.0.0.1:8443"),
            ("https://[::1]", 8443, "https://[::1]:8443"),
            // These three were broken.
            ("https://[::1]", 443, "https://[::1]"),
            ("https://[::1]", 0, "https://[::1]"),
            ("::1", 8443, "https://[::1]:8443"),
            ("::1", 443, "https://[::1]"),
            ("ftp://relay.example.org", 21, "ftp://relay.example.org:21"),
            ("https://bücher.example", 443, "https://b%C3%BCcher.example"),
        ] {
            let expected = format!("{expected}{PATH}");
            assert_eq!(endpoint(address, port), Ok(expected), "{address} {port}");
        }
    }

    #[test]
    fn what_leads_nowhere_says_why() {
        for (address, expected) in [
            ("", Empty),
            (" \t ", Empty),
            ("https://", NoHost),
            ("//relay.example.org", NoHost),
            ("https:///x", NoHost),
            ("mailto:x://y", NoHost),
            ("https://:8443", NoHost),
            ("https://relay.example.org:abc", Port),
            ("https:relay.example.org", Port),
            ("https://[::1]x", Port),
            ("https://relay example.org", Character),
            ("https://relay\n.example.org", Character),
            ("https://[::1", Character),
            ("https://us er@relay.example.org", Character),
            ("://relay", NoScheme),
        ] {
            for port in [443, 0, 8443] {
                assert_eq!(endpoint(address, port), Err(expected), "{address}");
            }
        }
    }

    #[test]
    fn only_what_a_request_can_be_made_to_is_used() {
        let url = |address, port| parse(address, port).map(String::from);
        for (address, port) in [
            ("ftp://relay.example.org", 21),
            ("relay.example.org", 70000),
            ("https://relay.example.org:99999", 443),
        ] {
            assert_eq!(url(address, port), Err(EndpointError::Unusable), "{address} {port}");
        }
        assert_eq!(
            url("https://bücher.example", 443).unwrap(),
            format!("https://xn--bcher-kva.example{PATH}")
        );
        assert_eq!(url("::1", 8443).unwrap(), format!("https://[::1]:8443{PATH}"));
    }
}
