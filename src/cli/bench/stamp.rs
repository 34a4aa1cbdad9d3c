//! What a message says about itself, so that its receiver can tell what became of it.

/// The start of every message, before the filler.
pub(super) const LENGTH: usize = 40;

/// What the rest of a message is made of. It needs no escapes in JSON.
pub(super) const FILLER: u8 = b'.';

const MARK: &[u8; 2] = b"pm";

/// The widest field that a hexadecimal number has here is the time's: 12 digits are 78 hours.
const DIGITS: [(usize, usize); 6] = [(2, 4), (6, 2), (8, 4), (12, 8), (20, 8), (28, 12)];

/// Who published a message, when, and which one it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Tells this run from others that use the same topics, and from what a server kept.
    pub(super) run: u16,
    /// The publishing connection.
    pub(super) lane: u8,
    /// Index of the topic.
    pub(super) topic: u16,
    /// Running number within lane and topic, from 0: these are what must come in order.
    pub(super) sequence: u32,
    /// Running number over all.
    pub(super) id: u32,
    /// When it was sent, in nanoseconds since the run began.
    pub(super) sent: u64,
}

impl Stamp {
    /// Writes the stamp over the first [`LENGTH`] bytes.
    pub(super) fn write(&self, to: &mut [u8]) {
        to[..2].copy_from_slice(MARK);
        let values = [
            u64::from(self.run),
            u64::from(self.lane),
            u64::from(self.topic),
            u64::from(self.sequence),
            u64::from(self.id),
            self.sent,
        ];
        for ((at, digits), mut value) in DIGITS.into_iter().zip(values) {
            for digit in to[at..at + digits].iter_mut().rev() {
                *digit = b"0123456789abcdef"[(value & 15) as usize];
                value >>= 4;
            }
        }
    }

    /// Reads it back from the start of a message.
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let bytes = message.get(..LENGTH).filter(|bytes| bytes.starts_with(MARK))?;
        let mut values = [0_u64; 6];
        for (value, (at, digits)) in values.iter_mut().zip(DIGITS) {
            for byte in &bytes[at..at + digits] {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'a'..=b'f' => byte - b'a' + 10,
                    _ => return None,
                };
                *value = *value << 4 | u64::from(digit);
            }
        }
        let [run, lane, topic, sequence, id, sent] = values;
        Some(Self {
            run: run as u16,
            lane: lane as u8,
            topic: topic as u16,
            sequence: sequence as u32,
            id: id as u32,
            sent,
        })
    }
}

/// Where a stamp may be in a frame that has more in it than the message.
pub(super) fn find(frame: &[u8]) -> Option<usize> {
    let last = frame.len().checked_sub(LENGTH)?;
    (0..=last).find(|at| frame[*at..].starts_with(MARK) && Stamp::read(&frame[*at..]).is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            (run, lane, topic) in any::<(u16, u8, u16)>(),
            (sequence, id, sent) in (any::<u32>(), any::<u32>(), 0..1_u64 << 48),
            before in "[a-z{}:]{0,50}",
        ) {
            let stamp = Stamp { run, lane, topic, sequence, id, sent };
            let mut message = [FILLER; LENGTH + 3];
            stamp.write(&mut message);
            prop_assert_eq!(Stamp::read(&message), Some(stamp));
            let frame = [before.as_bytes(), &message].concat();
            prop_assert_eq!(find(&frame), Some(before.len()));
        }
    }

    #[test]
    fn what_is_no_stamp() {
        let mut message = [FILLER; LENGTH];
        assert_eq!(Stamp::read(&message), None);
        Stamp::default().write(&mut message);
        assert_eq!(Stamp::read(&message[..LENGTH - 1]), None);
        message[20] = b'g';
        assert_eq!((Stamp::read(&message), find(&message), find(b"")), (None, None, None));
    }
}
