//! A message server in a few lines: WebSockets, a POST to all of them, and one mistake.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::DEADLINE;
use super::http::{parse_head, read_head};

/// What goes wrong, once, with one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    None,
    Lose,
    Duplicate,
    /// The message comes after the next one.
    Swap,
    /// Its last byte is another.
    Change,
    /// The subscriber is disconnected.
    Disconnect,
    /// The publisher is told 503, and nobody gets the message.
    Refuse,
    /// The publisher's connection ends with the answer; that is no mistake.
    CloseAfter,
}

/// Before this message it is not made: something has come by then.
const FAULTY: usize = 5;

pub struct Stub {
    pub address: SocketAddr,
}

struct Shared {
    mistake: Mistake,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    subscribers: Vec<TcpStream>,
    /// Messages so far, without probes.
    messages: usize,
    held: Option<Vec<u8>>,
}

impl Stub {
    pub fn start(mistake: Mistake) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { mistake, state: Mutex::default() });
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address }
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let (head, rest) = read_head(&mut stream);
        if head.starts_with("GET ") {
            let accept = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            stream.write_all(accept.as_bytes()).unwrap();
            self.state.lock().unwrap().subscribers.push(stream.try_clone().unwrap());
            answer_pings(&mut stream);
        } else {
            self.take_posts(&mut stream, head, rest);
        }
    }

    fn take_posts(&self, stream: &mut TcpStream, mut head: String, mut rest: Vec<u8>) {
        let mut chunk = [0; 4096];
        loop {
            let (_, headers) = head.split_once("\r\n").unwrap();
            let headers = parse_head(&format!("HTTP/1.1 200 OK\r\n{headers}"));
            let length: usize = headers.header("content-length").unwrap().parse().unwrap();
            while rest.len() < length {
                match stream.read(&mut chunk) {
                    Ok(read @ 1..) => rest.extend_from_slice(&chunk[..read]),
                    _ => return,
                }
            }
            let (status, more) = match self.publish(&rest[..length]) {
                _ if self.mistake == Mistake::CloseAfter => (200, "Connection: close\r\n"),
                true => (200, ""),
                false => (503, ""),
            };
            let answer = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n{more}\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            if !more.is_empty() {
                return;
            }
            rest.clear();
            // A publisher that has gone ends this.
            match stream.peek(&mut chunk) {
                Ok(1..) => (head, rest) = read_head(stream),
                _ => return,
            }
        }
    }

    /// Brings a message to everybody, except for the mistake.
    fn publish(&self, message: &[u8]) -> bool {
        let mut state = self.state.lock().unwrap();
        let frame = frame(message);
        // `pm`, four digits of the run, two of the lane.
        let faulty = &message[6..8] != b"ff" && {
            state.messages += 1;
            state.messages == FAULTY
        };
        let held = state.held.take();
        if faulty && self.mistake == Mistake::Refuse {
            return false;
        }
        for (index, subscriber) in state.subscribers.iter_mut().enumerate() {
            // Whoever has gone gets nothing.
            let mut send = |frame: &[u8]| drop(subscriber.write_all(frame));
            match self.mistake {
                mistake if index == 0 && faulty => match mistake {
                    Mistake::Duplicate => send(&[&frame[..], &frame].concat()),
                    Mistake::Change => send(&[&frame[..frame.len() - 1], b"!"].concat()),
                    Mistake::Disconnect => subscriber.shutdown(std::net::Shutdown::Both).unwrap(),
                    Mistake::Lose | Mistake::Swap => {}
                    _ => send(&frame),
                },
                _ => send(&frame),
            }
        }
        if faulty && self.mistake == Mistake::Swap {
            state.held = Some(frame);
        } else if let Some(held) = held {
            state.subscribers[0].write_all(&held).unwrap();
        }
        true
    }
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82];
    if message.len() < 126 {
        frame.push(message.len() as u8);
    } else {
        frame.push(126);
        frame.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
    }
    frame.extend_from_slice(message);
    frame
}

/// The client sends nothing but short frames, masked with zeros, each in one piece.
fn answer_pings(stream: &mut TcpStream) {
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        let mut rest = &chunk[..read];
        while let [head, length, ..] = *rest {
            let length = usize::from(length & 0x7F);
            if head == 0x89 {
                let pong = [&[0x8A, length as u8][..], &rest[6..6 + length]].concat();
                let _ = stream.write_all(&pong);
            }
            rest = &rest[6 + length..];
        }
    }
}
