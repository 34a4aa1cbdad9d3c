//! An address to listen on as people write it: `127.0.0.1:8083`, `[::1]:8083`, `name:0`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A host and a port, not yet looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// A name, or an address without brackets.
    pub host: String,
    /// 0 lets the system choose one.
    pub port: u16,
}

impl Listen {
    /// The parts as they stand in `[server]`: an IPv6 address may have its brackets.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        let host = host.trim().trim_start_matches('[').trim_end_matches(']');
        Self { host: host.to_owned(), port }
    }

    /// Whether `text` is the host of [`Self::new`].
    pub(in crate::core) fn is_host(text: &str) -> bool {
        let Self { host, .. } = Self::new(text, 0);
        Self::parse(&format!("[{host}]:0")).is_some() || Self::parse(&format!("{host}:0")).is_some()
    }

    /// Reads `host:port`. None when it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        // One spelling for each port: protocols that spell it alike share it.
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit())
            && (port == "0" || !port.starts_with('0'));
        let port = port.parse().ok().filter(|_| is_number)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => {
                // A link-local address needs its interface: `fe80::1%eth0`.
                let number = address.split_once('%').map_or(address, |(number, _)| number);
                number.parse::<Ipv6Addr>().ok().map(|_| address)?
            }
            None => host,
        };
        let is_name = |c: char| !c.is_whitespace() && !c.is_control() && !"/[]@".contains(c);
        let in_brackets = text.starts_with('[');
        let plain = host.chars().all(is_name) && (in_brackets || !host.contains(':'));
        (plain && !host.is_empty()).then(|| Self { host: host.to_owned(), port })
    }

    /// The fault of a text that is none of these.
    pub(in crate::core) fn expected(found: &str) -> String {
        format!(
            "found {found:?}, expected host:port, such as \"127.0.0.1:8083\", \"[::1]:8083\" or \"localhost:8083\""
        )
    }

    /// Whether only this machine can connect.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_comes_back() {
        for (text, host, port) in [
            ("127.0.0.1:8083", "127.0.0.1", 8083),
            ("[::1]:8083", "::1", 8083),
            ("[::]:0", "::", 0),
            ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
            ("localhost:65535", "localhost", 65535),
            ("push.example.org:1", "push.example.org", 1),
        ] {
            let listen = Listen::parse(text).unwrap();
            assert_eq!((listen.host.as_str(), listen.port), (host, port));
            assert_eq!(listen.to_string(), text);
        }
        assert_eq!(Listen::new("[::1]", 1), Listen::new("::1", 1));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "8083",
            ":8083",
            "[]:8083",
            "localhost",
            "localhost:",
            "localhost:65536",
            "localhost:+80",
            "localhost:080",
            "localhost:http",
            "::1:8083",
            "[::1]",
            "[127.0.0.1]:80",
            "http://localhost:80",
            "a b:80",
            "localhost:80 ",
        ] {
            assert_eq!(Listen::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn loopback_is_what_only_this_machine_reaches() {
        for (text, expected) in [
            ("localhost:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("example.org:1", false),
        ] {
            assert_eq!(Listen::parse(text).unwrap().is_loopback(), expected, "{text}");
        }
    }
}
