//! One client's conversation: written by a protocol, driven by a live sink.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::message::{Frame, Topic};

/// A protocol's side of one connection.
///
/// Dropped when the connection is over, however it ended.
#[async_trait]
pub trait Session: Send {
    /// What the connection may cost and how long it may be silent.
    fn limits(&self) -> Limits;

    /// The connection stands; nothing was received yet.
    async fn opened(&mut self, _client: &mut dyn Client) {}

    /// When the connection is to end unless something happens before, such as the client
    /// saying who it is. Asked again after everything that happens.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// A complete text message came from the client.
    ///
    /// Messages of one connection come one after the other, in order. `Break` ends the
    /// connection, with status 1000 where [`Limits::ending`] allows it.
    async fn received(&mut self, client: &mut dyn Client, text: &str) -> ControlFlow<()>;

    /// The same for a binary message. Nothing happens unless the protocol has a use for one.
    async fn received_binary(
        &mut self,
        _client: &mut dyn Client,
        _bytes: &[u8],
    ) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// What a session can do to its connection. Handed in by the live sink.
pub trait Client: Send + Sync {
    /// Says what stands behind this connection; the first word counts. With
    /// [`Audience::OnePerDevice`](super::message::Audience) only one of the connections
    /// with the same device gets a message.
    fn identify(&mut self, device: Device);

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

    /// The same as a binary message. What goes through the router is always text.
    fn send_binary(&mut self, bytes: &[u8]);
}

/// A browser, a phone: something that may hold several connections.
#[derive(Clone, Debug)]
pub struct Device {
    /// Compared byte by byte, within one topic.
    pub id: Arc<str>,
    /// Connections for which this is true are chosen before others of the same device;
    /// among equals the newest is.
    pub preferred: Arc<AtomicBool>,
}

/// How the server ends a connection that the client did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a Close frame and its status.
    CloseFrame,
    /// Without a word, for clients that take any closing handshake for the end of the
    /// matter and reconnect only after a loss. A handshake the client began is answered.
    Abrupt,
}

/// How often a client may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; 0 is no limit.
    pub per_second: u32,
    /// At once, after it did nothing for a while.
    pub burst: u32,
}

/// A protocol's demands on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest message from the client, in bytes, all fragments together. Beyond it
    /// the connection is closed with 1009 before the payload is read.
    pub max_message_bytes: usize,
    /// Messages from the client. Beyond it the connection is closed with 1008.
    pub message_rate: Rate,
    /// Time between two pings from the server.
    pub ping_interval: Duration,
    /// How the server ends the connection.
    pub ending: Ending,
    /// Whether the answer to a client's Close repeats its reason, or its status alone.
    pub echo_close_reason: bool,
    /// A client that sent nothing at all for this long, not even an answer to a ping, is
    /// taken for dead. More than `ping_interval`.
    pub idle_timeout: Duration,
}
