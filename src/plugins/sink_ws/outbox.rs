//! The write side of a connection.
//!
//! Every byte to a client passes here, in one order, under one lock that is held for a
//! non-blocking write at most. What does not go out at once waits in the [`Queue`].

use std::io::{self, IoSlice};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::batch::Batch;
use super::config::WhenFull;
use super::policy::Policy;
use super::queue::{Flush, Left, Offer, Queue, Refused, Socket, State};
use super::wake::Wake;
use super::wire;
use crate::core::intake::Place;
use crate::core::session::{Device, Ending};

/// RFC 6455 has no code for it; 1013 is registered as "try again later".
const SLOW: (u16, &str) = (1013, "too slow");

/// See the module.
pub(super) struct Outbox {
    /// Unique in this process; a later connection has a higher one.
    pub(super) id: u64,
    pub(super) device: OnceLock<Device>,
    pub(super) stream: TcpStream,
    /// Whoever holds the socket holds its place among the connections of the server.
    _place: Arc<Place>,
    /// Told when the queue stops being empty, and when the connection is to end.
    pub(super) wake: Wake,
    queue: Mutex<Queue>,
    pub(super) ending: Ending,
    policy: Arc<Policy>,
}

impl Socket for TcpStream {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_write_vectored(slices)
    }
}

impl Outbox {
    pub(super) fn new(
        id: u64,
        stream: TcpStream,
        place: Arc<Place>,
        policy: Arc<Policy>,
        ending: Ending,
    ) -> Self {
        Self {
            id,
            device: OnceLock::new(),
            stream,
            _place: place,
            ending,
            wake: Wake::default(),
            queue: Mutex::new(Queue::default()),
            policy,
        }
    }

    /// Takes messages for this connection, or says why not. Never waits.
    pub(super) fn offer(&self, batch: &Batch) -> Offer {
        self.take(batch, self.policy.when_full())
    }

    /// The same for a frame that the client can do without, such as a ping: where there is no
    /// room it is left out, and nobody is the slower for it. Whether it was taken.
    pub(super) fn try_offer(&self, frame: Bytes) -> bool {
        self.take(&Batch::aside(frame), WhenFull::DropNewest).refused.is_none()
    }

    fn take(&self, batch: &Batch, when_full: WhenFull) -> Offer {
        let mut queue = self.queue.lock();
        let mut offer = queue.offer(batch, &self.stream, self.policy.bounds());
        if offer.refused == Some(Refused::Full) && when_full == WhenFull::Disconnect {
            // What it has not got so far it gets, if it reads before it is cut off.
            queue.end(self.farewell(Some(SLOW)));
            offer.wake = true;
        }
        drop(queue);
        if offer.wake {
            self.wake.tell();
        }
        offer
    }

    /// The server ends the connection: nothing more is taken, and where the protocol's
    /// clients can bear it a Close frame is queued behind what waits.
    pub(super) fn close(&self, status: Option<(u16, &str)>) {
        self.queue.lock().end(self.farewell(status));
        self.wake.tell();
    }

    /// The client ended the connection: it gets the Close frame it is owed.
    pub(super) fn answer_close(&self, status: Option<(u16, &str)>) {
        self.queue.lock().end(Some(wire::close(status)));
    }

    fn farewell(&self, status: Option<(u16, &str)>) -> Option<Bytes> {
        (self.ending == Ending::CloseFrame).then(|| wire::close(status))
    }

    /// Writes what waits, as much as the socket takes. Also when that fails something may
    /// have left the queue.
    pub(super) fn flush(&self) -> (io::Result<Flush>, Left) {
        let mut left = Left::default();
        let flush = self.queue.lock().flush(&self.stream, &mut left);
        (flush, left)
    }

    /// The connection is over: nothing is taken any more, and what waits is lost.
    pub(super) fn give_up(&self) -> Left {
        let mut left = Left::default();
        self.queue.lock().break_off(&mut left);
        left
    }

    /// See [`Queue::restart_clock`].
    pub(super) fn restart_clock(&self, now: Instant) {
        self.queue.lock().restart_clock(now);
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.lock().bytes()
    }

    pub(super) fn state(&self) -> State {
        self.queue.lock().state()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::sink_ws::Config;

    #[tokio::test]
    async fn a_full_queue_is_the_end_for_a_message_and_not_for_a_ping() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let _peer = listener.accept().await.unwrap();
        stream.writable().await.unwrap();
        let policy = Policy::new(&Config { queue_messages: 1, ..Config::default() });
        let outbox = Outbox::new(1, stream, Place::any(), Arc::new(policy), Ending::CloseFrame);
        let message = Batch::one(vec![0; 100_000].into());
        while outbox.offer(&message).queued == 0 {}
        assert!(!outbox.try_offer(wire::ping()));
        assert_eq!(outbox.state(), State::Open);
        assert_eq!(outbox.offer(&message).refused, Some(Refused::Full));
        assert_eq!(outbox.state(), State::Closing);
    }
}
