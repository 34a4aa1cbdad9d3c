//! Clients on the line.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::families::{Families, Level, label, labels};
use super::sink::Sink;

/// A sink with clients on the line.
#[derive(Clone, Debug)]
pub struct LiveSink {
    /// What becomes of messages.
    pub messages: Sink,
    /// Topics of each client, added up.
    pub subscriptions: Level,
    /// Answers to one client alone that found its queue full. They are no messages, and are
    /// in none of the books of [`Sink`].
    pub replies_dropped: Counter,
    fan_out: Histogram,
}

impl Default for LiveSink {
    fn default() -> Self {
        Self {
            messages: Sink::default(),
            subscriptions: Level::default(),
            replies_dropped: Counter::default(),
            fan_out: Histogram::new([]),
        }
    }
}

impl LiveSink {
    pub(super) fn new(families: &Families, name: &str) -> Self {
        let own = label("sink", name);
        Self {
            messages: Sink::new(families, name),
            subscriptions: families.subscriptions.get_or_create_owned(&own),
            replies_dropped: families.replies_dropped.get_or_create_owned(&own),
            fan_out: families.fan_out.get_or_create_owned(&own),
        }
    }

    /// How long a message took until each receiver had it, written or queued; of messages
    /// that left together the one that waited longest.
    pub fn fan_out(&self, took: Duration) {
        self.fan_out.observe(took.as_secs_f64());
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// With Close frames, or as the protocol ends it.
    Closed,
    /// The socket broke, or the client left without a word.
    Lost,
    /// Nothing was heard for too long.
    Silent,
    /// The client did not read what waited for it in time.
    Stuck,
    /// The client did not read, and its queue was full.
    Slow,
    /// The client did not answer a Close frame in time.
    Unanswered,
    /// The client broke the protocol.
    Refused,
    /// A fault of this server.
    Failed,
    /// Its task was cut off.
    #[default]
    Aborted,
}

impl End {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Closed, "closed"),
        (Self::Lost, "lost"),
        (Self::Silent, "silent"),
        (Self::Stuck, "stuck"),
        (Self::Slow, "slow"),
        (Self::Unanswered, "unanswered"),
        (Self::Refused, "refused"),
        (Self::Failed, "failed"),
        (Self::Aborted, "aborted"),
    ];
}

/// The WebSocket connections of one protocol.
#[derive(Debug, Default)]
pub struct Connections {
    now: Level,
    opened: Counter,
    ended: [Counter; End::ALL.len()],
}

impl Connections {
    pub(super) fn new(families: &Families, protocol: &str) -> Self {
        let own = label("protocol", protocol);
        Self {
            now: families.connections.get_or_create_owned(&own),
            opened: families.opened.get_or_create_owned(&own),
            ended: End::ALL.map(|(_, reason)| {
                let labels = labels(["protocol", "reason"], [protocol, reason]);
                families.ended.get_or_create_owned(&labels)
            }),
        }
    }

    /// A connection begins; it ends with what is returned.
    #[must_use]
    pub fn open(self: &Arc<Self>) -> Open {
        self.opened.inc();
        self.now.add(1);
        Open { of: self.clone(), end: End::default() }
    }
}

/// A connection that is counted while this lives.
#[derive(Debug)]
pub struct Open {
    of: Arc<Connections>,
    /// How it is going to end.
    pub end: End,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.of.now.sub(1);
        self.of.ended[self.end as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_counted_while_it_lives_and_then_by_its_end() {
        let connections = Arc::new(Connections::default());
        for (number, (end, name)) in End::ALL.into_iter().enumerate() {
            let mut open = connections.open();
            open.end = end;
            assert_eq!(connections.now.get(), 1);
            drop(open);
            assert_eq!(connections.ended[number].get(), 1, "{name}");
        }
        assert_eq!((connections.now.get(), connections.opened.get()), (0, 9));
    }
}
