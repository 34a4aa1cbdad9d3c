//! As much of RFC 6455 as it takes to read what a server sends.
//!
//! The server's own reader is not used: what judges the server must not share its mistakes.

/// A frame from the server. Texts and binaries are both messages.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Message(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// With the code, if there is one.
    Close(Option<u16>),
}

/// Bytes that no server may send, or that this reader does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("a frame that starts with {0:#04x}; fragments and extensions are not taken")]
    Head(u8),
    #[error("a masked frame")]
    Masked,
    #[error("a frame of {0} bytes, longer than any message that is published")]
    Long(u64),
}

/// Opcodes of what a client sends.
pub(super) const TEXT: u8 = 1;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// The first frame in what was read and its length on the wire; none if it is not whole.
/// `most` is the longest payload that is waited for.
pub(super) fn first(bytes: &[u8], most: usize) -> Result<Option<(Frame<'_>, usize)>, Fault> {
    let [head, second, ..] = *bytes else { return Ok(None) };
    if second & 0x80 != 0 {
        return Err(Fault::Masked);
    }
    let (start, length) = match second {
        126 => match bytes.get(2..4) {
            Some(&[a, b]) => (4, u64::from(u16::from_be_bytes([a, b]))),
            _ => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(<[u8]>::first_chunk) {
            Some(length) => (10, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        short => (2, u64::from(short)),
    };
    let Some(length) = usize::try_from(length).ok().filter(|length| *length <= most) else {
        return Err(Fault::Long(length));
    };
    let frame = match head {
        0x81 | 0x82 => Frame::Message,
        0x89 => Frame::Ping,
        0x8A => |_: &[u8]| Frame::Pong,
        0x88 => {
            |payload: &[u8]| Frame::Close(payload.first_chunk().copied().map(u16::from_be_bytes))
        }
        _ => return Err(Fault::Head(head)),
    };
    let end = start + length;
    Ok(bytes.get(start..end).map(|payload| (frame(payload), end)))
}

/// A client's frame: masked, with a mask of zeros, which changes nothing. The mask shall
/// protect caches from scripts that choose what is sent; here nobody does.
pub(super) fn client(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..126), _) => frame.push(0x80 | short),
        (_, Ok(length)) => {
            frame.push(0xFE);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(0xFF);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 1 << 17;

    /// A server's frame: like a client's, without the mask.
    fn server(head: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = client(0, payload);
        let end = frame.len() - payload.len();
        frame.drain(end - 4..end);
        (frame[0], frame[1]) = (head, frame[1] & 0x7F);
        frame
    }

    /// What is in the bytes, owned, up to what is not whole.
    fn all(bytes: &[u8]) -> (Vec<String>, usize) {
        let (mut frames, mut used) = (Vec::new(), 0);
        while let Some((frame, length)) = first(&bytes[used..], MOST).unwrap() {
            frames.push(format!("{frame:?}"));
            used += length;
        }
        (frames, used)
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(
            sizes in proptest::collection::vec(prop_oneof![0..200_usize, 65_000..66_000_usize], 1..5),
            cuts in proptest::collection::vec(0..200_000_usize, 0..6),
        ) {
            let heads = [0x81, 0x82, 0x89, 0x8A, 0x88];
            let mut bytes = Vec::new();
            for (size, head) in sizes.iter().zip(heads) {
                bytes.extend(server(head, &vec![b'x'; *size]));
            }
            let whole = all(&bytes);
            prop_assert_eq!(whole.1, bytes.len());
            prop_assert_eq!(whole.0.len(), sizes.len());
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let (mut frames, mut rest, mut from) = (Vec::new(), Vec::new(), 0);
            for cut in cuts {
                rest.extend_from_slice(&bytes[from..cut]);
                from = cut;
                let (found, used) = all(&rest);
                frames.extend(found);
                rest.drain(..used);
            }
            prop_assert_eq!(frames, whole.0);
        }
    }

    #[test]
    fn what_no_server_may_send() {
        for (bytes, fault) in [
            (&[0x81, 0x80, 0, 0][..], Fault::Masked),
            (&[0x01, 0][..], Fault::Head(0x01)),
            (&[0xC1, 0][..], Fault::Head(0xC1)),
            (&[0x81, 127, 0, 0, 0, 0, 0, 2, 0, 1][..], Fault::Long(131_073)),
        ] {
            assert_eq!(first(bytes, MOST), Err(fault), "{bytes:?}");
        }
    }
}
