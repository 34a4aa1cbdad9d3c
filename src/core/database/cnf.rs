//! MySQL option files (`mysql.cnf`), as openITCOCKPIT's own PHP code reads them: sections
//! `client` and `mysql`, the last value of a key wins, a value is the whole rest of the
//! line, and one pair of quotes around it is taken off. In particular nothing is cut off
//! at `#` or `;`, which are good characters in a password.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::core::config::Secret;

/// Where to connect to.
#[derive(Debug)]
pub struct Cnf {
    host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) database: String,
}

/// What is wrong with an option file. Never quotes a value.
#[derive(Debug, thiserror::Error)]
pub enum CnfError {
    /// It is not there, or not for us.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No `[client]` or `[mysql]`.
    #[error(
        "found no section [client] or [mysql] in {0}, expected one with host, port, user, password and database"
    )]
    NoSection(PathBuf),
    /// A key that is needed is not there or empty.
    #[error("found no `{key}` in the section [client] of {path}")]
    Missing {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The host has something in it that no host has, such as a port.
    #[error("found a `host` in {0} that is neither a name nor an address")]
    Host(PathBuf),
    /// No data base can be called that, and in a URL it would be taken for a way up.
    #[error("found a `database` in {0} that is `.` or `..`, which is no name")]
    Database(PathBuf),
    /// The port is no port.
    #[error("found a `port` in {0} that is no number from 1 to 65535")]
    Port(PathBuf),
}

impl Cnf {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Self, CnfError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| CnfError::Unreadable { path: path.into(), source })?;
        Self::parse(path, &text)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, CnfError> {
        let values = values(text).ok_or_else(|| CnfError::NoSection(path.into()))?;
        let get = |key: &str| values.get(key).cloned().unwrap_or_default();
        let need = |key: &'static str| match get(key) {
            value if value.is_empty() => Err(CnfError::Missing { key, path: path.into() }),
            value => Ok(value),
        };
        let host = match get("host") {
            host if host.is_empty() => "localhost".to_owned(),
            host => host,
        };
        let bare = host.trim_matches(['[', ']']);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_name = !bare.is_empty() && bare.chars().all(plain);
        if bare.parse::<Ipv6Addr>().is_err() && !is_name {
            return Err(CnfError::Host(path.into()));
        }
        let port = match get("port").as_str() {
            "" => 3306,
            port => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| CnfError::Port(path.into()))?,
        };
        let password = Secret::from(get("password"));
        let (user, database) = (need("user")?, need("database")?);
        if matches!(database.as_str(), "." | "..") {
            return Err(CnfError::Database(path.into()));
        }
        Ok(Self { host, port, user, password, database })
    }

    /// As a URL; always TCP, also for `localhost`.
    pub(super) fn url(&self) -> Secret {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let host = match self.host.trim_matches(['[', ']']) {
            v6 if v6.contains(':') => format!("[{v6}]"),
            name => name.to_owned(),
        };
        let (user, password) = (encode(&self.user), encode(self.password.expose()));
        let (port, database) = (self.port, encode(&self.database));
        format!("mysql://{user}:{password}@{host}:{port}/{database}").into()
    }
}

/// Keys and values of the sections we read; none when there is no such section.
fn values(text: &str) -> Option<HashMap<String, String>> {
    let mut values = HashMap::new();
    let (mut found, mut ours) = (false, false);
    for line in text.trim_start_matches('\u{FEFF}').lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            ours = matches!(section.trim(), "client" | "mysql");
            found |= ours;
            continue;
        }
        // Options without a value, such as `skip-ssl`, are no concern of ours.
        let Some((key, value)) = line.split_once('=') else { continue };
        if ours {
            values.insert(key.trim().to_owned(), unquote(value.trim()).to_owned());
        }
    }
    found.then_some(values)
}

fn unquote(value: &str) -> &str {
    for quote in ['"', '\'', '`'] {
        let inner = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<String, String> {
        let cnf = Cnf::parse(Path::new("f.cnf"), text).map_err(|error| error.to_string())?;
        Ok(cnf.url().expose().to_owned())
    }

    #[test]
    fn the_product_s_file() {
        let text = "; written by the installer\n[client]\ndatabase = openitcockpit\nhost = localhost\nuser = openitcockpit\npassword = s3cret\nport = 3306\n";
        assert_eq!(url(text).unwrap(), "mysql://openitcockpit:s3cret@localhost:3306/openitcockpit");
        assert_eq!(url(&text.replace('\n', "\r\n")), url(text));
        assert_eq!(url(&format!("\u{FEFF}{text}")), url(text));
        assert_eq!(url(&text.replace("[client]", "[mysql]")), url(text));
    }

    #[test]
    fn passwords_are_taken_whole() {
        for (written, expected) in [
            ("p#q;r", "p%23q%3Br"),
            ("\"p#q;r\"", "p%23q%3Br"),
            ("'a b'", "a%20b"),
            ("`x`", "x"),
            ("a@b:c/d?e&f(g)=h", "a%40b%3Ac%2Fd%3Fe%26f%28g%29%3Dh"),
            ("'half", "%27half"),
            ("", ""),
        ] {
            let text = format!("[client]\nuser=u\ndatabase=d\npassword={written}\n");
            assert_eq!(url(&text).unwrap(), format!("mysql://u:{expected}@localhost:3306/d"));
        }
    }

    #[test]
    fn the_last_value_wins_and_addresses_get_their_brackets() {
        let text = "user=nobody\n[client]\nuser=a\nuser=b\nskip-ssl\n[mysqld]\nuser=c\n[client]\ndatabase=d\nhost=::1\n";
        assert_eq!(url(text).unwrap(), "mysql://b:@[::1]:3306/d");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("", "found no section [client] or [mysql] in f.cnf"),
            ("[Client]\nuser=a", "found no section"),
            ("[client]\ndatabase=d", "found no `user` in"),
            ("[client]\nuser=a", "found no `database` in"),
            ("[client]\nuser=a\ndatabase=d\nhost=db:3306", "neither a name nor an address"),
            ("[client]\nuser=a\ndatabase=d\nport=x", "is no number from 1 to 65535"),
            ("[client]\nuser=a\ndatabase=d\nhost=[]", "neither a name nor an address"),
            ("[client]\nuser=a\ndatabase=..", "which is no name"),
            ("[client]\nuser=a\ndatabase=d\nport=0", "is no number from 1 to 65535"),
        ] {
            let error = url(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
