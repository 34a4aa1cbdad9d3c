//! WebSocket frames as a client sends and gets them.

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

/// Bytes from a server, which become frames.
#[derive(Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// How many of them are frames that were taken.
    taken: usize,
}

impl Frames {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, taken: 0 }
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, if it is complete.
    ///
    /// # Panics
    /// At what a server must not send.
    pub fn next(&mut self) -> Option<Frame> {
        let b = &self.bytes[self.taken..];
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
        self.taken += start + length;
        if self.taken == self.bytes.len() {
            // Thousands of clients that wait keep no buffers.
            *self = Self::default();
        }
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
