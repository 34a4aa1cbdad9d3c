//! The keys of `[database.<name>]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cnf::{Cnf, CnfError};
use crate::core::config::{Check, Secret, duration};

/// `[database.<name>]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `mysql://user:password@host:port/database`, `sqlite:/path/to/file` or
    /// `sqlite::memory:`. Wins over `cnf`.
    pub url: Secret,
    /// A MySQL option file with host, port, user, password and database.
    pub cnf: PathBuf,
    /// How long any statement may take, waiting for a connection included.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Most connections at a time.
    pub max_connections: u32,
    /// Print every statement.
    pub debug: bool,
    /// Statements to run with each start, in this order, before the first of any other. Until
    /// all have worked no other is run. Only for a data base in memory: elsewhere a second
    /// start, or one that was interrupted, would find half of it done. May hold keys.
    pub setup: Vec<Secret>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            cnf: PathBuf::new(),
            timeout: Duration::from_secs(2),
            max_connections: 5,
            debug: false,
            setup: vec![],
        }
    }
}

impl Config {
    pub(in crate::core) fn check(&self, check: &mut Check<'_>) {
        let allowed = Duration::from_millis(10)..=Duration::from_mins(1);
        check.duration("timeout", self.timeout, allowed);
        check.range("max_connections", self.max_connections, 1..=1000);
        let url = self.url.expose();
        if !url.is_empty() {
            if !["mysql://", "mariadb://", "sqlite:"].iter().any(|scheme| url.starts_with(scheme)) {
                check.fault("url", "found no data base that is known here, expected mysql://user:password@host:port/database or sqlite:/path/to/file");
            }
            if !url.starts_with("sqlite:")
                && let Err(error) = reqwest::Url::parse(url)
            {
                // Never quoted: it holds the password. What stands for a port may be a part of it.
                check.fault("url", &format!("is no URL ({error}): in a user name or password `/`, `#`, `?`, `@`, `:` and `%` are written %2F, %23, %3F, %40, %3A and %25"));
            }
            if !self.setup.is_empty() && !self.is_in_memory() {
                check.fault("setup", "found statements, expected none: they make a data base that ends with the process (url = \"sqlite::memory:\")");
            }
        } else if self.cnf.as_os_str().is_empty() {
            check.fault("url", "missing: expected a URL here, or a MySQL option file in `cnf`");
        } else if let Err(error) = Cnf::read(&self.cnf) {
            check.fault("cnf", &error.to_string());
        }
    }

    /// What `cnf` says at the moment.
    pub(in crate::core) fn inputs(&self) -> Vec<u8> {
        let from_file = self.url.expose().is_empty();
        let url = if from_file { self.url().ok() } else { None };
        url.map_or_else(Vec::new, |url| url.expose().as_bytes().to_vec())
    }

    /// Whether the data base lives in the memory of this process.
    pub(super) fn is_in_memory(&self) -> bool {
        let url = self.url.expose();
        url.starts_with("sqlite:") && (url.contains(":memory:") || url.contains("mode=memory"))
    }

    /// The URL to connect to.
    pub(super) fn url(&self) -> Result<Secret, CnfError> {
        // sea-orm knows MariaDB by the name of MySQL only.
        match self.url.expose() {
            "" => Ok(Cnf::read(&self.cnf)?.url()),
            url => Ok(match url.strip_prefix("mariadb://") {
                Some(rest) => format!("mysql://{rest}").into(),
                None => self.url.clone(),
            }),
        }
    }
}
