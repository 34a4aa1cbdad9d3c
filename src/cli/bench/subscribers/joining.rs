//! How subscribers come, and how they end.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use mio::{Interest, Token};

use super::super::connection::{self, State};
use super::super::progress::Stage;
use super::super::{frame, tally};
use super::Subscribers;

impl Subscribers {
    /// Dials as many as may be under way.
    pub(super) fn dial(&mut self) -> io::Result<()> {
        while self.opening < self.window && self.next < self.connections.len() {
            let index = self.next;
            self.next += 1;
            if self.connections[index].stream.is_some() {
                continue;
            }
            let settings = &self.progress.settings;
            let mut stream = connection::dial(settings.subscribe_to, self.first + index)
                .map_err(|error| refused(settings.subscribe_to, &error))?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(index), interest)?;
            let now = self.progress.now();
            let connection = &mut self.connections[index];
            connection.stream = Some(stream);
            connection.state = State::Connecting;
            connection.dialled = now;
            self.inbox.tally.dialled = self.inbox.tally.dialled.min(now);
            self.opening += 1;
        }
        Ok(())
    }

    /// The TCP connection is there, or not.
    pub(super) fn connected(&mut self, index: usize) -> Result<(), String> {
        let to = self.progress.settings.subscribe_to;
        let request = self.progress.settings.dialect.handshake(self.first + index);
        let connection = &mut self.connections[index];
        let Some(stream) = &connection.stream else { return Ok(()) };
        match stream.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Err(refused(to, &error).to_string()),
        }
        if stream.peer_addr().is_err() {
            return Ok(());
        }
        connection.state = State::Opening;
        stream
            .set_nodelay(true)
            .and_then(|()| connection.send(&request))
            .map_err(|error| format!("cannot send a handshake to {to}: {error}"))
    }

    /// The handshake is done.
    pub(super) fn open(&mut self, index: usize) {
        let now = self.progress.now();
        self.opening -= 1;
        let connection = &mut self.connections[index];
        connection.state = State::Open;
        if self.storms == 0 {
            let tally = &mut self.inbox.tally;
            tally::note(&mut tally.handshakes, now.saturating_sub(connection.dialled));
            tally.opened = now;
        }
        self.progress.connected.fetch_add(1, Relaxed);
        if self.stage >= Stage::Receive {
            self.subscribe(index);
        }
    }

    /// Subscribes, and asks for a pong, which comes after the subscription.
    pub(super) fn subscribe(&mut self, index: usize) {
        let mut bytes = Vec::new();
        if let Some(text) = self.progress.settings.dialect.subscribe(self.first + index) {
            bytes = frame::client(frame::TEXT, text.as_bytes());
        }
        bytes.extend(frame::client(frame::PING, b"ready"));
        let connection = &mut self.connections[index];
        connection.state = State::Subscribing;
        if let Err(error) = connection.send(&bytes) {
            self.ended(index, error.to_string());
        }
    }

    /// Whatever was said before the ping has been done.
    pub(super) fn ponged(&mut self, index: usize) {
        if self.connections[index].state != State::Subscribing {
            return;
        }
        self.connections[index].state = State::Ready;
        self.subscribed += 1;
        let topic = self.connections[index].topic;
        if self.is_slow(index) {
            // It stays open and is never read again.
            if let Some(stream) = &mut self.connections[index].stream {
                let _ = self.poll.registry().deregister(stream);
            }
        } else {
            self.progress.joined(topic);
            if self.storms > 0 {
                self.inbox.rejoined(index, topic);
            }
        }
        self.progress.subscribed.fetch_add(1, AcqRel);
        if self.subscribed == self.connections.len()
            && let Some(began) = self.storm_began.take()
        {
            let took = self.progress.now().saturating_sub(began);
            self.inbox.tally.storm = Some(took);
            self.progress.all_are_back();
        }
    }

    /// A connection has ended that should not have.
    pub(super) fn ended(&mut self, index: usize, reason: String) {
        let connection = &mut self.connections[index];
        let Some(mut stream) = connection.stream.take() else { return };
        let _ = self.poll.registry().deregister(&mut stream);
        connection.rest = Vec::new();
        let state = std::mem::replace(&mut connection.state, State::Closed);
        if state != State::Ready {
            self.progress.fail(reason);
            return;
        }
        self.progress.left(connection.topic);
        self.subscribed -= 1;
        self.progress.subscribed.fetch_sub(1, AcqRel);
        let tally = &mut self.inbox.tally;
        tally.disconnected += 1;
        tally.first_end.get_or_insert(reason);
    }
}

fn refused(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot connect to {address}: {error}"))
}
