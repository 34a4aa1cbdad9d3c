//! `type = "jwt"`: ES256 tokens with `sub`, `exp`, `topics` and `scope`, as notiflux
//! defines them.

mod config;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod keys;
pub mod token;
mod verify;
#[cfg(test)]
mod wycheproof;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tracing::info;

use crate::core::BoxError;
use crate::core::auth::{AuthError, AuthProvider, Grant, Scope};
use crate::core::config::Check;
use crate::core::plugin::{AuthCx, FromConfig, Plugin};

pub use config::Config;
use keys::{KeyPair, VerifyingKey};
use token::{Claims, TokenScope};
use verify::Verifier;

pub(super) const PLUGIN: Plugin = Plugin::auth::<Jwt>("jwt");

/// Verifies tokens; with `generate = true` it also makes them.
pub struct Jwt {
    verifier: Verifier,
    /// The throw-away pair of `generate = true`.
    pair: Option<KeyPair>,
}

#[async_trait]
impl AuthProvider for Jwt {
    async fn authenticate(&self, credential: &str) -> Result<Arc<Grant>, AuthError> {
        self.verifier.verify(credential)
    }

    fn issue(&self, grant: &Grant, lifetime: Duration) -> Option<String> {
        let pair = self.pair.as_ref()?;
        // A token has one scope; the demo, which is who asks, wants one at a time.
        let (scope, topics) = match (&grant.subscribe, &grant.publish) {
            (Scope::Topics(topics), Scope::Nothing) => (TokenScope::Subscribe, topics),
            (Scope::Nothing, Scope::Topics(topics)) => (TokenScope::Broadcast, topics),
            _ => return None,
        };
        let claims = Claims::new(scope, topics.iter().cloned().collect(), lifetime);
        pair.sign(&claims).ok()
    }
}

impl FromConfig<AuthCx> for Jwt {
    type Config = Config;

    fn check(config: &Config, check: &mut Check<'_>) {
        config.check(check);
    }

    /// The keys themselves, which may be in files.
    fn inputs(config: &Config) -> Vec<u8> {
        let keys = config.public_key.load().unwrap_or_default();
        keys.into_iter().map(|key| key.fingerprint).collect::<String>().into_bytes()
    }

    async fn build(config: Config, cx: AuthCx) -> Result<Self, BoxError> {
        let mut keys = config.public_key.load()?;
        let pair = if config.generate { Some(KeyPair::generate()?) } else { None };
        if let Some(pair) = &pair {
            keys.push(VerifyingKey::parse(None, &pair.public_pem()?)?);
        }
        for key in &keys {
            info!(
                auth = cx.name,
                id = key.id.as_deref(),
                fingerprint = key.fingerprint,
                "Accepting tokens signed by this key"
            );
        }
        Ok(Self { verifier: Verifier::new(&config, keys), pair })
    }
}
