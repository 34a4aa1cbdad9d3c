//! The whole configuration, typed and checked: what `config check`, `config show` and
//! `run` have in common.

use std::collections::{BTreeMap, HashSet};

use figment::value::{Dict, Value};

use super::config::{Admin, Draft, Fault, Faults, KINDS, Layers, Listen, Log, Names, Server};
use super::database;
use super::message::Pattern;
use super::plugin::{AuthBuild, Make, Plugin, ProtocolBuild, SinkBuild};
use super::stamp::Stamp;

/// A configuration without a fault, ready to be built.
pub struct Plan {
    /// `[server]`.
    pub server: Server,
    /// `[admin]`.
    pub admin: Admin,
    /// `[log]`.
    pub log: Log,
    pub(super) databases: Vec<(String, database::Config)>,
    pub(super) auth: Vec<(String, AuthBuild)>,
    pub(super) sinks: Vec<PlannedSink>,
    pub(super) protocols: Vec<PlannedProtocol>,
    /// What every table says, by its name, such as `auth.jwt`.
    pub(super) stamps: BTreeMap<String, Stamp>,
}

/// A sink and the topics it takes.
pub(super) struct PlannedSink {
    pub name: String,
    pub topics: Vec<Pattern>,
    /// Whether it has clients.
    pub is_live: bool,
    pub build: SinkBuild,
}

/// A protocol and where it is served.
pub(super) struct PlannedProtocol {
    pub name: String,
    /// `listen` as written, which is what protocols share, and what it says; none for the
    /// listener of `[server]`.
    pub listen: Option<(String, Listen)>,
    pub build: ProtocolBuild,
}

impl Plan {
    /// What decides on the plugin of a table and does not stand in there.
    fn inputs(&self, section: &str) -> Vec<u8> {
        let (kind, name) = section.split_once('.').unwrap_or((section, ""));
        let found = match kind {
            "database" => {
                let found = self.databases.iter().find(|(known, _)| known == name);
                found.map(|(_, config)| config.inputs())
            }
            "auth" => {
                let found = self.auth.iter().find(|(known, _)| known == name);
                found.map(|(_, build)| build.inputs.clone())
            }
            "sink" => {
                let found = self.sinks.iter().find(|sink| sink.name == name);
                found.map(|sink| sink.build.inputs.clone())
            }
            "protocol" => {
                let found = self.protocols.iter().find(|protocol| protocol.name == name);
                found.map(|protocol| protocol.build.inputs.clone())
            }
            _ => None,
        };
        found.unwrap_or_default()
    }
}

/// What a check found out.
pub struct Checked {
    plan: Plan,
    /// Every value in force, defaults included.
    pub effective: toml::Table,
    /// What is wrong; empty when the configuration can run.
    pub faults: Vec<Fault>,
}

impl Checked {
    /// The plan, when there is no fault.
    ///
    /// # Errors
    /// All faults, in the order of the file.
    pub fn plan(self) -> Result<Plan, Faults> {
        if self.faults.is_empty() { Ok(self.plan) } else { Err(Faults(self.faults)) }
    }
}

/// Types and checks every table against the plugin list.
#[must_use]
pub fn check(layers: &Layers, plugins: &[Plugin]) -> Checked {
    let mut faults = layers.faults().to_vec();
    let mut tables = tables(layers, &mut faults);
    let mut effective = toml::Table::new();
    let mut names = Names::default();
    let mut take = |key: &str| match tables.core.remove(key) {
        Some(Value::Dict(_, dict)) => dict,
        _ => Dict::new(),
    };
    let (server, admin, log) = (take("server"), take("admin"), take("log"));

    let mut table = toml::Table::new();
    let mut draft = Draft::new(layers, &names, "server", server, &mut faults, &mut table);
    let server: Server = draft.typed();
    server.check(&mut draft.check());
    effective.insert("server".into(), table.into());

    let mut table = toml::Table::new();
    let mut draft = Draft::new(layers, &names, "admin", admin, &mut faults, &mut table);
    let admin: Admin = draft.typed();
    admin.check(&mut draft.check());
    effective.insert("admin".into(), table.into());

    let mut table = toml::Table::new();
    let mut draft = Draft::new(layers, &names, "log", log, &mut faults, &mut table);
    let log: Log = draft.typed();
    log.check(&mut draft.check());
    effective.insert("log".into(), table.into());

    let mut plan = Plan {
        server,
        admin,
        log,
        databases: vec![],
        auth: vec![],
        sinks: vec![],
        protocols: vec![],
        stamps: BTreeMap::new(),
    };
    names.shared = Listen::new(&plan.server.host, plan.server.port);
    names.stop = (plan.server.shutdown_timeout, plan.server.drain_spread);
    name(&tables.plugins, plugins, &mut names);
    for entry in tables.plugins {
        let mut table = toml::Table::new();
        let path = format!("{}.{}", entry.kind, entry.name);
        let draft = Draft::new(layers, &names, &path, entry.values, &mut faults, &mut table);
        add(&mut plan, entry.kind, &entry.name, plugins, draft, layers);
        let kind = effective.entry(entry.kind).or_insert_with(|| toml::Table::new().into());
        if let Some(kind) = kind.as_table_mut() {
            kind.insert(entry.name, table.into());
        }
    }
    if plan.protocols.is_empty() && faults.is_empty() {
        faults.push(layers.fault(
            "protocol",
            "nothing to serve: no [protocol.…] is configured; add one to config.toml or choose a profile, such as --profile notiflux or --profile demo",
        ));
    }
    let host = &plan.server.host;
    let is_used = plan.protocols.iter().any(|protocol| protocol.listen.is_none());
    if is_used && !host.is_empty() && !Listen::is_host(host) {
        faults.push(layers.fault("server.host", format!("found {host:?}, expected a name or an address, such as \"127.0.0.1\", \"::\" or \"localhost\"; the port is a key of its own")));
    }
    if let Some(message) = taken_by_a_protocol(&plan, &names.shared) {
        faults.push(layers.fault("admin.listen", message));
    }
    plan.stamps = stamps(layers, &effective, &plan);
    // What a broken line leaves behind is no fault of its own.
    let broken: HashSet<_> =
        faults.iter().filter(|f| f.key.is_empty()).filter_map(|f| f.line).collect();
    faults.retain(|fault| {
        fault.key.is_empty() || !fault.line.is_some_and(|line| broken.contains(&line))
    });
    // In the order of the file; what has no line keeps its place in front.
    faults.sort_by_key(|fault| fault.line);
    Checked { plan, effective, faults }
}

/// What every table says.
fn stamps(layers: &Layers, effective: &toml::Table, plan: &Plan) -> BTreeMap<String, Stamp> {
    let mut stamps = BTreeMap::new();
    let nothing = Dict::new();
    let mut add = |section: String, table: &toml::Value| {
        let written = layers.table(&section).unwrap_or(&nothing);
        if let Some(table) = table.as_table() {
            let stamp = Stamp::new(table, written, &plan.inputs(&section));
            stamps.insert(section, stamp);
        }
    };
    for (kind, value) in effective {
        match value.as_table() {
            Some(tables) if KINDS.contains(&kind.as_str()) => {
                tables.iter().for_each(|(name, table)| add(format!("{kind}.{name}"), table));
            }
            _ => add(kind.clone(), value),
        }
    }
    stamps
}

/// Operators need a port of their own.
fn taken_by_a_protocol(plan: &Plan, shared: &Listen) -> Option<String> {
    let listen = plan.admin.listen().filter(|listen| listen.port != 0)?;
    let is_there = |protocol: &&PlannedProtocol| {
        protocol.listen.as_ref().map_or(shared, |(_, own)| own) == &listen
    };
    let protocol = &plan.protocols.iter().find(is_there)?.name;
    Some(format!(
        "found \"{listen}\", where [protocol.{protocol}] is served, expected another address"
    ))
}

/// The tables as they were written, sorted by what they configure.
#[derive(Default)]
struct Tables {
    core: Dict,
    plugins: Vec<Entry>,
}

struct Entry {
    kind: &'static str,
    name: String,
    values: Dict,
}

fn tables(layers: &Layers, faults: &mut Vec<Fault>) -> Tables {
    let mut tables = Tables::default();
    for (section, value) in layers.values() {
        let kind = KINDS.into_iter().find(|kind| kind == section);
        if kind.is_none() && !matches!(section.as_str(), "server" | "admin" | "log") {
            faults.push(layers.fault(section, unknown_section(section)));
            continue;
        }
        let Value::Dict(_, dict) = value else {
            faults.push(
                layers.fault(section, format!("found a value, expected a table: [{section}]")),
            );
            continue;
        };
        let Some(kind) = kind else {
            tables.core.insert(section.clone(), value.clone());
            continue;
        };
        for (name, value) in dict {
            let path = format!("{kind}.{name}");
            // Variables are in capitals and stand for small letters.
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
            let fault = match value {
                Value::Dict(_, values) if name.chars().all(plain) && !name.is_empty() => {
                    let values = values.clone();
                    tables.plugins.push(Entry { kind, name: name.clone(), values });
                    continue;
                }
                Value::Dict(..) => {
                    format!("found the name {name:?}, expected small letters, digits, `_` or `-`")
                }
                _ => format!("found a value, expected a table with a name: [{kind}.<name>]"),
            };
            faults.push(layers.fault(&path, fault));
        }
    }
    let order = |entry: &Entry| KINDS.iter().position(|kind| *kind == entry.kind);
    tables.plugins.sort_by_key(order);
    tables
}

fn unknown_section(name: &str) -> String {
    let core = toml::Table::try_from(Server::default()).unwrap_or_default();
    let hint =
        if core.contains_key(name) { format!(" (or server.{name}?)") } else { String::new() };
    format!(
        "unknown section `{name}`{hint}, expected one of `profile`, `server`, `admin`, `log`, `database`, `auth`, `sink`, `protocol`"
    )
}

/// Collects the names that other tables may refer to.
fn name(entries: &[Entry], plugins: &[Plugin], names: &mut Names) {
    for entry in entries {
        if entry.kind == "database" {
            names.databases.push(entry.name.clone());
            continue;
        }
        if entry.kind == "protocol" {
            names.protocols.push(entry.name.clone());
        }
        let type_name = match entry.values.get("type") {
            Some(Value::String(_, name)) => name,
            _ => &entry.name,
        };
        let plugin = plugins.iter().find(|p| p.kind() == entry.kind && p.name == type_name);
        match plugin.map(|plugin| plugin.make) {
            Some(Make::Auth(_)) => names.auth.push(entry.name.clone()),
            Some(Make::Sink { live: true, .. }) => names.live_sinks.push(entry.name.clone()),
            _ => {}
        }
    }
}

/// Drafts one plugin and adds it to the plan.
fn add(
    plan: &mut Plan,
    kind: &str,
    name: &str,
    plugins: &[Plugin],
    mut draft: Draft<'_>,
    layers: &Layers,
) {
    if kind == "database" {
        let config: database::Config = draft.typed();
        config.check(&mut draft.check());
        plan.databases.push((name.to_owned(), config));
        return;
    }
    let type_name: String = draft.take("type", name.to_owned());
    draft.effective.insert("type".into(), type_name.clone().into());
    let known = || plugins.iter().filter(|plugin| plugin.kind() == kind);
    let Some(plugin) = known().find(|plugin| plugin.name == type_name) else {
        let names: Vec<_> = known().map(|plugin| plugin.name).collect();
        let fault =
            format!("unknown {kind} type `{type_name}`, expected one of: {}", names.join(", "));
        draft.faults.push(layers.fault(&format!("{kind}.{name}.type"), fault));
        return;
    };
    match plugin.make {
        Make::Auth(make) => plan.auth.push((name.to_owned(), make(&mut draft))),
        Make::Protocol(make) => {
            let listen = take_listen(&mut draft);
            let build = make(&mut draft);
            plan.protocols.push(PlannedProtocol { name: name.to_owned(), listen, build });
        }
        Make::Sink { draft: make, live: is_live } => {
            let texts: Vec<String> = draft.take("topics", vec!["*".to_owned()]);
            let mut patterns = Vec::new();
            for (index, text) in texts.iter().enumerate() {
                let key = format!("topics.{index}");
                match Pattern::parse(text) {
                    Ok(pattern) => {
                        draft.check().pattern(&key, text, &pattern);
                        patterns.push(pattern);
                    }
                    Err(message) => draft.check().fault(&key, &message),
                }
            }
            draft.effective.insert("topics".into(), texts.into());
            let (name, build) = (name.to_owned(), make(&mut draft));
            plan.sinks.push(PlannedSink { name, topics: patterns, is_live, build });
        }
    }
}

/// Takes `listen` out of a protocol's table.
fn take_listen(draft: &mut Draft<'_>) -> Option<(String, Listen)> {
    draft.listen = draft.take("listen", String::new());
    draft.effective.insert("listen".into(), draft.listen.clone().into());
    let text = draft.listen.clone();
    if text.is_empty() {
        return None;
    }
    let listen = Listen::parse(&text);
    if listen.is_none() {
        draft.check().fault("listen", &Listen::expected(&text));
    }
    let listen = listen?;
    if listen == *draft.shared() && listen.port != 0 {
        // Said twice, meant once.
        draft.listen.clear();
        return None;
    }
    Some((text, listen))
}
