//! A publisher: one connection, and a window of messages that may be in flight.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::floor;
use super::frames;
use super::receiver::{Lane, MAX_WINDOW};
use super::token::TOPIC;

/// What is sent per message.
pub(crate) enum Request {
    /// A whole request with a payload at `start` that is stamped in place. Each one is
    /// answered.
    Http { bytes: Vec<u8>, start: usize },
    /// One byte to the floor, which stamps the payload itself and does not answer.
    Byte,
}

pub(crate) struct Publisher {
    lane: u8,
    window: u64,
    request: Request,
    stream: TcpStream,
    sent: u64,
    answered: u64,
    /// What was read of answers that are not whole yet.
    answers: Vec<u8>,
}

impl Request {
    /// `POST /broadcast` of one message.
    pub(crate) fn broadcast(address: SocketAddr, token: &str) -> Self {
        let before = format!(r#"{{"topic":"{TOPIC}","message":""#);
        let after = format!(r#"","token":"{token}"}}"#);
        let length = before.len() + frames::PAYLOAD + after.len();
        let head = format!(
            "POST /broadcast HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        let start = head.len() + before.len();
        let payload = frames::payload();
        let bytes = [head.as_bytes(), before.as_bytes(), &payload, after.as_bytes()].concat();
        Self::Http { bytes, start }
    }

    fn append(&mut self, to: &mut Vec<u8>, lane: u8, sequence: u64) {
        match self {
            Self::Http { bytes, start } => {
                frames::stamp(&mut bytes[*start..], lane, sequence);
                to.extend_from_slice(bytes);
            }
            Self::Byte => to.push(floor::PUBLISH),
        }
    }
}

impl Publisher {
    pub(crate) fn new(lane: u8, window: u64, request: Request, stream: TcpStream) -> Self {
        assert!(window <= MAX_WINDOW);
        Self { lane, window, request, stream, sent: 0, answered: 0, answers: vec![] }
    }

    /// Goes on over another connection: the old one has been idle while the other side was
    /// measured, and may have been closed for it.
    pub(crate) async fn reconnect(&mut self, address: SocketAddr) -> std::io::Result<()> {
        if matches!(self.request, Request::Http { .. }) {
            self.stream = TcpStream::connect(address).await?;
            self.stream.set_nodelay(true)?;
        }
        Ok(())
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Publishes until the given time, and returns when everything has arrived and has been
    /// answered.
    pub(crate) async fn run(&mut self, until: Instant, lane: &Lane) -> Result<(), String> {
        let mut out = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let done = self.answered().min(lane.completed());
            if Instant::now() < until {
                self.send(done + self.window, &mut out).await?;
            } else if done == self.sent {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = lane.changed.notified() => {}
                read = self.stream.read(&mut chunk) => match read {
                    Ok(0) => return Err("publisher: the connection was closed".into()),
                    Ok(read) => self.answers(&chunk[..read])?,
                    Err(error) => return Err(format!("publisher: {error}")),
                },
            }
        }
    }

    /// Has every subscriber of the floor sent a pong.
    pub(crate) async fn settle_floor(&mut self) {
        self.stream.write_all(&[floor::SETTLE]).await.expect("the floor listens");
    }

    fn answered(&self) -> u64 {
        if matches!(self.request, Request::Byte) { self.sent } else { self.answered }
    }

    /// Sends all messages below the given number in one write.
    async fn send(&mut self, below: u64, out: &mut Vec<u8>) -> Result<(), String> {
        if self.sent == below {
            return Ok(());
        }
        out.clear();
        while self.sent < below {
            self.request.append(out, self.lane, self.sent);
            self.sent += 1;
        }
        self.stream.write_all(out).await.map_err(|error| format!("publisher: {error}"))
    }

    /// Counts answers; each must be an empty 200.
    fn answers(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.answers.extend_from_slice(bytes);
        while let Some(end) = self.answers.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&self.answers[..end]).to_lowercase();
            if !head.starts_with("http/1.1 200 ") || !head.contains("\r\ncontent-length: 0") {
                return Err(format!("publisher: unexpected answer\n{head}"));
            }
            self.answers.drain(..end + 4);
            self.answered += 1;
        }
        Ok(())
    }
}
