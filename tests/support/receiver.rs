//! An HTTP server for webhooks: records what it is sent and answers as it is told.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::http::parse_head;
use super::{DEADLINE, eventually};

/// A request as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `POST /hook HTTP/1.1`.
    pub line: String,
    /// Names in lower case, in the order of the wire.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// Connections are counted from 0.
    pub connection: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// How to answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This status, without a body.
    Status(u16),
    /// 200 after a while.
    Slow(Duration),
    /// 200 once the receiver is released.
    Hang,
    /// This status and `Location`.
    Redirect(u16, String),
    /// 200 and a body that goes on until the connection ends.
    Endless,
    /// 200 and a body of one byte every tenth of a second.
    Drip,
}

pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    requests: Mutex<Vec<Request>>,
    next: Mutex<VecDeque<Answer>>,
    otherwise: Answer,
    released: AtomicBool,
    connections: AtomicUsize,
    current: AtomicUsize,
    peak: AtomicUsize,
    body_bytes: AtomicUsize,
}

impl Receiver {
    /// Answers every request in this way.
    pub fn start(otherwise: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            next: Mutex::default(),
            otherwise,
            released: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            current: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            body_bytes: AtomicUsize::new(0),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = serving.clone();
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || shared.serve(stream, number));
            }
        });
        Self { address, shared }
    }

    /// The next requests are answered like this, one after the other.
    pub fn next(self, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.shared.next.lock().unwrap().extend(answers);
        self
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits for this many requests.
    pub fn wait(&self, count: usize) -> Vec<Request> {
        eventually(&format!("{count} requests"), || self.requests().len() >= count);
        self.requests()
    }

    /// Lets go of what hangs, now and later.
    pub fn release(&self) {
        self.shared.released.store(true, Ordering::SeqCst);
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Most requests that were here at the same time.
    pub fn peak(&self) -> usize {
        self.shared.peak.load(Ordering::SeqCst)
    }

    /// Bytes of endless bodies that could be written.
    pub fn body_bytes(&self) -> usize {
        self.shared.body_bytes.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream, connection: usize) {
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        while let Some(request) = read(&mut stream, connection) {
            let current = self.current.fetch_add(1, Ordering::SeqCst) + 1;
            self.peak.fetch_max(current, Ordering::SeqCst);
            self.requests.lock().unwrap().push(request);
            let next = self.next.lock().unwrap().pop_front();
            let answered = self.answer(&mut stream, next.as_ref().unwrap_or(&self.otherwise));
            self.current.fetch_sub(1, Ordering::SeqCst);
            if answered.is_err() {
                return;
            }
        }
    }

    fn answer(&self, stream: &mut TcpStream, how: &Answer) -> std::io::Result<()> {
        let empty = |status: u16, more: &str| {
            format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n{more}\r\n").into_bytes()
        };
        match how {
            Answer::Status(status) => stream.write_all(&empty(*status, "")),
            Answer::Slow(time) => {
                std::thread::sleep(*time);
                stream.write_all(&empty(200, ""))
            }
            Answer::Hang => {
                let start = Instant::now();
                while !self.released.load(Ordering::SeqCst) && start.elapsed() < DEADLINE {
                    std::thread::sleep(Duration::from_millis(5));
                }
                stream.write_all(&empty(200, ""))
            }
            Answer::Redirect(status, to) => {
                stream.write_all(&empty(*status, &format!("Location: {to}\r\n")))
            }
            Answer::Endless => self.pour(stream, &[b'x'; 8192], Duration::ZERO),
            Answer::Drip => self.pour(stream, b"x", Duration::from_millis(100)),
        }
    }

    fn pour(&self, stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> std::io::Result<()> {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")?;
        loop {
            stream.write_all(bytes)?;
            self.body_bytes.fetch_add(bytes.len(), Ordering::SeqCst);
            std::thread::sleep(pause);
        }
    }
}

fn read(stream: &mut TcpStream, connection: usize) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 65536];
    let mut more = |bytes: &mut Vec<u8>| match stream.read(&mut chunk) {
        Ok(0) | Err(_) => false,
        Ok(n) => {
            bytes.extend_from_slice(&chunk[..n]);
            true
        }
    };
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if !more(&mut bytes) {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let (line, rest) = head.split_once("\r\n").unwrap();
    let headers = parse_head(&format!("HTTP/1.1 200 OK\r\n{rest}")).headers;
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    while bytes.len() < end + length {
        if !more(&mut bytes) {
            return None;
        }
    }
    let body = String::from_utf8(bytes[end..].to_vec()).unwrap();
    Some(Request { line: line.to_owned(), headers, body, connection })
}
