//! The page's phone: a gateway that the relay of openITCOCKPIT calls, and a WebSocket on
//! which the page is told what the phone got.
//!
//! The relay is switched on in the data base, where an administrator would do it, as long
//! as some page holds a phone: with a relay there is always somebody to reach, and a server
//! without any listener could not be shown.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Buf;
use futures_util::Stream;
use http::{HeaderMap, StatusCode};
use hyper::upgrade::OnUpgrade;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tracing::warn;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::local::is_trusted;
use crate::core::body::{Bodies, BodyError};
use crate::core::chain;
use crate::core::config::Secret;
use crate::core::database::{Database, DatabaseError};
use crate::core::http as answer;
use crate::core::message::{Publication, Topic};
use crate::core::plugin::Jobs;
use crate::core::router::Router;
use crate::core::session::{Client, Ending, Limits, Rate, Session};
use crate::core::sink::LiveSink;
use crate::core::upgrade::Handshake;

/// Where openITCOCKPIT's relay posts to, whatever the gateway's address.
const GATEWAY: &str = "/notifications/send-notification.json";

/// Most bytes of a request to the gateway.
const MAX_BODY: usize = 1024 * 1024;

pub(super) struct Phones {
    pub database: Database,
    pub router: Arc<Router>,
    pub live: Arc<dyn LiveSink>,
    /// What came for the phone goes to everybody who shows one.
    pub topic: Topic,
    /// What the relay must show.
    pub key: Secret,
    pub bodies: Bodies,
    /// Where this server is; the gateway is a part of it.
    pub address: OnceLock<SocketAddr>,
    /// How many pages hold a phone.
    pub held: watch::Sender<usize>,
}

impl Phones {
    pub(super) fn routes(self: Arc<Self>) -> BoxedFilter<(Response,)> {
        let this = warp::any().map(move || self.clone());
        let line = answer::exact_path("/demo/phone")
            .and(warp::get())
            .and(this.clone())
            .and(warp::header::headers_cloned())
            .and(warp::ext::optional::<OnUpgrade>())
            .map(|this: Arc<Self>, headers: HeaderMap, on_upgrade| {
                this.pick_up(&headers, on_upgrade)
            });
        let gateway = answer::exact_path(GATEWAY)
            .and(warp::post())
            .and(this)
            .and(warp::header::headers_cloned())
            .and(warp::body::stream())
            .then(|this: Arc<Self>, headers: HeaderMap, body| async move {
                answer::empty(this.push(&headers, body).await)
            });
        line.or(gateway).unify().boxed()
    }

    /// A page takes the phone into its hand.
    fn pick_up(self: Arc<Self>, headers: &HeaderMap, on_upgrade: Option<OnUpgrade>) -> Response {
        if !is_trusted(headers) {
            return answer::empty(StatusCode::FORBIDDEN);
        }
        let Ok(handshake) = Handshake::check(headers, on_upgrade, &["13"]) else {
            return answer::text(StatusCode::BAD_REQUEST, "expected a WebSocket");
        };
        let (response, on_upgrade) = handshake.accept();
        self.live.accept(on_upgrade, Box::new(Held::new(self.clone())));
        response
    }

    /// A request of the relay. What it says is handed on as it is, but for the key.
    async fn push(
        &self,
        headers: &HeaderMap,
        body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    ) -> StatusCode {
        let key = headers.get("x-api-key").map(http::HeaderValue::as_bytes);
        if key != Some(self.key.expose().as_bytes()) {
            return StatusCode::UNAUTHORIZED;
        }
        let body = match self.bodies.read(headers, body, MAX_BODY).await {
            Ok(body) => body,
            Err(BodyError::Busy) => return StatusCode::SERVICE_UNAVAILABLE,
            Err(BodyError::Announced { .. } | BodyError::TooLarge { .. }) => {
                return StatusCode::PAYLOAD_TOO_LARGE;
            }
            Err(BodyError::TimedOut) => return StatusCode::REQUEST_TIMEOUT,
            Err(BodyError::Broken) => return StatusCode::BAD_REQUEST,
        };
        let Ok(mut said) = serde_json::from_slice::<Map<String, Value>>(&body.bytes) else {
            return StatusCode::BAD_REQUEST;
        };
        if let Some(key) = said.get_mut("auth_key") {
            *key = "***".into();
        }
        let text = Value::Object(said).to_string();
        let Ok(admission) = self.router.admit(text.len()).await else {
            return StatusCode::SERVICE_UNAVAILABLE;
        };
        let publication = Publication::new(self.topic.clone(), text);
        let _ = self.router.publish(publication, &admission).settled().await;
        StatusCode::OK
    }

    /// Keeps the relay on while somebody holds a phone, until the server stops.
    pub(super) async fn switch(self: Arc<Self>, jobs: Jobs) {
        let mut held = self.held.subscribe();
        let switching = async {
            let mut was_on = false;
            while held.changed().await.is_ok() {
                let is_on = *held.borrow_and_update() > 0;
                if is_on == was_on {
                    continue;
                }
                match self.set_relay(is_on).await {
                    Ok(()) => was_on = is_on,
                    Err(error) => warn!(error = chain(&error), "Cannot switch the relay"),
                }
            }
        };
        tokio::select! {
            () = jobs.stopping() => {}
            () = switching => {}
        }
    }

    async fn set_relay(&self, is_on: bool) -> Result<(), DatabaseError> {
        // Set before anything is served, and without a client nothing is switched.
        let Some(address) = self.address.get() else { return Ok(()) };
        let host = match address {
            SocketAddr::V4(address) => format!("http://{}", address.ip()),
            SocketAddr::V6(address) => format!("http://[{}]", address.ip()),
        };
        let sql = "UPDATE push_notifications_relay SET address = ?, port = ?, enabled = ?";
        let values = [host.into(), i32::from(address.port()).into(), i32::from(is_on).into()];
        self.database.execute(sql, values).await.map(|_| ())
    }
}

/// A page's side of its phone.
struct Held(Arc<Phones>);

impl Held {
    fn new(phones: Arc<Phones>) -> Self {
        phones.held.send_modify(|held| *held += 1);
        Self(phones)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.send_modify(|held| *held -= 1);
    }
}

#[async_trait]
impl Session for Held {
    fn limits(&self) -> Limits {
        Limits {
            max_message_bytes: 512,
            message_rate: Rate { per_second: 20, burst: 100 },
            ping_interval: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            ending: Ending::CloseFrame,
            echo_close_reason: false,
        }
    }

    async fn opened(&mut self, client: &mut dyn Client) {
        client.subscribe(self.0.topic.clone());
    }

    /// A phone only listens.
    async fn received(&mut self, _client: &mut dyn Client, _text: &str) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
