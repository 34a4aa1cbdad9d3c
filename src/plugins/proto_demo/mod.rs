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
        Self { auth: "jwt".into(), topic: "demo".into(), lifetime: Duration::from_secs(86_400) }
    }
}

/// The protocol.
pub struct Demo {
    auth: Arc<dyn AuthProvider>,
    config: Config,
}

#[derive(Deserialize)]
struct Query {
    topic: String,
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
        let plain = |c: char| !c.is_whitespace() && !c.is_control();
        if topic.is_empty() || topic.len() > 255 || !topic.chars().all(plain) {
            let error = "expected a topic of 1 to 255 bytes without blanks";
            return answer::json(StatusCode::BAD_REQUEST, &json!({ "error": error }));
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

impl Protocol for Demo {
    fn routes(self: Arc<Self>) -> BoxedFilter<(Response,)> {
        let page = warp::path::end().and(warp::get()).map(|| {
            let page = Bytes::from_static(PAGE.as_bytes());
            answer::respond(StatusCode::OK, Some("text/html; charset=utf-8"), page)
        });
        let tokens = answer::exact_path("/demo/tokens")
            .and(warp::get())
            .and(warp::query::<Query>())
            .map(move |query: Query| self.answer(&query.topic));
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
        check.auth("auth", &config.auth);
        let year = Duration::from_secs(365 * 86_400);
        check.duration("lifetime", config.lifetime, Duration::from_secs(1)..=year);
        let host = check.host().to_owned();
        let loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if !loopback {
            let message = format!(
                "found {host:?}, but the demo hands tokens to everybody who asks: expected a loopback address such as 127.0.0.1"
            );
            check.fault_at("server.host", &message);
        }
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
