//! A new configuration while the server runs.
//!
//! Everything that has to be built anew is built before anything is changed, so that either
//! all of it counts or nothing does. Auth providers and sinks without clients are replaced
//! as a whole, behind handles that everybody else keeps; what is under way with the old one
//! ends there. Sinks with clients and protocols take over those keys that they can
//! ([`FromConfig::LIVE_KEYS`](super::plugin::FromConfig)); no connection notices. All other
//! keys keep their values until the next start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use super::auth::{AuthError, AuthProvider, Grant};
use super::bulkhead::Bulkhead;
use super::config;
use super::message::Pattern;
use super::metrics;
use super::plan::{Plan, PlannedProtocol, PlannedSink};
use super::plugin::{BuiltSink, Jobs, Running};
use super::protocol::Protocol;
use super::router::{Route, Routes};
use super::server::StartError;
use super::sink::LiveSink;
use super::stamp::Stamp;
use super::workshop::Workshop;

/// Keys of `[server]` that count for the next connection, or for the stop.
const SERVER: &[&str] = &[
    "header_timeout",
    "write_timeout",
    "max_head_bytes",
    "max_headers",
    "shutdown_timeout",
    "drain_spread",
];

/// Keys of `[log]`, which whoever started the log puts in force.
const LOG: &[&str] = &["level"];

/// How long the new plugins have to be built. One may wait for a file that is a pipe, or on a
/// disk that does not answer, and no other reload begins before this one has ended.
const BUILD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long something that was replaced may still be in use. What uses it has time-outs of
/// its own; this is for nothing to be kept for ever.
const LAST_USE: Duration = Duration::from_mins(1);

/// A provider that can be replaced while it is asked.
pub(super) struct Replaceable(ArcSwap<Arc<dyn AuthProvider>>);

impl Replaceable {
    pub(super) fn new(provider: Arc<dyn AuthProvider>) -> Self {
        Self(ArcSwap::from_pointee(provider))
    }
}

#[async_trait]
impl AuthProvider for Replaceable {
    async fn authenticate(&self, credential: &str) -> Result<Arc<Grant>, AuthError> {
        let provider = self.0.load_full();
        provider.authenticate(credential).await
    }

    fn issue(&self, grant: &Grant, lifetime: Duration) -> Option<String> {
        self.0.load().issue(grant, lifetime)
    }
}

/// A provider in force.
pub(super) struct AuthSlot {
    pub handle: Arc<Replaceable>,
    pub jobs: Jobs,
}

/// A sink in force.
pub(super) struct SinkSlot {
    running: Running<BuiltSink>,
    topics: Vec<Pattern>,
    bulkhead: Arc<Bulkhead>,
    books: metrics::Sink,
    jobs: Jobs,
}

impl SinkSlot {
    pub(super) fn new(
        name: &str,
        topics: Vec<Pattern>,
        (running, jobs): (Running<BuiltSink>, Jobs),
        workshop: &Workshop,
    ) -> Self {
        let bulkhead = Arc::new(workshop.bulkhead(format!("sink.{name}")));
        workshop.health.watches(&bulkhead);
        let books = workshop.metrics.sink(name);
        Self { running, topics, bulkhead, books, jobs }
    }

    pub(super) fn route(&self) -> Route {
        let (topics, sink) = (self.topics.clone(), self.running.it.sink.clone());
        Route::new(topics, sink, self.bulkhead.clone(), self.books.clone())
    }

    /// The sink, if it has clients.
    pub(super) fn live(&self) -> Option<&Arc<dyn LiveSink>> {
        self.running.it.live.as_ref()
    }

    fn is_live(&self) -> bool {
        self.live().is_some()
    }
}

/// Everything that a reload may change.
pub(super) struct InForce {
    pub workshop: Workshop,
    /// By table, such as `auth.jwt`.
    pub stamps: BTreeMap<String, Stamp>,
    pub settings: Arc<ArcSwap<config::Server>>,
    pub auth: HashMap<String, AuthSlot>,
    pub sinks: BTreeMap<String, SinkSlot>,
    pub protocols: HashMap<String, Running<Arc<dyn Protocol>>>,
    pub routes: Arc<Routes>,
}

/// What was built for a reload and is not in force yet.
#[derive(Default)]
struct Fresh {
    auth: Vec<(String, Arc<dyn AuthProvider>, Jobs)>,
    sinks: Vec<FreshSink>,
}

/// A sink without clients.
struct FreshSink {
    name: String,
    topics: Vec<Pattern>,
    /// None where the one that there is stays.
    built: Option<(Running<BuiltSink>, Jobs)>,
}

impl Fresh {
    fn discard(self) {
        self.auth.iter().for_each(|(.., jobs)| jobs.retire());
        self.sinks.iter().filter_map(|it| it.built.as_ref()).for_each(|(_, jobs)| jobs.retire());
    }
}

/// Takes new configurations over.
#[derive(Clone)]
pub struct Reloader(Arc<Mutex<InForce>>);

impl Reloader {
    pub(super) fn new(in_force: InForce) -> Self {
        Self(Arc::new(Mutex::new(in_force)))
    }

    /// Puts `plan` in force, as far as that is possible without a restart. Returns the keys
    /// and tables that need one and keep what they had.
    ///
    /// # Errors
    /// The first plugin that could not be built; then everything is as it was.
    pub async fn reload(&self, mut plan: Plan) -> Result<BTreeSet<String>, StartError> {
        let mut in_force = self.0.lock().await;
        let before = in_force.workshop.databases.clone();
        in_force.workshop.open(std::mem::take(&mut plan.databases))?;
        let mut fresh = Fresh::default();
        let built = timeout(BUILD_TIMEOUT, in_force.build(&mut plan, &mut fresh)).await;
        if let Err(error) = built.unwrap_or_else(|_| Err(StartError::Late(BUILD_TIMEOUT))) {
            fresh.discard();
            // What is wrong with a data base that was opened just now may be its table.
            in_force.workshop.databases = before;
            return Err(error);
        }
        Ok(in_force.put_in_force(plan, fresh))
    }
}

impl InForce {
    /// The keys of a table that are not what is in force.
    fn changed(&self, plan: &Plan, table: &str) -> BTreeSet<String> {
        let nothing = Stamp::default();
        let (old, new) = (self.stamps.get(table), plan.stamps.get(table));
        old.unwrap_or(&nothing).changed(new.unwrap_or(&nothing))
    }

    /// Builds what is replaced as a whole.
    async fn build(&self, plan: &mut Plan, fresh: &mut Fresh) -> Result<(), StartError> {
        for (name, build) in std::mem::take(&mut plan.auth) {
            let is_changed = !self.changed(plan, &format!("auth.{name}")).is_empty();
            if is_changed && self.auth.contains_key(&name) {
                let (provider, jobs) = self.workshop.auth(&name, build, true).await?;
                fresh.auth.push((name, provider, jobs));
            }
        }
        let (others, live): (Vec<_>, Vec<_>) =
            std::mem::take(&mut plan.sinks).into_iter().partition(|sink| !sink.is_live);
        plan.sinks = live;
        for PlannedSink { name, topics, build, .. } in others {
            let changed = self.changed(plan, &format!("sink.{name}"));
            let built = match self.sinks.get(&name) {
                Some(known) if known.is_live() => continue,
                Some(_) if changed.iter().all(|key| key == "topics") => None,
                _ => Some(self.workshop.sink(&name, build).await?),
            };
            fresh.sinks.push(FreshSink { name, topics, built });
        }
        Ok(())
    }

    /// Nothing in here can fail.
    fn put_in_force(&mut self, plan: Plan, fresh: Fresh) -> BTreeSet<String> {
        for (name, provider, jobs) in fresh.auth {
            let Some(slot) = self.auth.get_mut(&name) else { continue };
            let old = slot.handle.0.swap(Arc::new(provider));
            let old_jobs = std::mem::replace(&mut slot.jobs, jobs);
            self.retire(old, vec![old_jobs]);
            self.adopt(&plan.stamps, &format!("auth.{name}"));
        }
        let mut live_keys = HashMap::from([
            ("server".to_owned(), SERVER.to_vec()),
            ("log".to_owned(), LOG.to_vec()),
        ]);
        self.replace_sinks(fresh.sinks, plan.sinks, &plan.stamps, &mut live_keys);
        for PlannedProtocol { name, build, .. } in plan.protocols {
            if let Some(running) = self.protocols.get(&name) {
                live_keys.insert(format!("protocol.{name}"), build.live_keys.to_vec());
                running.reload(build);
            }
        }
        self.settings.store(Arc::new(plan.server));
        self.what_is_kept(&plan.stamps, &live_keys)
    }

    fn replace_sinks(
        &mut self,
        fresh: Vec<FreshSink>,
        live: Vec<PlannedSink>,
        stamps: &BTreeMap<String, Stamp>,
        live_keys: &mut HashMap<String, Vec<&'static str>>,
    ) {
        let mut before = std::mem::take(&mut self.sinks);
        let mut retired = Vec::new();
        for FreshSink { name, topics, built } in fresh {
            let slot = match (before.remove(&name), built) {
                (old, Some(built)) => {
                    retired.extend(old.map(|old| old.jobs));
                    SinkSlot::new(&name, topics, built, &self.workshop)
                }
                (Some(old), None) => SinkSlot { topics, ..old },
                (None, None) => continue,
            };
            self.adopt(stamps, &format!("sink.{name}"));
            self.sinks.insert(name, slot);
        }
        for PlannedSink { name, topics, build, .. } in live {
            // One that had no clients until now stays what it is, until the next start.
            let Some(mut slot) = before.remove(&name) else { continue };
            if slot.is_live() {
                slot.topics = topics;
                let keys = build.live_keys.iter().chain(&["topics"]).copied().collect();
                live_keys.insert(format!("sink.{name}"), keys);
                slot.running.reload(build);
            }
            self.sinks.insert(name, slot);
        }
        for (name, slot) in before {
            if slot.is_live() {
                self.sinks.insert(name, slot);
            } else {
                self.stamps.remove(&format!("sink.{name}"));
                info!(sink = name, "Removed");
                retired.push(slot.jobs);
            }
        }
        let old = self.routes.replace(self.sinks.values().map(SinkSlot::route).collect());
        self.retire(old, retired);
    }

    /// The table is in force as a whole.
    fn adopt(&mut self, stamps: &BTreeMap<String, Stamp>, table: &str) {
        let Some(stamp) = stamps.get(table) else { return };
        if self.stamps.insert(table.to_owned(), stamp.clone()).is_none_or(|old| old != *stamp) {
            info!(table, "In force");
        }
    }

    /// Takes note of what is in force by now, and says what is not.
    fn what_is_kept(
        &mut self,
        stamps: &BTreeMap<String, Stamp>,
        live_keys: &HashMap<String, Vec<&'static str>>,
    ) -> BTreeSet<String> {
        let gone = self.stamps.keys().filter(|table| !stamps.contains_key(*table));
        let mut kept: BTreeSet<_> = gone.cloned().collect();
        for (table, stamp) in stamps {
            let keys = live_keys.get(table).map_or(&[][..], Vec::as_slice);
            match self.stamps.get_mut(table) {
                Some(old) => kept.extend(old.take_over(stamp, keys).into_iter().map(|key| {
                    if key.is_empty() { table.clone() } else { format!("{table}.{key}") }
                })),
                // Opened for sinks that need it.
                None if table.starts_with("database.") => self.adopt(stamps, table),
                None => _ = kept.insert(table.clone()),
            }
        }
        kept
    }

    /// Stops `jobs` once nobody uses `old` any more.
    fn retire<T: Send + Sync + 'static>(&self, old: Arc<T>, jobs: Vec<Jobs>) {
        let all = self.workshop.jobs.clone();
        self.workshop.jobs.spawn(async move {
            let end = Instant::now() + LAST_USE;
            let unused = async {
                while Arc::strong_count(&old) > 1 && Instant::now() < end {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                () = unused => {}
                () = all.stopping() => {}
            }
            jobs.iter().for_each(Jobs::retire);
        });
    }
}
