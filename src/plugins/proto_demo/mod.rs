//! `type = "demo"`: a page to try the server with, and tokens for it.
//!
//! Hands a token to whoever asks, so it insists on a loopback address.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::json;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::core::BoxError;
use crate::core::auth::{AuthProvider, Grant, Scope};
use crate::core::config::{Check, duration};
use crate::core::http as answer;
use crate::core::plugin::{FromConfig, Plugin, ProtocolCx};
use crate::core::protocol::Protocol;

pub(super) const PLUGIN: Plugin = Plugin::protocol::<Demo>("demo");

const PAGE: &str = include_str!("page.html");

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
}

impl Default for Config {
    fn default() -> Self {
        Self { auth: "jwt".into(), topic: "demo".into(), lifetime: Duration::from_hours(24) }
    }
}

/// The protocol.
pub struct Demo {
    auth: Arc<dyn AuthProvider>,
    config: Config,
}

/// A token to subscribe with and one to publish with.
struct Tokens {
    subscribe: String,
    broadcast: String,
}

impl Demo {
    fn tokens(&self, topic: &str) -> Option<Tokens> {
        let topics = || Scope::Topics(HashSet::from([topic.to_owned()]));
        let subscribe = Grant { subscribe: topics(), ..Grant::default() };
        let broadcast = Grant { publish: topics(), ..Grant::default() };
        Some(Tokens {
            subscribe: self.auth.issue(&subscribe, self.config.lifetime)?,
            broadcast: self.auth.issue(&broadcast, self.config.lifetime)?,
        })
    }

    fn answer(&self, topic: &str) -> Response {
        if !is_plain(topic) {
            return answer::json(StatusCode::BAD_REQUEST, &json!({ "error": TOPIC_FAULT }));
        }
        let Some(tokens) = self.tokens(topic) else {
            let error = "the auth provider cannot make tokens";
            return answer::json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": error }));
        };
        let body = json!({
            "topic": topic,
            "subscribe": tokens.subscribe,
            "broadcast": tokens.broadcast,
            "expires_in": self.config.lifetime.as_secs(),
        });
        let mut response = answer::json(StatusCode::OK, &body);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

const TOPIC_FAULT: &str = "expected a topic of 1 to 255 bytes without blanks and quotes";

/// Whether the topic can stand in the commands that are printed.
fn is_plain(topic: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"'\"\\".contains(c);
    !topic.is_empty() && topic.len() <= 255 && topic.chars().all(plain)
}

/// Whether the request was meant for this machine. A page from elsewhere can make its
/// own name point here (DNS rebinding) and would then be given tokens.
fn is_local(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| !port.contains(']'))
        .map_or(host, |(name, _)| name);
    let name = name.trim_matches(['[', ']']);
    name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

impl Protocol for Demo {
    fn routes(self: Arc<Self>) -> BoxedFilter<(Response,)> {
        let page = warp::path::end().and(warp::get()).map(|| {
            let page = Bytes::from_static(PAGE.as_bytes());
            answer::respond(StatusCode::OK, Some("text/html; charset=utf-8"), page)
        });
        let tokens = answer::exact_path("/demo/tokens")
            .and(warp::get())
            .and(warp::header::<String>("host"))
            .and(warp::query::raw().or(warp::any().map(String::new)).unify())
            .map(move |host: String, query: String| {
                if !is_local(&host) {
                    let error = "this demo is for the machine it runs on";
                    return answer::json(StatusCode::FORBIDDEN, &json!({ "error": error }));
                }
                let topic = query.split('&').find_map(|part| part.strip_prefix("topic="));
                let topic = percent_decode_str(topic.unwrap_or("")).decode_utf8_lossy();
                self.answer(&topic)
            });
        page.or(tokens).unify().boxed()
    }

    fn greeting(&self, address: SocketAddr) -> Option<String> {
        let Tokens { subscribe, broadcast } = self.tokens(&self.config.topic)?;
        let topic = &self.config.topic;
        Some(format!(
            "\n  This is a demo: keys and tokens are made at start and worth nothing after it.\n\
             \n  Open      http://{address}/\n\
             \n  Or take a WebSocket client to ws://{address}/ws and say\n\n\
             /subscribe {topic} {subscribe}\n\
             \n  then publish with\n\n\
             curl -H 'Content-Type: application/json' -d '{{\"topic\":\"{topic}\",\"message\":\"hello\",\"token\":\"{broadcast}\"}}' http://{address}/broadcast\n"
        ))
    }
}

impl FromConfig<ProtocolCx> for Demo {
    type Config = Config;

    fn check(config: &Config, check: &mut Check<'_>) {
        let how = "one of type jwt with generate = true";
        check.issuing_auth("auth", &config.auth, how);
        if !is_plain(&config.topic) {
            check.fault("topic", TOPIC_FAULT);
        }
        let year = Duration::from_hours(8760);
        check.duration("lifetime", config.lifetime, Duration::from_secs(1)..=year);
        check.loopback("the demo hands tokens to everybody who asks");
    }

    async fn build(config: Config, cx: ProtocolCx) -> Result<Self, BoxError> {
        let auth = cx.auth(&config.auth)?;
        let demo = Self { auth, config };
        if demo.tokens(&demo.config.topic).is_none() {
            let auth = &demo.config.auth;
            return Err(format!("auth: [auth.{auth}] cannot make tokens, expected one of type jwt with generate = true").into());
        }
        Ok(demo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in
            ["localhost", "localhost:8080", "127.0.0.1:80", "127.1.2.3", "[::1]:8080", "[::1]"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "10.0.0.1:80",
            "",
            ":80",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
