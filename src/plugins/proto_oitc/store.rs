//! Names of hosts and services from openITCOCKPIT's data base, remembered for a while: an
//! alert storm must not become a query storm, and an alert that says the data base is down
//! must not need the data base.

use std::time::Duration;

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use sea_orm::FromQueryResult;
use tokio::time::{Instant, timeout_at};

use super::Config;
use crate::core::database::{Database, DatabaseError};

/// How long an alert waits for the answer to another one's question before it asks itself,
/// half of what it has at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long after a failure of the data base names that are known are used without asking.
/// So of all alerts in this time one at most waits as long as a statement may take.
const PAUSE: Duration = Duration::from_secs(5);

/// Longest uuid that is remembered, in bytes; the columns hold 37.
const MAX_UUID: usize = 64;

pub(super) struct Store {
    database: Database,
    /// Names younger than `lifetime`, and who is asking for one right now. Bounded in
    /// entries; when full, the least used go. Unknown uuids are not kept: what was just
    /// created must be found at once.
    fresh: Cache<Key, Known>,
    lifetime: Duration,
    /// The last name of each, for `stale` after it was told, in case the data base fails. Not
    /// in `fresh`, where one cannot be kept and asked for at the same time. Bounded as well.
    last: Cache<Key, Known>,
    stale: Duration,
    outage: Outage,
}

type Key = (What, String);

/// A name, and why it is the last one known when it could not be asked for.
pub(super) struct Found {
    pub name: String,
    pub fault: Option<DatabaseError>,
}

/// What a uuid is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Host,
    Service,
}

#[derive(Clone)]
struct Known {
    name: String,
    since: Instant,
}

impl Known {
    fn found(self, fault: Option<DatabaseError>) -> Found {
        Found { name: self.name, fault }
    }
}

/// When the data base failed, until it answers again.
#[derive(Default)]
struct Outage(Mutex<Option<Instant>>);

impl Outage {
    /// Whether somebody who can do without an answer should ask. While the data base is away
    /// that is one for each [`PAUSE`].
    fn may_ask(&self) -> bool {
        let mut failed = self.0.lock();
        let asks = failed.is_none_or(|at| at.elapsed() >= PAUSE);
        if failed.is_some() && asks {
            *failed = Some(Instant::now());
        }
        asks
    }

    fn failed(&self) {
        // The first failure counts: those of names that nobody knows, or of one broken table,
        // must not put off for ever that the others are asked for again.
        self.0.lock().get_or_insert_with(Instant::now);
    }

    fn answered(&self) {
        *self.0.lock() = None;
    }
}

#[derive(Debug, FromQueryResult)]
struct Name {
    name: String,
}

#[derive(Debug, FromQueryResult)]
struct Export {
    finished: i32,
}

impl Store {
    pub(super) fn new(database: Database, config: &Config) -> Self {
        Self {
            database,
            fresh: Cache::new(config.lookup_cache_entries),
            lifetime: config.lookup_cache,
            last: Cache::new(config.lookup_cache_entries),
            stale: config.lookup_stale,
            outage: Outage::default(),
        }
    }

    /// Until when everything is known, or known to be unknown, that is asked for now: as long
    /// as one statement may take, however many names an alert needs and whomever it waits for.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.database.timeout()
    }

    /// The name of a host, by `deadline`; none when there is no such host.
    pub(super) async fn host(
        &self,
        uuid: &str,
        deadline: Instant,
    ) -> Result<Option<Found>, DatabaseError> {
        let sql = "SELECT name FROM hosts WHERE uuid = ? LIMIT 1";
        self.name(What::Host, uuid, sql, deadline).await
    }

    /// The name of a service: its own, or its template's where it has none.
    pub(super) async fn service(
        &self,
        uuid: &str,
        deadline: Instant,
    ) -> Result<Option<Found>, DatabaseError> {
        let sql = "SELECT CASE WHEN services.name IS NULL OR services.name = '' \
                   THEN servicetemplates.name ELSE services.name END AS name \
                   FROM services INNER JOIN servicetemplates \
                   ON servicetemplates.id = services.servicetemplate_id \
                   WHERE services.uuid = ? LIMIT 1";
        self.name(What::Service, uuid, sql, deadline).await
    }

    /// Whether an export is running; none when there never was one.
    pub(super) async fn export_running(&self) -> Result<Option<bool>, DatabaseError> {
        let sql =
            "SELECT finished FROM exports WHERE task = 'export_started' ORDER BY id DESC LIMIT 1";
        let rows: Vec<Export> = self.database.query(sql, []).await?;
        Ok(rows.first().map(|row| row.finished == 0))
    }

    async fn name(
        &self,
        what: What,
        uuid: &str,
        sql: &str,
        deadline: Instant,
    ) -> Result<Option<Found>, DatabaseError> {
        // MariaDB finds a uuid with any number of blanks behind it; those are not kept.
        if uuid.len() > MAX_UUID {
            let name = self.ask(uuid, sql, deadline).await?;
            return Ok(name.map(|name| Found { name, fault: None }));
        }
        let key = (what, uuid.to_owned());
        let is_old = |known: &Known| known.since.elapsed() >= self.lifetime;
        self.fresh.remove_if(&key, is_old);
        // Of several that ask at the same time one asks the data base. When it gets no
        // answer the next one asks: the others must not wait for all of them in turn.
        let asking = self.fresh.get_value_or_guard_async(&key);
        let now = Instant::now();
        let patience = PATIENCE.min(deadline.saturating_duration_since(now) / 2);
        let guard = match timeout_at(now + patience, asking).await {
            Ok(Ok(known)) => return Ok(Some(known.found(None))),
            Ok(Err(guard)) => Some(guard),
            Err(_) => None,
        };
        let is_usable = |known: &Known| known.since.elapsed() < self.stale;
        let last = self.last.get(&key).filter(is_usable);
        if let Some(last) = &last
            && (guard.is_none() || !self.outage.may_ask())
        {
            return Ok(Some(last.clone().found(None)));
        }
        // From before it was asked: an answer that was long on its way is older than it looks.
        let since = Instant::now();
        match self.ask(uuid, sql, deadline).await {
            Ok(Some(name)) => {
                let known = Known { name, since };
                if let Some(guard) = guard {
                    let _ = guard.insert(known.clone());
                }
                self.last.insert(key, known.clone());
                Ok(Some(known.found(None)))
            }
            Ok(None) => {
                self.last.remove(&key);
                Ok(None)
            }
            // The one that was waited for may have its answer by now.
            Err(error) => match last.or_else(|| self.fresh.get(&key)) {
                Some(known) => Ok(Some(known.found(Some(error)))),
                None => Err(error),
            },
        }
    }

    async fn ask(
        &self,
        uuid: &str,
        sql: &str,
        deadline: Instant,
    ) -> Result<Option<String>, DatabaseError> {
        let asked = timeout_at(deadline, self.database.query::<Name>(sql, [uuid.into()])).await;
        let asked = asked.unwrap_or(Err(DatabaseError::TimedOut(self.database.timeout())));
        match asked {
            Ok(_) => self.outage.answered(),
            Err(_) => self.outage.failed(),
        }
        Ok(asked?.into_iter().next().map(|row| row.name))
    }
}
