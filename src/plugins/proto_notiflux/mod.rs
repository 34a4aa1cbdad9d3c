//! `type = "notiflux"`: the wire protocol of notiflux 0.2.1.
//!
//! `POST /broadcast`, WebSocket `/ws`, `GET /health`; everything else, wrong methods
//! included, is an empty 404. Where this differs from the original the README has a
//! table; every difference has a key in [`Config`] or makes nobody worse off.

mod broadcast;
mod command;
mod config;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Buf;
use futures_util::Stream;
use http::header::{CONNECTION, HeaderMap, HeaderValue};
use http::{Response as HttpResponse, StatusCode};
use hyper::ext::ReasonPhrase;
use hyper::upgrade::OnUpgrade;
use tracing::{debug, info, warn};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::core::auth::{AuthError, AuthProvider, Grant};
use crate::core::auth_failures::AuthFailures;
use crate::core::body::Bodies;
use crate::core::client_address::ClientAddress;
use crate::core::config::Check;
use crate::core::http::{empty, exact_path};
use crate::core::origin::AllowedOrigins;
use crate::core::plugin::{FromConfig, Plugin, ProtocolCx};
use crate::core::protocol::Protocol;
use crate::core::router::Router;
use crate::core::sink::LiveSink;
use crate::core::throttle::Throttle;
use crate::core::upgrade::{Handshake, Refusal, has_token};
use crate::core::{BoxError, chain};

pub use config::Config;
use session::NotifluxSession;

pub(super) const PLUGIN: Plugin = Plugin::protocol::<Notiflux>("notiflux");

/// The versions of the WebSocket protocol that notiflux takes. They do not differ in
/// anything that reaches a server.
const VERSIONS: [&str; 3] = ["13", "8", "7"];

/// The protocol.
pub struct Notiflux {
    shared: Arc<Shared>,
    live: Arc<dyn LiveSink>,
    router: Arc<Router>,
    bodies: Bodies,
    origins: AllowedOrigins,
}

/// What sessions and publishers share.
struct Shared {
    /// First part of every topic.
    instance: String,
    config: Config,
    auth: Arc<dyn AuthProvider>,
    auth_failures: Arc<AuthFailures>,
    /// Refusals are anybody's to cause: they must not fill the log.
    refusals: Throttle,
    /// So is what nobody could check.
    unchecked: Throttle,
}

impl Shared {
    async fn authenticate(
        &self,
        client: ClientAddress,
        token: &str,
    ) -> Result<Arc<Grant>, AuthError> {
        self.auth_failures.authenticate(&*self.auth, client, token).await
    }

    /// For the operator: a client is told no more than that it was refused.
    fn warn_unavailable(&self, error: &AuthError) {
        if let Some(more) = self.unchecked.pass() {
            warn!(error = chain(error), more_before = more, "Nobody could check a token");
        }
    }

    /// Tells the operator of a refusal: the first in a second at `info`, each at `debug`.
    fn refused(&self, what: &'static str, topic: Option<&str>, reason: &'static str) {
        debug!(what, topic, reason, "Refused");
        if let Some(more) = self.refusals.pass() {
            info!(what, topic, reason, more_before = more, "Refused");
        }
    }
}

impl Protocol for Notiflux {
    fn routes(self: Arc<Self>) -> BoxedFilter<(Response,)> {
        let prefix = self.shared.config.path_prefix.clone();
        let path = |name| format!("{prefix}{name}");
        let this = warp::any().map(move || self.clone());
        // HEAD too, which the original does not answer: some probes send nothing else.
        let health = exact_path(path("/health"))
            .and(warp::get().or(warp::head()).unify())
            .map(|| empty(StatusCode::OK));
        let socket = exact_path(path("/ws"))
            .and(warp::get())
            .and(this.clone())
            .and(warp::header::headers_cloned())
            .and(warp::ext::optional::<OnUpgrade>())
            .and(warp::query::raw().or(warp::any().map(String::new)).unify())
            .and(warp::ext::get::<ClientAddress>())
            .map(|this: Arc<Self>, headers: HeaderMap, on_upgrade, query: String, client| {
                this.upgrade(&headers, on_upgrade, &query, client)
            });
        let broadcast = exact_path(path("/broadcast"))
            .and(warp::post())
            .and(this)
            .and(warp::header::headers_cloned())
            .and(warp::ext::get::<ClientAddress>())
            .and(warp::body::stream())
            .then(|this: Arc<Self>, headers: HeaderMap, client, body| async move {
                this.broadcast(&headers, client, body).await
            });
        broadcast.or(socket).unify().or(health).unify().boxed()
    }

    fn listening(&self, address: SocketAddr) {
        self.origins.warn_if_open(&self.shared.instance, address);
    }
}

impl Notiflux {
    fn upgrade(
        &self,
        headers: &HeaderMap,
        on_upgrade: Option<OnUpgrade>,
        query: &str,
        client: ClientAddress,
    ) -> Response {
        if !self.origins.allows(headers) {
            return self.origins.refuse(&self.shared.instance);
        }
        let handshake = match Handshake::check(headers, on_upgrade, &VERSIONS) {
            Ok(handshake) => handshake,
            Err(refusal) => return refused(refusal, headers),
        };
        let acknowledge = self.shared.config.ack && query.split('&').any(|item| item == "ack=true");
        let (response, on_upgrade) = handshake.accept();
        let session = NotifluxSession::new(self.shared.clone(), client, acknowledge);
        self.live.accept(on_upgrade, Box::new(session));
        response
    }

    async fn broadcast(
        &self,
        headers: &HeaderMap,
        client: ClientAddress,
        body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    ) -> Response {
        let read = broadcast::read(headers, body, &self.shared.config, &self.bodies).await;
        let (payload, _held) = match read {
            Ok(read) => read,
            Err(refusal) => return refusal.answer(),
        };
        broadcast::publish(&self.shared, &self.router, client, payload).await
    }
}

/// 400 without a body; the reason stands in the status line, as with the original.
fn refused(refusal: Refusal, headers: &HeaderMap) -> Response {
    let reason = match refusal {
        Refusal::NoUpgrade => "No WebSocket Upgrade header found",
        Refusal::NoConnection => "No Connection upgrade",
        Refusal::NoVersion => "WebSocket version header is required",
        Refusal::BadVersion => "Unsupported WebSocket version",
        Refusal::BadKey | Refusal::Body => "Handshake error",
    };
    let mut response: HttpResponse<_> = empty(StatusCode::BAD_REQUEST);
    response.extensions_mut().insert(ReasonPhrase::from_static(reason.as_bytes()));
    if has_token(headers, &CONNECTION, "upgrade") {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    response
}

impl FromConfig<ProtocolCx> for Notiflux {
    type Config = Config;

    fn check(config: &Config, check: &mut Check<'_>) {
        config.check(check);
    }

    async fn build(config: Config, cx: ProtocolCx) -> Result<Self, BoxError> {
        let (auth, live) = (cx.auth(&config.auth)?, cx.live_sink(&config.sink)?);
        let origins = AllowedOrigins::new(&config.allowed_origins, cx.metrics.refusals());
        let shared = Arc::new(Shared {
            instance: cx.name,
            config,
            auth,
            auth_failures: cx.auth_failures,
            refusals: Throttle::default(),
            unchecked: Throttle::default(),
        });
        Ok(Self { shared, live, router: cx.router, bodies: cx.bodies, origins })
    }
}
