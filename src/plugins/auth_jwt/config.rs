//! The keys of `[auth.<name>]` with `type = "jwt"`.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::keys::{KeyError, VerifyingKey};
use crate::core::config::{Check, Secret, duration};

/// `[auth.<name>]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whose signatures count: one key or several.
    pub public_key: PublicKeys,
    /// Make a key pair of one's own at start and forget it at the end. For
    /// demonstrations: whoever can ask a protocol to issue tokens gets them.
    pub generate: bool,
    /// How much clocks may differ: applies to `exp` and `nbf`.
    #[serde(with = "duration")]
    pub leeway: Duration,
    /// Accepted `aud` values. Without any, a token that names an audience is refused.
    pub audience: Vec<String>,
    /// Refuse a token before its `nbf`; notiflux does not look.
    pub check_nbf: bool,
    /// Refuse a token whose header has `crit`; notiflux does not look.
    pub reject_crit: bool,
    /// Largest token in bytes, checked before anything else.
    pub max_token_bytes: usize,
    /// How many bytes of verified tokens are remembered until they expire; 0 is none. A token
    /// takes some 800, so the default holds 20,000; only good ones get there.
    pub cache_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            public_key: PublicKeys::default(),
            generate: false,
            leeway: Duration::from_mins(1),
            audience: vec![],
            check_nbf: true,
            reject_crit: true,
            max_token_bytes: 8192,
            cache_bytes: 16 * 1024 * 1024,
        }
    }
}

impl Config {
    pub(super) fn check(&self, check: &mut Check<'_>) {
        if self.generate {
            check.can_issue();
        }
        if self.public_key.0.is_empty() && !self.generate {
            let message = format!(
                "missing: expected an EC public key (P-256) in PEM form, the same in base64, or \"file:/path/to/public.pem\"; the variable for it is {}",
                check.variable("public_key")
            );
            check.fault("public_key", &message);
        }
        for (index, error) in self.public_key.errors() {
            let key = match self.public_key.0.len() {
                1 => "public_key".to_owned(),
                _ => format!("public_key.{index}"),
            };
            check.fault(&key, &error.to_string());
        }
        // jsonwebtoken subtracts it from the present time.
        check.duration("leeway", self.leeway, Duration::ZERO..=Duration::from_hours(24));
        check.range("max_token_bytes", self.max_token_bytes, 128..=1024 * 1024);
        check.range("cache_bytes", self.cache_bytes, 0..=1 << 32);
    }
}

/// One key, or an array of keys for the time of a rotation. An array replaces the whole
/// value of the layer below, so a key that was taken out is really gone.
#[derive(Debug, Default)]
pub struct PublicKeys(Vec<PublicKey>);

/// `"PEM"`, `"base64"`, `"file:…"`, or `{ id = "…", key = "one of these" }`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicKey {
    /// Compared with a token's `kid`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    id: Option<String>,
    /// Masked although it is public: sooner or later somebody pastes the private one.
    key: Secret,
}

impl PublicKeys {
    /// Every key, parsed.
    pub(super) fn load(&self) -> Result<Vec<VerifyingKey>, KeyError> {
        self.0.iter().map(|key| VerifyingKey::load(key.id.clone(), key.key.expose())).collect()
    }

    fn errors(&self) -> impl Iterator<Item = (usize, KeyError)> {
        let load = |key: &PublicKey| VerifyingKey::load(key.id.clone(), key.key.expose());
        self.0.iter().enumerate().filter_map(move |(index, key)| Some((index, load(key).err()?)))
    }
}

impl Serialize for PublicKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [] => serializer.serialize_str(""),
            [PublicKey { id: None, key }] => key.serialize(serializer),
            keys => {
                let mut seq = serializer.serialize_seq(Some(keys.len()))?;
                for key in keys {
                    match key.id {
                        None => seq.serialize_element(&key.key)?,
                        Some(_) => seq.serialize_element(key)?,
                    }
                }
                seq.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for PublicKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = PublicKeys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key, { id, key }, or an array of these")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<PublicKeys, E> {
                if text.is_empty() {
                    return Ok(PublicKeys::default());
                }
                if text.starts_with(['[', '{']) {
                    // From a variable, which is text: core tries it as TOML next.
                    return Err(E::custom("found brackets, expected a key"));
                }
                let key = text.to_owned().into();
                Ok(PublicKeys(vec![PublicKey { id: None, key }]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PublicKeys, A::Error> {
                let key = PublicKey::deserialize(MapAccessDeserializer::new(map))?;
                Ok(PublicKeys(vec![key]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PublicKeys, A::Error> {
                let mut all = Vec::new();
                while let Some(PublicKeys(mut keys)) = seq.next_element()? {
                    all.append(&mut keys);
                }
                Ok(PublicKeys(all))
            }
        }
        deserializer.deserialize_any(Keys)
    }
}
