//! A message server in a few lines: WebSockets, a POST to all of them, and one mistake.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    /// A digit of the time at which it was sent is another.
    Restamp,
    /// The subscriber gets nothing from then on.
    Forget,
    /// The subscriber is disconnected.
    Disconnect,
    /// The publisher is told 503, and nobody gets the message.
    Refuse,
    /// The publisher is told 503 from then on.
    RefuseAll,
    /// The publisher is told nothing from then on.
    Mute,
    /// The publisher is told 200 after a [`PAUSE`].
    Pause,
    /// The publisher's connection ends with the answer; that is no mistake.
    CloseAfter,
}

/// Before this message it is not made: something has come by then.
const FAULTY: usize = 5;

/// How long an answer takes at least with [`Mistake::Pause`].
pub const PAUSE: Duration = Duration::from_millis(300);

/// What a publisher is told.
enum Answer {
    Status(u16),
    Late,
    Never,
}

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
                Answer::Status(status) => (status, ""),
                Answer::Late => {
                    std::thread::sleep(PAUSE);
                    (200, "")
                }
                Answer::Never => {
                    stream.set_read_timeout(None).unwrap();
                    while let Ok(1..) = stream.read(&mut chunk) {}
                    return;
                }
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
    fn publish(&self, message: &[u8]) -> Answer {
        let mut state = self.state.lock().unwrap();
        let frame = frame(message);
        // `pm`, four digits of the run, two of the lane.
        let is_probe = &message[6..8] == b"ff";
        state.messages += usize::from(!is_probe);
        let faulty = !is_probe && state.messages == FAULTY;
        let from_then_on = state.messages >= FAULTY;
        let held = state.held.take();
        match self.mistake {
            Mistake::Refuse if faulty => return Answer::Status(503),
            Mistake::RefuseAll if from_then_on => return Answer::Status(503),
            _ => {}
        }
        for (index, subscriber) in state.subscribers.iter_mut().enumerate() {
            // Whoever has gone gets nothing.
            let mut send = |frame: &[u8]| drop(subscriber.write_all(frame));
            match self.mistake {
                Mistake::Forget if index == 0 && from_then_on => {}
                mistake if index == 0 && faulty => match mistake {
                    Mistake::Duplicate => send(&[&frame[..], &frame].concat()),
                    Mistake::Change => send(&[&frame[..frame.len() - 1], b"!"].concat()),
                    Mistake::Restamp => {
                        let mut frame = frame.clone();
                        // The last of twelve digits, before which the stamp has 28 bytes.
                        let digit = &mut frame[frame_start(message) + 39];
                        *digit = if *digit == b'0' { b'1' } else { b'0' };
                        send(&frame);
                    }
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
        match self.mistake {
            Mistake::Mute if from_then_on => Answer::Never,
            Mistake::Pause if faulty => Answer::Late,
            _ => Answer::Status(200),
        }
    }
}

/// Where the message starts in its frame.
fn frame_start(message: &[u8]) -> usize {
    if message.len() < 126 { 2 } else { 4 }
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
