//! `type = "oitc"`: the wire protocol of openITCOCKPIT's push server (5.7, Go).
//!
//! `POST /message` for Naemon, `/healthz`, and a WebSocket on every other path for
//! browsers. A user's browsers are receivers of the topic `browser/<user>`, his phones of
//! `phone/<user>`; what openITCOCKPIT does with its data base while it exports is on
//! `export`. Differences from the original stand in `docs/migrating-from-openitcockpit.md`.

mod config;
mod decode;
mod export;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod handshake;
mod legacy;
mod post;
mod session;
mod store;
mod texts;
mod users;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use http::header::{HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION};
use hyper::upgrade::OnUpgrade;
use tracing::{debug, warn};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::core::auth::{AuthError, AuthProvider, Grant};
use crate::core::auth_failures::AuthFailures;
use crate::core::body::Bodies;
use crate::core::client_address::ClientAddress;
use crate::core::config::Check;
use crate::core::http as answer;
use crate::core::message::Topic;
use crate::core::origin::AllowedOrigins;
use crate::core::plugin::{FromConfig, Plugin, ProtocolCx};
use crate::core::protocol::Protocol;
use crate::core::router::Router;
use crate::core::session::Session;
use crate::core::sink::LiveSink;
use crate::core::throttle::Throttle;
use crate::core::upgrade::Handshake;
use crate::core::{BoxError, chain};

pub use config::Config;
use export::LastExport;
use handshake::Visitor;
use legacy::LegacySession;
use session::OitcSession;
use store::Store;
use users::Users;

pub(super) const PLUGIN: Plugin = Plugin::protocol::<Oitc>("oitc");

/// The protocol.
pub struct Oitc {
    shared: Arc<Shared>,
    live: Arc<dyn LiveSink>,
    bodies: Bodies,
    origins: AllowedOrigins,
}

/// What sessions, publishers and the export watcher share.
struct Shared {
    /// First part of every topic.
    instance: String,
    config: Config,
    auth: Arc<dyn AuthProvider>,
    auth_failures: Arc<AuthFailures>,
    router: Arc<Router>,
    users: Users,
    /// Those who speak the protocol of the PHP server.
    legacy_users: Users,
    store: Store,
    /// Keys that nobody could check: anybody can bring that up, so not a line for each.
    unchecked: Throttle,
    /// Names that could not be looked up. Apart, so that those do not hide these.
    lookup_faults: Throttle,
    last_export: LastExport,
}

impl Shared {
    async fn authenticate(
        &self,
        client: ClientAddress,
        key: &str,
    ) -> Result<Arc<Grant>, AuthError> {
        self.auth_failures.authenticate(&*self.auth, client, key).await
    }

    /// Where the browsers of a user listen.
    fn browsers(&self, user: i64) -> Topic {
        Topic::new(&self.instance, &browser_topic(user))
    }

    /// Where the browsers of a user listen that speak the PHP server's protocol.
    fn legacy_browsers(&self, user: i64) -> Topic {
        Topic::new(&self.instance, &format!("legacy/{user}"))
    }

    /// Where a relay to the phones of a user listens.
    fn phones(&self, user: i64) -> Topic {
        Topic::new(&self.instance, &format!("phone/{user}"))
    }

    /// Where every connection listens.
    fn exports(&self) -> Topic {
        Topic::new(&self.instance, "export")
    }
}

fn browser_topic(user: i64) -> String {
    format!("browser/{user}")
}

impl Protocol for Oitc {
    fn routes(self: Arc<Self>) -> BoxedFilter<(Response,)> {
        let this = warp::any().map(move || self.clone());
        let health = answer::exact_path("/healthz").map(|| answer::text(StatusCode::OK, "ok"));
        let post = answer::exact_path("/message")
            .and(warp::post())
            .and(this.clone())
            .and(warp::header::headers_cloned())
            .and(warp::body::stream())
            .then(|this: Arc<Self>, headers: HeaderMap, body| async move {
                post::answer(&this.shared, &headers, body, &this.bodies).await
            });
        let other_method = answer::exact_path("/message")
            .map(|| refuse(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"));
        let socket =
            warp::method()
                .and(this)
                .and(warp::header::headers_cloned())
                .and(warp::ext::optional::<OnUpgrade>())
                .and(warp::query::raw().or(warp::any().map(String::new)).unify())
                .and(warp::ext::get::<ClientAddress>())
                .then(
                    |method,
                     this: Arc<Self>,
                     headers: HeaderMap,
                     on_upgrade,
                     query: String,
                     client| async move {
                        this.upgrade(&method, &headers, on_upgrade, &query, client).await
                    },
                );
        health.or(post).unify().or(other_method).unify().or(socket).unify().boxed()
    }

    fn is_catch_all(&self) -> bool {
        true
    }

    fn listening(&self, address: SocketAddr) {
        self.origins.warn_if_open(&self.shared.instance, address);
    }
}

impl Oitc {
    /// The order of the checks is the original's: who it is, then whether it is a
    /// WebSocket at all.
    async fn upgrade(
        &self,
        method: &http::Method,
        headers: &HeaderMap,
        on_upgrade: Option<OnUpgrade>,
        query: &str,
        client: ClientAddress,
    ) -> Response {
        if !self.origins.allows(headers) {
            return self.origins.refuse(&self.shared.instance);
        }
        let Some(visitor) = Visitor::read(query, headers) else {
            if self.shared.config.legacy && handshake::is_legacy(query, headers) {
                let session = LegacySession::new(self.shared.clone(), client);
                return self.accept(method, headers, on_upgrade, None, Box::new(session));
            }
            return refuse(StatusCode::UNAUTHORIZED, "Unauthorized");
        };
        match self.shared.authenticate(client, &visitor.key).await {
            Ok(grant) if grant.subscribe.covers(&browser_topic(visitor.user)) => {}
            Ok(_) => {
                debug!(user = visitor.user, "The credential does not cover this user");
                return refuse(StatusCode::UNAUTHORIZED, "Unauthorized");
            }
            Err(AuthError::Denied(reason)) => {
                debug!(user = visitor.user, reason, "Connection refused");
                return refuse(StatusCode::UNAUTHORIZED, "Unauthorized");
            }
            Err(error @ AuthError::TooMany(wait)) => {
                let refusal = refuse(StatusCode::TOO_MANY_REQUESTS, &error.to_string());
                return answer::later(refusal, wait);
            }
            Err(error @ AuthError::Unavailable(_)) => {
                if let Some(more) = self.shared.unchecked.pass() {
                    warn!(
                        error = chain(&error),
                        more_before = more,
                        "Nobody could check an API key"
                    );
                }
                // The status is for the operator; browsers cannot see it.
                return refuse(StatusCode::SERVICE_UNAVAILABLE, "Unauthorized");
            }
        }
        let session = OitcSession::new(self.shared.clone(), &visitor);
        self.accept(method, headers, on_upgrade, Some("access_token"), Box::new(session))
    }

    /// Whoever may come in still has to be a WebSocket client. Browsers drop the connection
    /// unless one of the protocols they offered comes back; the other one is the key.
    fn accept(
        &self,
        method: &http::Method,
        headers: &HeaderMap,
        on_upgrade: Option<OnUpgrade>,
        protocol: Option<&'static str>,
        session: Box<dyn Session>,
    ) -> Response {
        if method != http::Method::GET {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        }
        let Ok(handshake) = Handshake::check(headers, on_upgrade, &["13"]) else {
            let mut response = refuse(StatusCode::BAD_REQUEST, "Bad Request");
            let version = HeaderValue::from_static("13");
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
            return response;
        };
        let (mut response, on_upgrade) = handshake.accept();
        if let Some(protocol) = protocol {
            let protocol = HeaderValue::from_static(protocol);
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        self.live.accept(on_upgrade, session);
        response
    }
}

/// A refusal as Go's `http.Error` writes it: with a newline and `nosniff`.
fn refuse(status: StatusCode, text: &str) -> Response {
    let mut response = answer::text(status, format!("{text}\n"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl FromConfig<ProtocolCx> for Oitc {
    type Config = Config;

    fn check(config: &Config, check: &mut Check<'_>) {
        config.check(check);
    }

    async fn build(config: Config, cx: ProtocolCx) -> Result<Self, BoxError> {
        let (auth, live) = (cx.auth(&config.auth)?, cx.live_sink(&config.sink)?);
        let store = Store::new(cx.databases.get(&config.database)?, &config);
        let origins = AllowedOrigins::new(&config.allowed_origins, cx.metrics.refusals());
        let shared = Arc::new(Shared {
            instance: cx.name,
            config,
            auth,
            auth_failures: cx.auth_failures,
            router: cx.router,
            users: Users::default(),
            legacy_users: Users::default(),
            store,
            unchecked: Throttle::default(),
            lookup_faults: Throttle::default(),
            last_export: LastExport::default(),
        });
        cx.jobs.spawn(export::watch(shared.clone(), cx.jobs.clone()));
        Ok(Self { shared, live, bodies: cx.bodies, origins })
    }
}
