//! A stop that clients can bear: who has to know that one has begun, and whose turn it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Whether the server has begun to stop, for whoever tells others not to come any more.
/// Clones are the same flag.
#[derive(Clone, Debug, Default)]
pub struct Draining(Arc<AtomicBool>);

impl Draining {
    /// True from the first moment of a stop on, before a port is closed.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Turns of connections that are to end one after the other, evenly spread: clients come
/// back as soon as they have lost one, and all at once would be a wave.
#[derive(Debug)]
pub struct Turns {
    start: Instant,
    over: Duration,
    /// Time between two turns.
    gap: Duration,
    taken: AtomicU32,
}

impl Turns {
    /// Turns for so many connections, the first of them now and all within `over`.
    #[must_use]
    pub fn new(over: Duration, connections: usize) -> Self {
        let connections = u32::try_from(connections).unwrap_or(u32::MAX).max(1);
        let (start, gap) = (Instant::now(), over / connections);
        Self { start, over, gap, taken: AtomicU32::new(0) }
    }

    /// When the connection that asks has to end. Who was not counted has the last turn.
    pub fn next(&self) -> Instant {
        let turn = self.taken.fetch_add(1, Ordering::Relaxed);
        self.start + self.gap.saturating_mul(turn).min(self.over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_evenly_spread_and_nobody_is_left_over() {
        let start = Instant::now();
        let turns = |over, connections, asked| -> Vec<_> {
            let turns = Turns::new(Duration::from_millis(over), connections);
            (0..asked).map(|_| (turns.next() - start).as_millis()).collect()
        };
        assert_eq!(turns(1000, 4, 6), [0, 250, 500, 750, 1000, 1000]);
        assert_eq!(turns(1000, 1, 1), [0]);
        assert_eq!(turns(1000, 0, 2), [0, 1000]);
        assert_eq!(turns(0, 3, 3), [0, 0, 0]);
        let all = turns(500, 10_000, 10_000);
        let in_first_half = all.iter().filter(|turn| **turn < 250).count();
        assert_eq!(in_first_half, 5_000);
    }
}
