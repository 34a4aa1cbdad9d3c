//! The queue and its workers: whatever a target is, it is reached from here.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;

use super::Config;
use super::outcome::Outcomes;
use super::queue::{Offer, Queue};
use crate::core::admission::Admission;
use crate::core::message::{Message, Topic};
use crate::core::plugin::Jobs;
use crate::core::sink::{Delivery, Receipt, Sink};

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
        if queue.is_closed() {
            outcomes.report(queue.len() + taken.load(Ordering::Relaxed));
        }
    }
}
