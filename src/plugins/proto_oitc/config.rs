//! The keys of `[protocol.<name>]` with `type = "oitc"`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::config::{Check, duration};
use crate::core::origin::AllowedOrigins;
use crate::core::session::{Ending, Limits, Rate};

/// `[protocol.<name>]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The `[auth.<name>]` that judges API keys.
    pub auth: String,
    /// The `[sink.<name>]` that holds the WebSocket clients.
    pub sink: String,
    /// The `[database.<name>]` of openITCOCKPIT.
    pub database: String,
    /// A message whose timestamp is older is dropped with 202.
    #[serde(with = "duration")]
    pub max_age: Duration,
    /// How long names of hosts and services are remembered.
    #[serde(with = "duration")]
    pub lookup_cache: Duration,
    /// How long after the data base told a name it may be used when the data base fails.
    #[serde(with = "duration")]
    pub lookup_stale: Duration,
    /// How many hosts and services are remembered.
    pub lookup_cache_entries: usize,
    /// Take front ends up to 5.6, too, which speak the PHP server's protocol. Such a socket
    /// is open before its key was seen.
    pub legacy: bool,
    /// How long such a client has to register.
    #[serde(with = "duration")]
    pub legacy_register_timeout: Duration,
    /// Time between two looks at the export status.
    #[serde(with = "duration")]
    pub export_interval: Duration,
    /// Time between two pings. nginx cuts a connection that is silent for 60 s.
    #[serde(with = "duration")]
    pub ping_interval: Duration,
    /// A client that sent nothing for this long is taken for dead.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// Largest message from a client, in bytes.
    pub max_message_bytes: usize,
    /// Largest body of a POST, in bytes.
    pub max_body_bytes: usize,
    /// Messages that a client may send in a second, in the long run; 0 is no limit.
    pub message_rate: u32,
    /// Messages that it may send at once.
    pub message_burst: u32,
    /// Pages that may open a WebSocket; all when there is none.
    pub allowed_origins: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            auth: "apikey".into(),
            sink: "ws".into(),
            database: "main".into(),
            max_age: Duration::from_mins(5),
            lookup_cache: Duration::from_secs(30),
            lookup_stale: Duration::from_hours(1),
            lookup_cache_entries: 10_000,
            legacy: false,
            legacy_register_timeout: Duration::from_secs(10),
            export_interval: Duration::from_secs(3),
            ping_interval: Duration::from_secs(54),
            idle_timeout: Duration::from_mins(1),
            max_message_bytes: 8192,
            max_body_bytes: 1024 * 1024,
            message_rate: 20,
            message_burst: 100,
            allowed_origins: Vec::new(),
        }
    }
}

impl Config {
    pub(super) fn check(&self, check: &mut Check<'_>) {
        check.auth("auth", &self.auth);
        check.live_sink("sink", &self.sink);
        check.database("database", &self.database);
        let day = Duration::from_hours(24);
        check.duration("max_age", self.max_age, Duration::from_secs(1)..=day);
        check.duration("lookup_cache", self.lookup_cache, Duration::ZERO..=day);
        check.duration("lookup_stale", self.lookup_stale, Duration::ZERO..=day);
        check.range("lookup_cache_entries", self.lookup_cache_entries, 1..=10_000_000);
        let allowed = Duration::from_millis(100)..=day;
        check.duration("legacy_register_timeout", self.legacy_register_timeout, allowed.clone());
        check.duration("export_interval", self.export_interval, allowed);
        check.heartbeat(self.ping_interval, self.idle_timeout);
        check.claim("type", "every path");
        check.range("max_message_bytes", self.max_message_bytes, 512..=64 * 1024 * 1024);
        check.range("max_body_bytes", self.max_body_bytes, 512..=64 * 1024 * 1024);
        check.rate("message", self.messages());
        AllowedOrigins::check(&self.allowed_origins, check);
    }

    fn messages(&self) -> Rate {
        Rate { per_second: self.message_rate, burst: self.message_burst }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_message_bytes: self.max_message_bytes,
            message_rate: self.messages(),
            ping_interval: self.ping_interval,
            idle_timeout: self.idle_timeout,
            // The browser's client (rxjs) takes any closing handshake for the end of the
            // stream and never comes back; after a loss it reconnects.
            ending: Ending::Abrupt,
            echo_close_reason: false,
        }
    }
}
