//! Clients by the thousand: WebSockets and publishers over plain sockets, on tokio.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::DEADLINE;
use super::frames::{Frame, Frames, encode};
use super::http::{Answer, parse_head, upgrade};

/// Waits for something that is up to somebody else.
///
/// # Panics
/// After [`DEADLINE`], naming `what`.
pub async fn within<T>(what: &str, it: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, it).await;
    done.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

/// A WebSocket client. Nothing here has a deadline of its own: see [`within`].
pub struct Peer {
    pub stream: TcpStream,
    frames: Frames,
}

impl Peer {
    /// Asks for a WebSocket, and returns it with whatever the answer was.
    pub async fn open(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> io::Result<(Self, Answer)> {
        Self::open_on(TcpStream::connect(address).await?, path, headers).await
    }

    /// The same on a connection that stands.
    pub async fn open_on(
        stream: TcpStream,
        path: &str,
        headers: &[(&str, &str)],
    ) -> io::Result<(Self, Answer)> {
        stream.set_nodelay(true)?;
        write(&stream, upgrade(stream.peer_addr()?, path, headers).as_bytes()).await?;
        let (answer, rest) = head(&stream).await?;
        Ok((Self { stream, frames: Frames::new(rest) }, answer))
    }

    pub async fn text(&self, text: &str) -> io::Result<()> {
        write(&self.stream, &encode(0x81, text.as_bytes())).await
    }

    pub async fn ping(&self, payload: &[u8]) -> io::Result<()> {
        write(&self.stream, &encode(0x89, payload)).await
    }

    pub async fn close(&self, code: u16) -> io::Result<()> {
        write(&self.stream, &encode(0x88, &code.to_be_bytes())).await
    }

    /// The next frame that is not a ping, which is answered. Nothing is lost when this is
    /// not waited for to its end.
    pub async fn next(&mut self) -> Frame {
        loop {
            match self.frames.next() {
                // As a whole or not at all: this may not be waited for. A client that sends
                // so little has always room for it.
                Some(Frame::Ping(payload)) => {
                    let _ = self.stream.try_write(&encode(0x8A, &payload));
                }
                Some(frame) => return frame,
                None => match read(&self.stream, |bytes| self.frames.add(bytes)).await {
                    Ok(0) | Err(_) => return Frame::Eof,
                    Ok(_) => {}
                },
            }
        }
    }

    /// Returns true when everything sent so far was processed and what was there for this
    /// client has come, `seen` by the caller; false when the connection is over.
    pub async fn settle(&mut self, mut seen: impl FnMut(Frame)) -> bool {
        if self.ping(b"settle").await.is_err() {
            return false;
        }
        loop {
            match self.next().await {
                Frame::Pong(_) => return true,
                Frame::Close(_) | Frame::Eof => return false,
                frame => seen(frame),
            }
        }
    }

    /// Ends it without a word and without a goodbye of the kernel's.
    pub fn reset(self) {
        reset(self.stream);
    }
}

/// A back end with a connection that it keeps.
pub struct Publisher {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Publisher {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Posts JSON. After a failure nobody knows what became of it; the next one has a
    /// connection of its own.
    pub async fn post(&mut self, path: &str, body: &str) -> io::Result<Answer> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.address).await?,
        };
        stream.set_nodelay(true)?;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        write(&stream, request.as_bytes()).await?;
        let (mut answer, mut rest) = head(&stream).await?;
        let length = answer.header("content-length").map_or(0, |value| value.parse().unwrap());
        while rest.len() < length {
            if read(&stream, |bytes| rest.extend_from_slice(bytes)).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        answer.body = rest;
        if answer.header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

/// Ends a connection with a reset.
pub fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

pub async fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Gives what comes next to `take`; 0 at the end.
async fn read(stream: &TcpStream, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match read_now(stream, &mut take) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

/// With a buffer that no client keeps.
fn read_now(stream: &TcpStream, take: impl FnOnce(&[u8])) -> io::Result<usize> {
    let mut chunk = [0; 65536];
    let read = stream.try_read(&mut chunk)?;
    take(&chunk[..read]);
    Ok(read)
}

/// An answer without its body, and what came after its head.
pub async fn head(stream: &TcpStream) -> io::Result<(Answer, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((parse_head(&String::from_utf8(bytes).unwrap()), rest));
        }
        if read(stream, |read| bytes.extend_from_slice(read)).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}
