//! The keys of `[protocol.<name>]` with `type = "notiflux"`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::config::{Check, duration};
use crate::core::origin::AllowedOrigins;
use crate::core::session::{Ending, Limits, Rate};

/// `[protocol.<name>]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The `[auth.<name>]` that judges tokens.
    pub auth: String,
    /// The `[sink.<name>]` that holds the WebSocket clients.
    pub sink: String,
    /// What stands before `/broadcast`, `/ws` and `/health`, for a second instance.
    pub path_prefix: String,
    /// Tell publishers the truth: 401 and 403 with a reason instead of a 200 for
    /// everything, and what was delivered with the 200.
    pub strict: bool,
    /// Let clients ask for acknowledgements with `/ws?ack=true`.
    pub ack: bool,
    /// Time between two pings.
    #[serde(with = "duration")]
    pub ping_interval: Duration,
    /// A client that sent nothing for this long is taken for dead.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// Largest message from a client, in bytes.
    pub max_message_bytes: usize,
    /// Largest body of a POST, in bytes, also after decompression.
    pub max_body_bytes: usize,
    /// Longest topic, in bytes.
    pub max_topic_bytes: usize,
    /// Refuse the empty topic and control characters in topics; notiflux takes both.
    pub plain_topics: bool,
    /// Most topics of one connection.
    pub max_subscriptions: usize,
    /// Messages that a client may send in a second, in the long run; 0 is no limit.
    pub message_rate: u32,
    /// Messages that it may send at once: a client that comes back subscribes to all of its
    /// topics.
    pub message_burst: u32,
    /// Pages that may open a WebSocket; all when there is none.
    pub allowed_origins: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            auth: "jwt".into(),
            sink: "ws".into(),
            path_prefix: String::new(),
            strict: false,
            ack: false,
            ping_interval: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            max_message_bytes: 64 * 1024,
            max_body_bytes: 2 * 1024 * 1024,
            max_topic_bytes: 255,
            plain_topics: true,
            max_subscriptions: 10_000,
            message_rate: 200,
            message_burst: 20_000,
            allowed_origins: Vec::new(),
        }
    }
}

impl Config {
    pub(super) fn check(&self, check: &mut Check<'_>) {
        check.auth("auth", &self.auth);
        check.live_sink("sink", &self.sink);
        check.heartbeat(self.ping_interval, self.idle_timeout);
        let prefix = &self.path_prefix;
        if !prefix.is_empty() && (!prefix.starts_with('/') || prefix.ends_with('/')) {
            check.fault(
                "path_prefix",
                &format!("found {prefix:?}, expected nothing, or a path such as \"/news\""),
            );
        }
        check.claim("path_prefix", &format!("{prefix}/broadcast"));
        check.range("max_message_bytes", self.max_message_bytes, 512..=64 * 1024 * 1024);
        check.range("max_body_bytes", self.max_body_bytes, 512..=64 * 1024 * 1024);
        check.range("max_topic_bytes", self.max_topic_bytes, 1..=64 * 1024);
        check.range("max_subscriptions", self.max_subscriptions, 1..=10_000_000);
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
            ending: Ending::CloseFrame,
            echo_close_reason: true,
        }
    }

    /// Why no client may use this topic, if so.
    pub(super) fn topic_fault(&self, topic: &str) -> Option<&'static str> {
        if topic.len() > self.max_topic_bytes {
            return Some("the topic is too long");
        }
        if self.plain_topics && (topic.is_empty() || topic.chars().any(char::is_control)) {
            return Some("the topic is empty or has control characters");
        }
        None
    }
}
