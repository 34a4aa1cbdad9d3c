//! Guessing credentials is slow: after some bad ones in a minute nothing that comes from
//! the same address is looked at for a minute.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::warn;

use super::auth::{AuthError, AuthProvider, Grant};
use super::client_address::{ClientAddress, Network};
use super::metrics::{Refusals, Refused};
use super::throttle::Throttle;

/// How long failures are counted together, and how long it takes until the next attempt
/// when they were too many.
const WINDOW: Duration = Duration::from_mins(1);

/// Addresses that are remembered. Beyond it the one that failed first is forgotten: who has
/// so many addresses gets a few more attempts with each.
const ENTRIES: usize = 10_000;

/// Counts bad credentials for each address.
pub struct AuthFailures {
    /// In a minute; 0 is no limit.
    limit: u32,
    table: Mutex<Table>,
    refused: Refusals,
    told: Throttle,
}

#[derive(Default)]
struct Table {
    entries: HashMap<Network, Entry>,
    /// The same, in the order of coming.
    order: VecDeque<Network>,
}

#[derive(Clone, Copy)]
struct Entry {
    failures: u32,
    /// The first of them; when they reached the limit, the last.
    since: Instant,
}

impl AuthFailures {
    /// With `server.max_auth_failures`.
    #[must_use]
    pub fn new(limit: u32, refused: Refusals) -> Self {
        Self { limit, table: Mutex::default(), refused, told: Throttle::default() }
    }

    /// Has `provider` judge a credential that came from `client`, unless too many from there
    /// were bad lately.
    ///
    /// # Errors
    /// Those of the provider, and [`AuthError::TooMany`]. What comes at the same moment is
    /// judged before any of it counts.
    pub async fn authenticate(
        &self,
        provider: &dyn AuthProvider,
        client: ClientAddress,
        credential: &str,
    ) -> Result<Arc<Grant>, AuthError> {
        if self.limit == 0 {
            return provider.authenticate(credential).await;
        }
        self.check(client)?;
        let judged = provider.authenticate(credential).await;
        if matches!(judged, Err(AuthError::Denied(_))) {
            self.table.lock().add(client.network(), self.limit, Instant::now());
        }
        judged
    }

    /// Whether credentials from `client` are looked at.
    ///
    /// # Errors
    /// [`AuthError::TooMany`] when they are not.
    pub fn check(&self, client: ClientAddress) -> Result<(), AuthError> {
        if self.limit == 0 {
            return Ok(());
        }
        let wait = self.table.lock().wait(client.network(), self.limit, Instant::now());
        let Some(wait) = wait else { return Ok(()) };
        self.refused.add(Refused::MaxAuthFailures);
        if let Some(more) = self.told.pass() {
            warn!(
                address = %client.0,
                limit = self.limit,
                more_before = more,
                "Too many bad credentials from one address (server.max_auth_failures), refusing without a look"
            );
        }
        Err(AuthError::TooMany(wait))
    }
}

impl Table {
    fn add(&mut self, network: Network, limit: u32, now: Instant) {
        if !self.entries.contains_key(&network) {
            if self.order.len() >= ENTRIES
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.order.push_back(network);
        }
        let entry = self.entries.entry(network).or_insert(Entry { failures: 0, since: now });
        if now - entry.since >= WINDOW {
            *entry = Entry { failures: 0, since: now };
        }
        entry.failures += 1;
        if entry.failures == limit {
            entry.since = now;
        }
    }

    /// How long nothing from there is looked at.
    fn wait(&self, network: Network, limit: u32, now: Instant) -> Option<Duration> {
        let entry = self.entries.get(&network).filter(|entry| entry.failures >= limit)?;
        WINDOW.checked_sub(now - entry.since).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::core::auth::Scope;

    /// Accepts `good`, cannot judge `later`, and counts what it is asked.
    #[derive(Default)]
    struct Door(AtomicUsize);

    #[async_trait]
    impl AuthProvider for Door {
        async fn authenticate(&self, credential: &str) -> Result<Arc<Grant>, AuthError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            match credential {
                "good" => {
                    let publish = Scope::Everything;
                    Ok(Arc::new(Grant { publish, ..Grant::default() }))
                }
                "later" => Err(AuthError::Unavailable("down".into())),
                _ => Err(AuthError::Denied("bad")),
            }
        }
    }

    /// What becomes of these that come one after the other from one address: `+` accepted,
    /// `-` denied, `?` not judged, `x` not looked at.
    async fn verdicts(limit: u32, credentials: &[&str]) -> String {
        let (door, refused) = (Door::default(), Refusals::default());
        let failures = AuthFailures::new(limit, refused.clone());
        let client = ClientAddress(std::net::Ipv4Addr::LOCALHOST.into());
        let mut told = String::new();
        for credential in credentials {
            let before = door.0.load(Ordering::Relaxed);
            let is_open = failures.check(client).is_ok();
            told.push(match failures.authenticate(&door, client, credential).await {
                Ok(grant) if grant.publish == Scope::Everything => '+',
                Err(AuthError::Denied("bad")) => '-',
                Err(AuthError::Unavailable(_)) => '?',
                Err(AuthError::TooMany(wait)) if wait <= WINDOW && !wait.is_zero() => 'x',
                other => panic!("{credential}: {other:?}"),
            });
            let asked = door.0.load(Ordering::Relaxed) - before;
            let judged = !told.ends_with('x');
            assert_eq!((asked, is_open), (usize::from(judged), judged), "{credential}: {told}");
        }
        // Both ways of asking count.
        let refusals = 2 * told.matches('x').count() as u64;
        assert_eq!(refused.count(Refused::MaxAuthFailures), refusals);
        told
    }

    #[tokio::test]
    async fn only_bad_credentials_count_and_beyond_the_limit_nobody_is_asked() {
        let some = ["bad", "good", "later", "later", "bad", "good", "bad", "good"];
        assert_eq!(verdicts(2, &some).await, "-+??-xxx");
        assert_eq!(verdicts(3, &some).await, "-+??-+-x");
        assert_eq!(verdicts(0, &some).await, "-+??-+-+", "no limit");
    }

    fn network(number: u32) -> Network {
        ClientAddress(std::net::Ipv4Addr::from(number).into()).network()
    }

    #[test]
    fn after_too_many_in_a_minute_a_minute_passes() {
        let (mut table, start) = (Table::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let (one, other) = (network(1), network(2));
        for second in [0, 10, 20] {
            assert_eq!(table.wait(one, 3, at(second)), None);
            table.add(one, 3, at(second));
        }
        assert_eq!(table.wait(one, 3, at(30)), Some(Duration::from_secs(50)));
        assert_eq!(table.wait(other, 3, at(30)), None);
        assert_eq!(table.wait(one, 3, at(80)), None, "the minute is over");
        table.add(one, 3, at(80));
        assert_eq!(table.wait(one, 3, at(80)), None, "and counting begins anew");
        // Two now and two later are not four in a minute.
        for second in [0, 1, 61, 62] {
            table.add(other, 3, at(second));
            assert_eq!(table.wait(other, 3, at(second)), None, "{second}");
        }
    }

    #[test]
    fn the_table_is_bounded_and_the_first_go() {
        let (mut table, now) = (Table::default(), Instant::now());
        for number in 0..=ENTRIES {
            table.add(network(u32::try_from(number).unwrap()), 1, now);
        }
        assert_eq!((table.entries.len(), table.order.len()), (ENTRIES, ENTRIES));
        assert_eq!(table.wait(network(0), 1, now), None);
        assert_eq!(table.wait(network(1), 1, now), Some(WINDOW));
    }
}
