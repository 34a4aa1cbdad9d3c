//! What became of requests and messages: counted each, logged once per change.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tracing::{debug, info, warn};

use super::queue::Bound;
use crate::core::chain;
use crate::core::metrics::{self, Lost, Metrics};

/// A receiver that fails now and then is said to work again at most this often.
const CALM: Duration = Duration::from_secs(10);

/// Counters and the state of the receiver.
pub(super) struct Outcomes {
    /// `<name>` of `[sink.<name>]`, for the log.
    pub(super) name: String,
    /// What became of messages; what became of requests is beside it.
    pub(super) messages: metrics::Sink,
    requests: metrics::Webhook,
    dropped_messages: AtomicU64,
    dropped_bytes: AtomicU64,
    /// Since when it fails, and the count of failures at that time.
    failing: Mutex<Option<(Instant, u64)>>,
}

impl Outcomes {
    pub(super) fn new(name: &str, metrics: &Metrics) -> Self {
        Self {
            name: name.to_owned(),
            messages: metrics.sink(name),
            requests: metrics.webhook(name),
            dropped_messages: AtomicU64::new(0),
            dropped_bytes: AtomicU64::new(0),
            failing: Mutex::new(None),
        }
    }

    /// A request was answered with success.
    pub(super) fn sent(&self) {
        self.requests.sent.inc();
        self.works(CALM);
    }

    /// A request was answered: its receiver is no more. That is no failure.
    pub(super) fn gone(&self) {
        self.requests.gone.inc();
        self.works(CALM);
    }

    fn works(&self, calm: Duration) {
        let mut failing = self.failing.lock();
        let Some((since, before)) = *failing else { return };
        if since.elapsed() < calm {
            return;
        }
        *failing = None;
        drop(failing);
        let failed = self.requests.failed.get() - before;
        info!(sink = self.name, failed, "Webhook works again");
    }

    /// A request failed, or could not even be made.
    pub(super) fn failed(&self, error: &(dyn Error + 'static)) {
        let before = self.requests.failed.inc();
        let mut failing = self.failing.lock();
        let first = failing.is_none();
        failing.get_or_insert_with(|| (Instant::now(), before));
        drop(failing);
        let error = chain(error);
        if first {
            warn!(sink = self.name, error, "Webhook failed; more failures are only counted");
        } else {
            debug!(sink = self.name, error, "Webhook failed");
        }
    }

    /// A message found the queue full; `first` when the one before it did not.
    pub(super) fn full(&self, bound: Bound, first: bool) {
        let (counter, key) = match bound {
            Bound::Messages => (&self.dropped_messages, "queue_messages"),
            Bound::Bytes => (&self.dropped_bytes, "queue_bytes"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.messages.dropped(Lost::QueueFull, 1);
        if first {
            warn!(sink = self.name, bound = key, "The queue is full, dropping messages");
        }
    }

    /// The queue had been full and has room again.
    pub(super) fn relieved(&self) {
        let dropped = self.dropped_messages.load(Ordering::Relaxed)
            + self.dropped_bytes.load(Ordering::Relaxed);
        info!(sink = self.name, dropped, "The queue has room again");
    }

    /// A message came when the sink had been told to end.
    pub(super) fn too_late(&self) {
        self.messages.dropped(Lost::Closed, 1);
    }

    /// A message of so many bytes waits no more: whoever it was for has it, or does not.
    pub(super) fn done(&self, delivered: bool, bytes: usize) {
        if delivered {
            self.messages.delivered(1);
        } else {
            self.messages.dropped(Lost::Failed, 1);
        }
        self.messages.left(1, bytes);
    }

    /// A message of so many bytes waited for longer than a sink that has to end may take.
    pub(super) fn given_up(&self, bytes: usize) {
        self.too_late();
        self.messages.left(1, bytes);
    }

    /// The last word, with `undelivered` messages left.
    pub(super) fn report(&self, undelivered: usize) {
        let metrics::Webhook { sent, gone, failed } = &self.requests;
        let [sent, gone, failed] = [sent, gone, failed].map(Counter::get);
        let [dropped_messages, dropped_bytes] = [&self.dropped_messages, &self.dropped_bytes]
            .map(|counter| counter.load(Ordering::Relaxed));
        let dropped_stopping = self.messages.lost(Lost::Closed);
        let sink = &self.name;
        info!(
            sink,
            sent, gone, failed, dropped_messages, dropped_bytes, dropped_stopping, "Webhook ended"
        );
        if undelivered > 0 {
            warn!(sink, undelivered, "Webhook was cut off before everything was delivered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_flickers_stays_failing_for_a_while() {
        let outcomes = Outcomes::new("x", &Metrics::default());
        let failing = || outcomes.failing.lock().is_some();
        outcomes.sent();
        assert!(!failing());
        outcomes.failed(&std::fmt::Error);
        outcomes.sent();
        assert!(failing());
        outcomes.failed(&std::fmt::Error);
        outcomes.works(Duration::ZERO);
        assert!(!failing());
    }
}
