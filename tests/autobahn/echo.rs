//! A server that says what it hears: what conformance suites want to talk to.
//!
//! The protocol is here and nowhere else; it is put into a plugin list of this program's own,
//! so that no release has it. What is tested is the rest: the listener, the handshake, the
//! reader, the limits and the queue of the real server. `scripts/autobahn` runs it.

use std::error::Error;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, StatusCode};
use hyper::upgrade::OnUpgrade;
use pushmux::core::BoxError;
use pushmux::core::config::{Check, Layers, Sources};
use pushmux::core::http::empty;
use pushmux::core::inherited::Inherited;
use pushmux::core::plan;
use pushmux::core::plugin::{FromConfig, Plugin, ProtocolCx};
use pushmux::core::protocol::Protocol;
use pushmux::core::server::Server;
use pushmux::core::session::{Client, Ending, Limits, Rate, Session};
use pushmux::core::sink::LiveSink;
use pushmux::core::upgrade::Handshake;
use pushmux::plugins;
use serde::{Deserialize, Serialize};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

/// Echoes texts as texts and binary messages as binary ones, whatever the path.
struct Echo {
    live: Arc<dyn LiveSink>,
}

/// `[protocol.<name>]` with `type = "echo"`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    sink: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { sink: "ws".into() }
    }
}

impl FromConfig<ProtocolCx> for Echo {
    type Config = Config;

    fn check(config: &Config, check: &mut Check<'_>) {
        check.live_sink("sink", &config.sink);
    }

    async fn build(config: Config, cx: ProtocolCx) -> Result<Self, BoxError> {
        Ok(Self { live: cx.live_sink(&config.sink)? })
    }
}

impl Protocol for Echo {
    fn routes(self: Arc<Self>) -> BoxedFilter<(Response,)> {
        warp::get()
            .and(warp::any().map(move || self.clone()))
            .and(warp::header::headers_cloned())
            .and(warp::ext::optional::<OnUpgrade>())
            .map(|this: Arc<Self>, headers: HeaderMap, on_upgrade| {
                match Handshake::check(&headers, on_upgrade, &["13"]) {
                    Ok(handshake) => {
                        let (response, on_upgrade) = handshake.accept();
                        this.live.accept(on_upgrade, Box::new(Conversation));
                        response
                    }
                    Err(_) => empty(StatusCode::BAD_REQUEST),
                }
            })
            .boxed()
    }
}

struct Conversation;

#[async_trait]
impl Session for Conversation {
    fn limits(&self) -> Limits {
        Limits {
            // The largest message of the suite, and no byte more.
            max_message_bytes: 16 * 1024 * 1024,
            // None.
            message_rate: Rate { per_second: 0, burst: 1 },
            ping_interval: Duration::from_mins(1),
            idle_timeout: Duration::from_mins(2),
            ending: Ending::CloseFrame,
            echo_close_reason: true,
        }
    }

    async fn received(&mut self, client: &mut dyn Client, text: &str) -> ControlFlow<()> {
        client.send(text.to_owned().into());
        ControlFlow::Continue(())
    }

    async fn received_binary(&mut self, client: &mut dyn Client, bytes: &[u8]) -> ControlFlow<()> {
        client.send_binary(bytes);
        ControlFlow::Continue(())
    }
}

/// Serves with the configuration of the first argument until it is ended, and prints the
/// address first.
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1).map(PathBuf::from);
    let sources = Sources { file: Some(file.ok_or("usage: echo CONFIG")?), ..Sources::default() };
    let plugins: Vec<Plugin> =
        plugins::ALL.iter().copied().chain([Plugin::protocol::<Echo>("echo")]).collect();
    let plan = plan::check(&Layers::read(&sources, &[]), &plugins).plan()?;
    let server = Server::build(plan, Inherited::default()).await?;
    for (address, ..) in server.addresses() {
        writeln!(std::io::stdout(), "{address}")?;
    }
    server.run(std::future::pending()).await;
    Ok(())
}
