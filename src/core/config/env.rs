//! The environment as a layer: the one place that knows variable names.
//!
//! Every key can be set as `PUSHMUX_<SECTION>__<NAME>__<KEY>`. The names below are
//! those of the servers pushmux replaces; where both are set, `PUSHMUX_…` wins.

use figment::value::Dict;

use super::fault::Fault;

/// A variable that another server gave its name.
#[derive(Debug)]
pub struct Legacy {
    /// Name of the variable.
    pub variable: &'static str,
    /// The key it sets.
    pub key: &'static str,
    /// The one value that counts, and what it stands for; any value for itself when none.
    pub when: Option<(&'static str, &'static str)>,
    /// The profile that a configuration without any protocol gets when it is set.
    pub implies: Option<&'static str>,
}

/// Names taken over from notiflux (0.2.1), from openITCOCKPIT's push server (5.7), and from
/// Rust programs in general. Later ones win.
pub const LEGACY: &[Legacy] = &[
    legacy("IS_CONTAINER", "server.host").when("1", "::"),
    legacy("HOST", "server.host"),
    legacy("PORT", "server.port"),
    legacy("WORKER_COUNT", "server.workers"),
    legacy("RUST_LOG", "log.level"),
    legacy("MYSQL_DEBUG", "database.main.debug").when("1", "true"),
    legacy("JWT_PUBLIC_KEY_B64", "auth.jwt.public_key").implies("notiflux"),
];

const fn legacy(variable: &'static str, key: &'static str) -> Legacy {
    Legacy { variable, key, when: None, implies: None }
}

impl Legacy {
    const fn when(mut self, value: &'static str, means: &'static str) -> Self {
        self.when = Some((value, means));
        self
    }

    const fn implies(mut self, profile: &'static str) -> Self {
        self.implies = Some(profile);
        self
    }
}

/// Names in one key, at most. Real keys have four; each more is a table in a table, which
/// every layer copies, and functions that call themselves go through.
const MAX_NAMES: usize = 16;

const PREFIX: &str = "PUSHMUX_";
const PROFILE: &str = "PUSHMUX_PROFILE";

/// The variable that sets `key`: the legacy name where there is one.
#[must_use]
pub fn variable(key: &str) -> String {
    let named = |legacy: &&Legacy| legacy.key == key && legacy.when.is_none();
    LEGACY.iter().find(named).map_or_else(
        || format!("{PREFIX}{}", key.replace('.', "__").to_uppercase()),
        |legacy| legacy.variable.to_owned(),
    )
}

/// One variable that sets one key. Values stay text until a key's type is known:
/// guessing would turn a key called `1e5` into a number.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub variable: String,
    pub key: String,
    pub value: String,
}

impl Setting {
    pub(super) fn origin(&self) -> String {
        format!("environment variable {}", self.variable)
    }

    pub(super) fn dict(&self) -> Dict {
        super::nested(&self.key, self.value.clone().into())
    }
}

/// What the environment says, in order of precedence, later wins. Empty variables
/// count as unset: `docker compose` passes them for `${NAME:-}`.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub profile: Option<String>,
    pub implied_profile: Option<(&'static str, &'static str)>,
    pub settings: Vec<Setting>,
    pub notes: Vec<String>,
    pub faults: Vec<Fault>,
}

impl Environment {
    pub(super) fn read(variables: &[(String, String)]) -> Self {
        let mut found = Self::default();
        let mut own = Vec::new();
        for legacy in LEGACY {
            let set =
                variables.iter().find(|(name, value)| name == legacy.variable && !value.is_empty());
            let Some((_, value)) = set else { continue };
            let value = match legacy.when {
                Some((given, _)) if value != given => continue,
                Some((_, means)) => means,
                None => value,
            };
            found.implied_profile =
                found.implied_profile.or(legacy.implies.map(|profile| (profile, legacy.variable)));
            found.settings.push(Setting {
                variable: legacy.variable.into(),
                key: legacy.key.into(),
                value: value.into(),
            });
        }
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            if value.is_empty() {
                continue;
            }
            if name == PROFILE {
                found.profile = Some(value.clone());
                continue;
            }
            let key = rest.to_lowercase().replace("__", ".");
            let names = key.split('.').count();
            if names > MAX_NAMES {
                found.faults.push(Fault {
                    origin: Some(format!("environment variable {name}")),
                    line: None,
                    key: String::new(),
                    message: format!(
                        "found a key of {names} names, expected {PREFIX}<SECTION>__<NAME>__<KEY>, {MAX_NAMES} names at most"
                    ),
                });
            } else if names > 1 {
                own.push(Setting { variable: name.clone(), key, value: value.clone() });
            } else {
                // Not a fault: for a service called `pushmux` Kubernetes puts
                // PUSHMUX_PORT and its like into every container.
                found.notes.push(format!(
                    "environment variable {name} is ignored: expected {PROFILE} or {PREFIX}<SECTION>__<NAME>__<KEY>, such as PUSHMUX_SERVER__PORT"
                ));
            }
        }
        own.sort_by(|a, b| a.variable.cmp(&b.variable));
        found.settings.extend(own);
        found.faults.sort_by(|a, b| a.origin.cmp(&b.origin));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_no_more_names_than_can_be() {
        let read = |names: usize| {
            let name = format!("{PREFIX}{}", vec!["A"; names].join("__"));
            Environment::read(&[(name, "1".to_owned())])
        };
        let most = read(MAX_NAMES);
        assert!(most.faults.is_empty() && most.settings.len() == 1, "{most:?}");
        let more = read(MAX_NAMES + 1);
        assert!(more.settings.is_empty(), "{more:?}");
        let [fault] = more.faults.as_slice() else { panic!("{more:?}") };
        let told = fault.to_string();
        assert!(told.starts_with("environment variable PUSHMUX_A__A__A"), "{told}");
        assert!(
            told.ends_with("__A: found a key of 17 names, expected PUSHMUX_<SECTION>__<NAME>__<KEY>, 16 names at most"),
            "{told}"
        );
    }
}
