//! One connection of a floor.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Read as _, Write as _};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// Most bytes that wait for a subscriber. No test of a floor comes near it.
const BACKLOG: usize = 1024 * 1024;

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// What a subscriber listens to.
    pub(super) topic: Option<usize>,
    /// The start of a request.
    rest: Vec<u8>,
    /// What the socket did not take.
    backlog: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, topic: None, rest: Vec::new(), backlog: Vec::new() }
    }

    /// What has come; nothing if nothing is there, none at the end.
    pub(super) fn read<'a>(&mut self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match self.stream.read(buffer) {
            Ok(0) => Ok(None),
            Ok(read) => Ok(Some(&buffer[..read])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Some(&[])),
            Err(error) => Err(error),
        }
    }

    /// The start of a request that came before, and what has come now.
    pub(super) fn with_rest<'a>(&mut self, read: &'a [u8]) -> Cow<'a, [u8]> {
        if self.rest.is_empty() {
            return Cow::Borrowed(read);
        }
        self.rest.extend_from_slice(read);
        Cow::Owned(std::mem::take(&mut self.rest))
    }

    pub(super) fn keep(&mut self, rest: &[u8]) {
        self.rest.extend_from_slice(rest);
    }

    /// One `write()`; what the socket does not take waits.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        index: usize,
        registry: &Registry,
    ) -> io::Result<()> {
        if self.backlog.is_empty() {
            let written = written(self.stream.write(bytes))?;
            if written == bytes.len() {
                return Ok(());
            }
            self.backlog.extend_from_slice(&bytes[written..]);
            let both = Interest::READABLE | Interest::WRITABLE;
            return registry.reregister(&mut self.stream, Token(index), both);
        }
        if self.backlog.len() + bytes.len() > BACKLOG {
            return Err(ErrorKind::WriteZero.into());
        }
        self.backlog.extend_from_slice(bytes);
        Ok(())
    }

    /// The socket has room again.
    pub(super) fn flush(&mut self, index: usize, registry: &Registry) -> io::Result<()> {
        while !self.backlog.is_empty() {
            let written = written(self.stream.write(&self.backlog))?;
            if written == 0 {
                return Ok(());
            }
            self.backlog.drain(..written);
        }
        registry.reregister(&mut self.stream, Token(index), Interest::READABLE)
    }
}

fn written(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}
