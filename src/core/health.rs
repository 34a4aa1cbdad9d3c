//! Whether the server can do its work, and if not, why: for `/readyz`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, join_all};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::bulkhead::Bulkhead;
use super::database::Database;
use super::drain::Draining;

/// A data base is asked at most once in this time, however many want to know.
const FRESH: Duration = Duration::from_secs(1);

/// How long a data base has to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What there is to be said; a clone is a reference count.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    draining: Draining,
    /// By table, as long as somebody is there who could say something else.
    conditions: Mutex<Vec<(String, Weak<Fault>)>>,
    /// Of the sinks in force.
    bulkheads: Mutex<Vec<Weak<Bulkhead>>>,
    databases: Mutex<Vec<Weak<Needed>>>,
}

/// Something without which the server is of little use. Told by whoever knows.
#[derive(Clone, Debug)]
pub struct Condition(Arc<Fault>);

type Fault = Mutex<Option<&'static str>>;

/// A data base that some plugin uses.
#[derive(Debug)]
pub(super) struct Needed {
    database: Database,
    latest: Mutex<Option<(Instant, Probe)>>,
}

type Probe = Shared<BoxFuture<'static, bool>>;

impl Health {
    /// Not ready any more once the server has begun to stop.
    pub(super) fn new(draining: Draining) -> Self {
        Self(Arc::new(Inner { draining, ..Inner::default() }))
    }

    /// A condition that holds until its owner says otherwise; `name` is the owner's table,
    /// such as `sink.log`. It goes with its owner: where an owner takes the place of another,
    /// both may have something to say for a while, or the new one goes and the other stays.
    #[must_use]
    pub fn condition(&self, name: &str) -> Condition {
        let condition = Condition(Arc::default());
        let mut conditions = self.0.conditions.lock();
        conditions.retain(|(_, fault)| fault.strong_count() > 0);
        conditions.push((name.to_owned(), Arc::downgrade(&condition.0)));
        condition
    }

    /// A sink that is switched off is a reason, until it may be tried again: whoever is sent
    /// nothing has no message to try it with. Takes the place of the table's sink before.
    pub(super) fn watches(&self, bulkhead: &Arc<Bulkhead>) {
        let mut bulkheads = self.0.bulkheads.lock();
        let is_another = |known: Arc<Bulkhead>| known.section() != bulkhead.section();
        bulkheads.retain(|known| known.upgrade().is_some_and(is_another));
        bulkheads.push(Arc::downgrade(bulkhead));
    }

    /// Some plugin uses this data base, for as long as it keeps what is returned.
    #[must_use]
    pub(super) fn needs(&self, database: &Database) -> Arc<Needed> {
        let mut databases = self.0.databases.lock();
        databases.retain(|known| known.strong_count() > 0);
        let mut live = databases.iter().filter_map(Weak::upgrade);
        if let Some(known) = live.find(|known| known.database.is(database)) {
            return known;
        }
        let needed = Needed { database: database.clone(), latest: Mutex::default() };
        let needed = Arc::new(needed);
        databases.push(Arc::downgrade(&needed));
        needed
    }

    /// Why the server should be sent nothing at the moment, a line for each reason; none
    /// when it is well. Takes [`PATIENCE`] at most.
    pub(super) async fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.0.draining.has_begun() {
            reasons.push("server: is stopping".to_owned());
        }
        for (name, fault) in &*self.0.conditions.lock() {
            let fault = fault.upgrade().and_then(|fault| *fault.lock());
            reasons.extend(fault.map(|fault| format!("{name}: {fault}")));
        }
        for sink in self.0.bulkheads.lock().iter().filter_map(Weak::upgrade) {
            if sink.is_left_alone() {
                reasons.push(format!("{}: is switched off after too many faults", sink.section()));
            }
        }
        let databases: Vec<_> = self.0.databases.lock().iter().filter_map(Weak::upgrade).collect();
        let answers = join_all(databases.iter().map(|needed| needed.answers())).await;
        for (needed, answers) in databases.iter().zip(answers) {
            if !answers {
                reasons.push(format!("database.{}: does not answer", needed.database.name()));
            }
        }
        reasons
    }
}

impl Condition {
    /// What is wrong, in words that anybody may read; none when nothing is any more.
    pub fn set(&self, fault: Option<&'static str>) {
        *self.0.lock() = fault;
    }
}

impl Needed {
    async fn answers(&self) -> bool {
        let probe = {
            let mut latest = self.latest.lock();
            match &*latest {
                Some((since, probe)) if probe.peek().is_none() || since.elapsed() < FRESH => {
                    probe.clone()
                }
                _ => {
                    let probe = probe(self.database.clone());
                    *latest = Some((Instant::now(), probe.clone()));
                    probe
                }
            }
        };
        probe.await
    }
}

/// Asks the data base, whoever goes on waiting for that.
fn probe(database: Database) -> Probe {
    let answers = async move {
        let ping = tokio::time::timeout(PATIENCE, database.ping()).await;
        matches!(ping, Ok(Ok(())))
    };
    let probe = answers.boxed().shared();
    tokio::spawn(probe.clone());
    probe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::database::Config;
    use crate::core::metrics::Faults;

    fn database(url: &str) -> Database {
        let config = Config { url: url.to_owned().into(), ..Config::default() };
        Database::open("main", &config).unwrap()
    }

    #[tokio::test]
    async fn every_reason_has_a_line() {
        let draining = Draining::default();
        let health = Health::new(draining.clone());
        let condition = health.condition("sink.log");
        let needed = health.needs(&database("sqlite::memory:"));
        assert_eq!(health.reasons().await, [""; 0]);
        condition.set(Some("cannot write"));
        assert_eq!(health.reasons().await, ["sink.log: cannot write"]);
        drop(health.condition("sink.log"));
        assert_eq!(health.reasons().await, ["sink.log: cannot write"], "the other one stays");
        let next = health.condition("sink.log");
        drop(condition);
        assert_eq!(health.reasons().await, [""; 0], "the next owner has no fault");
        next.set(Some("cannot write"));
        drop((next, needed));
        assert_eq!(health.reasons().await, [""; 0]);
        draining.begin();
        assert_eq!(health.reasons().await, ["server: is stopping"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_is_off_is_a_reason_until_it_may_be_tried_or_replaced() {
        let health = Health::default();
        let sink = || Arc::new(Bulkhead::new("sink.x".into(), Faults::default()));
        let fail = |sink: &Bulkhead| _ = sink.call(|| panic!("a test"));
        let (one, own) = (sink(), health.condition("sink.x"));
        health.watches(&one);
        (0..4).for_each(|_| fail(&one));
        let off = "sink.x: is switched off after too many faults";
        assert_eq!(health.reasons().await, [off]);
        own.set(Some("cannot write"));
        assert_eq!(health.reasons().await, ["sink.x: cannot write", off]);
        own.set(None);
        tokio::time::advance(Bulkhead::OFF).await;
        assert_eq!(health.reasons().await, [""; 0], "somebody has to send what it is tried with");
        assert!(one.lets_pass());
        fail(&one);
        assert_eq!(health.reasons().await, [off]);
        let next = sink();
        health.watches(&next);
        assert_eq!(health.reasons().await, [""; 0], "the next one has no faults");
    }

    #[tokio::test]
    async fn a_data_base_is_named_once_and_asked_once_in_a_while() {
        let health = Health::default();
        let nowhere = database("sqlite:/nonexistent/file");
        let (needed, again) = (health.needs(&nowhere), health.needs(&nowhere));
        assert_eq!(health.reasons().await, ["database.main: does not answer"]);
        drop(again);
        let asked = || needed.latest.lock().as_ref().unwrap().0;
        let first = asked();
        tokio::time::pause();
        let _ = tokio::join!(health.reasons(), health.reasons());
        assert_eq!(asked(), first);
        tokio::time::advance(FRESH).await;
        let _ = health.reasons().await;
        assert!(asked() > first);
        drop(needed);
        assert_eq!(health.reasons().await, [""; 0], "nobody uses it any more");
    }
}
