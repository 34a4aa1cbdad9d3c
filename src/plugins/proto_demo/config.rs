//! The keys of `[protocol.<name>]` with `type = "demo"`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tokens::{TOPIC_FAULT, is_plain};
use crate::core::config::{Check, duration};

/// `[protocol.<name>]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The `[auth.<name>]` that makes the tokens: one of type `jwt` with `generate = true`.
    pub auth: String,
    /// The topic of the tokens that are printed at start.
    pub topic: String,
    /// How long tokens are valid.
    #[serde(with = "duration")]
    pub lifetime: Duration,
    /// The `[database.<name>]` with the hosts of the part about monitoring, which is left out
    /// when this is empty. The demo switches the relay in there on and off.
    pub database: String,
    /// The `[sink.<name>]` that holds the page's phone; only used with `database`.
    pub sink: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            auth: "jwt".into(),
            topic: "demo".into(),
            lifetime: Duration::from_hours(24),
            database: String::new(),
            sink: "ws".into(),
        }
    }
}

impl Config {
    pub(super) fn check(&self, check: &mut Check<'_>) {
        check.issuing_auth("auth", &self.auth, "one of type jwt with generate = true");
        if !is_plain(&self.topic) {
            check.fault("topic", TOPIC_FAULT);
        }
        let year = Duration::from_hours(8760);
        check.duration("lifetime", self.lifetime, Duration::from_secs(1)..=year);
        if !self.database.is_empty() {
            check.database("database", &self.database);
            check.live_sink("sink", &self.sink);
        }
        check.claim("type", "/");
        check.loopback("the demo hands tokens to everybody who asks");
    }
}
