//! The floor: the cheapest process that still gets a frame to every subscriber.
//!
//! It is this very binary, started again with a hidden argument. One thread on epoll speaks
//! what `pushmux bench generic` speaks and validates nothing: each message costs one plain
//! `write()` of a ready-made frame for each subscriber. That is what the kernel charges.
//!
//! The *joining* floor writes once for all messages of a topic that are there when the loop
//! comes round.

mod connection;
mod request;

use std::collections::HashMap;
use std::io::{self, ErrorKind};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Registry, Token};

use connection::Connection;
use request::Request;

/// The hidden argument.
pub(crate) const ARGUMENT: &str = "--be-the-floor";

const LISTENER: Token = Token(usize::MAX);

/// Bytes of one read.
const BUFFER: usize = 256 * 1024;

struct Floor {
    joins: bool,
    /// Its indices are tokens.
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    names: HashMap<Vec<u8>, usize>,
    topics: Vec<Topic>,
    /// Topics with something to write.
    due: Vec<usize>,
    /// Publishers without their answer.
    unanswered: Vec<usize>,
}

#[derive(Default)]
struct Topic {
    members: Vec<usize>,
    /// Frames for each member.
    frames: Vec<u8>,
}

/// The life of a floor. It ends when it is killed.
pub(crate) fn serve(joins: bool) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let address = "127.0.0.1:0".parse().map_err(io::Error::other)?;
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    eprintln!("Listening address={}", listener.local_addr()?);
    let registry = poll.registry().try_clone()?;
    let (mut floor, mut events) = (Floor::new(joins), Events::with_capacity(1024));
    let mut buffer = vec![0; BUFFER];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                floor.accept(&listener, &registry)?;
                continue;
            }
            if event.is_writable() {
                floor.flush(event.token().0, &registry);
            }
            if event.is_readable() {
                floor.read(event.token().0, &mut buffer, &registry);
            }
        }
        floor.deliver(&registry);
    }
}

impl Floor {
    fn new(joins: bool) -> Self {
        Self {
            joins,
            connections: Vec::new(),
            free: Vec::new(),
            names: HashMap::new(),
            topics: Vec::new(),
            due: Vec::new(),
            unanswered: Vec::new(),
        }
    }

    fn accept(&mut self, listener: &TcpListener, registry: &Registry) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            registry.register(&mut stream, Token(index), Interest::READABLE)?;
            self.connections[index] = Some(Connection::new(stream));
        }
    }

    fn read(&mut self, index: usize, buffer: &mut [u8], registry: &Registry) {
        let room = buffer.len();
        loop {
            let Some(connection) = &mut self.connections[index] else { return };
            let Ok(Some(read)) = connection.read(buffer) else {
                return self.close(index, registry);
            };
            // A read that is not full has emptied the socket: no second one is needed.
            let more = read.len() == room;
            if connection.topic.is_some() {
                // What a subscriber says first is a ping.
                if read.first() == Some(&request::PING)
                    && connection.write(request::PONG, index, registry).is_err()
                {
                    return self.close(index, registry);
                }
            } else if !read.is_empty() {
                let whole = connection.with_rest(read);
                let Some(done) = self.requests(index, &whole, registry) else {
                    return self.close(index, registry);
                };
                if let Some(connection) = &mut self.connections[index] {
                    connection.keep(&whole[done..]);
                }
            }
            if !more {
                return;
            }
        }
    }

    /// Serves whole requests and says how many bytes they had; none if they make no sense.
    fn requests(&mut self, index: usize, bytes: &[u8], registry: &Registry) -> Option<usize> {
        let mut done = 0;
        while let Some((request, length)) = Request::first(&bytes[done..]).ok()? {
            done += length;
            match request {
                Request::Subscribe { topic } => {
                    let topic = self.topic(topic);
                    self.topics[topic].members.push(index);
                    let connection = self.connections[index].as_mut()?;
                    connection.topic = Some(topic);
                    connection.write(request::UPGRADED, index, registry).ok()?;
                    return Some(bytes.len());
                }
                Request::Publish { topic, message } => {
                    let topic = self.topic(topic);
                    let frames = &mut self.topics[topic].frames;
                    if frames.is_empty() {
                        self.due.push(topic);
                    }
                    request::frame(frames, message);
                    self.unanswered.push(index);
                    if !self.joins {
                        self.deliver(registry);
                    }
                }
            }
        }
        Some(done)
    }

    fn topic(&mut self, name: &[u8]) -> usize {
        if let Some(topic) = self.names.get(name) {
            return *topic;
        }
        self.topics.push(Topic::default());
        self.names.insert(name.to_vec(), self.topics.len() - 1);
        self.topics.len() - 1
    }

    /// Writes what waits to every member, then answers the publishers.
    fn deliver(&mut self, registry: &Registry) {
        let mut dead = Vec::new();
        for topic in self.due.drain(..) {
            let Topic { members, frames } = &mut self.topics[topic];
            for index in members {
                let Some(connection) = &mut self.connections[*index] else { continue };
                if connection.write(frames, *index, registry).is_err() {
                    dead.push(*index);
                }
            }
            frames.clear();
        }
        for index in self.unanswered.drain(..) {
            let Some(connection) = &mut self.connections[index] else { continue };
            if connection.write(request::TAKEN, index, registry).is_err() {
                dead.push(index);
            }
        }
        for index in dead {
            self.close(index, registry);
        }
    }

    fn flush(&mut self, index: usize, registry: &Registry) {
        let Some(connection) = &mut self.connections[index] else { return };
        if connection.flush(index, registry).is_err() {
            self.close(index, registry);
        }
    }

    fn close(&mut self, index: usize, registry: &Registry) {
        let Some(mut connection) = self.connections[index].take() else { return };
        // It is gone with its file anyway.
        let _ = registry.deregister(&mut connection.stream);
        self.free.push(index);
        if let Some(topic) = connection.topic {
            self.topics[topic].members.retain(|member| *member != index);
        }
    }
}
