//! A queue with two bounds, for a fixed number of workers.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// First in, first out. Never waits to put something in.
pub(super) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    ready: Notify,
    most_messages: usize,
    most_bytes: usize,
}

struct Waiting<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    /// Something was refused since the queue was last half empty.
    overflowing: bool,
    /// Since when nothing more is taken.
    closed: Option<Instant>,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It waits; with `relieved` the queue had been full and has room again.
    Taken { relieved: bool },
    /// There is no room; `first` says that there was room before.
    Full { bound: Bound, first: bool },
    /// The queue takes nothing any more.
    Closed,
}

/// What a queue is full by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Messages,
    Bytes,
}

impl<T> Queue<T> {
    pub(super) fn new(most_messages: usize, most_bytes: usize) -> Self {
        let waiting =
            Waiting { items: VecDeque::new(), bytes: 0, overflowing: false, closed: None };
        Self { waiting: Mutex::new(waiting), ready: Notify::new(), most_messages, most_bytes }
    }

    /// Puts `item` in, if there is room. An item larger than the whole bound may wait
    /// alone: otherwise it could never be delivered.
    pub(super) fn offer(&self, item: T, bytes: usize) -> Offer {
        let mut waiting = self.waiting.lock();
        if waiting.closed.is_some() {
            return Offer::Closed;
        }
        let more = waiting.bytes.saturating_add(bytes);
        let bound = if waiting.items.len() >= self.most_messages {
            Some(Bound::Messages)
        } else if more > self.most_bytes && !waiting.items.is_empty() {
            Some(Bound::Bytes)
        } else {
            None
        };
        if let Some(bound) = bound {
            let first = !std::mem::replace(&mut waiting.overflowing, true);
            return Offer::Full { bound, first };
        }
        // Half, not one: a queue at its bound would go to and fro with every message.
        let room =
            waiting.items.len() <= self.most_messages / 2 && waiting.bytes <= self.most_bytes / 2;
        let relieved = waiting.overflowing && room;
        waiting.overflowing &= !relieved;
        waiting.items.push_back((item, bytes));
        waiting.bytes = more;
        drop(waiting);
        self.ready.notify_one();
        Offer::Taken { relieved }
    }

    /// Takes the next item with its size, waiting for one; none once the queue is closed and
    /// empty.
    pub(super) async fn take(&self) -> Option<(T, usize)> {
        loop {
            let mut ready = pin!(self.ready.notified());
            // From here on `notify_one` finds us, so nothing is missed between the look
            // and the wait.
            ready.as_mut().enable();
            {
                let mut waiting = self.waiting.lock();
                if let Some((item, bytes)) = waiting.items.pop_front() {
                    waiting.bytes -= bytes;
                    return Some((item, bytes));
                }
                if waiting.closed.is_some() {
                    return None;
                }
            }
            ready.await;
        }
    }

    /// Takes nothing any more; what waits can still be taken.
    pub(super) fn close(&self) {
        self.waiting.lock().closed.get_or_insert_with(Instant::now);
        self.ready.notify_waiters();
    }

    /// How long ago it was closed, if it was.
    pub(super) fn closed_for(&self) -> Option<Duration> {
        self.waiting.lock().closed.map(|since| since.elapsed())
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.lock().items.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const TAKEN: Offer = Offer::Taken { relieved: false };

    #[tokio::test]
    async fn bounded_in_messages_and_in_bytes_and_says_so_once() {
        let queue = Queue::new(4, 100);
        assert_eq!(queue.offer(1, 1000), TAKEN);
        assert_eq!(queue.offer(2, 1), Offer::Full { bound: Bound::Bytes, first: true });
        assert_eq!(queue.take().await, Some((1, 1000)));
        assert_eq!(queue.offer(3, 10), Offer::Taken { relieved: true });
        for number in 4..7 {
            assert_eq!(queue.offer(number, 10), TAKEN);
        }
        assert_eq!(queue.offer(7, 10), Offer::Full { bound: Bound::Messages, first: true });
        assert_eq!(queue.offer(8, 10), Offer::Full { bound: Bound::Messages, first: false });
        // One place is free: taken, but that is no relief yet.
        assert_eq!(queue.take().await, Some((3, 10)));
        assert_eq!(queue.offer(9, 10), TAKEN);
        assert_eq!(queue.offer(10, 10), Offer::Full { bound: Bound::Messages, first: false });
        assert_eq!(queue.take().await, Some((4, 10)));
        assert_eq!(queue.take().await, Some((5, 10)));
        assert_eq!(queue.offer(11, 10), Offer::Taken { relieved: true });
        assert_eq!(queue.len(), 3);
        queue.close();
        assert_eq!(queue.offer(12, 10), Offer::Closed);
        for expected in [Some(6), Some(9), Some(11), None, None] {
            assert_eq!(queue.take().await.map(|(item, _)| item), expected);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_workers_take_each_item_once_and_all_of_them() {
        let queue = Arc::new(Queue::new(usize::MAX, usize::MAX));
        let workers: Vec<_> = (0..8)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let mut taken = Vec::new();
                    while let Some((item, _)) = queue.take().await {
                        taken.push(item);
                        tokio::task::yield_now().await;
                    }
                    taken
                })
            })
            .collect();
        for item in 0..20_000 {
            assert_eq!(queue.offer(item, 1), TAKEN);
            if item % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
        queue.close();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.await.unwrap());
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(0..20_000));
    }
}
