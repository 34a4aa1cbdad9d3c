//! A receiver: one thread with its share of the subscribers, one epoll, one buffer.
//!
//! It must not measure itself: a few dozen bytes for each connection, one `read()` for each
//! wake-up, nothing allocated for a frame.

mod joining;
mod slow;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll};

use super::connection::{self, Connection, State};
use super::frame::{self, Frame};
use super::inbox::Inbox;
use super::ledger::Ledger;
use super::progress::{Progress, Stage};
use super::tally::Tally;

/// Handshakes under way at the same time, unless all come back at once: fewer than a
/// listener's backlog, which would cost a second where it overflows.
const WINDOW: usize = 128;
/// The same in a storm.
const STORM_WINDOW: usize = 4096;

/// Longer than the longest frame, and shorter than a processor's cache.
pub(super) const BUFFER: usize = 256 * 1024;

/// How long to stay awake after the last event, in nanoseconds. A server's `write()` must wake
/// who sleeps, which takes longer than the rest of it: without this the cheapest receiver would
/// make the server the most expensive.
const AWAKE: u64 = 50_000;

/// How long nothing is looked at when nothing comes.
const TICK: Duration = Duration::from_millis(20);

/// Looking whether anything is missing takes a while: so often, in nanoseconds.
const LOOK: u64 = 5_000_000;

/// A receiver and what it knows.
pub(super) struct Subscribers {
    progress: Arc<Progress>,
    poll: Poll,
    /// The number of its first subscriber; the others follow.
    first: usize,
    connections: Vec<Connection>,
    inbox: Inbox,
    buffer: Vec<u8>,
    /// Connections that are to be dialled begin here.
    next: usize,
    opening: usize,
    window: usize,
    stage: Stage,
    storms: u32,
    /// When the last storm began, while not all are back.
    storm_began: Option<u64>,
    subscribed: usize,
    settled: bool,
    /// How long it was awake without anything to do, in nanoseconds.
    idle: Arc<AtomicU64>,
    /// When it is worth to look again whether anything is missing.
    next_look: u64,
}

/// What is left of a receiver.
pub(super) struct Received {
    pub(super) tally: Tally,
    pub(super) lost: u64,
}

impl Subscribers {
    /// A receiver for these numbers of subscribers.
    pub(super) fn new(
        progress: Arc<Progress>,
        numbers: std::ops::Range<usize>,
        tally: Tally,
        idle: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let settings = &progress.settings;
        let topics = numbers.clone().map(|number| Connection::new(settings.topic_of(number)));
        let connections: Vec<_> = topics.collect();
        let ledger = Ledger::new(connections.len(), settings.lanes);
        Ok(Self {
            inbox: Inbox::new(progress.clone(), ledger, tally),
            poll: Poll::new()?,
            first: numbers.start,
            connections,
            buffer: vec![0; BUFFER],
            next: 0,
            opening: 0,
            window: WINDOW,
            stage: Stage::Connect,
            storms: 0,
            storm_began: None,
            subscribed: 0,
            settled: false,
            idle,
            next_look: 0,
            progress,
        })
    }

    /// Works until the run is over.
    pub(super) fn run(mut self) -> Received {
        if let Err(error) = self.work() {
            self.progress.fail(format!("receiver: {error}"));
        }
        let lost = self.lost(|_| true);
        self.drain_slow();
        Received { tally: self.inbox.tally, lost }
    }

    fn work(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            self.obey()?;
            if self.stage == Stage::Finish || self.progress.stopped.load(Acquire) {
                return Ok(());
            }
            self.dial()?;
            match self.poll(&mut events) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            for event in &events {
                self.event(event, &mut buffer);
            }
            self.buffer = buffer;
            self.settle();
        }
    }

    /// Waits for events: awake at first, and asleep when nothing comes.
    fn poll(&mut self, events: &mut Events) -> io::Result<()> {
        self.poll.poll(events, Some(Duration::ZERO))?;
        if !events.is_empty() {
            return Ok(());
        }
        let start = self.progress.now();
        let mut now = start;
        while events.is_empty() && now - start < AWAKE {
            self.poll.poll(events, Some(Duration::ZERO))?;
            now = self.progress.now();
        }
        self.idle.fetch_add((now - start).min(AWAKE), Relaxed);
        if events.is_empty() { self.poll.poll(events, Some(TICK)) } else { Ok(()) }
    }

    /// Says so when nothing is under way any more.
    fn settle(&mut self) {
        let now = self.progress.now();
        if self.stage != Stage::Settle || self.settled || now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        // Who has gone gets nothing any more.
        if self.lost(|state| state == State::Ready) == 0 {
            self.settled = true;
            self.progress.settled.fetch_add(1, AcqRel);
        }
    }

    /// Does what the run has come to.
    fn obey(&mut self) -> io::Result<()> {
        let stage = self.progress.stage();
        if self.stage == Stage::Connect && stage >= Stage::Receive {
            for index in 0..self.connections.len() {
                if self.connections[index].state == State::Open {
                    self.subscribe(index);
                }
            }
        }
        self.stage = stage;
        let storms = self.progress.storms.load(Acquire);
        if self.storms < storms {
            self.storms = storms;
            self.storm()?;
        }
        Ok(())
    }

    /// Everybody drops the connection and comes back.
    fn storm(&mut self) -> io::Result<()> {
        self.storm_began = Some(self.progress.now());
        self.window = STORM_WINDOW;
        for index in 0..self.connections.len() {
            if self.is_slow(index) {
                continue;
            }
            let connection = &mut self.connections[index];
            if let Some(mut stream) = connection.stream.take() {
                self.poll.registry().deregister(&mut stream)?;
            }
            if connection.state == State::Ready {
                self.progress.left(connection.topic);
                self.subscribed -= 1;
                self.progress.subscribed.fetch_sub(1, AcqRel);
            }
            connection.state = State::Closed;
            connection.rest = Vec::new();
            self.inbox.left(index, connection.topic);
        }
        (self.next, self.opening) = (0, 0);
        Ok(())
    }

    fn is_slow(&self, index: usize) -> bool {
        self.progress.settings.is_slow(self.first + index)
    }

    fn event(&mut self, event: &Event, buffer: &mut [u8]) {
        let index = event.token().0;
        if self.connections[index].state == State::Connecting {
            if let Err(reason) = self.connected(index) {
                self.progress.fail(reason);
            }
        } else if event.is_readable() || event.is_read_closed() || event.is_error() {
            // A short read has emptied the socket, and the next byte is a new event; only an
            // end that has come already is not.
            let to_the_end = event.is_read_closed() || event.is_error();
            if let Err(reason) = self.readable(index, buffer, to_the_end) {
                self.ended(index, reason);
            }
        }
    }

    fn readable(
        &mut self,
        index: usize,
        buffer: &mut [u8],
        to_the_end: bool,
    ) -> Result<(), String> {
        loop {
            let connection = &mut self.connections[index];
            let read = connection.read(buffer).map_err(|error| error.to_string())?;
            let Some((filled, full)) = read else { return Ok(()) };
            if filled == 0 {
                return Err("the server ended the connection".into());
            }
            let used = self.consume(index, &buffer[..filled])?;
            self.connections[index].rest = buffer[used..filled].to_vec();
            if !full && !to_the_end {
                return Ok(());
            }
        }
    }

    /// Takes everything that is whole. Returns how much that is.
    fn consume(&mut self, index: usize, bytes: &[u8]) -> Result<usize, String> {
        let mut used = 0;
        if self.connections[index].state == State::Opening {
            match connection::opened(bytes)? {
                None => return Ok(0),
                Some(length) => used = length,
            }
            self.open(index);
        }
        let now = self.progress.now();
        loop {
            let rest = &bytes[used..];
            let (frame, length) = match frame::first(rest, BUFFER / 2) {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(used),
                Err(fault) => return Err(format!("the server sent {fault}")),
            };
            used += length;
            match frame {
                Frame::Message(message) => {
                    let connection = &mut self.connections[index];
                    self.inbox.message(index, connection, message, now);
                }
                Frame::Ping(payload) => {
                    let pong = frame::client(frame::PONG, payload);
                    self.connections[index].send(&pong).map_err(|error| error.to_string())?;
                }
                Frame::Pong => self.ponged(index),
                Frame::Close(Some(code)) => {
                    return Err(format!("the server closed the connection with {code}"));
                }
                Frame::Close(None) => return Err("the server closed the connection".into()),
            }
        }
    }

    /// How many messages healthy subscribers in such a state miss.
    fn lost(&self, counts: impl Fn(State) -> bool) -> u64 {
        let healthy = (0..self.connections.len())
            .filter(|index| !self.is_slow(*index) && counts(self.connections[*index].state));
        self.inbox.lost(healthy.map(|index| (index, self.connections[index].topic)))
    }
}
