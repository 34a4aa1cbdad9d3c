//! Frames as bytes (RFC 6455, section 5). Server frames are not masked, so one byte
//! string serves every receiver.

use bytes::{BufMut, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// A text message in one frame.
pub(super) fn text(payload: &[u8]) -> Bytes {
    frame(OpCode::Data(Data::Text), payload)
}

/// A binary message in one frame.
pub(super) fn binary(payload: &[u8]) -> Bytes {
    frame(OpCode::Data(Data::Binary), payload)
}

pub(super) fn ping() -> Bytes {
    frame(OpCode::Control(Control::Ping), b"")
}

pub(super) fn pong(payload: &[u8]) -> Bytes {
    frame(OpCode::Control(Control::Pong), payload)
}

/// A Close frame; `None` is one without a status.
pub(super) fn close(status: Option<(u16, &str)>) -> Bytes {
    let mut payload = Vec::new();
    if let Some((code, reason)) = status {
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(reason.as_bytes());
    }
    frame(OpCode::Control(Control::Close), &payload)
}

fn frame(opcode: OpCode, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(10 + payload.len());
    bytes.put_u8(0x80 | u8::from(opcode));
    let length = payload.len();
    if let Ok(short @ 0..126) = u8::try_from(length) {
        bytes.put_u8(short);
    } else if let Ok(medium) = u16::try_from(length) {
        bytes.put_u8(126);
        bytes.put_u16(medium);
    } else {
        bytes.put_u8(127);
        bytes.put_u64(length as u64);
    }
    bytes.put_slice(payload);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_of_length() {
        let payload = vec![b'a'; 65536];
        assert_eq!(&text(&payload[..125])[..2], [0x81, 125]);
        assert_eq!(&text(&payload[..126])[..4], [0x81, 126, 0, 126]);
        assert_eq!(&text(&payload[..65535])[..4], [0x81, 126, 255, 255]);
        assert_eq!(&text(&payload)[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(text(b"").as_ref(), [0x81, 0]);
        assert_eq!(binary(b"x").as_ref(), [0x82, 1, b'x']);
    }

    #[test]
    fn control_frames() {
        assert_eq!(ping().as_ref(), [0x89, 0]);
        assert_eq!(pong(b"x").as_ref(), [0x8A, 1, b'x']);
        assert_eq!(close(None).as_ref(), [0x88, 0]);
        assert_eq!(close(Some((1000, "bye"))).as_ref(), [0x88, 5, 3, 232, b'b', b'y', b'e']);
    }
}
