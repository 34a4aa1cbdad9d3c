//! What is sent, and where to.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use thiserror::Error;

use super::flags::Flags;

/// Where the push server listens unless `OITC_ADDRESS` says otherwise.
const LOOPBACK: &str = "127.0.0.1";
const PORT: u16 = 8083;

/// The body of the request: all keys, in the order of the original.
#[derive(Debug, Serialize)]
pub(super) struct Alert<'a> {
    timestamp: u64,
    #[serde(rename = "userId")]
    user_id: i64,
    r#type: &'a str,
    #[serde(rename = "hostUuid")]
    host_uuid: &'a str,
    #[serde(rename = "serviceUuid")]
    service_uuid: &'a str,
    /// The server chooses it by the state.
    icon: &'a str,
    state: i64,
    notificationtype: &'a str,
    output: &'a str,
    ackauthor: &'a str,
    ackcomment: &'a str,
}

impl<'a> Alert<'a> {
    pub(super) fn new(flags: &'a Flags, now: SystemTime) -> Self {
        Self {
            // A clock before 1970 makes an alert that the server drops as too old.
            timestamp: now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            user_id: flags.user_id,
            r#type: flags.kind(),
            host_uuid: &flags.host_uuid,
            service_uuid: &flags.service_uuid,
            icon: "",
            state: flags.state,
            notificationtype: &flags.notification_type,
            output: &flags.output,
            ackauthor: &flags.ack_author,
            ackcomment: &flags.ack_comment,
        }
    }
}

/// The server's name or address, and its port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
}

/// `OITC_ADDRESS` names no server.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("OITC_ADDRESS must be a host name or an IP address, with or without a port")]
pub(super) struct NoTarget;

impl Target {
    /// Reads `OITC_ADDRESS`; empty is as good as unset.
    ///
    /// The original appends its port to whatever it is given. A port that is there is
    /// used here: there is no other way to reach a server that listens elsewhere.
    pub(super) fn parse(address: &str) -> Result<Self, NoTarget> {
        let (host, port) = match address {
            "" => (LOOPBACK, None),
            _ => split(address).ok_or(NoTarget)?,
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| NoTarget)?,
            None => PORT,
        };
        // A URL, a path or a user would go unnoticed into the Host header.
        let good = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if host.is_empty() || !host.chars().all(good) {
            return Err(NoTarget);
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// As in the Host header.
    pub(super) fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

/// Host, without brackets, and port if there is one.
fn split(address: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest {
            "" => Some((host, None)),
            _ => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    match address.split_once(':') {
        // More than one colon: an IPv6 address without brackets has no port.
        Some((_, rest)) if rest.contains(':') => Some((address, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((address, None)),
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The URL for messages, also for an address that is none: as the original shows it.
pub(super) fn url(target: Result<&Target, &NoTarget>, address: &str) -> String {
    let authority = target.map_or_else(|_| format!("{address}:{PORT}"), Target::authority);
    format!("http://{authority}/message")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::flags::parse;
    use super::{Alert, NoTarget, Target, url};

    #[test]
    fn all_keys_are_sent_in_the_order_of_the_original() {
        let args = ["-t", "Host", "-user-id", "7", "-output", "a\n\"b\u{1}\u{fffd}", "-state=1"];
        let Ok(Some(flags)) = parse(args.map(str::to_owned)) else { panic!() };
        let alert = Alert::new(&flags, UNIX_EPOCH + Duration::from_millis(1_700_000_000_999));
        let expected = concat!(
            r#"{"timestamp":1700000000,"userId":7,"type":"Host","hostUuid":"","serviceUuid":"","#,
            r#""icon":"","state":1,"notificationtype":"","output":"a\n\"b\u0001"#,
            "\u{fffd}",
            r#"","ackauthor":"","ackcomment":""}"#
        );
        assert_eq!(serde_json::to_string(&alert).unwrap(), expected);
    }

    #[test]
    fn the_port_is_appended_unless_there_is_one() {
        for (address, expected) in [
            ("", "127.0.0.1:8083"),
            ("10.0.0.1", "10.0.0.1:8083"),
            ("openitcockpit", "openitcockpit:8083"),
            ("openitcockpit:81", "openitcockpit:81"),
            ("127.0.0.1:65535", "127.0.0.1:65535"),
            ("::1", "[::1]:8083"),
            ("[::1]", "[::1]:8083"),
            ("[::1]:81", "[::1]:81"),
            // One could mean a port here, but it is an address.
            ("::1:8083", "[::1:8083]:8083"),
        ] {
            let target = Target::parse(address).unwrap();
            assert_eq!(target.authority(), expected, "{address}");
            assert_eq!(url(Ok(&target), address), format!("http://{expected}/message"));
        }
    }

    #[test]
    fn what_names_no_server_is_refused() {
        for address in [
            "http://push",
            "push/",
            "push:",
            ":81",
            "push:http",
            "push:65536",
            "push:+1 ",
            "[]",
            "[::1",
            "[::1]x",
            "[::1]:",
            "a b",
            "a\r\nb",
            "me@push",
            "bücher",
        ] {
            assert_eq!(Target::parse(address), Err(NoTarget), "{address:?}");
        }
        assert_eq!(url(Err(&NoTarget), "http://x"), "http://http://x:8083/message");
    }
}
