//! From untyped values to a plugin's own configuration type, with every fault at once.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use figment::value::Dict;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::extract::{describe, extract, retype};
use super::fault::Fault;
use super::{Layers, Listen, join};
use crate::core::message::Pattern;
use crate::core::session::Rate;

/// What is configured: the names a section may refer to.
#[derive(Debug, Default)]
pub struct Names {
    /// `[database.<name>]` tables.
    pub databases: Vec<String>,
    /// `[auth.<name>]` tables.
    pub auth: Vec<String>,
    /// `[sink.<name>]` tables whose sink takes WebSocket clients.
    pub live_sinks: Vec<String>,
    /// `[protocol.<name>]` tables.
    pub protocols: Vec<String>,
    /// Where protocols without a `listen` of their own are served.
    pub shared: Listen,
    /// `server.shutdown_timeout` and `server.drain_spread`.
    pub stop: (Duration, Duration),
    /// `[auth.<name>]` tables whose provider can make credentials.
    issuers: RefCell<BTreeSet<String>>,
    /// Listener and path that a protocol answers on, and the table that was first.
    paths: RefCell<BTreeMap<(String, String), String>>,
}

/// One table on its way to become a plugin.
#[derive(Debug)]
pub struct Draft<'a> {
    layers: &'a Layers,
    names: &'a Names,
    /// `auth.jwt`, `server` …
    path: String,
    values: Dict,
    /// The protocol's `listen` as written; empty for the shared listener.
    pub listen: String,
    /// Found so far, in this and earlier tables.
    pub faults: &'a mut Vec<Fault>,
    /// The typed configuration, defaults included, as `config show` prints it.
    pub effective: &'a mut toml::Table,
}

impl<'a> Draft<'a> {
    /// Where protocols without a `listen` of their own are served.
    pub fn shared(&self) -> &'a Listen {
        &self.names.shared
    }

    /// Starts on the table `path`, whose values are `values`.
    pub fn new(
        layers: &'a Layers,
        names: &'a Names,
        path: &str,
        values: Dict,
        faults: &'a mut Vec<Fault>,
        effective: &'a mut toml::Table,
    ) -> Self {
        let (path, listen) = (path.to_owned(), String::new());
        Self { layers, names, path, values, listen, faults, effective }
    }

    /// Takes a key of core's own out of the table, so that the plugin never sees it.
    pub fn take<T: DeserializeOwned>(&mut self, key: &str, default: T) -> T {
        let Some(value) = self.values.remove(key) else {
            return default;
        };
        let path = join(&self.path, key);
        // What fails alone may be text that stands for another type.
        let mut one = Dict::from([(key.to_owned(), value)]);
        loop {
            let result = one[key].deserialize::<T>();
            match result {
                Ok(value) => return value,
                Err(_) if retype(self.layers, &mut one, key) => {}
                Err(error) => {
                    let at = error.path.iter().fold(path, |at, part| join(&at, part));
                    let message = describe(&error.kind, &error.path);
                    self.faults.push(self.layers.fault(&at, message));
                    return default;
                }
            }
        }
    }

    /// The typed configuration. Always one, so that checking can go on and find more;
    /// where a value was bad its default stands in, and the fault is in `faults`.
    pub fn typed<T: DeserializeOwned + Serialize + Default>(&mut self) -> T {
        let values = std::mem::take(&mut self.values);
        let config = extract::<T>(self.layers, &self.path, values, self.faults).unwrap_or_default();
        if let Ok(toml::Value::Table(table)) = toml::Value::try_from(&config) {
            self.effective.extend(table);
        }
        config
    }

    /// For checks of values that have the right type.
    pub fn check(&mut self) -> Check<'_> {
        Check {
            layers: self.layers,
            names: self.names,
            path: &self.path,
            listen: &self.listen,
            faults: self.faults,
        }
    }
}

/// Collects what is wrong with values of the right type. Pure: no sockets, no tasks;
/// reading a file that the configuration names is fine.
#[derive(Debug)]
pub struct Check<'a> {
    layers: &'a Layers,
    names: &'a Names,
    path: &'a str,
    listen: &'a str,
    faults: &'a mut Vec<Fault>,
}

impl Check<'_> {
    /// Reports a fault of `key` in this table: what was found, what would be right.
    pub fn fault(&mut self, key: &str, message: &str) {
        self.fault_at(&join(self.path, key), message);
    }

    /// Whether something is wrong with `key` of this table already.
    pub fn has_fault(&self, key: &str) -> bool {
        self.has_fault_at(&join(self.path, key))
    }

    /// The same for a key by its whole path. A fault within its value is one of it.
    fn has_fault_at(&self, key: &str) -> bool {
        let within = |fault: &Fault| {
            fault.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.faults.iter().any(within)
    }

    /// Reports a fault of a key in another table, by its whole path.
    pub fn fault_at(&mut self, key: &str, message: &str) {
        // A value that already failed was replaced by its default: no second complaint.
        if !self.has_fault_at(key) {
            self.faults.push(self.layers.fault(key, message));
        }
    }

    /// `value` must be within `allowed`.
    pub fn range<T: PartialOrd + Display + Copy>(
        &mut self,
        key: &str,
        value: T,
        allowed: RangeInclusive<T>,
    ) {
        if !allowed.contains(&value) {
            self.fault(
                key,
                &format!(
                    "found {value}, expected a number from {} to {}",
                    allowed.start(),
                    allowed.end()
                ),
            );
        }
    }

    /// `value` must be within `allowed`.
    pub fn duration(&mut self, key: &str, value: Duration, allowed: RangeInclusive<Duration>) {
        if !allowed.contains(&value) {
            let [found, from, to] =
                [&value, allowed.start(), allowed.end()].map(|d| humantime::format_duration(*d));
            self.fault(key, &format!("found {found}, expected a duration from {from} to {to}"));
        }
    }

    /// `name` must be an `[auth.<name>]` table.
    pub fn auth(&mut self, key: &str, name: &str) {
        self.reference(key, name, "auth", &self.names.auth);
    }

    /// `name` must be a `[database.<name>]` table.
    pub fn database(&mut self, key: &str, name: &str) {
        self.reference(key, name, "database", &self.names.databases);
    }

    /// `name` must be a `[sink.<name>]` table whose type takes WebSocket clients.
    pub fn live_sink(&mut self, key: &str, name: &str) {
        self.reference(key, name, "sink", &self.names.live_sinks);
    }

    /// Some protocol must have topics that `pattern`, written as `text`, covers.
    pub fn pattern(&mut self, key: &str, text: &str, pattern: &Pattern) {
        let known = &self.names.protocols;
        // Without any that is the fault.
        if !known.is_empty() && !known.iter().any(|protocol| pattern.reaches(protocol)) {
            let roots: Vec<_> = known.iter().map(|protocol| format!("`{protocol}/`")).collect();
            let roots = roots.join(", ");
            let message =
                format!("found {text:?}, which no topic matches: those here begin with {roots}");
            self.fault(key, &message);
        }
    }

    /// `ping_interval` and `idle_timeout` of a protocol: who was not asked cannot answer.
    pub fn heartbeat(&mut self, ping_interval: Duration, idle_timeout: Duration) {
        let allowed = Duration::from_millis(100)..=Duration::from_hours(24);
        self.duration("ping_interval", ping_interval, allowed.clone());
        self.duration("idle_timeout", idle_timeout, allowed);
        if idle_timeout <= ping_interval {
            let [found, ping] = [idle_timeout, ping_interval].map(humantime::format_duration);
            self.fault("idle_timeout", &format!("found {found}, expected more than ping_interval ({ping}): who was not asked cannot answer"));
        }
    }

    /// How long a connection may take to end once its turn has come: with those before it
    /// that has to fit into the time that a stop may take.
    pub fn close_timeout(&mut self, key: &str, value: Duration) {
        self.duration(key, value, Duration::ZERO..=Duration::from_mins(1));
        let (timeout, spread) = self.names.stop;
        let of_server = ["server.drain_spread", "server.shutdown_timeout"];
        // No time at all is the fault of those two, and what is wrong with them was told.
        let is_known = spread >= timeout || of_server.iter().any(|key| self.has_fault_at(key));
        if is_known || value <= timeout.saturating_sub(spread) {
            return;
        }
        let is_too_short = value > timeout;
        let [found, spread, timeout] = [value, spread, timeout].map(humantime::format_duration);
        let rest = format!(
            "after server.drain_spread ({spread}) it has to fit into server.shutdown_timeout ({timeout})"
        );
        let own = join(self.path, key);
        // Where it is a default, one of these leaves it too little.
        let mut others = of_server.into_iter().skip(usize::from(is_too_short));
        let other = others.find(|key| self.layers.is_said(key));
        match other.filter(|_| !self.layers.is_said(&own)) {
            Some(other) => {
                self.fault_at(other, &format!("leaves too little for {own} ({found}): {rest}"));
            }
            None => self.fault(key, &format!("found {found}, expected less: {rest}")),
        }
    }

    /// `<what>_rate` and `<what>_burst`: how often clients may do something.
    pub fn rate(&mut self, what: &str, rate: Rate) {
        self.range(&format!("{what}_rate"), rate.per_second, 0..=1_000_000);
        self.range(&format!("{what}_burst"), rate.burst, 1..=10_000_000);
    }

    /// Notes that this auth provider can make credentials.
    pub fn can_issue(&mut self) {
        let name = self.path.split_once('.').map_or(self.path, |(_, name)| name);
        self.names.issuers.borrow_mut().insert(name.to_owned());
    }

    /// `name` must be an `[auth.<name>]` table whose provider can make credentials; `how`
    /// says what makes one.
    pub fn issuing_auth(&mut self, key: &str, name: &str, how: &str) {
        self.auth(key, name);
        if !self.names.issuers.borrow().contains(name) {
            self.fault(key, &format!("[auth.{name}] cannot make tokens, expected {how}"));
        }
    }

    /// This protocol answers on `path` of its listener; two cannot.
    pub fn claim(&mut self, key: &str, path: &str) {
        if self.has_bad_listen() {
            return;
        }
        let first = {
            let place = (self.listen.to_owned(), path.to_owned());
            let mut paths = self.names.paths.borrow_mut();
            paths.entry(place).or_insert_with(|| self.path.to_owned()).clone()
        };
        if first != self.path {
            self.fault(
                key,
                &format!(
                    "[{first}] answers on {path} already, expected another path, or another `listen`"
                ),
            );
        }
    }

    /// This protocol must be served to this machine alone; `why` says what it would do for
    /// others. Looks at the text: a name other than `localhost` is not looked up.
    pub fn loopback(&mut self, why: &str) {
        let (key, listen) = match Listen::parse(self.listen) {
            Some(own) => (join(self.path, "listen"), own),
            None => ("server.host".to_owned(), self.names.shared.clone()),
        };
        if !listen.is_loopback() && !self.has_bad_listen() {
            let found = &listen.host;
            let message = format!(
                "found {found:?}, but {why}: expected a loopback address such as 127.0.0.1"
            );
            self.fault_at(&key, &message);
        }
    }

    /// Whether nobody can say where this protocol will be.
    fn has_bad_listen(&self) -> bool {
        self.has_fault("listen")
    }

    /// The variable that sets `key` of this table.
    #[must_use]
    pub fn variable(&self, key: &str) -> String {
        super::env::variable(&join(self.path, key))
    }

    fn reference(&mut self, key: &str, name: &str, kind: &str, known: &[String]) {
        if known.iter().any(|known| known == name) {
            return;
        }
        let what = if kind == "sink" { " for WebSocket clients" } else { "" };
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        self.fault(key, &format!("no [{kind}.{name}]{what} is configured; there is: {known}"));
    }
}
