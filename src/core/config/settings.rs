//! The keys of core itself: `[server]`, `[admin]` and `[log]`.

use std::num::NonZero;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::LevelFilter;

use super::listen::Listen;
use super::section::Check;
use crate::core::client_address::parse_network;

/// `[server]`: the listener and its limits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Name or address to listen on.
    pub host: String,
    /// Port to listen on; 0 lets the system choose one.
    pub port: u16,
    /// Threads that run the server; one per core by default.
    pub workers: usize,
    /// How long a request head may take, and how long a connection may idle between
    /// two requests.
    #[serde(with = "super::duration")]
    pub header_timeout: Duration,
    /// How long a request body may take.
    #[serde(with = "super::duration")]
    pub body_timeout: Duration,
    /// How long an answer may wait for a client that does not read it.
    #[serde(with = "super::duration")]
    pub write_timeout: Duration,
    /// Most connections at a time, all listeners together; 0 is nine tenths of the file
    /// descriptors that are left at start.
    pub max_connections: usize,
    /// Most connections of one address at a time (of one /64 in IPv6); 0 is no limit.
    pub max_connections_per_address: usize,
    /// Addresses and networks of proxies that are believed where a client is.
    pub trusted_proxies: Vec<String>,
    /// Where those proxies say it.
    pub forwarded_header: ForwardedHeader,
    /// Most bad credentials from one address in a minute, after which none from there is
    /// looked at for a minute; 0 is no limit.
    pub max_auth_failures: u32,
    /// Largest request head in bytes.
    pub max_head_bytes: usize,
    /// Most header lines in a request.
    pub max_headers: usize,
    /// Longest path with its query in bytes.
    pub max_uri_bytes: usize,
    /// Most bytes of request bodies in memory at a time, all requests together.
    pub max_body_bytes_in_flight: usize,
    /// Most bytes of messages that are on their way to subscribers at a time; publishers
    /// wait beyond it.
    pub max_publishing_bytes: u32,
    /// How long a publisher may wait for that before it is refused.
    #[serde(with = "super::duration")]
    pub publish_timeout: Duration,
    /// How long a stop may take before what is left is cut off.
    #[serde(with = "super::duration")]
    pub shutdown_timeout: Duration,
    /// Over how much of that time the ends of WebSocket connections are spread.
    #[serde(with = "super::duration")]
    pub drain_spread: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 8080,
            workers: std::thread::available_parallelism().map_or(1, NonZero::get),
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
            max_connections: 0,
            max_connections_per_address: 0,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            max_auth_failures: 0,
            max_head_bytes: 16 * 1024,
            max_headers: 100,
            max_uri_bytes: 8 * 1024,
            max_body_bytes_in_flight: 64 * 1024 * 1024,
            max_publishing_bytes: 64 * 1024 * 1024,
            publish_timeout: Duration::from_secs(5),
            shutdown_timeout: Duration::from_secs(10),
            drain_spread: Duration::from_millis(500),
        }
    }
}

impl Server {
    pub(in crate::core) fn check(&self, check: &mut Check<'_>) {
        if self.host.is_empty() {
            check.fault("host", "found an empty text, expected a name or an address");
        }
        // Below this hyper panics; above, one head could hold a megabyte per connection.
        check.range("max_head_bytes", self.max_head_bytes, 8 * 1024..=1024 * 1024);
        check.range("max_headers", self.max_headers, 1..=10_000);
        check.range("max_uri_bytes", self.max_uri_bytes, 256..=65_534);
        check.range("workers", self.workers, 1..=1024);
        check.range("max_connections", self.max_connections, 0..=10_000_000);
        let per_address = self.max_connections_per_address;
        check.range("max_connections_per_address", per_address, 0..=10_000_000);
        check.range("max_auth_failures", self.max_auth_failures, 0..=1_000_000);
        for (index, text) in self.trusted_proxies.iter().enumerate() {
            if parse_network(text).is_none() {
                check.fault(
                    &format!("trusted_proxies.{index}"),
                    &format!("found {text:?}, expected an address or a network, such as \"127.0.0.1\", \"10.0.0.0/8\" or \"fd00::/8\""),
                );
            }
        }
        let in_flight = self.max_body_bytes_in_flight;
        check.range("max_body_bytes_in_flight", in_flight, 65_536..=1 << 40);
        check.range("max_publishing_bytes", self.max_publishing_bytes as usize, 65_536..=1 << 31);
        let allowed = Duration::from_millis(1)..=Duration::from_hours(1);
        check.duration("header_timeout", self.header_timeout, allowed.clone());
        check.duration("body_timeout", self.body_timeout, allowed.clone());
        check.duration("write_timeout", self.write_timeout, allowed.clone());
        check.duration("publish_timeout", self.publish_timeout, allowed.clone());
        check.duration("shutdown_timeout", self.shutdown_timeout, allowed);
        if self.drain_spread >= self.shutdown_timeout {
            let [spread, timeout] =
                [self.drain_spread, self.shutdown_timeout].map(humantime::format_duration);
            check.fault(
                "drain_spread",
                &format!("found {spread}, expected less than shutdown_timeout ({timeout})"),
            );
        }
    }

    /// How long a stop waits for requests: what connections have to end in is theirs.
    pub(in crate::core) fn requests_timeout(&self) -> Duration {
        self.shutdown_timeout.saturating_sub(self.drain_spread) / 2
    }

    /// How long a stop waits for connections before it tells everything else to stop, which
    /// needs some time as well.
    pub(in crate::core) fn connections_timeout(&self) -> Duration {
        self.drain_spread + self.requests_timeout() / 2
    }
}

/// The header in which trusted proxies name the client.
///
/// One and not both: a proxy that writes one of them hands on the other as the client wrote
/// it, and that would be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// What nearly every proxy writes.
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// `[admin]`: the listener of operators.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// `host:port` for `/metrics`, `/livez` and `/readyz`; none when empty.
    pub listen: String,
}

impl Admin {
    /// Where to listen, if anywhere.
    #[must_use]
    pub fn listen(&self) -> Option<Listen> {
        Listen::parse(&self.listen)
    }

    pub(in crate::core) fn check(&self, check: &mut Check<'_>) {
        if !self.listen.is_empty() && self.listen().is_none() {
            check.fault("listen", &Listen::expected(&self.listen));
        }
    }
}

/// What libraries may say: warnings, but for what one of them reports as its own error and
/// hands to us as well.
const LIBRARIES: &str = "warn,rustls_platform_verifier=off";

/// `[log]`: what goes to stderr.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, `off`, or a list of directives such
    /// as `info,pushmux::plugins=debug`.
    pub level: String,
    /// One line of text, or one JSON object, per event.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

impl Log {
    /// The filter for `level`.
    ///
    /// A single word speaks of pushmux alone; libraries stay at `warn`, since at
    /// `trace` some of them print what they read from a socket. The verifier of
    /// certificates says at `error`, each time, what whoever asked it says as well.
    ///
    /// # Errors
    /// What is wrong with the directives.
    pub fn filter(&self) -> Result<tracing_subscriber::EnvFilter, String> {
        let parts = self.level.split(',').map(str::trim).filter(|part| !part.is_empty());
        let parts: Vec<_> = parts.collect();
        let is_level = |part: &str| part.parse::<LevelFilter>().ok();
        let whole = if parts.is_empty() { "info".to_owned() } else { parts.join(",") };
        let directives = match is_level(&whole) {
            Some(level) if level < LevelFilter::WARN => level.to_string(),
            Some(level) => format!("{LIBRARIES},pushmux={level}"),
            // Directives that say nothing of pushmux, such as those for the server it
            // replaces, must not silence it.
            None if !parts
                .iter()
                .any(|part| part.starts_with("pushmux") || is_level(part).is_some()) =>
            {
                format!("{LIBRARIES},pushmux=info,{whole}")
            }
            None => whole,
        };
        tracing_subscriber::EnvFilter::builder()
            .parse(directives)
            .map_err(|error| error.to_string())
    }

    /// A word among the directives that is perhaps a level with a mistake in it. No fault, since
    /// it may be the name of another program: `RUST_LOG` is not ours alone.
    pub(super) fn odd_word(level: &str) -> Option<&str> {
        let mut parts = level.split(',').map(str::trim);
        parts.find(|part| {
            let is_plain = !part.is_empty() && !part.contains(['=', ':', '[']);
            is_plain && *part != "pushmux" && part.parse::<LevelFilter>().is_err()
        })
    }

    pub(in crate::core) fn check(&self, check: &mut Check<'_>) {
        if let Err(error) = self.filter() {
            check.fault(
                "level",
                &format!(
                    "found {:?}, expected error, warn, info, debug, trace, off or a list of directives such as \"info,pushmux::plugins=debug\" ({error})",
                    self.level
                ),
            );
        }
    }
}
