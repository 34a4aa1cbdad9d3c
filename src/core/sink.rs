//! Where messages go: every sink takes them, a live sink has clients on the line.

use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::admission::Admission;
use super::message::{Message, Topic};
use super::metrics::Connections;
use super::session::Session;

/// How long a sink may take to say what became of a message. Far more than a round to all
/// subscribers takes, so what it ends is a fault of the sink's.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes messages. It never waits: it takes a message or says that it did not.
///
/// `deliver` is called on the publisher's task, so it must return within the time
/// it takes to hand over bytes; whatever can block goes behind a bounded queue. Once it
/// has returned, the publisher can no longer take the message back by going away.
pub trait Sink: Send + Sync {
    /// Takes `message` for every receiver this sink has for its topic.
    ///
    /// A sink that goes on with it after it has returned, without a bound of its own, keeps
    /// a clone of `admission` until it is done.
    fn deliver(&self, message: &Arc<Message>, admission: &Admission) -> Receipt;

    /// Whether the sink brings messages of `topic` to somebody who is not on the line at
    /// the moment. By default it does not.
    fn reaches_offline(&self, _topic: &Topic) -> bool {
        false
    }
}

/// A sink whose receivers are WebSocket clients of a protocol.
pub trait LiveSink: Sink {
    /// Takes over a connection that a protocol has just answered with 101.
    ///
    /// The sink drives it from here: socket to [`Session`], hub to socket, pings,
    /// deadlines, close. It belongs to the sink's own tasks and ends on shutdown.
    fn accept(&self, upgrade: OnUpgrade, session: Box<dyn Session>);

    /// The server stops: every connection is to end within `over`, at a moment of its own
    /// ([`Turns`](super::drain::Turns)), in the way its protocol can bear, and to get
    /// what is published until then. Called right before
    /// [`SinkCx::connections`](super::plugin::SinkCx) stop.
    fn drain(&self, over: Duration);

    /// The same sink, as one protocol sees it: what it accepts is counted there.
    fn of_protocol(&self, connections: Arc<Connections>) -> Arc<dyn LiveSink>;
}

/// What became of one message at one sink, or summed over several.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Receivers that got the message written or queued.
    pub accepted: usize,
    /// Receivers that should have got it and did not: their queue was full or their
    /// connection was already ending. The sink counts each with its reason.
    pub dropped: usize,
}

impl AddAssign for Delivery {
    fn add_assign(&mut self, other: Self) {
        // A sink may say anything.
        self.accepted = self.accepted.saturating_add(other.accepted);
        self.dropped = self.dropped.saturating_add(other.dropped);
    }
}

/// The promise to say what became of a message. The message is on its way, whether
/// somebody waits for the receipt or not.
#[must_use = "publishers wait for their receipts: that is what bounds the messages under way"]
#[derive(Debug, Default)]
pub struct Receipt {
    known: Delivery,
    later: Vec<oneshot::Receiver<Delivery>>,
}

impl Receipt {
    /// What became of the message is going to be said through a channel.
    pub fn later(delivery: oneshot::Receiver<Delivery>) -> Self {
        Self { known: Delivery::default(), later: vec![delivery] }
    }

    /// Waits until the message is with, or lost for, each of its receivers. That depends
    /// on this server alone, never on a client; a sink that says nothing for 5 s counts as
    /// one that dropped it.
    pub async fn settled(self) -> Delivery {
        let mut total = self.known;
        for delivery in self.later {
            // A sink that is torn down in the middle, at the end of the process, says nothing.
            total += match timeout(PATIENCE, delivery).await {
                Ok(told) => told.unwrap_or_default(),
                Err(_) => Delivery { accepted: 0, dropped: 1 },
            };
        }
        total
    }
}

impl From<Delivery> for Receipt {
    fn from(known: Delivery) -> Self {
        Self { known, later: Vec::new() }
    }
}

impl AddAssign for Receipt {
    fn add_assign(&mut self, other: Self) {
        self.known += other.known;
        if self.later.is_empty() {
            self.later = other.later;
        } else {
            self.later.extend(other.later);
        }
    }
}
