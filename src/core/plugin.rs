//! What a plugin is: a name, a kind, and how to make it from a table.
//!
//! A plugin's life: **parse** and **check** (pure, [`FromConfig::check`]), **build**
//! (effects, but no tasks of its own before it has everything), **run** (tasks, on the
//! [`Jobs`] it was given). There is no registry but the `const` list in
//! `plugins::ALL`: it can be read, and it is tested as data.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::BoxError;
use super::auth::AuthProvider;
use super::auth_failures::AuthFailures;
use super::body::Bodies;
use super::config::{Check, Draft};
use super::database::Database;
use super::health::Health;
use super::metrics::Metrics;
use super::protocol::Protocol;
use super::router::Router;
use super::sink::{LiveSink, Sink};

/// One entry of the plugin list.
#[derive(Clone, Copy, Debug)]
pub struct Plugin {
    /// What `type = "…"` says in the configuration; unique within its kind.
    pub name: &'static str,
    pub(super) make: Make,
}

/// How a plugin of each kind is drafted from its table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Make {
    Auth(fn(&mut Draft<'_>) -> AuthBuild),
    Sink { live: bool, draft: fn(&mut Draft<'_>) -> SinkBuild },
    Protocol(fn(&mut Draft<'_>) -> ProtocolBuild),
}

/// A checked configuration that waits to become a `T`, or to be taken over by one that runs.
pub(super) struct Build<Cx, T> {
    /// The plugin's own type of configuration.
    config: Box<dyn Any + Send>,
    make: Maker<Cx, T>,
    /// See [`FromConfig::LIVE_KEYS`].
    pub live_keys: &'static [&'static str],
    /// See [`FromConfig::inputs`].
    pub inputs: Vec<u8>,
}

type Maker<Cx, T> = Box<dyn FnOnce(Box<dyn Any + Send>, Cx) -> Made<T> + Send>;
type Made<T> = Pin<Box<dyn Future<Output = Result<Running<T>, BoxError>> + Send>>;

/// A plugin that was built.
pub(super) struct Running<T> {
    pub it: T,
    /// Takes a configuration of the plugin's own type over.
    reload: Box<dyn Fn(Box<dyn Any + Send>) + Send + Sync>,
}

pub(super) type AuthBuild = Build<AuthCx, Arc<dyn AuthProvider>>;
pub(super) type SinkBuild = Build<SinkCx, BuiltSink>;
pub(super) type ProtocolBuild = Build<ProtocolCx, Arc<dyn Protocol>>;

impl<Cx, T> Build<Cx, T> {
    /// Makes the plugin.
    pub(super) async fn build(self, cx: Cx) -> Result<Running<T>, BoxError> {
        (self.make)(self.config, cx).await
    }
}

impl<T> Running<T> {
    /// Has the plugin take a configuration over. One of another type of plugin is ignored:
    /// `type` needs a restart.
    pub(super) fn reload<Cx>(&self, new: Build<Cx, T>) {
        (self.reload)(new.config);
    }
}

/// A sink, and the same sink as a live one if it is.
pub(super) struct BuiltSink {
    pub sink: Arc<dyn Sink>,
    pub live: Option<Arc<dyn LiveSink>>,
}

impl Plugin {
    /// An auth provider plugin.
    #[must_use]
    pub const fn auth<P: AuthProvider + FromConfig<AuthCx> + 'static>(name: &'static str) -> Self {
        let make = Make::Auth(|draft| builder::<P, _, _>(draft, |built| built as _));
        Self { name, make }
    }

    /// A sink plugin without clients of its own.
    #[must_use]
    pub const fn sink<P: Sink + FromConfig<SinkCx> + 'static>(name: &'static str) -> Self {
        let draft = |draft: &mut Draft<'_>| {
            builder::<P, _, _>(draft, |sink| BuiltSink { sink, live: None })
        };
        Self { name, make: Make::Sink { live: false, draft } }
    }

    /// A sink plugin that takes WebSocket clients.
    #[must_use]
    pub const fn live_sink<P: LiveSink + FromConfig<SinkCx> + 'static>(name: &'static str) -> Self {
        let draft = |draft: &mut Draft<'_>| {
            builder::<P, _, _>(draft, |sink| BuiltSink { sink: sink.clone(), live: Some(sink) })
        };
        Self { name, make: Make::Sink { live: true, draft } }
    }

    /// A protocol plugin.
    #[must_use]
    pub const fn protocol<P: Protocol + FromConfig<ProtocolCx> + 'static>(
        name: &'static str,
    ) -> Self {
        let make = Make::Protocol(|draft| builder::<P, _, _>(draft, |built| built as _));
        Self { name, make }
    }

    /// The first word of the tables this plugin is configured in.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.make {
            Make::Auth(_) => "auth",
            Make::Sink { .. } => "sink",
            Make::Protocol(_) => "protocol",
        }
    }
}

fn builder<P, Cx, T>(draft: &mut Draft<'_>, finish: fn(Arc<P>) -> T) -> Build<Cx, T>
where
    P: FromConfig<Cx> + 'static,
    Cx: Send + 'static,
    T: 'static,
{
    let config: P::Config = draft.typed();
    P::check(&config, &mut draft.check());
    let inputs = P::inputs(&config);
    Build {
        config: Box::new(config),
        make: Box::new(move |config, cx| Box::pin(make::<P, Cx, T>(config, cx, finish))),
        live_keys: P::LIVE_KEYS,
        inputs,
    }
}

async fn make<P: FromConfig<Cx> + 'static, Cx, T>(
    config: Box<dyn Any + Send>,
    cx: Cx,
    finish: fn(Arc<P>) -> T,
) -> Result<Running<T>, BoxError> {
    // Put there by `builder`, which knew the type.
    let config = config.downcast::<P::Config>().map_err(|_| "another plugin's configuration")?;
    let plugin = Arc::new(P::build(*config, cx).await?);
    let it = finish(plugin.clone());
    let reload = Box::new(move |config: Box<dyn Any + Send>| {
        if let Ok(config) = config.downcast::<P::Config>() {
            plugin.reload(*config);
        }
    });
    Ok(Running { it, reload })
}

/// Makes a plugin from its own table.
pub trait FromConfig<Cx>: Sized + Send + Sync {
    /// The plugin's keys, each with a default, so that the example file and
    /// `config show` can list them. Use `#[serde(default, deny_unknown_fields)]`.
    type Config: DeserializeOwned + Serialize + Default + Send + 'static;

    /// Keys that [`Self::reload`] puts in force while the plugin runs; of others that changed
    /// a reload says that they need a restart. Only for sinks with clients and for protocols:
    /// auth providers and other sinks are replaced as a whole, and have nothing to do.
    const LIVE_KEYS: &'static [&'static str] = &[];

    /// Reports everything that types cannot: ranges, references, unreadable files.
    fn check(_config: &Self::Config, _check: &mut Check<'_>) {}

    /// What decides on the plugin and does not stand in its table, such as the content of a
    /// file that is named there: a reload replaces the plugin when this is another one.
    fn inputs(_config: &Self::Config) -> Vec<u8> {
        Vec::new()
    }

    /// Takes over [`Self::LIVE_KEYS`] of a configuration without a fault. Nothing else of it
    /// counts. No client may notice, but by what the keys are for.
    fn reload(&self, _config: Self::Config) {}

    /// Makes the plugin. Only called when no fault was found anywhere.
    ///
    /// # Errors
    /// What could not be had at start, such as a file that has gone since the check.
    fn build(config: Self::Config, cx: Cx) -> impl Future<Output = Result<Self, BoxError>> + Send;
}

/// The data bases by name.
#[derive(Clone, Debug, Default)]
pub struct Databases(pub(super) Arc<HashMap<String, Database>>, pub(super) Health);

impl Databases {
    /// None so far; those that are asked for have to answer for the server to be ready.
    pub(super) fn new(health: Health) -> Self {
        Self(Arc::default(), health)
    }

    /// The data base `[database.<name>]`.
    ///
    /// # Errors
    /// When there is none; [`Check::database`] says so before.
    pub fn get(&self, name: &str) -> Result<Database, BoxError> {
        let found = self.0.get(name);
        let found = found.ok_or_else(|| format!("no [database.{name}] is configured"))?;
        // What nobody uses is nobody's trouble when it is down.
        Ok(found.used(self.1.needs(found)))
    }
}

/// What an auth provider is given.
#[derive(Debug)]
pub struct AuthCx {
    /// `<name>` of `[auth.<name>]`, for the log.
    pub name: String,
    /// Where its tasks run.
    pub jobs: Jobs,
    /// Every `[database.<name>]`.
    pub databases: Databases,
    /// Where it counts. Its verdicts are counted for it.
    pub metrics: Metrics,
    /// Whether it takes the place of one that works: then what cannot work yet is not built, and
    /// the one before stays. At a start it is built all the same, and goes on trying.
    pub replaces: bool,
}

/// What a sink is given.
#[derive(Debug)]
pub struct SinkCx {
    /// `<name>` of `[sink.<name>]`, for the log.
    pub name: String,
    /// Where its tasks run.
    pub jobs: Jobs,
    /// Where the connections of a live sink run. They are told to stop before `jobs` are,
    /// so that what they still publish reaches everybody.
    pub connections: Jobs,
    /// Every `[database.<name>]`.
    pub databases: Databases,
    /// Where it counts: what became of messages with [`Metrics::sink`].
    pub metrics: Metrics,
    /// Where it says that it cannot work.
    pub health: Health,
}

/// What a protocol is given. The only one that holds the router: a sink cannot
/// publish and an auth provider cannot route, so loops cannot be written.
pub struct ProtocolCx {
    /// `<name>` of `[protocol.<name>]`: the first part of its topics.
    pub name: String,
    /// The way to the sinks.
    pub router: Arc<Router>,
    /// How request bodies are read.
    pub bodies: Bodies,
    /// Has credentials judged, within `server.max_auth_failures`.
    pub auth_failures: Arc<AuthFailures>,
    /// Where its tasks run.
    pub jobs: Jobs,
    /// Every `[database.<name>]`.
    pub databases: Databases,
    /// Where it counts. What it publishes, its answers and its connections are counted for it.
    pub metrics: Metrics,
    pub(super) auth: Arc<HashMap<String, Arc<dyn AuthProvider>>>,
    pub(super) live_sinks: Arc<HashMap<String, Arc<dyn LiveSink>>>,
}

impl ProtocolCx {
    /// The provider `[auth.<name>]`.
    ///
    /// # Errors
    /// When there is none; [`Check::auth`] says so before.
    pub fn auth(&self, name: &str) -> Result<Arc<dyn AuthProvider>, BoxError> {
        let found = self.auth.get(name).cloned();
        found.ok_or_else(|| format!("no [auth.{name}] is configured").into())
    }

    /// The live sink `[sink.<name>]`.
    ///
    /// # Errors
    /// When there is none; [`Check::live_sink`] says so before.
    pub fn live_sink(&self, name: &str) -> Result<Arc<dyn LiveSink>, BoxError> {
        let found = self.live_sinks.get(name);
        let found = found.ok_or_else(|| format!("no [sink.{name}] is configured"))?;
        Ok(found.of_protocol(self.metrics.connections(&self.name)))
    }
}

/// Tasks that the server waits for when it stops, and the word to stop.
#[derive(Clone, Debug, Default)]
pub struct Jobs {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Jobs {
    /// Runs `task`. It must end soon after [`Self::stopping`] resolves.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Resolves when the server has begun to stop.
    pub fn stopping(&self) -> tokio_util::sync::WaitForCancellationFuture<'_> {
        self.stop.cancelled()
    }

    /// Jobs that can be told to stop earlier than these.
    pub(super) fn child(&self) -> Self {
        Self { tracker: self.tracker.clone(), stop: self.stop.child_token() }
    }

    /// Tells the tasks of a child to stop. Whoever waits for its parent waits for them.
    pub(super) fn retire(&self) {
        self.stop.cancel();
    }

    /// Tells every task to stop.
    pub(super) fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Resolves when every task has ended; [`Self::stop`] must have been called.
    pub(super) async fn ended(&self) {
        self.tracker.wait().await;
    }

    /// Stops and waits, for tests of plugins.
    #[cfg(test)]
    pub(crate) async fn end(&self) {
        self.stop();
        self.ended().await;
    }

    /// How many tasks are running.
    pub(super) fn running(&self) -> usize {
        self.tracker.len()
    }
}
