//! What auth providers say.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prometheus_client::metrics::counter::Counter;

use super::families::{Counters, Families, labels};
use crate::core::auth::{AuthError, AuthProvider, Grant};

/// Credentials of one provider by what was said of them.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    auth: String,
    accepted: Counter,
    unavailable: Counter,
    /// By reason as well: the fixed sentences of the provider.
    denied: Counters<3>,
}

impl Verdicts {
    pub(super) fn new(families: &Families, auth: &str) -> Self {
        let verdict = |verdict| {
            let labels = labels(["auth", "verdict", "reason"], [auth, verdict, ""]);
            families.verdicts.get_or_create_owned(&labels)
        };
        Self {
            auth: auth.to_owned(),
            accepted: verdict("accepted"),
            unavailable: verdict("unavailable"),
            denied: families.verdicts.clone(),
        }
    }

    fn add(&self, verdict: &Result<Arc<Grant>, AuthError>) {
        match verdict {
            Ok(_) => self.accepted.inc(),
            // The second is never said by a provider, and so never here.
            Err(AuthError::Unavailable(_) | AuthError::TooMany(_)) => self.unavailable.inc(),
            Err(AuthError::Denied(reason)) => {
                let names = ["auth", "verdict", "reason"];
                let labels = labels(names, [&self.auth, "denied", reason]);
                self.denied.get_or_create(&labels).inc()
            }
        };
    }
}

/// A provider whose verdicts are counted.
pub(in crate::core) struct Counted {
    pub(in crate::core) provider: Arc<dyn AuthProvider>,
    pub(in crate::core) verdicts: Verdicts,
}

#[async_trait]
impl AuthProvider for Counted {
    async fn authenticate(&self, credential: &str) -> Result<Arc<Grant>, AuthError> {
        let verdict = self.provider.authenticate(credential).await;
        self.verdicts.add(&verdict);
        verdict
    }

    fn issue(&self, grant: &Grant, lifetime: Duration) -> Option<String> {
        self.provider.issue(grant, lifetime)
    }
}
