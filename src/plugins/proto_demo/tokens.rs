//! Tokens for whoever asks.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use percent_encoding::percent_decode_str;
use serde_json::json;
use warp::reply::Response;

use super::private_json;
use crate::core::auth::{AuthProvider, Grant, Scope};
use crate::core::http as answer;

pub(super) const TOPIC_FAULT: &str = "expected a topic of 1 to 255 bytes without blanks and quotes";

/// Where tokens come from.
pub(super) struct Mint {
    pub auth: Arc<dyn AuthProvider>,
    pub lifetime: Duration,
}

/// A token to subscribe with and one to publish with.
pub(super) struct Tokens {
    pub subscribe: String,
    pub broadcast: String,
}

impl Mint {
    /// None when the auth provider cannot make tokens.
    pub(super) fn tokens(&self, topic: &str) -> Option<Tokens> {
        let topics = || Scope::Topics(HashSet::from([topic.to_owned()]));
        let subscribe = Grant { subscribe: topics(), ..Grant::default() };
        let broadcast = Grant { publish: topics(), ..Grant::default() };
        Some(Tokens {
            subscribe: self.auth.issue(&subscribe, self.lifetime)?,
            broadcast: self.auth.issue(&broadcast, self.lifetime)?,
        })
    }

    /// Answers `GET /demo/tokens?topic=…`.
    pub(super) fn answer(&self, query: &str) -> Response {
        let topic = query.split('&').find_map(|part| part.strip_prefix("topic="));
        let topic = percent_decode_str(topic.unwrap_or("")).decode_utf8_lossy();
        if !is_plain(&topic) {
            return answer::json(StatusCode::BAD_REQUEST, &json!({ "error": TOPIC_FAULT }));
        }
        let Some(tokens) = self.tokens(&topic) else {
            let error = "the auth provider cannot make tokens";
            return answer::json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": error }));
        };
        private_json(&json!({
            "topic": topic,
            "subscribe": tokens.subscribe,
            "broadcast": tokens.broadcast,
            "expires_in": self.lifetime.as_secs(),
        }))
    }
}

/// Whether the topic can stand in the commands that are printed.
pub(super) fn is_plain(topic: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"'\"\\".contains(c);
    !topic.is_empty() && topic.len() <= 255 && topic.chars().all(plain)
}
