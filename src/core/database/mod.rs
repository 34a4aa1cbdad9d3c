//! Data bases: one pool for each `[database.<name>]`, opened on first use.
//!
//! A data base may be down at start, be killed, or freeze. Every statement therefore has
//! one deadline over everything: waiting for a connection, connecting, and the answer. A
//! pool that lost its connections makes new ones by itself.

mod cnf;
mod config;
#[cfg(any(test, fuzzing))]
pub mod fuzz;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use sea_orm::sqlx::mysql::MySqlConnectOptions;
use sea_orm::sqlx::{Connection as _, Error as SqlxError};
use sea_orm::{
    ConnAcquireErr, ConnectOptions, ConnectionTrait, DatabaseConnection, DbErr, FromQueryResult,
    Statement, Value,
};
use tokio::sync::OnceCell;
use tracing::info;

use crate::core::config::Secret;
use crate::core::metrics::Statements;

pub use cnf::{Cnf, CnfError};
pub use config::Config;

/// A handle; a clone is a reference count.
#[derive(Clone, Debug)]
pub struct Database {
    inner: Arc<Inner>,
    _use: Option<Use>,
}

/// Kept by who uses the data base, for whoever wants to know whether anybody does.
type Use = Arc<dyn fmt::Debug + Send + Sync>;

#[derive(Debug)]
struct Inner {
    name: String,
    url: Secret,
    timeout: Duration,
    max_connections: u32,
    debug: bool,
    setup: Vec<Secret>,
    in_memory: bool,
    statements: Statements,
    pool: OnceCell<DatabaseConnection>,
}

/// Why a statement failed. Never holds the values of the statement.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No answer within the data base's `timeout`.
    #[error("no answer from the data base within {0:?}")]
    TimedOut(Duration),
    /// No connection within nine tenths of the data base's `timeout`: none can be made, or all
    /// are in use.
    #[error(
        "no connection within {0:?}: nobody answers at its address, or all of max_connections ({1}) are in use"
    )]
    NoConnection(Duration, u32),
    /// Refused.
    #[error("the data base failed")]
    Failed(#[from] DbErr),
}

/// How long a statement that may take `limit` may wait for a connection. Not for all of it, or
/// chance would say which of the two is told.
fn for_connection(limit: Duration) -> Duration {
    limit * 9 / 10
}

/// The host of a URL, `[::1]`, as the system wants it.
fn without_brackets(options: MySqlConnectOptions) -> MySqlConnectOptions {
    let host = options.get_host().trim_matches(['[', ']']).to_owned();
    options.host(&host)
}

impl Database {
    /// A handle that connects when it is first used. Reads `cnf` if the configuration
    /// names one.
    ///
    /// # Errors
    /// When `cnf` cannot be read or says too little.
    pub fn open(name: &str, config: &Config) -> Result<Self, CnfError> {
        Self::open_counted(name, config, Statements::default())
    }

    /// The same with a place to count in.
    pub(super) fn open_counted(
        name: &str,
        config: &Config,
        statements: Statements,
    ) -> Result<Self, CnfError> {
        let inner = Arc::new(Inner {
            name: name.to_owned(),
            url: config.url()?,
            timeout: config.timeout,
            max_connections: config.max_connections,
            debug: config.debug,
            setup: config.setup.clone(),
            in_memory: config.is_in_memory(),
            statements,
            pool: OnceCell::new(),
        });
        Ok(Self { inner, _use: None })
    }

    /// A handle that keeps `token` for as long as it lives.
    pub(super) fn used(&self, token: Use) -> Self {
        Self { inner: self.inner.clone(), _use: Some(token) }
    }

    /// Whether both are handles of the same one.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether the data base ends with this process, so that nothing in it is anybody's.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.inner.in_memory
    }

    /// Rows of a statement. `?` stands for a value, with every kind of data base.
    ///
    /// # Errors
    /// [`DatabaseError::TimedOut`] after the data base's `timeout`, whatever it waited for.
    pub async fn query<R: FromQueryResult>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<R>, DatabaseError> {
        let values: Vec<_> = values.into_iter().collect();
        self.within_timeout(Box::pin(async {
            let (pool, statement) = self.prepare(sql, values).await?;
            let rows = pool.query_all_raw(statement).await?;
            rows.iter().map(|row| R::from_query_result(row, "")).collect()
        }))
        .await
    }

    /// Number of rows that a statement changed.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub async fn execute(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<u64, DatabaseError> {
        let values: Vec<_> = values.into_iter().collect();
        self.within_timeout(Box::pin(async {
            let (pool, statement) = self.prepare(sql, values).await?;
            Ok(pool.execute_raw(statement).await?.rows_affected())
        }))
        .await
    }

    /// Whether the data base answers.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        self.within_timeout(Box::pin(async { self.pool().await?.ping().await })).await
    }

    /// How long any statement may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.inner.timeout
    }

    /// The `<name>` of `[database.<name>]`, for the log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What the driver does not survive, such as a packet that is too short, fails as any
    /// statement does: who asks in a loop is to ask again.
    ///
    /// `work` comes boxed: sea-orm's futures measure some 16 KiB, which every caller's own
    /// future, a WebSocket connection's among them, would otherwise have to hold.
    async fn within_timeout<T>(
        &self,
        work: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DatabaseError> {
        let limit = self.inner.timeout;
        let work = AssertUnwindSafe(work).catch_unwind().map(|done| {
            done.unwrap_or_else(|_| Err(DbErr::Custom("the driver of the data base failed".into())))
        });
        let done = tokio::time::timeout(limit, work).await;
        let Statements { done: good, failed, timed_out } = &self.inner.statements;
        match &done {
            Ok(Ok(_)) => good.inc(),
            Ok(Err(_)) => failed.inc(),
            Err(_) => timed_out.inc(),
        };
        let done = done.map_err(|_| DatabaseError::TimedOut(limit))?;
        done.map_err(|error| match error {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => {
                let most = if self.inner.in_memory { 1 } else { self.inner.max_connections };
                DatabaseError::NoConnection(for_connection(limit), most)
            }
            error => error.into(),
        })
    }

    async fn prepare(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<(&DatabaseConnection, Statement), DbErr> {
        let pool = self.pool().await?;
        self.tell(sql);
        Ok((pool, Statement::from_sql_and_values(pool.get_database_backend(), sql, values)))
    }

    async fn pool(&self) -> Result<&DatabaseConnection, DbErr> {
        let inner = &self.inner;
        let limit = inner.timeout;
        let for_connection = for_connection(limit);
        let open = || async move {
            let mut options = ConnectOptions::new(inner.url.expose());
            options
                .connect_lazy(true)
                .max_connections(inner.max_connections)
                .acquire_timeout(for_connection)
                .connect_timeout(for_connection)
                .sqlx_logging(false)
                .map_sqlx_mysql_opts(without_brackets)
                .map_sqlx_mysql_pool_opts(move |pool| {
                    pool.after_release(move |connection, _| {
                        Box::pin(async move {
                            // A statement that was given up may keep its connection busy for
                            // ever; without this the pool waits for it, and fills up.
                            let ping = tokio::time::timeout(limit, connection.ping());
                            ping.await.map_err(|_| SqlxError::PoolTimedOut)?.map(|()| true)
                        })
                    })
                });
            if inner.in_memory {
                // Such a data base ends with its connection, and a second one would find
                // tables locked that the first has in its hands.
                let never = None::<Duration>;
                options.max_connections(1).idle_timeout(never).max_lifetime(never);
            }
            // Its own error quotes the URL, and with it the password.
            let no_url = |_| DbErr::Custom("the data base's URL cannot be used".to_owned());
            let pool = sea_orm::Database::connect(options).await.map_err(no_url)?;
            for (index, sql) in inner.setup.iter().enumerate() {
                let key = format!("database.{}.setup.{index}", inner.name);
                self.tell(&key);
                // What SQLite says quotes the statement, which may hold a key.
                let failed = |_| {
                    DbErr::Custom(format!(
                        "{key}: SQLite does not take the statement; `sqlite3 :memory:` says why"
                    ))
                };
                pool.execute_unprepared(sql.expose()).await.map_err(failed)?;
            }
            Ok(pool)
        };
        inner.pool.get_or_try_init(open).await
    }

    /// With `debug`, prints the statement. Values are not printed: some are keys.
    fn tell(&self, sql: &str) {
        if self.inner.debug {
            info!(database = self.inner.name, sql, "Statement");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    fn database(url: String) -> Database {
        let config = Config { url: url.into(), ..Config::default() };
        Database::open("main", &config).unwrap()
    }

    /// Whoever asks has an error, and may ask again.
    #[tokio::test]
    async fn a_packet_that_is_too_short_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("mysql://u:p@{}/d", listener.local_addr().unwrap());
        // An ERR packet without a code.
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.write_all(&[1, 0, 0, 0, 0xFF]).await;
            }
        });
        let database = database(url);
        for _ in 0..2 {
            let error = database.ping().await.unwrap_err();
            assert!(matches!(error, DatabaseError::Failed(DbErr::Custom(_))), "{error:?}");
        }
        assert_eq!(database.inner.statements.failed.get(), 2);
    }

    #[tokio::test]
    async fn an_address_of_ipv6_is_found() {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let database = database(format!("mysql://u:p@{}/d", listener.local_addr().unwrap()));
        // Who comes is hung up on.
        let accepted =
            async { tokio::time::timeout(Duration::from_secs(30), listener.accept()).await };
        let (accepted, answer) = tokio::join!(accepted, database.ping());
        assert!(accepted.is_ok() && answer.is_err(), "{accepted:?} {answer:?}");
    }

    #[test]
    fn what_a_url_says_of_tls_is_kept() {
        for (url, mode) in [
            ("mysql://u:p@[::1]/d", "Preferred"),
            ("mysql://u:p@[::1]/d?ssl-mode=VERIFY_IDENTITY", "VerifyIdentity"),
        ] {
            let options = without_brackets(url.parse().unwrap());
            assert_eq!(
                format!("{:?} {}", options.get_ssl_mode(), options.get_host()),
                format!("{mode} ::1")
            );
        }
    }

    #[tokio::test]
    async fn what_a_statement_says_at_the_start_is_not_told() {
        let setup = vec!["INSERT INTO t VALUES ('s3cr3t".to_owned().into()];
        let url = "sqlite::memory:".to_owned().into();
        let config = Config { url, setup, ..Config::default() };
        let error = Database::open("main", &config).unwrap().ping().await.unwrap_err();
        let told = format!("{} {error:?}", crate::core::chain(&error));
        assert!(told.contains("database.main.setup.0: SQLite does not"), "{told}");
        assert!(!told.contains("s3cr3t"), "{told}");
    }
}
