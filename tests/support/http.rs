//! Raw HTTP/1.1: one request on a fresh connection, sent as given.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::DEADLINE;

#[derive(Debug)]
pub struct Answer {
    /// The status line without the version: `404 Not Found`.
    pub status_line: String,
    pub status: u16,
    /// Names in lower case, in the order of the wire.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends a request; `Host`, `Connection: close` and `Content-Length` are added.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    if !body.is_empty() || method == "POST" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    raw(address, &bytes)
}

/// A WebSocket handshake with more headers than the usual ones.
pub fn upgrade(address: SocketAddr, path: &str, more: &[(&str, &str)]) -> String {
    let mut head = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    );
    for (name, value) in more {
        head += &format!("{name}: {value}\r\n");
    }
    head + "\r\n"
}

/// Sends bytes as they are and reads one answer.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    let (head, mut rest) = read_head(&mut stream);
    let mut answer = parse_head(&head);
    if answer.status == 101 {
        return answer;
    }
    let length = answer.header("content-length").map(|value| value.parse::<usize>().unwrap());
    let mut chunk = [0; 65536];
    while length.is_none_or(|length| rest.len() < length) {
        match stream.read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(n) => rest.extend_from_slice(&chunk[..n]),
        }
    }
    answer.body = rest;
    answer
}

pub fn post_json(address: SocketAddr, path: &str, body: &str) -> Answer {
    request(address, "POST", path, &[("Content-Type", "application/json")], body.as_bytes())
}

/// Reads up to and including the empty line; what came after it is returned beside.
pub fn read_head(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut read = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            return (String::from_utf8(read).unwrap(), rest);
        }
        let n = match stream.read(&mut chunk) {
            // A read with a deadline is not begun again by itself.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.expect("a response head"),
        };
        assert!(n > 0, "connection closed in the head: {:?}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&chunk[..n]);
    }
}

pub fn parse_head(head: &str) -> Answer {
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap().split_once(' ').unwrap().1.to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    let status = status_line[..3].parse().unwrap();
    Answer { status, headers: headers.collect(), status_line, body: vec![] }
}
