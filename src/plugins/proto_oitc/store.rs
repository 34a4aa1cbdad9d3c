//! Names of hosts and services from openITCOCKPIT's data base, remembered for a while: an
//! alert storm must not become a query storm.

use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use sea_orm::FromQueryResult;
use tokio::time::timeout;

use super::Config;
use crate::core::database::{Database, DatabaseError};

/// How long an alert waits for the answer to another one's question before it asks itself.
const PATIENCE: Duration = Duration::from_secs(1);

/// Longest uuid that is remembered, in bytes; the columns hold 37.
const MAX_UUID: usize = 64;

pub(super) struct Store {
    database: Database,
    /// Bounded in entries; when full, the least used go. Unknown uuids are not kept: what
    /// was just created must be found at once.
    names: Cache<(What, String), Known>,
    lifetime: Duration,
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
        let names = Cache::new(config.lookup_cache_entries);
        Self { database, names, lifetime: config.lookup_cache }
    }

    /// The name of a host; none when there is no such host.
    pub(super) async fn host(&self, uuid: &str) -> Result<Option<String>, DatabaseError> {
        self.name(What::Host, uuid, "SELECT name FROM hosts WHERE uuid = ? LIMIT 1").await
    }

    /// The name of a service: its own, or its template's where it has none.
    pub(super) async fn service(&self, uuid: &str) -> Result<Option<String>, DatabaseError> {
        let sql = "SELECT CASE WHEN services.name IS NULL OR services.name = '' \
                   THEN servicetemplates.name ELSE services.name END AS name \
                   FROM services INNER JOIN servicetemplates \
                   ON servicetemplates.id = services.servicetemplate_id \
                   WHERE services.uuid = ? LIMIT 1";
        self.name(What::Service, uuid, sql).await
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
    ) -> Result<Option<String>, DatabaseError> {
        // MariaDB finds a uuid with any number of blanks behind it; those are not kept.
        if self.lifetime.is_zero() || uuid.len() > MAX_UUID {
            return self.ask(uuid, sql).await;
        }
        let key = (what, uuid.to_owned());
        let is_old = |known: &Known| known.since.elapsed() >= self.lifetime;
        self.names.remove_if(&key, is_old);
        // Of several that ask at the same time one asks the data base. When it gets no
        // answer the next one asks: the others must not wait for all of them in turn.
        let asking = self.names.get_value_or_guard_async(&key);
        let guard = match timeout(PATIENCE, asking).await {
            Ok(Ok(known)) => return Ok(Some(known.name)),
            Ok(Err(guard)) => Some(guard),
            Err(_) => None,
        };
        let Some(name) = self.ask(uuid, sql).await? else { return Ok(None) };
        if let Some(guard) = guard {
            let _ = guard.insert(Known { name: name.clone(), since: Instant::now() });
        }
        Ok(Some(name))
    }

    async fn ask(&self, uuid: &str, sql: &str) -> Result<Option<String>, DatabaseError> {
        let rows: Vec<Name> = self.database.query(sql, [uuid.into()]).await?;
        Ok(rows.into_iter().next().map(|row| row.name))
    }
}
