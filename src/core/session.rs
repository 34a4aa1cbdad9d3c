//! One client's conversation: written by a protocol, driven by a live sink.

use std::ops::ControlFlow;
use std::time::Duration;

use async_trait::async_trait;

use super::message::{Frame, Topic};

/// A protocol's side of one connection.
///
/// Dropped when the connection is over, however it ended.
#[async_trait]
pub trait Session: Send {
    /// What the connection may cost and how long it may be silent.
    fn limits(&self) -> Limits;

    /// A complete text message came from the client.
    ///
    /// Messages of one connection come one after the other, in order. Binary
    /// messages never get here. `Break` ends the connection with status 1000.
    async fn received(&mut self, client: &mut dyn Client, text: &str) -> ControlFlow<()>;
}

/// What a session can do to its connection. Handed in by the live sink.
pub trait Client: Send + Sync {
    /// Makes the client a receiver of `topic`: every message that enters the router
    /// after this returned reaches it. Twice is the same as once.
    fn subscribe(&mut self, topic: Topic);

    /// Ends the subscription. False when there was none.
    fn unsubscribe(&mut self, topic: &Topic) -> bool;

    /// Ends every subscription. Costs what the client's own subscriptions number.
    fn unsubscribe_all(&mut self);

    /// How many topics the client is subscribed to.
    fn subscriptions(&self) -> usize;

    /// Whether the client is subscribed to `topic`.
    fn is_subscribed(&self, topic: &Topic) -> bool;

    /// Sends a text to this client alone, after everything queued before it.
    fn send(&mut self, frame: Frame);
}

/// A protocol's demands on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest message from the client, in bytes, all fragments together. Beyond it
    /// the connection is closed with 1009 before the payload is read.
    pub max_message_bytes: usize,
    /// Time between two pings from the server.
    pub ping_interval: Duration,
    /// A client that sent nothing at all for this long is taken for dead. Checked
    /// when a ping is due, so the end comes up to one `ping_interval` late.
    pub idle_timeout: Duration,
}
