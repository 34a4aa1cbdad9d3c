//! The environment as a layer: the one place that knows variable names.
//!
//! Every key can be set as `PUSHMUX_<SECTION>__<NAME>__<KEY>`. The names below are
//! those of the servers pushmux replaces; where both are set, `PUSHMUX_…` wins.

use figment::value::Dict;

/// A variable that another server gave its name.
#[derive(Debug)]
pub struct Legacy {
    /// Name of the variable.
    pub variable: &'static str,
    /// The key it sets.
    pub key: &'static str,
    /// The profile that a configuration without any protocol gets when it is set.
    pub implies: Option<&'static str>,
}

/// Names taken over from notiflux (0.2.1) and from Rust programs in general.
pub const LEGACY: &[Legacy] = &[
    Legacy { variable: "HOST", key: "server.host", implies: None },
    Legacy { variable: "PORT", key: "server.port", implies: None },
    Legacy { variable: "WORKER_COUNT", key: "server.workers", implies: None },
    Legacy { variable: "RUST_LOG", key: "log.level", implies: None },
    Legacy {
        variable: "JWT_PUBLIC_KEY_B64",
        key: "auth.jwt.public_key",
        implies: Some("notiflux"),
    },
];

const PREFIX: &str = "PUSHMUX_";
const PROFILE: &str = "PUSHMUX_PROFILE";

/// The variable that sets `key`: the legacy name where there is one.
#[must_use]
pub fn variable(key: &str) -> String {
    LEGACY.iter().find(|legacy| legacy.key == key).map_or_else(
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
}

impl Environment {
    pub(super) fn read(variables: &[(String, String)]) -> Self {
        let mut found = Self::default();
        let mut own = Vec::new();
        for legacy in LEGACY {
            let set =
                variables.iter().find(|(name, value)| name == legacy.variable && !value.is_empty());
            let Some((_, value)) = set else { continue };
            found.implied_profile =
                found.implied_profile.or(legacy.implies.map(|profile| (profile, legacy.variable)));
            found.settings.push(Setting {
                variable: legacy.variable.into(),
                key: legacy.key.into(),
                value: value.clone(),
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
            if key.contains('.') {
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
        found
    }
}
