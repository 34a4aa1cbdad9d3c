//! Keys that may change, read as clients come.
//!
//! One task does all the reading, so there is never more than one reading at a time, and
//! a client that goes away does not end what others wait for. Clients say how fresh a
//! reading they need and wait for one that **began** no earlier than that:
//!
//! * Up to [`Policy::ask_rate`] clients in a second need one that began after they came.
//!   So a key that was changed counts from the next client on, and the old one no more.
//! * When more come, as after a restart or when somebody is guessing, one that is at most
//!   [`Policy::cache`] old will do: the source is asked once in that time, however many
//!   come, whether their keys are good or not.
//! * While the source fails, the keys last read go on counting for
//!   [`Policy::serve_stale`], and nobody waits. The task tries again by itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::keyring::KeyRing;
use super::source::{ReadKeys, SourceError};
use crate::core::auth::AuthError;
use crate::core::chain;
use crate::core::plugin::Jobs;

/// How long a client waits for a reading before the keys last read must do.
const PATIENCE: Duration = Duration::from_secs(1);

/// Time from the beginning of a reading to that of the next. Of those who come together the
/// first one waits for its own reading alone, and all others share the next.
const GAP: Duration = Duration::from_millis(20);

/// Time from a failure to the next try: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// How many clients share a reading, and for how long.
#[derive(Clone, Copy)]
pub(super) struct Policy {
    /// Clients in a second that get a reading of their own.
    pub(super) ask_rate: usize,
    /// How old a reading may be for the others.
    pub(super) cache: Duration,
    /// How old when no newer one can be had.
    pub(super) serve_stale: Duration,
}

/// The clients' side.
pub(super) struct Keeper {
    policy: Policy,
    /// When the last clients came, at most `ask_rate` of them.
    arrivals: Mutex<VecDeque<Instant>>,
    /// The moment after which a reading must begin for the client most in need.
    wanted: watch::Sender<Instant>,
    known: watch::Receiver<Known>,
}

/// What the readings have shown so far.
#[derive(Clone, Default)]
struct Known {
    /// The last reading that worked, and when it began.
    last: Option<(Instant, Arc<KeyRing>)>,
    /// Set while readings fail.
    failure: Option<Failure>,
}

#[derive(Clone)]
struct Failure {
    /// When the first of them failed.
    since: Instant,
    error: Arc<SourceError>,
}

/// Why no credential can be judged.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    #[error("the keys cannot be read")]
    Failed(#[source] Arc<SourceError>),
    #[error("the keys were not read within {PATIENCE:?}")]
    Late,
    #[error("the server is stopping")]
    Stopped,
}

impl Keeper {
    /// Begins to read.
    pub(super) fn start(auth: &str, source: impl ReadKeys, policy: Policy, jobs: &Jobs) -> Self {
        let (wanted, wishes) = watch::channel(Instant::now());
        let (told, known) = watch::channel(Known::default());
        let reader = Reader { auth: auth.to_owned(), source, wishes, told };
        let stop = jobs.clone();
        jobs.spawn(async move {
            tokio::select! {
                () = stop.stopping() => {}
                () = reader.run() => {}
            }
        });
        Self { policy, arrivals: Mutex::default(), wanted, known }
    }

    /// Waits for the first reading.
    ///
    /// # Errors
    /// When it fails.
    pub(super) async fn ready(&self) -> Result<(), Unknown> {
        let mut known = self.known.clone();
        let read = |known: &Known| known.last.is_some() || known.failure.is_some();
        let found = known.wait_for(read).await.map_err(|_| Unknown::Stopped)?;
        found.failure.as_ref().map_or(Ok(()), |failure| Err(Unknown::Failed(failure.error.clone())))
    }

    /// Whether `credential` is a key.
    pub(super) async fn holds(&self, credential: &[u8]) -> Result<bool, AuthError> {
        let now = Instant::now();
        let needed = if self.is_calm(now) { now } else { before(now, self.policy.cache) };
        let known = match timeout(PATIENCE, self.known_since(needed)).await {
            Ok(known) => known.map_err(unavailable)?,
            Err(_) => return self.held_before(now, Unknown::Late, credential),
        };
        match (known.failure, known.last) {
            (None, Some((_, ring))) => Ok(ring.holds(credential)),
            (Some(Failure { since, error }), _) => {
                self.held_before(since, Unknown::Failed(error), credential)
            }
            (None, None) => Err(unavailable(Unknown::Late)),
        }
    }

    /// Whether `credential` was a key when they could last be read, before `since`. One
    /// that was not may have become one: about that nothing can be said.
    fn held_before(
        &self,
        since: Instant,
        why: Unknown,
        credential: &[u8],
    ) -> Result<bool, AuthError> {
        let young = since > before(Instant::now(), self.policy.serve_stale);
        let known = self.known.borrow();
        match &known.last {
            Some((_, ring)) if young && ring.holds(credential) => Ok(true),
            _ => Err(unavailable(why)),
        }
    }

    /// Waits for a reading that began at `needed` or later, or for a failure.
    async fn known_since(&self, needed: Instant) -> Result<Known, Unknown> {
        self.wanted.send_if_modified(|wanted| {
            let more = needed > *wanted;
            *wanted = needed.max(*wanted);
            more
        });
        let fresh = |known: &Known| {
            let since = known.last.as_ref().is_some_and(|(began, _)| *began >= needed);
            since || known.failure.is_some()
        };
        let mut known = self.known.clone();
        let found = known.wait_for(fresh).await.map_err(|_| Unknown::Stopped)?;
        Ok(found.clone())
    }

    /// Whether so few came within the last second that each may have a reading.
    fn is_calm(&self, now: Instant) -> bool {
        let most = self.policy.ask_rate;
        let mut arrivals = self.arrivals.lock();
        let second_ago = before(now, Duration::from_secs(1));
        let calm = if arrivals.len() < most {
            true
        } else {
            // The one that came `most` clients ago.
            arrivals.pop_front().is_some_and(|first| first < second_ago)
        };
        if most > 0 {
            arrivals.push_back(now);
        }
        calm
    }
}

/// The source's side.
struct Reader<S> {
    auth: String,
    source: S,
    wishes: watch::Receiver<Instant>,
    told: watch::Sender<Known>,
}

impl<S: ReadKeys> Reader<S> {
    /// Reads at once, and then whenever somebody needs it.
    async fn run(mut self) {
        loop {
            let began = self.read().await;
            sleep_until(began + GAP).await;
            // Clients that came since then may need another reading, but only one.
            if self.wishes.wait_for(|wanted| *wanted > began).await.is_err() {
                return;
            }
        }
    }

    /// Reads until it works; says when that reading began.
    async fn read(&self) -> Instant {
        let (mut pause, longest) = RETRY;
        loop {
            let began = Instant::now();
            match self.source.read().await {
                Ok(ring) => {
                    self.succeeded(began, ring);
                    return began;
                }
                Err(error) => self.failed(error),
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    fn succeeded(&self, began: Instant, ring: KeyRing) {
        let before = self.told.borrow().clone();
        if before.failure.is_some() {
            info!(auth = self.auth, "The keys can be read again");
        }
        let same = before.last.map(|(_, old)| old).filter(|old| **old == ring);
        let ring = same.unwrap_or_else(|| {
            super::announce(&self.auth, &ring);
            Arc::new(ring)
        });
        self.told.send_replace(Known { last: Some((began, ring)), failure: None });
    }

    fn failed(&self, error: SourceError) {
        let Known { last, failure } = self.told.borrow().clone();
        if failure.is_none() {
            let (auth, error) = (&self.auth, chain(&error));
            let until_then = if last.is_some() { "the last ones count" } else { "nobody gets in" };
            warn!(auth, error, until_then, "Cannot read the keys, trying again");
        }
        let since = failure.map_or_else(Instant::now, |failure| failure.since);
        let failure = Some(Failure { since, error: Arc::new(error) });
        self.told.send_replace(Known { last, failure });
    }
}

/// `time` before `now`; `now` when there was no such moment.
fn before(now: Instant, time: Duration) -> Instant {
    now.checked_sub(time).unwrap_or(now)
}

fn unavailable(why: Unknown) -> AuthError {
    AuthError::Unavailable(why.into())
}

#[cfg(test)]
mod tests;
