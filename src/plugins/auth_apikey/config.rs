//! The keys of `[auth.<name>]` with `type = "apikey"`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keyring::{KeyHash, KeyRing, NotAHash};
use super::source::{KeyFile, Source, read_file, setting_sql};
use crate::core::BoxError;
use crate::core::config::{Check, Secret, duration};
use crate::core::plugin::Databases;

/// `[auth.<name>]`. Keys come from one of `database`, `file` and `keys`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The `[database.<name>]` that has the keys.
    pub database: String,
    /// Table in which the key is one row.
    pub table: String,
    /// Column with the name of the row.
    pub name_column: String,
    /// Column with the key.
    pub value_column: String,
    /// Name of the row, compared byte by byte.
    pub name: String,
    /// A statement whose first column has the keys, instead of the four above.
    pub query: String,
    /// A file with one key or hash per line.
    pub file: PathBuf,
    /// Hashes of keys, in hexadecimal digits after `sha256:`.
    pub keys: Vec<Secret>,
    /// Up to this many credentials in a second are each judged by a reading of their own,
    /// so that a changed key counts at once. More share readings.
    pub ask_rate: usize,
    /// How old a shared reading may be.
    #[serde(with = "duration")]
    pub cache: Duration,
    /// How long keys count that cannot be read any more.
    #[serde(with = "duration")]
    pub serve_stale: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: String::new(),
            table: "systemsettings".into(),
            name_column: "key".into(),
            value_column: "value".into(),
            name: "SUDO_SERVER.API_KEY".into(),
            query: String::new(),
            file: PathBuf::new(),
            keys: vec![],
            ask_rate: 20,
            cache: Duration::from_secs(1),
            serve_stale: Duration::from_mins(10),
        }
    }
}

impl Config {
    pub(super) fn check(&self, check: &mut Check<'_>) {
        self.check_one_source(check);
        if !self.database.is_empty() {
            check.database("database", &self.database);
            if self.query.is_empty() {
                self.check_setting(check);
            } else {
                self.check_no_setting("query", check);
            }
        } else if !self.query.is_empty() {
            check.fault("query", "found a statement, expected a `database` to ask, too");
        } else if !self.keys.is_empty() {
            self.check_no_setting("keys", check);
        } else if !self.file.as_os_str().is_empty() {
            self.check_no_setting("file", check);
        }
        if !self.file.as_os_str().is_empty() {
            match read_file(&self.file) {
                Ok(ring) if ring.len() == 0 => {
                    check.fault("file", "found no key, expected one key or hash per line");
                }
                Ok(_) => {}
                Err(error) => check.fault("file", &error.to_string()),
            }
        }
        for (index, key) in self.keys.iter().enumerate() {
            if let Err(error) = KeyHash::parse(key.expose().as_bytes()) {
                check.fault(&format!("keys.{index}"), &error.to_string());
            }
        }
        check.range("ask_rate", self.ask_rate, 0..=10_000);
        check.duration("cache", self.cache, Duration::ZERO..=Duration::from_mins(1));
        let week = Duration::from_hours(168);
        check.duration("serve_stale", self.serve_stale, Duration::ZERO..=week);
    }

    fn check_one_source(&self, check: &mut Check<'_>) {
        let sources = [
            ("database", !self.database.is_empty()),
            ("file", !self.file.as_os_str().is_empty()),
            ("keys", !self.keys.is_empty()),
        ];
        let mut set = sources.iter().filter(|(_, set)| *set).map(|(key, _)| *key);
        match (set.next(), set.next()) {
            // One that cannot be read is a fault of its own.
            (None, _) if sources.iter().any(|(key, _)| check.has_fault(key)) => {}
            (None, _) => {
                check.fault("database", "missing: expected one of `database`, `file` and `keys`");
            }
            (Some(first), Some(second)) => {
                let fault =
                    format!("found a second source of keys besides `{first}`, expected one");
                check.fault(second, &fault);
            }
            (Some(_), None) => {}
        }
    }

    fn check_setting(&self, check: &mut Check<'_>) {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for (key, name) in [
            ("table", &self.table),
            ("name_column", &self.name_column),
            ("value_column", &self.value_column),
        ] {
            // They become part of the statement.
            if name.is_empty() || !name.chars().all(plain) {
                check.fault(key, &format!("found {name:?}, expected letters, digits or `_`"));
            }
        }
        if self.name.is_empty() {
            check.fault("name", "found nothing, expected the name of the row with the key");
        }
    }

    /// What `other` has is not in a row of a table. Defaults may be written down all the same,
    /// as `config show` does.
    fn check_no_setting(&self, other: &str, check: &mut Check<'_>) {
        let usual = Self::default();
        for (key, value, usual) in [
            ("table", &self.table, usual.table),
            ("name_column", &self.name_column, usual.name_column),
            ("value_column", &self.value_column, usual.value_column),
            ("name", &self.name, usual.name),
        ] {
            if !value.is_empty() && *value != usual {
                let fault = format!("found {value:?} besides `{other}`, expected one of them");
                check.fault(key, &fault);
            }
        }
    }

    /// The keys of `keys`; none when they come from elsewhere.
    pub(super) fn fixed(&self) -> Result<Option<KeyRing>, NotAHash> {
        let mut ring = KeyRing::default();
        for key in &self.keys {
            ring.add_hash(KeyHash::parse(key.expose().as_bytes())?);
        }
        Ok((!self.keys.is_empty()).then_some(ring))
    }

    /// Where keys are read, if they are not fixed.
    pub(super) fn source(&self, databases: &Databases) -> Result<Source, BoxError> {
        if !self.file.as_os_str().is_empty() {
            return Ok(Source::File(KeyFile::new(self.file.clone())));
        }
        let database = databases.get(&self.database)?;
        if !self.query.is_empty() {
            return Ok(Source::Query { database, sql: self.query.clone() });
        }
        let sql = setting_sql(&self.table, &self.name_column, &self.value_column);
        Ok(Source::Setting { database, sql, name: self.name.clone() })
    }
}
