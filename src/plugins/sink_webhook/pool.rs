//! The queue and its workers: whatever a target is, it is reached from here.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;

use super::Config;
use super::outcome::Outcomes;
use super::queue::{Offer, Queue};
use crate::core::admission::Admission;
use crate::core::message::{Message, Topic};
use crate::core::plugin::Jobs;
use crate::core::sink::{Delivery, Receipt, Sink};

/// How long a sink may send what waits when it has been told to stop. A stop of the server is
/// over before (`server.shutdown_timeout`, an hour at most); this is for one that a reload
/// replaced, perhaps since its receiver is gone for good.
const LAST_WORDS: Duration = Duration::from_hours(1);

/// What messages are sent to.
pub(super) trait Target: Send + Sync + 'static {
    /// A message as it waits.
    type Item: Send + 'static;

    /// The message as it waits, and its size; none when it is not for this target.
    fn item(&self, message: &Message) -> Option<(Self::Item, usize)>;

    /// Sends an item and tells `outcomes` about every request. Bounded in time. True when
    /// nothing failed.
    fn deliver(&self, item: Self::Item, outcomes: &Outcomes) -> impl Future<Output = bool> + Send;

    /// See [`Sink::reaches_offline`].
    fn reaches_offline(&self) -> bool {
        false
    }
}

/// A sink around a target.
pub(super) struct Pool<T: Target>(Arc<Shared<T>>);

struct Shared<T: Target> {
    target: T,
    queue: Queue<T::Item>,
    /// Messages that a worker has taken and not finished.
    taken: AtomicUsize,
    outcomes: Arc<Outcomes>,
}

impl<T: Target> Pool<T> {
    /// Starts the workers. When the server stops they send what waits, and end.
    pub(super) fn start(target: T, config: &Config, outcomes: Arc<Outcomes>, jobs: &Jobs) -> Self {
        let queue = Queue::new(config.queue_messages, config.queue_bytes);
        let shared = Arc::new(Shared { target, queue, taken: AtomicUsize::new(0), outcomes });
        let report = Arc::new(Report(shared.clone()));
        for _ in 0..config.concurrency {
            jobs.spawn(work(report.clone()));
        }
        let stopping = jobs.clone();
        jobs.spawn(async move {
            stopping.stopping().await;
            report.0.queue.close();
        });
        Self(shared)
    }
}

async fn work<T: Target>(report: Arc<Report<T>>) {
    let shared = &report.0;
    while let Some((item, bytes)) = shared.queue.take().await {
        if shared.queue.closed_for().is_some_and(|time| time > LAST_WORDS) {
            shared.outcomes.given_up(bytes);
            continue;
        }
        shared.taken.fetch_add(1, Ordering::Relaxed);
        // A fault in here costs this message, and no worker.
        let delivered = AssertUnwindSafe(shared.target.deliver(item, &shared.outcomes));
        let delivered = delivered.catch_unwind().await;
        shared.outcomes.done(delivered.unwrap_or(false), bytes);
        shared.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Target> Sink for Pool<T> {
    fn deliver(&self, message: &Arc<Message>, _: &Admission) -> Receipt {
        let Some((item, bytes)) = self.0.target.item(message) else {
            return Receipt::default();
        };
        let outcomes = &self.0.outcomes;
        outcomes.messages.matched(1);
        match self.0.queue.offer(item, bytes) {
            Offer::Taken { relieved } => {
                outcomes.messages.queued(1, bytes);
                if relieved {
                    outcomes.relieved();
                }
                return Delivery { accepted: 1, dropped: 0 }.into();
            }
            Offer::Full { bound, first } => outcomes.full(bound, first),
            Offer::Closed => outcomes.too_late(),
        }
        Delivery { accepted: 0, dropped: 1 }.into()
    }

    fn reaches_offline(&self, _topic: &Topic) -> bool {
        self.0.target.reaches_offline()
    }
}

/// Held by every task of the pool; the last one to end, or to be cut off, lets go of it.
struct Report<T: Target>(Arc<Shared<T>>);

impl<T: Target> Drop for Report<T> {
    fn drop(&mut self) {
        let Shared { queue, taken, outcomes, .. } = &*self.0;
        // A server that never ran has nothing to tell.
        if queue.closed_for().is_some() {
            outcomes.report(queue.len() + taken.load(Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::core::message::{Audience, Frame};
    use crate::core::metrics::{Lost, Metrics};

    /// A receiver that needs so long for each message, and does not bear one of them.
    struct Receiver(Duration);

    impl Target for Receiver {
        type Item = Frame;

        fn item(&self, message: &Message) -> Option<(Frame, usize)> {
            Some((message.frame.clone(), message.frame.as_bytes().len()))
        }

        async fn deliver(&self, item: Frame, _: &Outcomes) -> bool {
            assert_ne!(item.as_str(), "unbearable");
            sleep(self.0).await;
            true
        }
    }

    fn start(needs: Duration, jobs: &Jobs) -> (Pool<Receiver>, Metrics) {
        let config = Config { concurrency: 1, ..Config::default() };
        let metrics = Metrics::default();
        let outcomes = Arc::new(Outcomes::new("hook", &metrics));
        (Pool::start(Receiver(needs), &config, outcomes, jobs), metrics)
    }

    /// Messages that were delivered, failed, came or stayed too late, and still wait.
    fn books(metrics: &Metrics) -> [u64; 4] {
        let (text, sink) = (metrics.text(), metrics.sink("hook"));
        let told = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok()).unwrap()
        };
        [
            told("pushmux_sink_delivered_total{sink=\"hook\"}"),
            sink.lost(Lost::Failed),
            sink.lost(Lost::Closed),
            told("pushmux_sink_waiting_messages{sink=\"hook\"}"),
        ]
    }

    async fn offer(pool: &Pool<Receiver>, text: &'static str) {
        let message = Message {
            id: 1,
            topic: Topic::new("test", "t"),
            audience: Audience::Everyone,
            frame: text.into(),
            data: serde_json::Value::Null,
        };
        let receipt = pool.deliver(&Arc::new(message), &Admission::default());
        assert_eq!(receipt.settled().await, Delivery { accepted: 1, dropped: 0 });
    }

    #[tokio::test]
    async fn a_panic_costs_its_message_and_no_worker() {
        let jobs = Jobs::default();
        let (pool, metrics) = start(Duration::ZERO, &jobs);
        for text in ["unbearable", "fine", "unbearable", "unbearable", "fine"] {
            offer(&pool, text).await;
        }
        jobs.end().await;
        assert_eq!(books(&metrics), [2, 3, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_was_replaced_gives_up_after_an_hour() {
        let jobs = Jobs::default();
        let (pool, metrics) = start(Duration::from_mins(1), &jobs);
        for _ in 0..1000 {
            offer(&pool, "text").await;
        }
        let start = Instant::now();
        jobs.end().await;
        // The message that was under way then is the last one.
        assert_eq!(start.elapsed().as_secs(), 61 * 60);
        assert_eq!(books(&metrics), [61, 0, 939, 0]);
    }
}
