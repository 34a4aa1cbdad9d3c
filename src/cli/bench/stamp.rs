//! What a message says about itself, so that its receiver can tell what became of it.

/// The start of every message, before the filler.
pub(super) const LENGTH: usize = 44;

/// What the rest of a message is made of. It needs no escapes in JSON.
pub(super) const FILLER: u8 = b'.';

const MARK: &[u8; 2] = b"pm";

/// The widest field that a hexadecimal number has here is the time's: 12 digits are 78 hours.
const DIGITS: [(usize, usize); 6] = [(2, 4), (6, 2), (8, 4), (12, 8), (20, 8), (28, 12)];

/// The check digits of all others are last.
const CHECK: (usize, usize) = (40, 4);

/// With more wrong digits than this it is no changed stamp, but another text: two are what the
/// mark of a stamp looks like behind a text that happens to end like a mark.
const MOST_WRONG: usize = 1;

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

/// A stamp that is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed;

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
        for (field, value) in DIGITS.into_iter().zip(values) {
            write_digits(to, field, value);
        }
        let check = check(&to[MARK.len()..CHECK.0]);
        write_digits(to, CHECK, check.into());
    }

    /// Reads it back from the start of a message; none if there is no stamp.
    pub(super) fn read(message: &[u8]) -> Option<Result<Self, Changed>> {
        let bytes = message.get(..LENGTH).filter(|bytes| bytes.starts_with(MARK))?;
        let wrong = bytes[MARK.len()..].iter().filter(|byte| digit(**byte).is_none()).count();
        if wrong > MOST_WRONG {
            return None;
        }
        let whole = wrong == 0
            && read_digits(bytes, CHECK) == u64::from(check(&bytes[MARK.len()..CHECK.0]));
        if !whole {
            return Some(Err(Changed));
        }
        let [run, lane, topic, sequence, id, sent] = DIGITS.map(|field| read_digits(bytes, field));
        Some(Ok(Self {
            run: run as u16,
            lane: lane as u8,
            topic: topic as u16,
            sequence: sequence as u32,
            id: id as u32,
            sent,
        }))
    }
}

fn write_digits(to: &mut [u8], (at, digits): (usize, usize), mut value: u64) {
    for digit in to[at..at + digits].iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn read_digits(bytes: &[u8], (at, digits): (usize, usize)) -> u64 {
    let digits = bytes[at..at + digits].iter().filter_map(|byte| digit(*byte));
    digits.fold(0, |value, digit| (value << 4) | u64::from(digit))
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// CRC-16 of hexadecimal digits, which misses no change of up to four neighbours. By digits
/// and not by bits, because it is in the way of every message.
fn check(digits: &[u8]) -> u16 {
    digits.iter().fold(0xFFFF, |sum: u16, byte| {
        let digit = u16::from(digit(*byte).unwrap_or(0));
        // The bits of x^12 + x^5 + 1 are so far apart that a product with four bits has no
        // carry, and needs no table.
        (sum << 4) ^ (0x1021 * ((sum >> 12) ^ digit))
    })
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
            prop_assert_eq!(Stamp::read(&message), Some(Ok(stamp)));
            let frame = [before.as_bytes(), &message].concat();
            prop_assert_eq!(find(&frame), Some(before.len()));
        }
    }

    #[test]
    fn every_change_of_a_digit_is_noticed() {
        let stamp = Stamp { run: 0xabcd, id: 7, sent: 123_456_789, ..Stamp::default() };
        let mut whole = [FILLER; LENGTH];
        stamp.write(&mut whole);
        for at in MARK.len()..LENGTH {
            for byte in *b"0123456789abcdefF!" {
                let mut message = whole;
                message[at] = byte;
                let read = if message == whole { Ok(stamp) } else { Err(Changed) };
                assert_eq!(Stamp::read(&message), Some(read), "{at} {}", byte as char);
                let frame = [b"npm: pm", &message[..]].concat();
                assert_eq!(find(&frame), Some(7), "the first copy is looked at, changed or not");
            }
        }
    }

    #[test]
    fn what_is_no_stamp() {
        let mut message = [FILLER; LENGTH];
        assert_eq!(Stamp::read(&message), None);
        Stamp::default().write(&mut message);
        assert_eq!(Stamp::read(&message[..LENGTH - 1]), None);
        message[20..=20 + MOST_WRONG].fill(b'g');
        assert_eq!((Stamp::read(&message), find(&message), find(b"")), (None, None, None));
    }
}
