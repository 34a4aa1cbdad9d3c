//! What a run is told to do, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::dialect::Dialect;

/// When the measured part of a run ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Length {
    Time(Duration),
    Messages(u32),
}

/// What a publisher waits for before its next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Wait {
    /// Every healthy subscriber of the topic has the message.
    Delivered,
    /// The server has answered.
    Answered,
}

/// A run.
pub(super) struct Settings {
    pub(super) dialect: Box<dyn Dialect>,
    /// Where subscribers connect.
    pub(super) subscribe_to: SocketAddr,
    /// Where publishers connect.
    pub(super) publish_to: SocketAddr,
    pub(super) subscribers: usize,
    pub(super) topics: usize,
    /// Bytes of a message.
    pub(super) payload: usize,
    /// Publishes a second; none for as many as go.
    pub(super) rate: Option<f64>,
    /// Publishing connections.
    pub(super) lanes: usize,
    pub(super) wait: Wait,
    /// Messages that may be published and not be with everybody; none for any number.
    pub(super) undelivered: Option<usize>,
    pub(super) length: Length,
    pub(super) warm_up: Duration,
    /// How many subscribers stop reading.
    pub(super) slow: usize,
    /// Extra connections a second.
    pub(super) churn: u32,
    pub(super) storm: bool,
    pub(super) idle: bool,
    /// The server's processes; none to look for them.
    pub(super) pids: Vec<u32>,
    pub(super) settle: Duration,
    pub(super) threads: usize,
    pub(super) json: Option<PathBuf>,
    pub(super) svg: Option<PathBuf>,
}

impl Settings {
    /// The topic of a subscriber: they are spread evenly.
    pub(super) fn topic_of(&self, subscriber: usize) -> usize {
        subscriber % self.topics
    }

    /// Whether a subscriber stops reading: the first ones do.
    pub(super) fn is_slow(&self, subscriber: usize) -> bool {
        subscriber < self.slow
    }

    /// How many subscribers keep reading.
    pub(super) fn healthy(&self) -> usize {
        self.subscribers - self.slow
    }
}
