//! A connection as the session and the hub see it: a receiver of topics.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::Shared;
use super::batch::Batch;
use super::outbox::Outbox;
use super::queue::{Left, Refused};
use super::wire;
use crate::core::hub::Seat;
use crate::core::message::{Frame, Topic};
use crate::core::metrics::Lost;
use crate::core::session::{Client, Device};

/// See the module. Leaves every topic when dropped.
pub(super) struct Member {
    pub(super) shared: Arc<Shared>,
    pub(super) outbox: Arc<Outbox>,
    topics: HashMap<Topic, Seat<Arc<Outbox>>>,
}

impl Member {
    pub(super) fn new(shared: Arc<Shared>, outbox: Arc<Outbox>) -> Self {
        Self { shared, outbox, topics: HashMap::new() }
    }

    fn offer(&self, frame: Bytes) {
        let offer = self.outbox.offer(&Batch::aside(frame));
        if offer.refused == Some(Refused::Full) {
            self.shared.metrics.replies_dropped.inc();
        }
    }

    /// Counts what became of messages that had waited.
    pub(super) fn count(&self, left: Left) {
        let messages = &self.shared.metrics.messages;
        messages.delivered(left.written);
        messages.dropped(Lost::Disconnected, left.lost);
        messages.left(left.written + left.lost, left.bytes);
    }
}

impl Client for Member {
    fn identify(&mut self, device: Device) {
        let _ = self.outbox.device.set(device);
    }

    fn subscribe(&mut self, topic: Topic) {
        if let Entry::Vacant(vacant) = self.topics.entry(topic) {
            let seat = self.shared.hub.join(vacant.key(), self.outbox.id, self.outbox.clone());
            vacant.insert(seat);
            self.shared.metrics.subscriptions.add(1);
        }
    }

    fn unsubscribe(&mut self, topic: &Topic) -> bool {
        let seat = self.topics.remove(topic);
        if let Some(seat) = &seat {
            self.shared.hub.leave(topic, self.outbox.id, seat);
            self.shared.metrics.subscriptions.sub(1);
        }
        seat.is_some()
    }

    fn unsubscribe_all(&mut self) {
        self.shared.metrics.subscriptions.sub(self.topics.len());
        for (topic, seat) in self.topics.drain() {
            self.shared.hub.leave(&topic, self.outbox.id, &seat);
        }
    }

    fn subscriptions(&self) -> usize {
        self.topics.len()
    }

    fn is_subscribed(&self, topic: &Topic) -> bool {
        self.topics.contains_key(topic)
    }

    fn send(&mut self, frame: Frame) {
        self.offer(wire::text(frame.as_bytes()));
    }

    fn send_binary(&mut self, bytes: &[u8]) {
        self.offer(wire::binary(bytes));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.unsubscribe_all();
        // Whoever still has a hand on the outbox is refused from here on, so that nothing
        // waits that nobody is going to write or count.
        self.count(self.outbox.give_up());
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
