//! The books of a sink: what is for somebody is delivered, dropped, or waits.

use prometheus_client::metrics::counter::Counter;

use super::families::{Families, Level, label, labels};

/// Why a receiver did not get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Its queue was full.
    QueueFull,
    /// The message waited in its full queue, and newer ones took its place.
    Evicted,
    /// It was ending already when the message came, or for too long while it waited.
    Closed,
    /// It ended before what waited for it was written.
    Disconnected,
    /// It was tried, and failed.
    Failed,
    /// The sink is switched off after too many faults.
    PluginOff,
}

impl Lost {
    const ALL: [(Self, &'static str); 6] = [
        (Self::QueueFull, "queue_full"),
        (Self::Evicted, "evicted"),
        (Self::Closed, "closed"),
        (Self::Disconnected, "disconnected"),
        (Self::Failed, "failed"),
        (Self::PluginOff, "plugin_off"),
    ];
}

/// One line for each receiver and message: **matched = delivered + dropped + waiting**, but
/// for messages that are being handed over at the moment.
///
/// Calls add up what they are given: tell each message or batch once, not each receiver.
#[derive(Clone, Debug, Default)]
pub struct Sink {
    matched: Counter,
    delivered: Counter,
    dropped: [Counter; Lost::ALL.len()],
    waiting: Level,
    waiting_bytes: Level,
}

impl Sink {
    pub(super) fn new(families: &Families, name: &str) -> Self {
        let own = label("sink", name);
        Self {
            matched: families.matched.get_or_create_owned(&own),
            delivered: families.delivered.get_or_create_owned(&own),
            dropped: Lost::ALL.map(|(_, reason)| {
                let labels = labels(["sink", "reason"], [name, reason]);
                families.dropped.get_or_create_owned(&labels)
            }),
            waiting: families.waiting.get_or_create_owned(&own),
            waiting_bytes: families.waiting_bytes.get_or_create_owned(&own),
        }
    }

    /// Messages for so many receivers came.
    pub fn matched(&self, receivers: usize) {
        add(&self.matched, receivers);
    }

    /// So many receivers have a message whole: it is written to their socket, or they said so.
    pub fn delivered(&self, receivers: usize) {
        add(&self.delivered, receivers);
    }

    /// So many receivers will not get a message.
    pub fn dropped(&self, why: Lost, receivers: usize) {
        add(&self.dropped[why as usize], receivers);
    }

    /// So many messages began to wait.
    pub fn queued(&self, messages: usize, bytes: usize) {
        if messages > 0 || bytes > 0 {
            self.waiting.add(messages);
            self.waiting_bytes.add(bytes);
        }
    }

    /// So many wait no longer: each is delivered or dropped, which is to be said as well.
    pub fn left(&self, messages: usize, bytes: usize) {
        if messages > 0 || bytes > 0 {
            self.waiting.sub(messages);
            self.waiting_bytes.sub(bytes);
        }
    }

    /// How many were dropped for this reason so far.
    #[must_use]
    pub fn lost(&self, why: Lost) -> u64 {
        self.dropped[why as usize].get()
    }
}

fn add(counter: &Counter, receivers: usize) {
    if receivers > 0 {
        counter.inc_by(receivers as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        let sink = Sink::default();
        for (count, (why, _)) in Lost::ALL.into_iter().enumerate() {
            sink.dropped(why, count + 1);
        }
        for (count, (why, name)) in (1..).zip(Lost::ALL) {
            assert_eq!(sink.lost(why), count, "{name}");
        }
    }
}
