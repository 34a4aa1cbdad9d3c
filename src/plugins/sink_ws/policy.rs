//! What may wait for a connection, in a place that all of them look at and a reload can
//! change. Looked at with each message for each client: so plain loads, no lock.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use super::config::{Config, WhenFull};
use super::queue::Bounds;

/// See the module. While a reload changes it, some connection may see one key of the old
/// configuration beside one of the new: both are bounds that somebody wanted.
#[derive(Debug, Default)]
pub(super) struct Policy {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    when_full: AtomicU8,
}

/// All of them, in the order of their numbers.
const WHEN_FULL: [WhenFull; 3] = [WhenFull::Disconnect, WhenFull::DropNewest, WhenFull::DropOldest];

impl Policy {
    pub(super) fn new(config: &Config) -> Self {
        let policy = Self::default();
        policy.set(config);
        policy
    }

    pub(super) fn set(&self, config: &Config) {
        self.messages.store(config.queue_messages, Ordering::Relaxed);
        self.bytes.store(config.queue_bytes, Ordering::Relaxed);
        let number = WHEN_FULL.iter().zip(0..).find(|(it, _)| **it == config.when_full);
        self.when_full.store(number.map_or(0, |(_, number)| number), Ordering::Relaxed);
    }

    pub(super) fn when_full(&self) -> WhenFull {
        let number = usize::from(self.when_full.load(Ordering::Relaxed));
        WHEN_FULL.get(number).copied().unwrap_or(WhenFull::Disconnect)
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            oldest_goes: self.when_full() == WhenFull::DropOldest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_what_counts() {
        let policy = Policy::new(&Config::default());
        for when_full in WHEN_FULL {
            policy.set(&Config {
                queue_messages: 3,
                queue_bytes: 4,
                when_full,
                ..Config::default()
            });
            let Bounds { messages, bytes, oldest_goes } = policy.bounds();
            assert_eq!((messages, bytes, policy.when_full()), (3, 4, when_full));
            assert_eq!(oldest_goes, when_full == WhenFull::DropOldest);
        }
    }
}
