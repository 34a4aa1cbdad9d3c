//! A WebSocket client over a plain socket: it can send what a library refuses to.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::DEADLINE;
use super::frames::Frames;
pub use super::frames::{Frame, encode};
use super::http::{Answer, connect, parse_head, read_head, upgrade};
use super::token::Keys;

pub struct Ws {
    pub stream: TcpStream,
    frames: Frames,
    pub answer: Answer,
}

impl Ws {
    /// Opens `/ws` and expects it to be accepted.
    pub fn open(address: SocketAddr) -> Self {
        Self::open_path(address, "/ws")
    }

    pub fn open_path(address: SocketAddr, path: &str) -> Self {
        let ws = Self::handshake(address, path, &[]);
        assert_eq!(ws.answer.status, 101);
        ws
    }

    /// A handshake with more headers than the usual ones, whatever the answer.
    pub fn handshake(address: SocketAddr, path: &str, more: &[(&str, &str)]) -> Self {
        let mut stream = connect(address);
        stream.write_all(upgrade(address, path, more).as_bytes()).unwrap();
        let (head, buffer) = read_head(&mut stream);
        Self { stream, frames: Frames::new(buffer), answer: parse_head(&head) }
    }

    /// Sends bytes that begin with a request of one's own, and reads the answer's head.
    pub fn start_raw(address: SocketAddr, bytes: &[u8]) -> Self {
        Self::start_in_parts(address, &[bytes])
    }

    /// The same with a write for each part.
    pub fn start_in_parts(address: SocketAddr, parts: &[&[u8]]) -> Self {
        let mut stream = connect(address);
        for part in parts {
            stream.write_all(part).unwrap();
        }
        let (head, buffer) = read_head(&mut stream);
        Self { stream, frames: Frames::new(buffer), answer: parse_head(&head) }
    }

    /// Sends one frame; `first` is FIN, RSV bits and opcode.
    pub fn frame(&mut self, first: u8, payload: &[u8]) {
        self.bytes(&encode(first, payload));
    }

    /// Sends bytes as they are. A server that has gone already is no failure here.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes());
    }

    /// Subscribes with a token made for it, and returns when it has taken effect.
    pub fn subscribe(&mut self, topic: &str) {
        let token = Keys::server().subscribe(&[topic]);
        self.text(&format!("/subscribe {topic} {token}"));
        self.settle();
    }

    /// The same where messages may come at any time. What comes before it has taken effect
    /// is for the caller to read.
    pub fn subscribe_beside_messages(&mut self, topic: &str) {
        let token = Keys::server().subscribe(&[topic]);
        self.text(&format!("/subscribe {topic} {token}"));
        self.frame(0x89, b"subscribed");
    }

    /// Returns when everything sent so far was processed: commands are handled in
    /// order, and a pong comes after them.
    pub fn settle(&mut self) {
        self.frame(0x89, b"settle");
        assert_eq!(self.next(), Frame::Pong(b"settle".to_vec()));
    }

    /// The next frame that is not a ping of the server, which is answered.
    pub fn next(&mut self) -> Frame {
        self.next_within(DEADLINE).expect("a frame")
    }

    pub fn next_text(&mut self) -> String {
        match self.next() {
            Frame::Text(text) => text,
            other => panic!("expected a text, got {other:?}"),
        }
    }

    /// Everything up to and including the frame that `last` accepts.
    pub fn until(&mut self, last: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            let frame = self.next();
            let done = last(&frame) || frame == Frame::Eof;
            frames.push(frame);
            if done {
                return frames;
            }
        }
    }

    /// Everything that came before the answer to a ping sent now: what the server had
    /// for this client so far, without waiting for silence.
    pub fn drain(&mut self) -> Vec<Frame> {
        self.frame(0x89, b"drain");
        let mut frames = self.until(|frame| *frame == Frame::Pong(b"drain".to_vec()));
        if frames.last() != Some(&Frame::Eof) {
            frames.pop();
        }
        frames
    }

    /// Like [`Self::next`], but none when nothing came in time.
    pub fn next_within(&mut self, time: Duration) -> Option<Frame> {
        let end = Instant::now() + time;
        loop {
            if let Some(frame) = self.frames.next() {
                if let Frame::Ping(payload) = &frame {
                    let payload = payload.clone();
                    self.frame(0x8A, &payload);
                    continue;
                }
                return Some(frame);
            }
            let left = end.checked_duration_since(Instant::now())?;
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Some(Frame::Eof),
                Ok(n) => self.frames.add(&chunk[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Some(Frame::Eof),
            }
        }
    }
}
