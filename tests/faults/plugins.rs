//! Plugins that do all that a plugin must not do, when they are told to.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;
use pushmux::core::BoxError;
use pushmux::core::admission::Admission;
use pushmux::core::auth::{AuthError, AuthProvider, Grant, Scope};
use pushmux::core::config::Check;
use pushmux::core::message::{Message, Publication, Topic};
use pushmux::core::plugin::{AuthCx, FromConfig, Plugin, ProtocolCx, SinkCx};
use pushmux::core::protocol::Protocol;
use pushmux::core::router::Router;
use pushmux::core::session::{Client, Ending, Limits, Rate, Session};
use pushmux::core::sink::{Delivery, LiveSink, Receipt, Sink};
use pushmux::core::upgrade::Handshake;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

/// The words that make them fail.
pub const PANIC: &str = "panic";
pub const HANG: &str = "hang";
pub const NONSENSE: &str = "nonsense";
pub const SILENCE: &str = "silence";

/// What a panic says here, and no log may repeat.
pub const SECRET: &str = "what-nobody-may-read";

/// How long a hang takes.
const HANG_TIME: Duration = Duration::from_secs(5);

pub const ALL: [Plugin; 3] = [
    Plugin::auth::<FaultyAuth>("faulty"),
    Plugin::sink::<FaultySink>("faulty"),
    Plugin::protocol::<FaultyProtocol>("faulty"),
];

/// How often the sink was asked about the topic `sink-a`, which one test has for itself.
pub static ASKED: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nothing {}

pub struct FaultyAuth(Arc<Grant>);

#[async_trait]
impl AuthProvider for FaultyAuth {
    async fn authenticate(&self, credential: &str) -> Result<Arc<Grant>, AuthError> {
        match credential {
            PANIC => panic!("{SECRET}"),
            HANG => std::future::pending().await,
            _ => Ok(self.0.clone()),
        }
    }
}

impl FromConfig<AuthCx> for FaultyAuth {
    type Config = Nothing;

    async fn build(_: Nothing, _: AuthCx) -> Result<Self, BoxError> {
        let all = Grant { publish: Scope::Everything, subscribe: Scope::Everything };
        Ok(Self(Arc::new(all)))
    }
}

#[derive(Default)]
pub struct FaultySink {
    kept: Mutex<Vec<oneshot::Sender<Delivery>>>,
}

impl Sink for FaultySink {
    fn deliver(&self, message: &Arc<Message>, _: &Admission) -> Receipt {
        if message.topic.name() == "sink-a" {
            ASKED.fetch_add(1, Ordering::SeqCst);
        }
        match message.frame.as_str() {
            PANIC => panic!("{SECRET}"),
            HANG => std::thread::sleep(HANG_TIME),
            NONSENSE => return Delivery { accepted: usize::MAX, dropped: usize::MAX }.into(),
            SILENCE => {
                let (answer, delivery) = oneshot::channel();
                self.kept.lock().push(answer);
                return Receipt::later(delivery);
            }
            _ => {}
        }
        Receipt::default()
    }
}

impl FromConfig<SinkCx> for FaultySink {
    type Config = Nothing;

    async fn build(_: Nothing, _: SinkCx) -> Result<Self, BoxError> {
        Ok(Self::default())
    }
}

pub struct FaultyProtocol {
    topic: Topic,
    live: Arc<dyn LiveSink>,
    router: Arc<Router>,
}

impl Protocol for FaultyProtocol {
    fn routes(self: Arc<Self>) -> BoxedFilter<(Response,)> {
        let panics = warp::path!("faulty" / "panic").then(|| async { panic!("{SECRET}") });
        let hangs = warp::path!("faulty" / "hang").then(|| async {
            tokio::time::sleep(HANG_TIME).await;
            pushmux::core::http::text(http::StatusCode::OK, "late")
        });
        let this = self.clone();
        // How many get it.
        let publish = warp::path!("faulty" / "publish").then(move || {
            let this = this.clone();
            async move {
                let admission = this.router.admit(1).await.unwrap();
                let publication = Publication::new(this.topic.clone(), "x");
                let delivery = this.router.publish(publication, &admission).settled().await;
                pushmux::core::http::text(http::StatusCode::OK, delivery.accepted.to_string())
            }
        });
        let socket = warp::path!("faulty" / "ws")
            .and(warp::header::headers_cloned())
            .and(warp::ext::optional::<OnUpgrade>())
            .and_then(move |headers: HeaderMap, on_upgrade| {
                let this = self.clone();
                async move { Ok::<_, Infallible>(this.open(&headers, on_upgrade)) }
            });
        panics.or(hangs).unify().or(publish).unify().or(socket).unify().boxed()
    }
}

impl FaultyProtocol {
    fn open(&self, headers: &HeaderMap, on_upgrade: Option<OnUpgrade>) -> Response {
        let handshake = Handshake::check(headers, on_upgrade, &["13"]).unwrap();
        let (response, on_upgrade) = handshake.accept();
        self.live.accept(on_upgrade, Box::new(FaultySession(self.topic.clone())));
        response
    }
}

impl FromConfig<ProtocolCx> for FaultyProtocol {
    type Config = Nothing;

    fn check(_: &Nothing, check: &mut Check<'_>) {
        check.live_sink("sink", "ws");
    }

    async fn build(_: Nothing, cx: ProtocolCx) -> Result<Self, BoxError> {
        Ok(Self { live: cx.live_sink("ws")?, topic: Topic::new(&cx.name, "t"), router: cx.router })
    }
}

struct FaultySession(Topic);

#[async_trait]
impl Session for FaultySession {
    fn limits(&self) -> Limits {
        Limits {
            max_message_bytes: 1000,
            message_rate: Rate { per_second: 0, burst: 1 },
            ping_interval: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            ending: Ending::CloseFrame,
            echo_close_reason: false,
        }
    }

    async fn opened(&mut self, client: &mut dyn Client) {
        client.subscribe(self.0.clone());
    }

    async fn received(&mut self, client: &mut dyn Client, text: &str) -> ControlFlow<()> {
        match text {
            PANIC => panic!("{SECRET}"),
            HANG => tokio::time::sleep(HANG_TIME).await,
            _ => client.send(text.to_owned().into()),
        }
        ControlFlow::Continue(())
    }
}
