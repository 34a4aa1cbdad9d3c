//! `type = "apikey"`: one secret that everybody who may connect knows.
//!
//! Keys come from a table, a file or the configuration. Those that can change are read
//! again as clients come: see [`keeper`].

mod config;
mod keeper;
mod keyring;
mod source;

use std::sync::Arc;

use async_trait::async_trait;
use tracing::{info, warn};

use crate::core::BoxError;
use crate::core::auth::{AuthError, AuthProvider, Grant, Scope};
use crate::core::config::Check;
use crate::core::plugin::{AuthCx, FromConfig, Plugin};

pub use config::Config;
use keeper::{Keeper, Policy};
use keyring::KeyRing;

pub(super) const PLUGIN: Plugin = Plugin::auth::<ApiKey>("apikey");

/// The key openITCOCKPIT is shipped with, before its installer makes a better one.
const SHIPPED: &str = "UNSAVE_DEFAULT_CHANGE_ASAP";

/// Lets in whoever has a key. A key covers every topic.
pub struct ApiKey {
    keys: Keys,
    grant: Arc<Grant>,
}

enum Keys {
    /// Those of the configuration.
    Fixed(KeyRing),
    /// Those of a place that may change.
    Kept(Keeper),
}

#[async_trait]
impl AuthProvider for ApiKey {
    async fn authenticate(&self, credential: &str) -> Result<Arc<Grant>, AuthError> {
        let denied = AuthError::Denied("the key is not valid");
        let good = match &self.keys {
            // Never a key: no reason to ask anybody.
            _ if credential.is_empty() => false,
            Keys::Fixed(ring) => ring.holds(credential.as_bytes()),
            Keys::Kept(keeper) => keeper.holds(credential.as_bytes()).await?,
        };
        if good { Ok(self.grant.clone()) } else { Err(denied) }
    }
}

impl FromConfig<AuthCx> for ApiKey {
    type Config = Config;

    fn check(config: &Config, check: &mut Check<'_>) {
        config.check(check);
    }

    async fn build(config: Config, cx: AuthCx) -> Result<Self, BoxError> {
        let keys = if let Some(ring) = config.fixed()? {
            announce(&cx.name, &ring);
            Keys::Fixed(ring)
        } else {
            let source = config.source(&cx.databases)?;
            let Config { ask_rate, cache, serve_stale, .. } = config;
            let policy = Policy { ask_rate, cache, serve_stale };
            let keeper = Keeper::start(&cx.name, source, policy, &cx.jobs);
            if cx.replaces {
                // The one before may know keys that cannot be read now.
                keeper.ready().await?;
            }
            Keys::Kept(keeper)
        };
        let grant = Grant { publish: Scope::Everything, subscribe: Scope::Everything };
        Ok(Self { keys, grant: Arc::new(grant) })
    }
}

/// Tells the operator what was read, without telling it to whoever reads the log.
fn announce(auth: &str, ring: &KeyRing) {
    match ring.len() {
        0 => warn!(auth, "There is no key: nobody is let in"),
        keys => info!(auth, keys, "Accepting keys"),
    }
    if ring.holds(SHIPPED.as_bytes()) {
        warn!(auth, "The key is {SHIPPED}, which everybody knows: change it");
    }
}
