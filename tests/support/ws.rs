//! A WebSocket client over a plain socket: it can send what a library refuses to.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::DEADLINE;
use super::http::{Answer, connect, parse_head, read_head};
use super::token::Keys;

/// What came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// Code and reason; none for an empty close.
    Close(Option<(u16, String)>),
    /// The server ended the connection.
    Eof,
}

pub struct Ws {
    pub stream: TcpStream,
    buffer: Vec<u8>,
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
        let mut head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        );
        for (name, value) in more {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let (head, buffer) = read_head(&mut stream);
        Self { stream, buffer, answer: parse_head(&head) }
    }

    /// Sends bytes that begin with a request of one's own, and reads the answer's head.
    pub fn start_raw(address: SocketAddr, bytes: &[u8]) -> Self {
        let mut stream = connect(address);
        stream.write_all(bytes).unwrap();
        let (head, buffer) = read_head(&mut stream);
        Self { stream, buffer, answer: parse_head(&head) }
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
            if let Some(frame) = self.parse() {
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
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Some(Frame::Eof),
            }
        }
    }

    fn parse(&mut self) -> Option<Frame> {
        let b = &self.buffer;
        let (first, second) = (*b.first()?, *b.get(1)?);
        assert_eq!(first & 0x70, 0, "RSV bits from the server");
        assert_eq!(first & 0x80, 0x80, "a fragment from the server");
        assert_eq!(second & 0x80, 0, "a masked frame from the server");
        let (length, start) = match second {
            126 => (usize::from(u16::from_be_bytes(b.get(2..4)?.try_into().unwrap())), 4),
            127 => (u64::from_be_bytes(b.get(2..10)?.try_into().unwrap()) as usize, 10),
            short => (usize::from(short), 2),
        };
        let payload = b.get(start..start + length)?.to_vec();
        self.buffer.drain(..start + length);
        Some(match first & 15 {
            1 => Frame::Text(String::from_utf8(payload).expect("UTF-8 from the server")),
            2 => Frame::Binary(payload),
            8 if payload.is_empty() => Frame::Close(None),
            8 => {
                let reason = String::from_utf8(payload[2..].to_vec()).expect("UTF-8 reason");
                Frame::Close(Some((u16::from_be_bytes([payload[0], payload[1]]), reason)))
            }
            9 => Frame::Ping(payload),
            10 => Frame::Pong(payload),
            other => panic!("opcode {other} from the server"),
        })
    }
}

/// A masked client frame.
pub fn encode(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        n @ 0..126 => bytes.push(0x80 | n as u8),
        n @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    let mask = [0x12, 0x34, 0x56, 0x78];
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}
