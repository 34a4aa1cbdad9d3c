//! What waits to be written to one connection, and the hand-over between publishers,
//! who write at once where nothing waits, and the connection's task, which writes the rest.
//!
//! Everything here happens under one lock and never blocks. Written for any socket, so that
//! tests can go through every way in which one takes bytes or does not.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;
use tokio::time::Instant;

use super::batch::{Batch, Rest};

/// Most frames in one write. Linux takes 1024; beyond some tens nothing is gained.
const MAX_SLICES: usize = 64;

/// A socket that takes as many bytes as it has room for, and never waits.
pub(super) trait Socket {
    /// How many bytes were taken; `WouldBlock` for none.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// The same with bytes from several places.
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// What may wait for one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub messages: usize,
    /// One message may always wait.
    pub bytes: usize,
    /// Whether a new message takes the place of the oldest ones when there is no other.
    pub oldest_goes: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: VecDeque<Waiting>,
    /// Bytes in `frames` that are still to be written.
    bytes: usize,
    /// How much of the first frame is written already.
    written: usize,
    /// Since when the first place is waiting to be written. A message that gives it up to a
    /// newer one hands this on: otherwise nobody would see that a client reads nothing.
    since: Option<Instant>,
    state: State,
}

/// A frame that is not written yet, or not wholly.
#[derive(Debug)]
struct Waiting {
    bytes: Bytes,
    /// Whether it is a message.
    counts: bool,
    /// Whether its beginning was written before the rest came here.
    is_begun: bool,
    since: Instant,
}

/// Messages that do not wait any longer. Frames that are no messages are not among them.
#[must_use = "what leaves a queue is counted"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// Written to their last byte.
    pub written: usize,
    /// Lost with the connection, those that were written in part included.
    pub lost: usize,
    /// Bytes that had waited; those of a message leave as they are written.
    pub bytes: usize,
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
    /// Something is, and the first of it waits since then.
    Waits(Instant),
}

/// What became of a batch that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// How many messages, from the first, are written or queued.
    pub accepted: usize,
    /// How many of these wait, the first perhaps written in part. They are the last.
    pub queued: usize,
    /// Bytes that wait.
    pub queued_bytes: usize,
    /// How many that had been accepted, before or just now, were taken out again for newer
    /// ones.
    pub evicted: usize,
    /// Their bytes.
    pub evicted_bytes: usize,
    /// Why the others are not, if there are others.
    pub refused: Option<Refused>,
    /// Whether the connection's task has to be told: there is something to write, or an
    /// end to be drawn, that it does not know of yet.
    pub wake: bool,
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The queue is full.
    Full,
    /// The connection is ending.
    Closed,
}

impl Offer {
    /// Everything is written.
    fn written(accepted: usize) -> Self {
        Self {
            accepted,
            queued: 0,
            queued_bytes: 0,
            evicted: 0,
            evicted_bytes: 0,
            refused: None,
            wake: false,
        }
    }

    /// Nothing was taken.
    pub(super) fn refused(reason: Refused) -> Self {
        Self { refused: Some(reason), ..Self::written(0) }
    }
}

impl Queue {
    /// Writes the batch if nothing waits before it, and queues what the socket does not
    /// take, within the bounds.
    pub(super) fn offer(&mut self, batch: &Batch, socket: &impl Socket, bounds: Bounds) -> Offer {
        if self.state != State::Open {
            return Offer::refused(Refused::Closed);
        }
        let idle = self.frames.is_empty();
        let mut written = 0;
        if idle {
            match socket.try_write(batch.bytes()) {
                Ok(taken) if taken == batch.bytes().len() => {
                    return Offer::written(batch.len());
                }
                Ok(taken) => written = taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    // Nothing waited, so nothing is lost but what is refused.
                    self.state = State::Broken;
                    return Offer { wake: true, ..Offer::refused(Refused::Closed) };
                }
            }
        }
        let oldest_go = bounds.oldest_goes && batch.counts();
        let accepted = self.fitting(batch, written, bounds, oldest_go);
        let all = accepted == batch.len();
        let since = Instant::now();
        let before = (self.frames.len(), self.bytes);
        for rest in batch.rest(written).take(accepted) {
            // A part of a batch keeps the whole of it in memory. Where everything waits that
            // is no more than what is counted; one message of each batch would be much more.
            let bytes = if all { rest.bytes } else { Bytes::copy_from_slice(&rest.bytes) };
            let (counts, is_begun) = (batch.counts(), rest.is_begun);
            self.push(Waiting { bytes, counts, is_begun, since });
        }
        // Frames that are written wholly have no rest, and are not among them.
        let (queued, queued_bytes) = (self.frames.len() - before.0, self.bytes - before.1);
        let (evicted, evicted_bytes) = if oldest_go { self.shrink(bounds) } else { (0, 0) };
        let refused = (!all).then_some(Refused::Full);
        Offer { accepted, queued, queued_bytes, evicted, evicted_bytes, refused, wake: idle }
    }

    /// Writes what waits, as much as the socket takes, many frames at a time, and adds to
    /// `left` what leaves the queue.
    ///
    /// # Errors
    /// What the socket said; the queue is broken off then.
    pub(super) fn flush(&mut self, socket: &impl Socket, left: &mut Left) -> io::Result<Flush> {
        while let Some(since) = self.since {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, waiting) in slices.iter_mut().zip(&self.frames) {
                let from = if count == 0 { self.written } else { 0 };
                *slice = IoSlice::new(&waiting.bytes[from..]);
                count += 1;
            }
            match socket.try_write_vectored(&slices[..count]) {
                Ok(written) => self.advance(written, left),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flush::Waits(since));
                }
                Err(error) => {
                    self.break_off(left);
                    return Err(error);
                }
            }
        }
        // An idle connection keeps no buffer.
        self.frames = VecDeque::new();
        Ok(Flush::All)
    }

    /// Bytes that are still to be written.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Takes nothing more, but for `last`.
    pub(super) fn end(&mut self, last: Option<Bytes>) {
        if self.state == State::Open {
            self.state = State::Closing;
            if let Some(bytes) = last {
                let since = Instant::now();
                self.push(Waiting { bytes, counts: false, is_begun: false, since });
            }
        }
    }

    /// Whatever waits, waits from `now` on: before, nobody was there to write it.
    pub(super) fn restart_clock(&mut self, now: Instant) {
        self.since = self.since.map(|_| now);
        self.frames.iter_mut().for_each(|waiting| waiting.since = now);
    }

    /// How many messages of a batch can wait, or need not.
    fn fitting(&self, batch: &Batch, written: usize, bounds: Bounds, oldest_go: bool) -> usize {
        let (mut messages, mut bytes) =
            if oldest_go { self.lasting() } else { (self.frames.len(), self.bytes) };
        batch
            .rest(written)
            .take_while(|Rest { bytes: rest, is_begun }| {
                if rest.is_empty() {
                    return true;
                }
                let with_it = (messages + 1, bytes + rest.len());
                if !oldest_go || *is_begun {
                    (messages, bytes) = with_it;
                }
                with_it.0 == 1 || is_within(with_it, bounds)
            })
            .count()
    }

    /// Frames, and their bytes, that cannot be taken out again.
    fn lasting(&self) -> (usize, usize) {
        self.frames.iter().enumerate().filter(|(index, _)| !self.may_go(*index)).fold(
            (0, 0),
            |(frames, bytes), (index, waiting)| {
                let written = if index == 0 { self.written } else { 0 };
                (frames + 1, bytes + waiting.bytes.len() - written)
            },
        )
    }

    /// A whole message, of which nothing is written.
    fn may_go(&self, index: usize) -> bool {
        let waiting = &self.frames[index];
        waiting.counts && !waiting.is_begun && (index > 0 || self.written == 0)
    }

    /// Takes out the oldest messages until the bounds hold; the newest frame stays. How many,
    /// and their bytes.
    fn shrink(&mut self, bounds: Bounds) -> (usize, usize) {
        let (mut evicted, before) = (0, self.bytes);
        while self.frames.len() > 1 && !is_within((self.frames.len(), self.bytes), bounds) {
            let mut older = 0..self.frames.len() - 1;
            let Some(oldest) = older.find(|index| self.may_go(*index)) else { break };
            let gone = self.frames.remove(oldest);
            self.bytes -= gone.map_or(0, |gone| gone.bytes.len());
            evicted += 1;
        }
        (evicted, before - self.bytes)
    }

    /// Appends what is left of a frame, if anything is.
    fn push(&mut self, waiting: Waiting) {
        if !waiting.bytes.is_empty() {
            self.bytes += waiting.bytes.len();
            self.since.get_or_insert(waiting.since);
            self.frames.push_back(waiting);
        }
    }

    /// Nothing is taken or written from here on, and what waits is lost.
    pub(super) fn break_off(&mut self, left: &mut Left) {
        // Of the first one this much has left before.
        let mut gone = self.written;
        for Waiting { bytes, counts, .. } in &self.frames {
            let rest = bytes.len() - std::mem::take(&mut gone);
            left.lost += usize::from(*counts);
            left.bytes += rest * usize::from(*counts);
        }
        *self = Self { state: State::Broken, ..Self::default() };
    }

    /// Takes `written` bytes off the front.
    fn advance(&mut self, mut written: usize, left: &mut Left) {
        self.bytes -= written;
        while let Some(first) = self.frames.front() {
            let counts = usize::from(first.counts);
            let rest = first.bytes.len() - self.written;
            if written < rest {
                self.written += written;
                left.bytes += written * counts;
                return;
            }
            written -= rest;
            left.bytes += rest * counts;
            left.written += counts;
            self.written = 0;
            self.frames.pop_front();
            self.since = self.frames.front().map(|next| next.since);
        }
    }
}

fn is_within((messages, bytes): (usize, usize), bounds: Bounds) -> bool {
    messages <= bounds.messages && bytes <= bounds.bytes
}

#[cfg(test)]
mod books;
#[cfg(test)]
mod tests;
