//! What is in a token.
//!
//! Source of the names and types: the README and behaviour of notiflux 0.2.1.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The claims of a token, all of them needed, strictly typed; others are ignored.
#[derive(Debug, Serialize, Deserialize)]
pub struct Claims {
    /// Any text; not looked at.
    pub sub: String,
    /// End of validity, whole seconds since 1970.
    pub exp: u64,
    /// Topics the token is good for, compared byte by byte: no patterns.
    pub topics: Vec<String>,
    /// What may be done with them.
    pub scope: TokenScope,
}

/// `scope`: exactly one of these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TokenScope {
    /// For clients.
    Subscribe,
    /// For publishers.
    Broadcast,
}

impl Claims {
    /// Claims that are good from now for `lifetime`.
    #[must_use]
    pub fn new(scope: TokenScope, topics: Vec<String>, lifetime: Duration) -> Self {
        let exp = now().saturating_add(lifetime.as_secs());
        Self { sub: "pushmux".to_owned(), exp, topics, scope }
    }
}

/// Whole seconds since 1970; 0 on a clock before that.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
