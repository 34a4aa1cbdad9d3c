//! Where keys come from.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use parking_lot::Mutex;
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::keyring::{KeyRing, NotAHash};
use crate::core::database::{Database, DatabaseError};

/// How long a file may take: it can be on another machine. A data base has its own limit.
const FILE_TIMEOUT: Duration = Duration::from_secs(2);

/// What can be asked for the keys again and again.
pub(super) trait ReadKeys: Send + Sync + 'static {
    /// All keys that count now.
    fn read(&self) -> impl Future<Output = Result<KeyRing, SourceError>> + Send;
}

/// A place that may change while the server runs.
pub(super) enum Source {
    /// One row of a table of settings.
    Setting { database: Database, sql: String, name: String },
    /// A statement of the user's own.
    Query { database: Database, sql: String },
    /// Lines of a file.
    File(KeyFile),
}

/// Why keys could not be read. Never holds any part of one.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("[database.{name}]")]
    Database { name: String, source: DatabaseError },
    #[error("cannot read {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{place}: {source}")]
    Key { place: String, source: NotAHash },
}

impl ReadKeys for Source {
    async fn read(&self) -> Result<KeyRing, SourceError> {
        match self {
            Self::Setting { database, sql, name } => {
                let rows = database.query::<Setting>(sql, [name.into()]).await;
                let rows = rows.map_err(|error| of_database(database, error))?;
                Ok(setting(&rows, name))
            }
            Self::Query { database, sql } => {
                let rows = database.query::<Key>(sql, []).await;
                let rows = rows.map_err(|error| of_database(database, error))?;
                keys(rows.iter().filter_map(|row| row.0.as_deref()), |row| format!("row {row}"))
            }
            Self::File(file) => file.read(FILE_TIMEOUT).await,
        }
    }
}

/// A file with keys, which may be on a machine that does not answer any more.
pub(super) struct KeyFile {
    path: PathBuf,
    /// A reading that was given up and holds a thread for as long as it hangs. Only when it
    /// has ended another begins: or in time they would hold every thread there is.
    hanging: Mutex<Option<JoinHandle<Result<KeyRing, SourceError>>>>,
}

impl KeyFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, hanging: Mutex::default() }
    }

    async fn read(&self, limit: Duration) -> Result<KeyRing, SourceError> {
        let failed = |source| SourceError::File { path: self.path.clone(), source };
        let deadline = Instant::now() + limit;
        let hanging = self.hanging.lock().take();
        let was_hanging = hanging.is_some();
        let mut reading = hanging.unwrap_or_else(|| self.begin());
        let mut read = timeout_at(deadline, &mut reading).await;
        if was_hanging && read.is_ok() {
            // What it has read is old.
            reading = self.begin();
            read = timeout_at(deadline, &mut reading).await;
        }
        match read {
            Ok(Ok(read)) => read,
            Ok(Err(ended)) => Err(failed(io::Error::other(ended))),
            Err(late) => {
                *self.hanging.lock() = Some(reading);
                Err(failed(late.into()))
            }
        }
    }

    fn begin(&self) -> JoinHandle<Result<KeyRing, SourceError>> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || read_file(&path))
    }
}

fn of_database(database: &Database, source: DatabaseError) -> SourceError {
    SourceError::Database { name: database.name().to_owned(), source }
}

/// Name and value of a setting. As bytes: what is no UTF-8 is just no match.
struct Setting(Option<Vec<u8>>, Option<Vec<u8>>);

impl FromQueryResult for Setting {
    fn from_query_result(row: &QueryResult, _prefix: &str) -> Result<Self, DbErr> {
        Ok(Self(row.try_get_by_index(0)?, row.try_get_by_index(1)?))
    }
}

/// The first column.
struct Key(Option<Vec<u8>>);

impl FromQueryResult for Key {
    fn from_query_result(row: &QueryResult, _prefix: &str) -> Result<Self, DbErr> {
        Ok(Self(row.try_get_by_index(0)?))
    }
}

/// The value of the first row that is really called `name`. MariaDB also finds those that
/// differ in case, accents or trailing blanks; those are other settings.
fn setting(rows: &[Setting], name: &str) -> KeyRing {
    let mut ring = KeyRing::default();
    let named = rows.iter().find(|row| row.0.as_deref() == Some(name.as_bytes()));
    if let Some(Setting(_, Some(value))) = named {
        ring.add_key(value);
    }
    ring
}

/// The statement for [`Source::Setting`]. The identifiers have been checked.
pub(super) fn setting_sql(table: &str, name_column: &str, value_column: &str) -> String {
    format!("SELECT `{name_column}`, `{value_column}` FROM `{table}` WHERE `{name_column}` = ?")
}

/// A key or hash per line; blanks around it, empty lines and lines with `#` do not count.
pub(super) fn read_file(path: &Path) -> Result<KeyRing, SourceError> {
    let text = fs::read(path).map_err(|source| SourceError::File { path: path.into(), source })?;
    let lines = text.split(|byte| *byte == b'\n').map(|line| match line.trim_ascii() {
        [b'#', ..] => b"",
        line => line,
    });
    keys(lines, |line| format!("line {line} of {}", path.display()))
}

fn keys<'a>(
    texts: impl Iterator<Item = &'a [u8]>,
    place: impl Fn(usize) -> String,
) -> Result<KeyRing, SourceError> {
    let mut ring = KeyRing::default();
    for (text, number) in texts.zip(1..) {
        ring.add(text).map_err(|source| SourceError::Key { place: place(number), source })?;
    }
    Ok(ring)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn row(name: &str, value: Option<&str>) -> Setting {
        Setting(Some(name.into()), value.map(Into::into))
    }

    #[test]
    fn a_setting_of_a_similar_name_is_another_one() {
        let rows = [
            row("sudo_server.api_key", Some("a")),
            row("SUDO_SERVER.API_KEY ", Some("b")),
            row("SUDO_SERVER.API_KÉY", Some("c")),
            Setting(None, Some("d".into())),
        ];
        assert_eq!(setting(&rows, "SUDO_SERVER.API_KEY").len(), 0);
        let found = [row("k", Some("first")), row("k", Some("second"))];
        let ring = setting(&found, "k");
        assert!(ring.holds(b"first") && !ring.holds(b"second"));
        for none in [None, Some("")] {
            assert_eq!(setting(&[row("k", none)], "k").len(), 0);
        }
        // Looks like a hash, but a setting is always the key itself.
        let hash = format!("sha256:{}", "0".repeat(64));
        assert!(setting(&[row("k", Some(&hash))], "k").holds(hash.as_bytes()));
    }

    /// Lets go of who waits for a pipe, however the test ends.
    struct Pipe(PathBuf);

    impl Drop for Pipe {
        fn drop(&mut self) {
            let _ = fs::OpenOptions::new().read(true).write(true).open(&self.0);
        }
    }

    /// A pipe that nobody writes into is as a file on a machine that does not answer.
    #[tokio::test]
    async fn a_file_that_hangs_holds_one_thread_and_is_read_anew_once_it_answers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let _pipe = Pipe(path.clone());
        let file = KeyFile::new(path.clone());
        let hanging = || file.hanging.lock().as_ref().map(JoinHandle::id);
        let short = Duration::from_millis(50);
        assert!(file.read(short).await.is_err());
        let first = hanging();
        assert!(first.is_some());
        assert!(file.read(short).await.is_err());
        assert_eq!(hanging(), first, "one thread is enough");

        let write = |key: &'static str| {
            let path = path.clone();
            tokio::task::spawn_blocking(move || fs::write(path, key))
        };
        write("old").await.unwrap().unwrap();
        let is_over = || file.hanging.lock().as_ref().is_some_and(JoinHandle::is_finished);
        timeout(FILE_TIMEOUT, async {
            while !is_over() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        let limit = FILE_TIMEOUT * 10;
        let write = timeout(limit, write("new"));
        let (read, written) = tokio::join!(file.read(limit), write);
        written.unwrap().unwrap().unwrap();
        let ring = read.unwrap();
        assert!(ring.holds(b"new") && !ring.holds(b"old"));
        assert_eq!(hanging(), None);
    }

    #[test]
    fn a_file_has_a_key_or_hash_per_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let hash = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        fs::write(file.path(), format!("# two keys\n\n  first \r\n{hash}")).unwrap();
        let ring = read_file(file.path()).unwrap();
        assert_eq!(ring.len(), 2);
        assert!(ring.holds(b"first") && ring.holds(b"secret"));
        fs::write(file.path(), "a\nsha256:abc\n").unwrap();
        let error = read_file(file.path()).err().unwrap().to_string();
        assert!(error.starts_with("line 2 of ") && !error.contains("abc"), "{error}");
        assert!(read_file(Path::new("/nonexistent")).is_err());
    }
}
