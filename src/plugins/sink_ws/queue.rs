//! What waits to be written to one connection, and the hand-over between publishers,
//! who write at once where nothing waits, and the connection's task, which writes the rest.
//!
//! Everything here happens under one lock and never blocks. Written for any socket, so that
//! tests can go through every way in which one takes bytes or does not.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;

use super::batch::Batch;

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
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
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

/// What became of a batch that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// How many messages, from the first, are written or queued.
    pub accepted: usize,
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
    fn refused(reason: Refused) -> Self {
        Self { accepted: 0, refused: Some(reason), wake: false }
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
                    return Offer { accepted: batch.len(), refused: None, wake: false };
                }
                Ok(taken) => written = taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.break_off();
                    return Offer { wake: true, ..Offer::refused(Refused::Closed) };
                }
            }
        }
        let accepted = self.fitting(batch, written, bounds);
        let all = accepted == batch.len();
        for rest in batch.rest(written).take(accepted) {
            // A part of a batch keeps the whole of it in memory. Where everything waits that
            // is no more than what is counted; one message of each batch would be much more.
            self.push(if all { rest } else { Bytes::copy_from_slice(&rest) });
        }
        Offer { accepted, refused: (!all).then_some(Refused::Full), wake: idle }
    }

    /// Writes what waits, as much as the socket takes, many frames at a time.
    ///
    /// # Errors
    /// What the socket said; the queue is broken off then.
    pub(super) fn flush(&mut self, socket: &impl Socket) -> io::Result<Flush> {
        let mut result = Flush::Stuck;
        while !self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, frame) in slices.iter_mut().zip(&self.frames) {
                let from = if count == 0 { self.written } else { 0 };
                *slice = IoSlice::new(&frame[from..]);
                count += 1;
            }
            match socket.try_write_vectored(&slices[..count]) {
                Ok(written) => {
                    self.advance(written);
                    result = Flush::Some;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(result),
                Err(error) => {
                    self.break_off();
                    return Err(error);
                }
            }
        }
        // An idle connection keeps no buffer.
        self.frames = VecDeque::new();
        Ok(Flush::All)
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Takes nothing more, but for `last`.
    pub(super) fn end(&mut self, last: Option<Bytes>) {
        if self.state == State::Open {
            self.state = State::Closing;
            if let Some(frame) = last {
                self.push(frame);
            }
        }
    }

    /// How many messages of a batch can wait, or need not.
    fn fitting(&self, batch: &Batch, written: usize, bounds: Bounds) -> usize {
        let (mut messages, mut bytes) = (self.frames.len(), self.bytes);
        batch
            .rest(written)
            .take_while(|rest| {
                messages += usize::from(!rest.is_empty());
                bytes += rest.len();
                rest.is_empty()
                    || messages == 1
                    || (messages <= bounds.messages && bytes <= bounds.bytes)
            })
            .count()
    }

    /// Appends what is left of a frame, if anything is.
    fn push(&mut self, rest: Bytes) {
        if !rest.is_empty() {
            self.bytes += rest.len();
            self.frames.push_back(rest);
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
mod tests;
