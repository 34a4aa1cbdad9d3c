//! What waits to be written to one connection.
//!
//! Every byte to a client passes here, in one order, under one lock that is held for a
//! non-blocking write at most. A publisher that finds the queue empty writes at once;
//! otherwise the bytes wait, and the connection's task writes all that waits together.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::OnceLock;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::config::{Config, WhenFull};
use super::wire;
use crate::core::session::{Device, Ending};

/// Most frames in one write. Linux takes 1024; beyond some tens nothing is gained.
const MAX_SLICES: usize = 64;

/// RFC 6455 has no code for it; 1013 is registered as "try again later".
const SLOW: (u16, &str) = (1013, "too slow");

/// The write side of a connection.
pub(super) struct Outbox {
    /// Unique in this process; a later connection has a higher one.
    pub(super) id: u64,
    pub(super) device: OnceLock<Device>,
    pub(super) stream: TcpStream,
    /// Told when the queue stops being empty, and when the connection is to end.
    pub(super) wake: Notify,
    queue: Mutex<Queue>,
    ending: Ending,
    max_messages: usize,
    max_bytes: usize,
    when_full: WhenFull,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    /// Bytes in `frames` that are still to be written.
    bytes: usize,
    /// How much of the first frame is written already.
    written: usize,
    state: State,
}

/// What may still be queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Anything.
    #[default]
    Open,
    /// Nothing: what waits is the last, with a Close frame at its end if there is one.
    Closing,
    /// Nothing, and nothing more is written: the socket failed.
    Broken,
}

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    /// Nothing is left.
    All,
    /// Some bytes went out.
    Some,
    /// Not one byte: the client does not read.
    Stuck,
}

/// What became of an offered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Written or queued.
    Accepted,
    /// The queue is full.
    Full,
    /// The connection is ending.
    Closed,
}

impl Outbox {
    pub(super) fn new(id: u64, stream: TcpStream, config: &Config, ending: Ending) -> Self {
        Self {
            id,
            device: OnceLock::new(),
            stream,
            ending,
            wake: Notify::new(),
            queue: Mutex::default(),
            max_messages: config.queue_messages,
            max_bytes: config.queue_bytes,
            when_full: config.when_full,
        }
    }

    /// Takes a frame for this connection, or says why not. Never waits.
    pub(super) fn offer(&self, frame: &Bytes) -> Offer {
        let mut queue = self.queue.lock();
        if queue.state != State::Open {
            return Offer::Closed;
        }
        if !queue.frames.is_empty() {
            let full = queue.frames.len() >= self.max_messages
                || queue.bytes + frame.len() > self.max_bytes;
            if !full {
                queue.push(frame.clone(), 0);
                return Offer::Accepted;
            }
            if self.when_full == WhenFull::Disconnect {
                // What it has not got so far it gets, if it reads before it is cut off.
                queue.end(self.farewell(Some(SLOW)));
                self.wake.notify_one();
            }
            return Offer::Full;
        }
        let written = match self.stream.try_write(frame) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                queue.break_off();
                self.wake.notify_one();
                return Offer::Closed;
            }
        };
        if written < frame.len() {
            queue.push(frame.clone(), written);
            self.wake.notify_one();
        }
        Offer::Accepted
    }

    /// The server ends the connection: nothing more is taken, and where the protocol's
    /// clients can bear it a Close frame is queued behind what waits.
    pub(super) fn close(&self, status: Option<(u16, &str)>) {
        self.queue.lock().end(self.farewell(status));
        self.wake.notify_one();
    }

    /// The client ended the connection: it gets the Close frame it is owed.
    pub(super) fn answer_close(&self, status: Option<(u16, &str)>) {
        self.queue.lock().end(Some(wire::close(status)));
    }

    fn farewell(&self, status: Option<(u16, &str)>) -> Option<Bytes> {
        (self.ending == Ending::CloseFrame).then(|| wire::close(status))
    }

    /// Writes what waits, as much as the socket takes, many frames at a time.
    pub(super) fn flush(&self) -> io::Result<Flush> {
        let mut queue = self.queue.lock();
        let mut result = Flush::Stuck;
        while !queue.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, frame) in slices.iter_mut().zip(&queue.frames) {
                let from = if count == 0 { queue.written } else { 0 };
                *slice = IoSlice::new(&frame[from..]);
                count += 1;
            }
            match self.stream.try_write_vectored(&slices[..count]) {
                Ok(written) => {
                    queue.advance(written);
                    result = Flush::Some;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(result),
                Err(error) => {
                    queue.break_off();
                    return Err(error);
                }
            }
        }
        // An idle connection keeps no buffer.
        queue.frames = VecDeque::new();
        Ok(Flush::All)
    }

    pub(super) fn state(&self) -> State {
        self.queue.lock().state
    }
}

impl Queue {
    fn push(&mut self, frame: Bytes, written: usize) {
        if self.frames.is_empty() {
            self.written = written;
        }
        self.bytes += frame.len() - written;
        self.frames.push_back(frame);
    }

    /// Takes nothing more, but for `last`.
    fn end(&mut self, last: Option<Bytes>) {
        if self.state == State::Open {
            self.state = State::Closing;
            if let Some(frame) = last {
                self.push(frame, 0);
            }
        }
    }

    fn break_off(&mut self) {
        *self = Self { state: State::Broken, ..Self::default() };
    }

    /// Takes `written` bytes off the front.
    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.frames.front() {
            let left = first.len() - self.written;
            if written < left {
                self.written += written;
                return;
            }
            written -= left;
            self.written = 0;
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advancing_by_any_number_of_bytes_keeps_the_rest_in_order() {
        for step in 1..=9 {
            let mut queue = Queue::default();
            for frame in ["abc", "d", "efghi"] {
                queue.push(Bytes::from_static(frame.as_bytes()), 0);
            }
            let mut seen = 0;
            while !queue.frames.is_empty() {
                let n = step.min(queue.bytes);
                queue.advance(n);
                seen += n;
                let mut rest: Vec<u8> = queue.frames.iter().flatten().copied().collect();
                rest.drain(..queue.written);
                assert_eq!(rest, &b"abcdefghi"[seen..]);
                assert_eq!(queue.bytes, rest.len());
            }
        }
    }

    #[test]
    fn after_the_end_nothing_is_queued() {
        let mut queue = Queue::default();
        queue.end(Some(wire::close(None)));
        queue.end(Some(wire::close(Some((1001, "again")))));
        assert_eq!((queue.frames.len(), queue.state), (1, State::Closing));
    }
}
