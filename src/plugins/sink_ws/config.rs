//! The keys of `[sink.<name>]` with `type = "ws"`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::config::{Check, duration};
use crate::core::session::Rate;

/// `[sink.<name>]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most messages that wait for one connection whose socket is full.
    pub queue_messages: usize,
    /// Most bytes that wait for one connection. One message may always wait, whatever
    /// its size.
    pub queue_bytes: usize,
    /// What happens to a connection whose queue is full.
    pub when_full: WhenFull,
    /// Most bytes that wait in the kernel for one connection, beside the queue, until they
    /// can be sent; 0 leaves it to the kernel. Bytes that are sent and not acknowledged yet
    /// do not count.
    pub send_buffer_bytes: u32,
    /// How long a message may wait for a client that does not read, or does so too slowly,
    /// before the connection is cut.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// How long a client has to answer a Close frame before the connection is cut.
    #[serde(with = "duration")]
    pub close_timeout: Duration,
    /// Most fragments of one message: empty ones cost time and count for no bytes.
    pub max_fragments: u32,
    /// Pings and pongs that a client may send in a second, in the long run; 0 is no limit.
    pub control_frame_rate: u32,
    /// Pings and pongs that it may send at once.
    pub control_frame_burst: u32,
}

/// What happens to a subscriber that does not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// End the connection with 1013: the client sees that it missed something.
    Disconnect,
    /// Keep the connection and drop the new message, counted.
    DropNewest,
    /// Keep the connection and drop the messages that wait for longest, counted.
    DropOldest,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            queue_messages: 256,
            queue_bytes: 1024 * 1024,
            when_full: WhenFull::Disconnect,
            send_buffer_bytes: 128 * 1024,
            write_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(1),
            max_fragments: 1024,
            control_frame_rate: 10,
            control_frame_burst: 50,
        }
    }
}

impl Config {
    pub(super) fn check(&self, check: &mut Check<'_>) {
        check.range("queue_messages", self.queue_messages, 1..=1_000_000);
        check.range("queue_bytes", self.queue_bytes, 1024..=1 << 30);
        if self.send_buffer_bytes > 0 {
            check.range("send_buffer_bytes", self.send_buffer_bytes, 4096..=1 << 30);
        }
        let allowed = Duration::from_millis(10)..=Duration::from_hours(1);
        check.duration("write_timeout", self.write_timeout, allowed);
        check.close_timeout("close_timeout", self.close_timeout);
        check.range("max_fragments", self.max_fragments, 1..=1_000_000);
        check.rate("control_frame", self.control_frames());
    }

    pub(super) fn control_frames(&self) -> Rate {
        Rate { per_second: self.control_frame_rate, burst: self.control_frame_burst }
    }
}
