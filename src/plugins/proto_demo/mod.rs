//! `type = "demo"`: a page to try the server with, and what the page needs: tokens, and
//! with a data base the surroundings of openITCOCKPIT's push server.
//!
//! Hands secrets to whoever asks, so it insists on a loopback address.

mod config;
mod local;
mod monitoring;
mod phone;
mod tokens;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::core::BoxError;
use crate::core::config::Check;
use crate::core::http as answer;
use crate::core::message::Topic;
use crate::core::plugin::{FromConfig, Plugin, ProtocolCx};
use crate::core::protocol::Protocol;

pub use config::Config;
use local::is_trusted;
use monitoring::Monitoring;
use phone::Phones;
use tokens::{Mint, Tokens};

pub(super) const PLUGIN: Plugin = Plugin::protocol::<Demo>("demo");

/// One file to the browser, several to us.
const PAGE: &str = concat!(
    include_str!("page/head.html"),
    "<style>\n",
    include_str!("page/style.css"),
    "</style>\n",
    include_str!("page/body.html"),
    "<script>\n\"use strict\";\n",
    include_str!("page/common.js"),
    include_str!("page/topics.js"),
    include_str!("page/alerts.js"),
    "</script>\n</html>\n",
);

/// The protocol.
pub struct Demo {
    mint: Mint,
    topic: String,
    /// None without a data base.
    alerts: Option<Alerts>,
}

/// The part about monitoring.
struct Alerts {
    monitoring: Monitoring,
    phones: Arc<Phones>,
}

/// An answer that no cache keeps.
fn private_json(body: &Value) -> Response {
    let mut response = answer::json(StatusCode::OK, body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Demo {
    /// Gives `secrets` to those who may have them.
    fn tell(headers: &HeaderMap, secrets: impl FnOnce() -> Response) -> Response {
        if is_trusted(headers) {
            return secrets();
        }
        let error = "this demo is for the machine it runs on";
        answer::json(StatusCode::FORBIDDEN, &json!({ "error": error }))
    }
}

impl Protocol for Demo {
    fn routes(self: Arc<Self>) -> BoxedFilter<(Response,)> {
        let this = {
            let this = self.clone();
            warp::any().map(move || this.clone())
        };
        let page = warp::path::end().and(warp::get()).map(|| {
            let page = Bytes::from_static(PAGE.as_bytes());
            answer::respond(StatusCode::OK, Some("text/html; charset=utf-8"), page)
        });
        let tokens = answer::exact_path("/demo/tokens")
            .and(warp::get())
            .and(this.clone())
            .and(warp::header::headers_cloned())
            .and(warp::query::raw().or(warp::any().map(String::new)).unify())
            .map(|this: Arc<Self>, headers, query: String| {
                Self::tell(&headers, || this.mint.answer(&query))
            });
        // Without the part about monitoring the page is told null and leaves it out.
        let monitoring = answer::exact_path("/demo/monitoring")
            .and(warp::get())
            .and(this)
            .and(warp::header::headers_cloned())
            .map(|this: Arc<Self>, headers| {
                let known = || this.alerts.as_ref().map(|alerts| alerts.monitoring.json());
                Self::tell(&headers, || private_json(&known().unwrap_or_default()))
            });
        let routes = page.or(tokens).unify().or(monitoring).unify().boxed();
        match &self.alerts {
            Some(alerts) => routes.or(alerts.phones.clone().routes()).unify().boxed(),
            None => routes,
        }
    }

    fn listening(&self, address: SocketAddr) {
        if let Some(alerts) = &self.alerts {
            alerts.phones.address.get_or_init(|| address);
        }
    }

    fn greeting(&self, address: SocketAddr) -> Option<String> {
        let topic = &self.topic;
        let Tokens { subscribe, broadcast } = self.mint.tokens(topic)?;
        let alerts = self.alerts.as_ref().map_or_else(String::new, |alerts| {
            let command = alerts.monitoring.command(address);
            format!("\n  or, with the page open, send an alert as openITCOCKPIT's monitoring does\n\n{command}\n")
        });
        Some(format!(
            "\n  This is a demo: keys and tokens are made at start and worth nothing after it.\n\
             \n  Open      http://{address}/\n\
             \n  Or take a WebSocket client to ws://{address}/ws and say\n\n\
             /subscribe {topic} {subscribe}\n\
             \n  then publish with\n\n\
             curl -H 'Content-Type: application/json' -d '{{\"topic\":\"{topic}\",\"message\":\"hello\",\"token\":\"{broadcast}\"}}' http://{address}/broadcast\n\
             {alerts}"
        ))
    }
}

impl FromConfig<ProtocolCx> for Demo {
    type Config = Config;

    fn check(config: &Config, check: &mut Check<'_>) {
        config.check(check);
    }

    async fn build(config: Config, cx: ProtocolCx) -> Result<Self, BoxError> {
        let mint = Mint { auth: cx.auth(&config.auth)?, lifetime: config.lifetime };
        if mint.tokens(&config.topic).is_none() {
            let auth = &config.auth;
            return Err(format!("auth: [auth.{auth}] cannot make tokens, expected one of type jwt with generate = true").into());
        }
        let alerts = match config.database.as_str() {
            "" => None,
            _ => Some(Alerts::build(&config, &cx).await?),
        };
        Ok(Self { mint, topic: config.topic, alerts })
    }
}

impl Alerts {
    async fn build(config: &Config, cx: &ProtocolCx) -> Result<Self, BoxError> {
        let database = cx.databases.get(&config.database)?;
        if !database.is_in_memory() {
            let name = &config.database;
            return Err(format!("database: [database.{name}] lasts, expected one with url = \"sqlite::memory:\": the page shows its key to everybody on this machine, and changes its relay").into());
        }
        let monitoring = Monitoring::read(&database).await?;
        let phones = Arc::new(Phones {
            database,
            router: cx.router.clone(),
            live: cx.live_sink(&config.sink)?,
            topic: Topic::new(&cx.name, "phone"),
            key: monitoring.gateway_key.clone(),
            bodies: cx.bodies.clone(),
            address: OnceLock::new(),
            held: watch::Sender::new(0),
        });
        cx.jobs.spawn(phones.clone().switch(cx.jobs.clone()));
        Ok(Self { monitoring, phones })
    }
}
