//! Configuration: profile < environment < TOML file < command-line flags.
//!
//! The file beats the environment because the user asked for it; `config show` says
//! where each value came from and which variables the file overrides.
//!
//! Parsing and checking are pure but for reading the named files: nothing is bound,
//! spawned or connected before the whole configuration is known to be good.

pub mod duration;
pub mod env;
mod extract;
mod fault;
mod file;
mod listen;
mod secret;
mod section;
mod settings;
mod show;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile as FigmentProfile, Provider};

pub use self::fault::{Fault, Faults};
pub use self::listen::Listen;
pub use self::secret::Secret;
pub use self::section::{Check, Draft, Names};
pub use self::settings::{Admin, ForwardedHeader, Log, LogFormat, Server};
pub use self::show::show;
use env::{Environment, Setting};
use file::File;

/// The kinds of tables that have names, as `[sink.ws]` has; in the order they are built.
pub(in crate::core) const KINDS: [&str; 4] = ["database", "auth", "sink", "protocol"];

/// Where a configuration file is looked for, in this order, when none is named.
pub const SEARCH: [&str; 2] = ["./config.toml", "/etc/pushmux/config.toml"];

/// A built-in configuration that a user can name.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// What `--profile` takes.
    pub name: &'static str,
    /// The configuration itself.
    pub toml: &'static str,
}

/// Everything a configuration is made of, before any of it is read.
#[derive(Debug, Default)]
pub struct Sources {
    /// `--profile`.
    pub profile: Option<String>,
    /// `--config`; the [`SEARCH`] list when not given.
    pub file: Option<PathBuf>,
    /// The environment, name and value.
    pub environment: Vec<(String, String)>,
    /// Flag, key and value, such as `--port`, `server.port`, `"80"`.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// The layers on top of each other, still untyped.
#[derive(Debug)]
pub struct Layers {
    /// Knows where each value came from.
    figment: Figment,
    values: Dict,
    file: Option<(String, File)>,
    settings: Vec<Setting>,
    /// The profile at the bottom, if any, and why.
    pub profile: Option<(String, String)>,
    /// Things worth saying that are no faults.
    pub notes: Vec<String>,
    faults: Vec<Fault>,
}

impl Layers {
    /// Reads the sources. Faults are kept and come out of [`crate::core::plan::check`]
    /// together with those of the values.
    #[must_use]
    pub fn read(sources: &Sources, profiles: &[Profile]) -> Self {
        let mut faults = Vec::new();
        let file = read_file(sources.file.as_deref(), &mut faults);
        Self::of(file, faults, sources, profiles)
    }

    /// The same with a file that says `text`.
    #[cfg(any(test, fuzzing))]
    #[must_use]
    pub fn of_text(path: &Path, text: &str, sources: &Sources, profiles: &[Profile]) -> Self {
        let name = path.display().to_string();
        let file = File::parse(&name, text);
        Self::of(Some((name, file)), Vec::new(), sources, profiles)
    }

    fn of(
        file: Option<(String, File)>,
        mut faults: Vec<Fault>,
        sources: &Sources,
        profiles: &[Profile],
    ) -> Self {
        let mut environment = Environment::read(&sources.environment);
        faults.append(&mut environment.faults);
        let (mut values, file) = match file {
            Some((name, mut file)) => {
                faults.append(&mut file.faults);
                (std::mem::take(&mut file.values), Some((name, file)))
            }
            None => (Dict::new(), None),
        };
        let named = name_profile(sources, &mut values, file.as_ref(), &environment, &mut faults);
        let profile = named.and_then(|(name, why)| {
            let found = profiles.iter().find(|profile| profile.name == name);
            if found.is_none() {
                let known: Vec<_> = profiles.iter().map(|profile| profile.name).collect();
                let place = file.as_ref().filter(|(name, _)| *name == why);
                faults.push(Fault {
                    origin: Some(why.clone()),
                    line: place.and_then(|(_, file)| file.line("profile")),
                    key: "profile".into(),
                    message: format!(
                        "unknown profile `{name}`, expected one of: {}",
                        known.join(", ")
                    ),
                });
            }
            found.map(|profile| (profile, why))
        });

        let mut figment = Figment::new();
        if let Some((profile, _)) = profile {
            let name = format!("profile {}", profile.name);
            let values = File::parse(&name, profile.toml).values;
            figment = figment.merge(Layer { name, values });
        }
        let mut notes = environment.notes;
        let mut settings = environment.settings;
        let own = settings.iter().filter(|setting| setting.variable.starts_with("PUSHMUX_"));
        let own: HashSet<_> = own.map(|setting| section_of(&setting.key).to_owned()).collect();
        settings.retain(|setting| {
            // `auth.jwt` exists only where a profile or the file makes it: a variable
            // of another server must not conjure up a plugin nobody asked for.
            let section = section_of(&setting.key);
            let wanted = setting.variable.starts_with("PUSHMUX_")
                || !section.contains('.')
                || figment.contains(section)
                || Value::from(values.clone()).find_ref(section).is_some()
                || own.contains(section);
            if !wanted {
                notes.push(format!("{} is ignored: there is no [{section}]", setting.origin()));
            }
            wanted
        });
        for setting in &settings {
            let (name, values) = (setting.origin(), setting.dict());
            figment = figment.merge(Layer { name, values });
        }
        if let Some((name, _)) = &file {
            let name = name.clone();
            figment = figment.merge(Layer { name, values });
        }
        for (flag, key, value) in &sources.flags {
            let (name, values) = (format!("flag {flag}"), nested(key, value.clone().into()));
            figment = figment.merge(Layer { name, values });
        }
        let values = figment.extract::<Dict>().unwrap_or_default();
        let profile = profile.map(|(profile, why)| (profile.name.to_owned(), why));
        let mut layers = Self { figment, values, file, settings, profile, notes, faults };
        layers.notes.extend(layers.unused_address());
        layers.notes.extend(layers.odd_level());
        layers
    }

    fn odd_level(&self) -> Option<String> {
        let word = Log::odd_word(find(&self.values, "log.level")?.as_str()?)?;
        let (name, line) = self.origin("log.level")?;
        let place = place(&name, line);
        Some(format!(
            "{place} (log.level): `{word}` is no level, so it is taken for a part of the program; levels are error, warn, info, debug, trace and off"
        ))
    }

    /// What somebody said about the port of `[server]` when no protocol is served there.
    fn unused_address(&self) -> Vec<String> {
        let has_own = |protocol: &Value| {
            let listen = protocol.find_ref("listen").and_then(Value::as_str);
            listen.is_some_and(|listen| !listen.is_empty())
        };
        let Some(Value::Dict(_, protocols)) = self.values.get("protocol") else { return vec![] };
        if protocols.is_empty() || !protocols.values().all(has_own) {
            return vec![];
        }
        let note = |key: &str| {
            let (name, line) = self.origin(key)?;
            let place = place(&name, line);
            Some(format!("{place} ({key}) is ignored: each protocol has its own `listen`"))
        };
        let said = ["server.host", "server.port"].into_iter().filter(|key| self.is_said(key));
        said.filter_map(note).collect()
    }

    /// The file that was read, if any.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        self.file.as_ref().map(|(name, _)| name.as_str())
    }

    /// Every section, untyped.
    pub(super) fn values(&self) -> &Dict {
        &self.values
    }

    /// A table as it was written, such as `auth.jwt`.
    pub(super) fn table(&self, section: &str) -> Option<&Dict> {
        match find(&self.values, section)? {
            Value::Dict(_, dict) => Some(dict),
            _ => None,
        }
    }

    /// Faults found while reading.
    pub(super) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Where the value of `key` came from: a name, and a line when it is the file.
    fn origin(&self, key: &str) -> Option<(String, Option<usize>)> {
        let value = find(&self.values, key)?;
        let name = self.figment.get_metadata(value.tag())?.name.to_string();
        let line = match &self.file {
            Some((file_name, file)) if *file_name == name => file.line(key),
            _ => None,
        };
        Some((name, line))
    }

    /// A fault about `key`, with its place: where its value was written, or else where
    /// the user would have to write it, which is the nearest table that the file has.
    pub(super) fn fault(&self, key: &str, message: impl Into<String>) -> Fault {
        let nearest = || {
            let (name, file) = self.file.as_ref()?;
            Some((name.clone(), Some(file.line(key)?)))
        };
        // What is within a value that was written as one, such as a table in a variable.
        let around = || {
            let mut key = key;
            loop {
                key = key.rsplit_once('.')?.0;
                match find(&self.values, key) {
                    Some(Value::Dict(..)) => return None,
                    Some(_) => return self.origin(key),
                    None => {}
                }
            }
        };
        let (origin, line) = self
            .origin(key)
            .or_else(around)
            .or_else(nearest)
            .map_or((None, None), |(name, line)| (Some(name), line));
        Fault { origin, line, key: key.to_owned(), message: message.into() }
    }

    /// Whether somebody set `key`, and not a profile alone.
    pub(super) fn is_said(&self, key: &str) -> bool {
        self.origin(key).is_some_and(|(name, _)| !name.starts_with("profile "))
    }

    /// Whether `key` was set by an environment variable or a flag, as text.
    fn is_text(&self, value: &Value) -> bool {
        self.figment.get_metadata(value.tag()).is_some_and(|metadata| {
            metadata.name.starts_with("environment variable ") || metadata.name.starts_with("flag ")
        })
    }

    /// Variables that something above them overrides, each in a sentence.
    #[must_use]
    pub fn shadowed(&self) -> Vec<String> {
        let sentence = |setting: &Setting| {
            let (name, line) = self.origin(&setting.key)?;
            let place = place(&name, line);
            let (variable, key) = (&setting.variable, &setting.key);
            let overridden = name != setting.origin();
            overridden.then(|| {
                format!("environment variable {variable} ({key}) is overridden by {place}")
            })
        };
        self.settings.iter().filter_map(sentence).collect()
    }
}

/// As editors understand it.
fn place(name: &str, line: Option<usize>) -> String {
    line.map_or_else(|| name.to_owned(), |line| format!("{name}:{line}"))
}

fn read_file(named: Option<&Path>, faults: &mut Vec<Fault>) -> Option<(String, File)> {
    let path = match named {
        Some(path) => path,
        // A link that leads nowhere is a mistake to be told, not a file that is not there.
        None => SEARCH.iter().map(Path::new).find(|path| path.symlink_metadata().is_ok())?,
    };
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let file = File::parse(&name, &text);
            Some((name, file))
        }
        Err(error) => {
            faults.push(Fault {
                origin: Some(name),
                line: None,
                key: String::new(),
                message: format!("cannot be read: {error}"),
            });
            None
        }
    }
}

/// Decides on the profile, and says who asked for it: flag, file, variable, or a
/// legacy variable where nothing else names a protocol.
fn name_profile(
    sources: &Sources,
    values: &mut Dict,
    file: Option<&(String, File)>,
    environment: &Environment,
    faults: &mut Vec<Fault>,
) -> Option<(String, String)> {
    let written = values.remove("profile").and_then(|value| match value {
        Value::String(_, name) => Some(name),
        other => {
            faults.push(Fault {
                origin: file.map(|(name, _)| name.clone()),
                line: file.and_then(|(_, file)| file.line("profile")),
                key: "profile".into(),
                message: format!(
                    "found {}, expected a string",
                    extract::actual(&other.to_actual())
                ),
            });
            None
        }
    });
    let implied = environment.implied_profile.filter(|_| !values.contains_key("protocol"));
    let flag = sources.profile.clone().map(|name| (name, "flag --profile".to_owned()));
    flag.or_else(|| written.zip(file.map(|(name, _)| name.clone())))
        .or_else(|| {
            let name = environment.profile.clone()?;
            Some((name, "environment variable PUSHMUX_PROFILE".to_owned()))
        })
        .or_else(|| {
            let (profile, variable) = implied?;
            Some((profile.to_owned(), format!("environment variable {variable}")))
        })
}

/// One layer: a named set of values.
struct Layer {
    name: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<FigmentProfile, Dict>, figment::Error> {
        Ok(FigmentProfile::Default.collect(self.values.clone()))
    }
}

/// `auth.jwt` of `auth.jwt.leeway`.
fn section_of(key: &str) -> &str {
    key.rsplit_once('.').map_or("", |(section, _)| section)
}

fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

/// `a.b.c` and a value become nested tables.
fn nested(key: &str, value: Value) -> Dict {
    match key.split_once('.') {
        Some((first, rest)) => Dict::from([(first.to_owned(), nested(rest, value).into())]),
        None => Dict::from([(key.to_owned(), value)]),
    }
}

fn find<'a>(dict: &'a Dict, key: &str) -> Option<&'a Value> {
    let mut parts = key.split('.');
    let mut value = dict.get(parts.next()?)?;
    for part in parts {
        value = match value {
            Value::Dict(_, dict) => dict.get(part)?,
            Value::Array(_, items) => items.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}
