//! One publishing connection: one message under way at most.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::answer;
use super::dialect::{Counts, Dialect, Request};
use super::inbox::PROBE;
use super::stamp::Stamp;

/// How far a lane is with its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Idle,
    /// Being sent, or waiting for its answer.
    Publishing,
    /// Answered; not with every subscriber yet.
    Delivering,
}

/// What became of a publish.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: u16,
    pub(super) counts: Option<Counts>,
}

/// A connection and the message on it.
pub(super) struct Lane {
    stream: Option<TcpStream>,
    pub(super) state: State,
    pub(super) stamp: Stamp,
    /// When the message was really sent, in nanoseconds since the run began.
    pub(super) since: u64,
    out: Vec<u8>,
    written: usize,
    answer: Vec<u8>,
}

impl Lane {
    pub(super) fn new() -> Self {
        let (out, answer) = (Vec::new(), Vec::with_capacity(1024));
        let (state, stamp) = (State::Idle, Stamp::default());
        Self { stream: None, state, stamp, since: 0, out, written: 0, answer }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    pub(super) fn disconnect(&mut self) {
        self.stream = None;
        self.answer.clear();
    }

    /// Begins to connect.
    pub(super) fn connect(
        &mut self,
        to: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let mut stream = TcpStream::connect(to)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        stream.set_nodelay(true)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Makes the request of a message ready; [`Self::flush`] sends it.
    pub(super) fn publish(
        &mut self,
        request: &Request,
        stamp: Stamp,
        since: u64,
        dialect: &dyn Dialect,
    ) {
        self.out.clear();
        self.out.extend_from_slice(&request.bytes);
        stamp.write(&mut self.out[request.message_at..]);
        // A probe keeps the token that is in the request: nobody knows how many there will be.
        if let Some(at) = request.token_at
            && stamp.lane != PROBE
            && let Some(token) = dialect.next_token(usize::from(stamp.topic))
        {
            // All tokens of a run have the same length: their claims are the same.
            self.out[at..at + token.len()].copy_from_slice(token);
        }
        if let Some(at) = request.time_at {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let digits = format!("{:010}", now.as_secs());
            self.out[at..at + digits.len()].copy_from_slice(digits.as_bytes());
        }
        self.written = 0;
        (self.stamp, self.since, self.state) = (stamp, since, State::Publishing);
    }

    /// Sends what the connection takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while self.written < self.out.len() {
            match stream.write(&self.out[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Not there yet: the event that says so comes back here.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads the answer, if it has come.
    ///
    /// # Errors
    /// When the connection is of no use any more; [`Self::disconnect`] is up to the caller.
    pub(super) fn read(&mut self, dialect: &dyn Dialect) -> Result<Option<Outcome>, String> {
        let mut chunk = [0; 4096];
        loop {
            let Some(stream) = &mut self.stream else { return Ok(None) };
            match stream.read(&mut chunk) {
                Ok(0) => return Err("the server ended a publishing connection".into()),
                Ok(read) => {
                    self.answer.extend_from_slice(&chunk[..read]);
                    if read < chunk.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(None),
                Err(error) => return Err(format!("a publishing connection broke: {error}")),
            }
        }
        let Some(answer) = answer::first(&self.answer)? else { return Ok(None) };
        if self.state != State::Publishing {
            return Err("the server answered what nobody had asked".into());
        }
        let outcome = Outcome { status: answer.status, counts: dialect.counts(answer.body) };
        let (length, closes) = (answer.length, answer.closes);
        self.answer.drain(..length);
        if closes {
            self.disconnect();
        }
        Ok(Some(outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialect::notiflux::with_tokens;
    use super::*;

    #[test]
    fn probes_take_no_token_from_the_messages() {
        let dialect = with_tokens(&["probe", "one..", "two.."]);
        let (request, mut lane) = (dialect.publish(0), Lane::new());
        let tokens = [PROBE, PROBE, PROBE, 0, 0].map(|number| {
            let stamp = Stamp { lane: number, ..Stamp::default() };
            lane.publish(&request, stamp, 0, &dialect);
            let at = request.token_at.unwrap();
            String::from_utf8(lane.out[at..at + 5].to_vec()).unwrap()
        });
        assert_eq!(tokens, ["probe", "probe", "probe", "one..", "two.."]);
    }
}
