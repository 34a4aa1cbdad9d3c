//! A credential in, a [`Grant`] out. Providers know no HTTP and no topics' meaning.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::BoxError;
use super::bulkhead::Bulkhead;

/// Says what a credential may do.
#[async_trait]
pub trait AuthProvider: Send + Sync {
    /// Checks `credential`, byte for byte as the client sent it.
    ///
    /// # Errors
    /// [`AuthError::Denied`] when the credential is bad, [`AuthError::Unavailable`]
    /// when nobody could be asked. Neither carries any part of the credential.
    async fn authenticate(&self, credential: &str) -> Result<Arc<Grant>, AuthError>;

    /// Makes a credential worth `grant` for `lifetime`, where the provider is able to.
    ///
    /// Only providers that hold a signing key of their own can; by default none does.
    fn issue(&self, _grant: &Grant, _lifetime: Duration) -> Option<String> {
        None
    }
}

/// How long any provider may take. Those that ask somebody else have shorter limits.
const PATIENCE: Duration = Duration::from_secs(5);

/// A provider whose faults are its own.
pub(super) struct Guarded {
    pub provider: Arc<dyn AuthProvider>,
    pub bulkhead: Arc<Bulkhead>,
}

#[async_trait]
impl AuthProvider for Guarded {
    async fn authenticate(&self, credential: &str) -> Result<Arc<Grant>, AuthError> {
        // Never switched off: whoever may send a credential could bring that about.
        let asked = self.bulkhead.wait(PATIENCE, self.provider.authenticate(credential)).await;
        asked.unwrap_or_else(|fault| Err(AuthError::Unavailable(fault.into())))
    }

    fn issue(&self, grant: &Grant, lifetime: Duration) -> Option<String> {
        self.provider.issue(grant, lifetime)
    }
}

/// What a credential allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Topic names that may be published to.
    pub publish: Scope,
    /// Topic names that may be subscribed to.
    pub subscribe: Scope,
}

/// A set of topic names, without the protocol instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// No topic.
    #[default]
    Nothing,
    /// Exactly these, compared byte by byte.
    Topics(HashSet<String>),
    /// Every topic.
    Everything,
}

impl Scope {
    /// Whether `topic` is in the set.
    #[must_use]
    pub fn covers(&self, topic: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Topics(topics) => topics.contains(topic),
            Self::Everything => true,
        }
    }
}

/// Why a credential was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The credential is no good; the text says why and is safe to show to the client.
    #[error("{0}")]
    Denied(&'static str),
    /// Too many credentials from the same address were bad lately, so this one was not looked
    /// at. Holds how long that goes on. Said by
    /// [`AuthFailures`](super::auth_failures::AuthFailures), never by a provider.
    #[error("too many bad credentials came from this address (server.max_auth_failures)")]
    TooMany(Duration),
    /// The provider could not decide, for example because its data base is down.
    #[error("the auth provider is unavailable")]
    Unavailable(#[source] BoxError),
}
